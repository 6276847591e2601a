//! `conduit list`: the topics and raw regions.

use std::io::{self, Write};

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::registry::TopicInfo;
use conduit::{Domain, TopicPattern};

use crate::completion::topics;
use crate::failure::Failure;
use crate::output;
use crate::output::topics::{message_type, or_dash, state};
use crate::source::Source;

/// List topics and raw regions.
///
/// Asks the registry, or reads the shared-memory directory if there is none. The state of a live
/// topic is `overdue` while its publisher has sent nothing for longer than it has promised.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit list
  conduit list 'camera/**' -v
  conduit list -c
  conduit list --json | jq -r '.[] | select(.state == \"live\") | .name'")]
pub(crate) struct Args {
    /// List only names that match: * stays within a segment of the name, ** crosses segments
    #[arg(add = ArgValueCompleter::new(topics))]
    glob: Option<TopicPattern>,
    /// Show more columns: bandwidth, age of the last message, messages lost by all subscribers,
    /// liveness, path
    #[arg(short, long)]
    verbose: bool,
    /// Print only names and types
    #[arg(short = 't', long, conflicts_with_all = ["verbose", "json"])]
    show_types: bool,
    /// Print only the number of topics
    #[arg(short, long, conflicts_with_all = ["verbose", "show_types", "json"])]
    count: bool,
    /// Print a JSON array with all that is known about each topic, as described by `conduit info
    /// --help`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut topics = Source::connect(&Domain::from_env()).topics()?;
    if let Some(glob) = &args.glob {
        topics.retain(|topic| topic.name.parse().is_ok_and(|name| glob.matches(&name)));
    }
    output::print(|out| match args {
        Args { json: true, .. } => output::json(out, &topics),
        Args { count: true, .. } => writeln!(out, "{}", topics.len()),
        Args { show_types: true, .. } => {
            topics.iter().try_for_each(|topic| writeln!(out, "{} [{}]", topic.name, message_type(topic)))
        }
        Args { verbose: true, .. } => print_all(out, &topics),
        _ => print(out, &topics),
    })
}

const COLUMNS: [&str; 8] = ["<NAME", "<STATE", "<TYPE", ">SIZE", ">PUBLISHED", ">RATE", ">SUBSCRIBERS", "<PUBLISHER"];
const MORE_COLUMNS: [&str; 5] = [">BANDWIDTH", ">LAST MESSAGE", ">LOST", "<LIVENESS", "<PATH"];

fn print(out: &mut impl Write, topics: &[TopicInfo]) -> io::Result<()> {
    output::table(out, &COLUMNS, &topics.iter().map(row).collect::<Vec<_>>())
}

fn print_all(out: &mut impl Write, topics: &[TopicInfo]) -> io::Result<()> {
    let rows: Vec<_> = topics.iter().map(|topic| [row(topic).as_slice(), &more(topic)].concat()).collect();
    output::table(out, &[COLUMNS.as_slice(), &MORE_COLUMNS].concat(), &rows)
}

fn row(topic: &TopicInfo) -> [String; 8] {
    [
        topic.name.clone(),
        state(topic),
        message_type(topic).into(),
        output::memory_size(topic.size_bytes),
        or_dash(topic.published.map(|published| published.to_string())),
        or_dash(topic.rate_hz.map(output::rate)),
        or_dash((!topic.raw).then(|| topic.subscribers.len().to_string())),
        or_dash(topic.publisher.as_ref().map(ToString::to_string)),
    ]
}

fn more(topic: &TopicInfo) -> [String; 5] {
    let lost = topic.subscribers.iter().fold(0u64, |sum, subscriber| sum.saturating_add(subscriber.lost));
    [
        or_dash(topic.bytes_per_second.map(|bytes| output::data_size(bytes as u64) + "/s")),
        or_dash(topic.last_message_age_ns.map(|age| output::duration_ns(age) + " ago")),
        or_dash((!topic.raw).then(|| lost.to_string())),
        or_dash(topic.liveness.as_ref().map(ToString::to_string)),
        topic.path.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use conduit::registry::RegionState;

    use super::*;
    use crate::output::topics::tests::topic;

    #[test]
    fn topics_and_raw_regions_share_a_table() {
        let mut raw = TopicInfo::new("map", RegionState::Kept);
        raw.raw = true;
        raw.size_bytes = 69_632;
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
        let printed = output::plain(&out);
        let line = printed.lines().nth(1).unwrap();
        assert!(
            line.ends_with("imu_driver (7)   4.0 MB/s   3.20 ms ago     0  -         /dev/shm/conduit_imu"),
            "{line}"
        );
    }
}
