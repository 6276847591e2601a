//! What the demo has found.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::SUBSCRIBERS;
use super::child::Tally;
use crate::failure::Failure;
use crate::output::{data_size, duration_ns};

/// One stream of messages, as its publisher and its subscribers saw it.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// From the first message's writing until all subscribers were done with the last; 0 as long as
    /// it goes on.
    pub(crate) elapsed_ns: u64,
    pub(crate) tallies: Vec<Tally>,
}

/// The results. Losses and corruption are those of all subscribers, before and after the restart.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    messages: u64,
    message_bytes: u64,
    messages_per_second: f64,
    /// Published: what subscribers read together is as many times as much as there are subscribers.
    megabytes_per_second: f64,
    latency_ns: Latency,
    received: u64,
    lost: u64,
    corrupt: u64,
    first_corrupt: Option<String>,
    /// From the kill until the sleeping subscribers had their error, one by one.
    pub(crate) woken_ns: Vec<u64>,
    /// From the kill until the region's file was gone.
    pub(crate) unlinked_ns: Option<u64>,
    messages_after_restart: u64,
    /// From the start of the new publisher's process until the later subscriber had its first
    /// message.
    served_again_ns: u64,
}

/// From publishing a message until a subscriber had it.
#[derive(Debug, Default, Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl Summary {
    pub(crate) fn new(message_bytes: u64, messages: u64, stream: &Stream) -> Result<Self, Failure> {
        let seconds = stream.elapsed_ns as f64 / 1e9;
        let mut summary = Self {
            messages,
            message_bytes,
            messages_per_second: messages as f64 / seconds,
            megabytes_per_second: (messages * message_bytes) as f64 / 1e6 / seconds,
            latency_ns: Latency::of(&stream.tallies)?,
            ..Self::default()
        };
        summary.add(stream);
        Ok(summary)
    }

    pub(crate) fn add_restart(&mut self, restarted_at_ns: u64, messages: u64, stream: &Stream) {
        self.messages_after_restart = messages;
        let served_at_ns = stream.tallies.iter().map(|tally| tally.first_at_ns).max().unwrap_or(0);
        self.served_again_ns = served_at_ns.saturating_sub(restarted_at_ns);
        self.add(stream);
    }

    fn add(&mut self, stream: &Stream) {
        for tally in &stream.tallies {
            self.received += tally.received;
            self.lost += tally.lost;
            self.corrupt += tally.corrupt;
            self.first_corrupt = self.first_corrupt.take().or_else(|| tally.first_corrupt.clone());
        }
    }

    /// What was not as it should be.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.lost > 0 {
            problems.push(format!("{} messages were lost", self.lost));
        }
        let expected = (self.messages + self.messages_after_restart) * SUBSCRIBERS as u64;
        if self.received + self.lost != expected {
            problems.push(format!("{} messages were received, {expected} expected", self.received));
        }
        if self.corrupt > 0 {
            let first = self.first_corrupt.as_deref().unwrap_or("unknown");
            problems.push(format!("{} messages were corrupt, first {first}", self.corrupt));
        }
        if self.woken_ns.len() < SUBSCRIBERS {
            problems.push("a subscriber slept on after its publisher's death".into());
        }
        if self.unlinked_ns.is_none() {
            problems.push("the file of the dead publisher was not removed".into());
        }
        problems
    }

    /// Writes the results as a table.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let latency = &self.latency_ns;
        let woken: Vec<_> = self.woken_ns.iter().map(|&ns| duration_ns(ns)).collect();
        let unlinked =
            self.unlinked_ns.map_or_else(|| "never".into(), |ns| format!("{} after the kill", duration_ns(ns)));
        let rows = [
            ("messages", format!("{} of {}", self.messages, data_size(self.message_bytes))),
            ("rate", format!("{:.1} MB/s, {:.0} messages/s", self.megabytes_per_second, self.messages_per_second)),
            (
                "latency",
                format!(
                    "p50 {}, p99 {}, p99.9 {}, max {} (one way)",
                    duration_ns(latency.p50),
                    duration_ns(latency.p99),
                    duration_ns(latency.p99_9),
                    duration_ns(latency.max)
                ),
            ),
            ("lost", self.lost.to_string()),
            ("corrupt", self.corrupt.to_string()),
            ("woken", format!("{} after the kill", woken.join(" and "))),
            ("unlinked", unlinked),
            (
                "served again",
                format!(
                    "{} after the restart, {} messages",
                    duration_ns(self.served_again_ns),
                    self.messages_after_restart
                ),
            ),
        ];
        writeln!(out)?;
        rows.iter().try_for_each(|(name, value)| writeln!(out, "  {name:<14}{value}"))
    }
}

impl Latency {
    fn of(tallies: &[Tally]) -> Result<Self, Failure> {
        let mut all = Histogram::<u64>::new(3).map_err(Failure::new)?;
        for &(ns, count) in tallies.iter().flat_map(|tally| &tally.latencies_ns) {
            all.record_n(ns, count).map_err(Failure::new)?;
        }
        let at = |percentile| all.value_at_percentile(percentile);
        Ok(Self { p50: at(50.0), p99: at(99.0), p99_9: at(99.9), max: all.max() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(messages: u64) -> Stream {
        let tally = |first_at_ns| Tally {
            received: messages,
            first_at_ns,
            latencies_ns: vec![(1_000, messages - 1), (5_000, 1)],
            ..Tally::default()
        };
        Stream { elapsed_ns: 2_000_000_000, tallies: vec![tally(10), tally(30)] }
    }

    fn summary() -> Summary {
        let mut summary = Summary::new(1_000_000, 2000, &stream(2000)).unwrap();
        summary.woken_ns = vec![700_000, 800_000];
        summary.unlinked_ns = Some(900_000);
        summary.add_restart(10, 100, &stream(100));
        summary
    }

    #[test]
    fn a_good_run_has_no_problems() {
        let summary = summary();
        assert_eq!(summary.problems(), Vec::<String>::new());
        assert_eq!((summary.messages_per_second, summary.megabytes_per_second), (1000.0, 1000.0));
        assert_eq!((summary.latency_ns.p50, summary.latency_ns.max), (1_000, 5_003));
        assert_eq!(summary.served_again_ns, 20);
    }

    #[test]
    fn everything_that_went_wrong_is_told() {
        let mut bad = stream(1998);
        bad.tallies[0].lost = 2;
        bad.tallies[1].corrupt = 1;
        bad.tallies[1].first_corrupt = Some("message 7 from byte 8 on".into());
        let summary = Summary::new(1_000_000, 2000, &bad).unwrap();
        let problems = summary.problems().join("\n");
        for part in ["2 messages were lost", "expected", "message 7 from byte 8 on", "slept on", "not removed"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }
}
