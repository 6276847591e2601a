//! `conduit list`: what there is.

use std::io::{self, Write};

use anstyle::Style;
use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::{Client, RegistryCallError};
use conduit::registry::{RegionState, TopicInfo};
use conduit::{Domain, TopicPattern, inspect};

use crate::failure::Failure;
use crate::output::{self, Align};
use crate::verbs::completions::topics;

/// List topics and raw regions.
///
/// Asks the registry, or reads the shared-memory directory if there is none.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit list
  conduit list 'camera/**' -v
  conduit list -c
  conduit list --json | jq -r '.[] | select(.state == \"live\") | .name'")]
pub(crate) struct Args {
    /// Only those that match: * stays within a segment of the name, ** crosses segments
    #[arg(value_parser = glob, add = ArgValueCompleter::new(topics))]
    glob: Option<TopicPattern>,
    /// Show more columns: bandwidth, age of the last message, messages lost by all subscribers, liveness, path
    #[arg(short, long)]
    verbose: bool,
    /// Print names and types only
    #[arg(short = 't', long, conflicts_with_all = ["verbose", "json"])]
    show_types: bool,
    /// Print only how many there are
    #[arg(short, long, conflicts_with_all = ["verbose", "show_types", "json"])]
    count: bool,
    /// Print a JSON array with everything that is known of every topic, as `conduit info --json` describes it
    #[arg(long)]
    json: bool,
}

/// Reads a pattern of topic names.
pub(crate) fn glob(text: &str) -> Result<TopicPattern, String> {
    TopicPattern::new(text).map_err(|error| error.to_string())
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut topics = all_topics(&Domain::from_env())?;
    if let Some(glob) = &args.glob {
        topics.retain(|topic| topic.name.parse().is_ok_and(|name| glob.matches(&name)));
    }
    let mut out = output::stdout();
    let written = match args {
        Args { json: true, .. } => output::json(&mut out, &topics),
        Args { count: true, .. } => writeln!(out, "{}", topics.len()),
        Args { show_types: true, .. } => {
            topics.iter().try_for_each(|topic| writeln!(out, "{} [{}]", topic.name, type_of(topic)))
        }
        Args { verbose: true, .. } => print_all(&mut out, &topics),
        _ => print(&mut out, &topics),
    };
    written.and_then(|()| out.flush()).map_err(Failure::Output)
}

pub(crate) fn all_topics(domain: &Domain) -> Result<Vec<TopicInfo>, Failure> {
    match Client::connect(domain).and_then(|mut registry| registry.list()) {
        Ok(topics) => Ok(topics),
        Err(error) => {
            say_without_registry(domain, &error);
            read_directory(domain)
        }
    }
}

/// Says on standard error that the answer comes from the directory and not from a registry.
pub(crate) fn say_without_registry(domain: &Domain, error: &RegistryCallError) {
    let directory = domain.shm_dir().display();
    match error {
        RegistryCallError::Unreachable { sockets, source, .. } => {
            eprintln!("conduit: no registry at {sockets} ({source}), reading {directory} instead");
        }
        error => eprintln!("conduit: {error}, reading {directory} instead"),
    }
}

/// All topics as the regions themselves tell. What can not be read is said on standard error.
pub(crate) fn read_directory(domain: &Domain) -> Result<Vec<TopicInfo>, Failure> {
    let found = open_directory(domain)
        .and_then(|directory| inspect::list(&directory).map_err(Failure::io("read", domain.shm_dir())))?;
    let readable = |topic: Result<TopicInfo, _>| topic.inspect_err(|error| eprintln!("conduit: {error}")).ok();
    Ok(found.into_iter().filter_map(readable).collect())
}

/// The directory of the domain's regions.
pub(crate) fn open_directory(domain: &Domain) -> Result<ShmDir, Failure> {
    ShmDir::open(domain).map_err(Failure::io("open", domain.shm_dir()))
}

/// The type of a topic's messages, or that it has none.
pub(crate) fn type_of(topic: &TopicInfo) -> &str {
    topic.message_type.as_deref().unwrap_or("raw")
}

const COLUMNS: [(&str, Align); 8] = [
    ("NAME", Align::Left),
    ("STATE", Align::Left),
    ("TYPE", Align::Left),
    ("SIZE", Align::Right),
    ("PUBLISHED", Align::Right),
    ("RATE", Align::Right),
    ("SUBSCRIBERS", Align::Right),
    ("PUBLISHER", Align::Left),
];

fn print(out: &mut impl Write, topics: &[TopicInfo]) -> io::Result<()> {
    let rows: Vec<_> = topics.iter().map(row).collect();
    if rows.is_empty() { Ok(()) } else { output::table(out, COLUMNS, &rows) }
}

fn print_all(out: &mut impl Write, topics: &[TopicInfo]) -> io::Result<()> {
    let more = [
        ("BANDWIDTH", Align::Right),
        ("LAST MESSAGE", Align::Right),
        ("LOST", Align::Right),
        ("LIVENESS", Align::Left),
        ("PATH", Align::Left),
    ];
    let [a, b, c, d, e, f, g, h] = COLUMNS;
    let [i, j, k, l, m] = more;
    let rows: Vec<_> = topics
        .iter()
        .map(|topic| {
            let [a, b, c, d, e, f, g, h] = row(topic);
            let lost = topic.subscribers.iter().fold(0u64, |sum, subscriber| sum.saturating_add(subscriber.lost));
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let bandwidth = topic.bytes_per_second.map(|bytes| output::data_size(bytes as u64) + "/s");
            let age = topic.last_message_age_ns.map(|age| output::duration_ns(age) + " ago");
            let lost = (!topic.raw).then(|| lost.to_string());
            let liveness = topic.liveness.map(|liveness| liveness.to_string());
            let [i, j, k, l] = [bandwidth, age, lost, liveness].map(or_none);
            [a, b, c, d, e, f, g, h, i, j, k, l, topic.path.clone()]
        })
        .collect();
    let columns = [a, b, c, d, e, f, g, h, i, j, k, l, m];
    if rows.is_empty() { Ok(()) } else { output::table(out, columns, &rows) }
}

/// How a state looks.
pub(crate) fn style_of(state: RegionState) -> Style {
    match state {
        RegionState::Live => output::GOOD,
        RegionState::Kept => Style::new(),
        RegionState::Closed => output::FAINT,
        RegionState::Unauthorised | RegionState::Unlinked => output::WARNING,
        RegionState::Orphaned => output::BAD,
    }
}

fn row(topic: &TopicInfo) -> [String; 8] {
    let unless_raw = |text: String| if topic.raw { "-".into() } else { text };
    [
        topic.name.clone(),
        output::styled(style_of(topic.state), topic.state),
        type_of(topic).into(),
        output::memory_size(topic.size_bytes),
        topic.published.map_or_else(|| "-".into(), |published| published.to_string()),
        topic.rate_hz.map_or_else(|| "-".into(), output::rate),
        unless_raw(topic.subscribers.len().to_string()),
        topic.publisher.as_ref().map_or_else(|| "-".into(), ToString::to_string),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use conduit::registry::Process;

    use super::*;

    pub(crate) fn topic(name: &str) -> TopicInfo {
        TopicInfo {
            name: name.into(),
            state: RegionState::Live,
            refusal: None,
            unlinked: None,
            raw: false,
            path: format!("/dev/shm/conduit_{name}"),
            size_bytes: 69_632,
            slots: Some(16),
            slot_bytes: Some(4096),
            message_type: Some("[u8]".into()),
            publisher: Some(Process { pid: 7, uid: 1000, program: "imu_driver".into() }),
            liveness: None,
            published: Some(42),
            rate_hz: Some(99.96),
            bytes_per_second: Some(4e6),
            last_message_age_ns: Some(3_200_000),
            subscribers: Vec::new(),
        }
    }

    #[test]
    fn topics_and_raw_regions_share_a_table() {
        let raw = TopicInfo {
            state: RegionState::Kept,
            raw: true,
            slots: None,
            slot_bytes: None,
            message_type: None,
            publisher: None,
            liveness: None,
            published: None,
            rate_hz: None,
            ..topic("map")
        };
        let mut out = Vec::new();
        print(&mut out, &[topic("imu"), raw]).unwrap();
        let expected = "\
NAME  STATE  TYPE      SIZE  PUBLISHED    RATE  SUBSCRIBERS  PUBLISHER
imu   live   [u8]  68.0 KiB         42  100 Hz            0  imu_driver (7)
map   kept   raw   68.0 KiB          -       -            -  -
";
        assert_eq!(output::plain(&out), expected);
        let mut out = Vec::new();
        print_all(&mut out, &[topic("imu")]).unwrap();
        let said = output::plain(&out);
        let line = said.lines().nth(1).unwrap();
        assert!(
            line.ends_with("imu_driver (7)   4.0 MB/s   3.20 ms ago     0  -         /dev/shm/conduit_imu"),
            "{line}"
        );
    }
}
