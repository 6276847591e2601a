//! `conduit list`: what there is.

use std::io::{self, Write};

use clap::Args as ClapArgs;
use conduit::protocol::Topic;
use conduit::registry::{Client, RegistryCallError};
use conduit::shm::dir::ShmDir;
use conduit::{Domain, inspect};

use crate::failure::Failure;
use crate::output::{self, Align};

/// List all topics and raw regions.
///
/// Asks the registry, or reads the shared-memory directory if there is none.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  conduit list --json | jq -r '.[] | select(.state == \"live\") | .name'")]
pub(crate) struct Args {
    /// Print a JSON array with everything that is known of every topic
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topics = all_topics(&Domain::from_env())?;
    let mut out = output::stdout();
    let written = if args.json { output::json(&mut out, &topics) } else { print(&mut out, &topics) };
    written.and_then(|()| out.flush()).map_err(Failure::Output)
}

fn all_topics(domain: &Domain) -> Result<Vec<Topic>, Failure> {
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
pub(crate) fn read_directory(domain: &Domain) -> Result<Vec<Topic>, Failure> {
    let found = open_directory(domain)
        .and_then(|directory| inspect::list(&directory).map_err(Failure::io("read", domain.shm_dir())))?;
    let readable = |topic: Result<Topic, _>| topic.inspect_err(|error| eprintln!("conduit: {error}")).ok();
    Ok(found.into_iter().filter_map(readable).collect())
}

/// The directory of the domain's regions.
pub(crate) fn open_directory(domain: &Domain) -> Result<ShmDir, Failure> {
    ShmDir::open(domain).map_err(Failure::io("open", domain.shm_dir()))
}

fn print(out: &mut impl Write, topics: &[Topic]) -> io::Result<()> {
    let columns = [
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("TYPE", Align::Left),
        ("SIZE", Align::Right),
        ("PUBLISHED", Align::Right),
        ("RATE", Align::Right),
        ("SUBSCRIBERS", Align::Right),
        ("PUBLISHER", Align::Left),
    ];
    let rows: Vec<_> = topics.iter().map(row).collect();
    if rows.is_empty() { Ok(()) } else { output::table(out, columns, &rows) }
}

fn row(topic: &Topic) -> [String; 8] {
    let unless_raw = |text: String| if topic.raw { "-".into() } else { text };
    [
        topic.name.clone(),
        topic.state.to_string(),
        topic.message_type.clone().unwrap_or_else(|| "raw".into()),
        output::memory_size(topic.size_bytes),
        topic.published.map_or_else(|| "-".into(), |published| published.to_string()),
        topic.rate_hz.map_or_else(|| "-".into(), output::rate),
        unless_raw(topic.subscribers.len().to_string()),
        topic.publisher.as_ref().map_or_else(|| "-".into(), ToString::to_string),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use conduit::protocol::{Process, State};

    use super::*;

    pub(crate) fn topic(name: &str) -> Topic {
        Topic {
            name: name.into(),
            state: State::Live,
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
        let raw = Topic {
            state: State::Kept,
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
    }
}
