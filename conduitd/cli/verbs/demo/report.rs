//! The results of the demo.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::child::SubscriberTally;
use super::plan::SUBSCRIBERS;
use super::work::WorkTimes;
use crate::failure::Failure;
use crate::output::{data_size, duration_ns};

/// One stream of messages, as its publisher and its subscribers saw it.
#[derive(Debug, Default)]
pub(crate) struct StreamResult {
    /// From writing the first message until all subscribers were done with the last; 0 while the
    /// stream runs.
    pub(crate) elapsed_ns: u64,
    pub(crate) written: WorkTimes,
    pub(crate) tallies: Vec<SubscriberTally>,
}

/// The results. Losses and corruption are those of all subscribers, before and after the restart.
#[derive(Debug, Default, Serialize)]
pub(crate) struct DemoSummary {
    messages: u64,
    message_bytes: u64,
    messages_per_second: f64,
    /// Published; the subscribers together read a multiple of it.
    megabytes_per_second: f64,
    /// What a message takes to fill, and to compare.
    written: WorkTimes,
    compared: WorkTimes,
    latency_ns: LatencySummary,
    received: u64,
    lost: u64,
    corrupt: u64,
    first_corrupt: Option<String>,
    /// From the kill until each sleeping subscriber had its error.
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
struct LatencySummary {
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl DemoSummary {
    pub(crate) fn new(message_bytes: u64, messages: u64, stream: &StreamResult) -> Result<Self, Failure> {
        let seconds = stream.elapsed_ns as f64 / 1e9;
        let mut summary = Self {
            messages,
            message_bytes,
            messages_per_second: messages as f64 / seconds,
            megabytes_per_second: (messages * message_bytes) as f64 / 1e6 / seconds,
            written: stream.written,
            compared: WorkTimes::mean(stream.tallies.iter().map(|tally| tally.compared)),
            latency_ns: LatencySummary::of(&stream.tallies)?,
            ..Self::default()
        };
        summary.add(stream);
        Ok(summary)
    }

    pub(crate) fn add_restart(&mut self, restarted_at_ns: u64, messages: u64, stream: &StreamResult) {
        self.messages_after_restart = messages;
        let served_at_ns = stream.tallies.iter().map(|tally| tally.first_at_ns).max().unwrap_or(0);
        self.served_again_ns = served_at_ns.saturating_sub(restarted_at_ns);
        self.add(stream);
    }

    fn add(&mut self, stream: &StreamResult) {
        for tally in &stream.tallies {
            self.received += tally.received;
            self.lost += tally.lost;
            self.corrupt += tally.corrupt;
            self.first_corrupt = self.first_corrupt.take().or_else(|| tally.first_corrupt.clone());
        }
    }

    /// What went wrong, in words.
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
            problems.push("a subscriber remained asleep after its publisher's death".into());
        }
        if self.unlinked_ns.is_none() {
            problems.push("the file of the dead publisher was not removed".into());
        }
        problems
    }

    /// Writes the results as a table.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let LatencySummary { p50, p99, p99_9, max } = self.latency_ns;
        let [p50, p99, p99_9, max] = [p50, p99, p99_9, max].map(duration_ns);
        let (served_again, after_restart) = (duration_ns(self.served_again_ns), self.messages_after_restart);
        let woken: Vec<_> = self.woken_ns.iter().map(|&ns| duration_ns(ns)).collect();
        let [written, compared] = [self.written, self.compared].map(WorkTimes::ratio);
        let [in_ns, out_ns] = [self.written, self.compared].map(|times| duration_ns(times.slot_ns));
        let all_bytes = format!("written in {in_ns}, compared in {out_ns}, p50");
        let unlinked =
            self.unlinked_ns.map_or_else(|| "never".into(), |ns| format!("{} after the kill", duration_ns(ns)));
        let rows = [
            ("messages", format!("{} of {}", self.messages, data_size(self.message_bytes))),
            ("rate", format!("{:.1} MB/s, {:.0} messages/s", self.megabytes_per_second, self.messages_per_second)),
            // Keeps the rate from being taken for Conduit's.
            ("", "(of the check: the publisher waits until both subscribers have compared".into()),
            ("", "every bit; of that time, Conduit takes the latency)".into()),
            ("all bytes", all_bytes),
            ("", format!("(processor time; {written:.2} and {compared:.2} times that in private memory)")),
            ("latency", format!("p50 {p50}, p99 {p99}, p99.9 {p99_9}, max {max} (one way)")),
            ("lost", self.lost.to_string()),
            ("corrupt", self.corrupt.to_string()),
            ("woken", format!("{} after the kill", woken.join(" and "))),
            ("unlinked", unlinked),
            ("served again", format!("{served_again} after the restart, {after_restart} messages")),
        ];
        writeln!(out)?;
        rows.iter().try_for_each(|(name, value)| writeln!(out, "  {name:<14}{value}"))
    }
}

impl LatencySummary {
    fn of(tallies: &[SubscriberTally]) -> Result<Self, Failure> {
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

    fn stream(messages: u64) -> StreamResult {
        let tally = |first_at_ns| SubscriberTally {
            received: messages,
            first_at_ns,
            compared: WorkTimes { slot_ns: first_at_ns * 10, private_ns: 100 },
            latencies_ns: vec![(1_000, messages - 1), (5_000, 1)],
            ..SubscriberTally::default()
        };
        let written = WorkTimes { slot_ns: 300, private_ns: 200 };
        StreamResult { elapsed_ns: 2_000_000_000, written, tallies: vec![tally(10), tally(30)] }
    }

    fn summary() -> DemoSummary {
        let mut summary = DemoSummary::new(1_000_000, 2000, &stream(2000)).unwrap();
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
        let mut printed = Vec::new();
        summary.print(&mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("all bytes     written in 300 ns, compared in 200 ns, p50"), "{printed}");
        assert!(printed.contains("1.50 and 2.00 times that in private memory"), "{printed}");
    }

    #[test]
    fn all_problems_are_reported() {
        let mut bad = stream(1998);
        bad.tallies[0].lost = 2;
        bad.tallies[1].corrupt = 1;
        bad.tallies[1].first_corrupt = Some("message 7 from byte 8 on".into());
        let summary = DemoSummary::new(1_000_000, 2000, &bad).unwrap();
        let problems = summary.problems().join("\n");
        for part in ["2 messages were lost", "expected", "message 7 from byte 8 on", "remained asleep", "not removed"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }
}
