//! The arguments of `conduit top`.

use std::time::Duration;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::TopicPattern;

use super::rows::SortKey;
use crate::arguments::duration;
use crate::completion::topics;

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Watch all topics: rates, bandwidth, losses and delays of subscribers, and events as they happen.
///
/// Everything is read from outside, without subscribing, so publishers and subscribers are not
/// affected. Without a registry only the regions are shown, without events.
///
/// Keys: Enter opens a topic, ? explains the rest, q quits.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit top
  conduit top 'camera/**' --sort bandwidth
  conduit top --once --json | jq -r '.topics[] | select(.state == \"live\") | \"\\(.name) \\(.rate_hz)\"'
  conduit top --once --json --interval 5 | jq '[.topics[].subscribers[].lost_per_second] | add'")]
pub(crate) struct Args {
    /// Show only topics that match: * stays within a segment of the name, ** crosses segments
    #[arg(add = ArgValueCompleter::new(topics))]
    pub(super) glob: Option<TopicPattern>,
    /// Time between two measurements, in seconds or with a unit, at least 0.1
    #[arg(short = 'd', long, value_name = "TIME", default_value = "1", value_parser = interval)]
    pub(super) interval: Duration,
    /// Sort by this column; numbers in descending order
    #[arg(long, value_name = "COLUMN", default_value = "name", value_enum)]
    pub(super) sort: SortKey,
    /// Reverse the order
    #[arg(long)]
    pub(super) reverse: bool,
    /// Print one measurement, over one interval, as a table, and exit
    #[arg(long)]
    pub(super) once: bool,
    /// Print it as a JSON object: time_ms, interval_s, registry (pid, version; null if there is
    /// none), totals (topics, live, orphaned, subscribers, rate_hz, bytes_per_second,
    /// lost_per_second) and topics, in their order
    ///
    /// Of each topic: name, state, type, publisher (pid, uid, program), published, rate_hz,
    /// bytes_per_second, last_message_age_ns, interval_ns (p50, p99, max of the time between two
    /// messages), and subscribers.
    ///
    /// Of each subscriber: pid, uid, program, received, lost, held, lag (in messages), asleep,
    /// lost_per_second, behind_ns (p50, p99, max of the age of the oldest message it had not
    /// received, sampled 50 times a second; 0 if it had all).
    ///
    /// Unknown values are null: all but name and state of a file that is no topic, and rates before
    /// the second message or without time stamps.
    #[arg(long, requires = "once")]
    pub(super) json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SHORTEST_INTERVAL { Err("it is at least 0.1 seconds".into()) } else { Ok(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_long_enough() {
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(["0", "99ms", "-1", "soon"].iter().all(|text| interval(text).is_err()));
    }
}
