//! The results of the bench, as JSON and as tables and plots.

use std::io::{self, Write};

use conduit_bench::cores::Placement;
use conduit_bench::statistics::Timings;
use conduit_bench::turns::Measurements;
use serde::Serialize;

use super::plot;
use crate::output::{self, FAINT, duration_ns, styled};

/// The limit of publishing to nobody, by its name in the results.
pub(super) const CLOCK: &str = "clock read";

/// Everything, in the shape of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    pub(super) duration_s: f64,
    pub(super) machine: BenchMachine,
    pub(super) latency: Vec<LatencyRow>,
    pub(super) throughput: Vec<ThroughputRow>,
    pub(super) limits: Vec<LimitRow>,
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Debug, Serialize)]
pub(super) struct BenchMachine {
    pub(super) cpu: String,
    pub(super) kernel: String,
    pub(super) cores: Vec<usize>,
    pub(super) placement: Placement,
    /// The cores in words.
    #[serde(skip)]
    pub(super) words: String,
}

/// One way of a message, beside the limit measured in the same turns.
#[derive(Debug, Serialize)]
pub(super) struct LatencyRow {
    pub(super) work: &'static str,
    pub(super) message_bytes: u64,
    pub(super) touched_bytes: u64,
    #[serde(flatten)]
    pub(super) percentiles: BenchPercentiles,
    pub(super) limit: &'static str,
    pub(super) limit_p50_ns: u64,
    pub(super) ratio: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct BenchPercentiles {
    count: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    max_ns: u64,
    /// The whole distribution as a line of the plot.
    #[serde(skip)]
    line: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ThroughputRow {
    pub(super) work: &'static str,
    pub(super) message_bytes: u64,
    pub(super) messages: u64,
    pub(super) messages_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) limit: &'static str,
    pub(super) limit_messages_per_second: f64,
    pub(super) ratio: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct LimitRow {
    pub(super) limit: &'static str,
    #[serde(flatten)]
    pub(super) percentiles: BenchPercentiles,
}

#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    pub(super) work: &'static str,
    pub(super) reason: String,
}

impl BenchPercentiles {
    pub(super) fn of(measured: &Timings) -> Self {
        let at = |per_mille| measured.at_ns(per_mille);
        Self {
            count: measured.count(),
            p50_ns: at(500),
            p90_ns: at(900),
            p99_ns: at(990),
            p99_9_ns: at(999),
            max_ns: at(1000),
            line: plot::line(measured.steps()),
        }
    }

    /// As the table has them.
    fn cells(&self) -> [String; 4] {
        [self.p50_ns, self.p99_ns, self.p99_9_ns, self.max_ns].map(duration_ns)
    }
}

impl LatencyRow {
    pub(super) fn new(
        work: &'static str,
        [message_bytes, touched_bytes]: [u64; 2],
        measured: &Timings,
        limit: &'static str,
        limit_measured: &Timings,
    ) -> Self {
        Self {
            work,
            message_bytes,
            touched_bytes,
            percentiles: BenchPercentiles::of(measured),
            limit,
            limit_p50_ns: limit_measured.at_ns(500),
            ratio: ratio(measured.at(500), limit_measured.at(500)),
        }
    }
}

impl ThroughputRow {
    pub(super) fn new(
        work: &'static str,
        message_bytes: u64,
        measured: &Measurements,
        limit: &'static str,
        limit_messages_per_second: f64,
    ) -> Self {
        let messages_per_second = measured.per_second();
        Self {
            work,
            message_bytes,
            messages: measured.messages,
            messages_per_second,
            bytes_per_second: messages_per_second * message_bytes as f64,
            limit,
            limit_messages_per_second,
            ratio: ratio(limit_messages_per_second, messages_per_second),
        }
    }
}

/// How many times the limit, which a coarse clock may measure as zero.
fn ratio(measured: f64, limit: f64) -> f64 {
    measured / limit.max(f64::MIN_POSITIVE)
}

impl BenchReport {
    /// Writes tables and plots.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let BenchMachine { cpu, kernel, words, .. } = &self.machine;
        writeln!(out, "{cpu}, Linux {kernel}")?;
        writeln!(out, "two processes on {words}, {:.1} s\n", self.duration_s)?;
        self.print_latency(out)?;
        if !self.throughput.is_empty() {
            writeln!(out)?;
            self.print_throughput(out)?;
        }
        writeln!(out)?;
        self.print_plots(out)?;
        writeln!(out)?;
        for LeftOut { work, reason } in &self.left_out {
            writeln!(out, "not measured: {work}: {reason}")?;
        }
        let clock = self.limits.iter().find(|limit| limit.limit == CLOCK).map(|limit| limit.percentiles.p50_ns);
        let clock = clock.map_or_else(String::new, |ns| format!(" ({})", duration_ns(ns)));
        writeln!(
            out,
            "One way is half a round trip; nothing is trimmed; each measurement contains a clock read{clock}."
        )?;
        writeln!(out, "Each limit was measured in turn with what is compared with it; a ratio of 1 is the limit.")
    }

    fn print_latency(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = ["<ONE WAY", ">P50", ">P99", ">P99.9", ">MAX", ">LIMIT", ">RATIO", "<"];
        let ours = self.latency.iter().map(|row| {
            let [p50, p99, p99_9, max] = row.percentiles.cells();
            let ratio = format!("{:.2}", row.ratio);
            [row.work.into(), p50, p99, p99_9, max, duration_ns(row.limit_p50_ns), ratio, row.limit.into()]
        });
        let limits = self.limits.iter().map(|row| {
            let [p50, p99, p99_9, max] = row.percentiles.cells();
            let name = format!("limit: {}", row.limit);
            [name, p50, p99, p99_9, max, String::new(), String::new(), String::new()]
                .map(|cell| if cell.is_empty() { cell } else { styled(FAINT, cell) })
        });
        output::table(out, &columns, &ours.chain(limits).collect::<Vec<_>>())
    }

    fn print_throughput(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = ["<THROUGHPUT", ">MESSAGES", ">MESSAGES/S", ">DATA", ">LIMIT/S", ">RATIO", "<"];
        let rows = self.throughput.iter().map(|row| {
            [
                row.work.into(),
                row.messages.to_string(),
                format!("{:.0}", row.messages_per_second),
                format!("{}/s", output::data_size(row.bytes_per_second as u64)),
                format!("{:.0}", row.limit_messages_per_second),
                format!("{:.2}", row.ratio),
                row.limit.into(),
            ]
        });
        output::table(out, &columns, &rows.collect::<Vec<_>>())
    }

    fn print_plots(&self, out: &mut impl Write) -> io::Result<()> {
        let ours = self.latency.iter().map(|row| (row.work.to_owned(), &row.percentiles.line));
        let limits = self.limits.iter().map(|row| (format!("limit: {}", row.limit), &row.percentiles.line));
        let lines: Vec<_> = ours.chain(limits).collect();
        let indent = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
        for line in plot::axis(indent) {
            writeln!(out, "{}", styled(FAINT, line))?;
        }
        lines.iter().try_for_each(|(name, line)| writeln!(out, "{name:indent$}{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> BenchReport {
        let timings = |step: u64| {
            let mut timings = Timings::new(1);
            (1..=1000).for_each(|at| timings.record(at * step));
            timings
        };
        let mut stream = Measurements::new(1);
        stream.add_messages(400, 1_000_000_000);
        BenchReport {
            duration_s: 10.0,
            machine: BenchMachine {
                cpu: "Abacus".into(),
                kernel: "6.18.0".into(),
                cores: vec![0, 1],
                placement: Placement::TwoCores,
                words: "cores 0 and 1, two physical cores".into(),
            },
            latency: vec![LatencyRow::new("64 B polling", [64, 64], &timings(3), "cache line", &timings(1))],
            throughput: vec![ThroughputRow::new("64 B in a row", 64, &stream, "cache lines in a row", 1000.0)],
            limits: vec![LimitRow { limit: "clock read", percentiles: BenchPercentiles::of(&timings(1)) }],
            left_out: vec![LeftOut { work: "12 MB polling", reason: "no room".into() }],
        }
    }

    /// Programs read it: this text is the shape, which does not change.
    #[test]
    fn the_shape_of_json() {
        let mut json = Vec::new();
        output::json(&mut json, &summary()).unwrap();
        let expected = r#"{
  "duration_s": 10.0,
  "machine": {
    "cpu": "Abacus",
    "kernel": "6.18.0",
    "cores": [
      0,
      1
    ],
    "placement": "two_cores"
  },
  "latency": [
    {
      "work": "64 B polling",
      "message_bytes": 64,
      "touched_bytes": 64,
      "count": 1000,
      "p50_ns": 1500,
      "p90_ns": 2701,
      "p99_ns": 2971,
      "p99_9_ns": 2997,
      "max_ns": 3000,
      "limit": "cache line",
      "limit_p50_ns": 500,
      "ratio": 3.0
    }
  ],
  "throughput": [
    {
      "work": "64 B in a row",
      "message_bytes": 64,
      "messages": 400,
      "messages_per_second": 400.0,
      "bytes_per_second": 25600.0,
      "limit": "cache lines in a row",
      "limit_messages_per_second": 1000.0,
      "ratio": 2.5
    }
  ],
  "limits": [
    {
      "limit": "clock read",
      "count": 1000,
      "p50_ns": 500,
      "p90_ns": 900,
      "p99_ns": 990,
      "p99_9_ns": 999,
      "max_ns": 1000
    }
  ],
  "left_out": [
    {
      "work": "12 MB polling",
      "reason": "no room"
    }
  ]
}
"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn the_text_has_tables_and_plots() {
        let mut text = Vec::new();
        summary().print(&mut text).unwrap();
        let text = output::plain(&text);
        let expected = "\
ONE WAY                P50      P99    P99.9      MAX   LIMIT  RATIO
64 B polling       1.50 us  2.97 us  3.00 us  3.00 us  500 ns   3.00  cache line
limit: clock read   500 ns   990 ns   999 ns  1.00 us

THROUGHPUT     MESSAGES  MESSAGES/S       DATA  LIMIT/S  RATIO
64 B in a row       400         400  25.6 kB/s     1000   2.50  cache lines in a row

                   10 ns    100 ns   1 us     10 us    100 us   1 ms     10 ms
";
        assert!(text.contains(expected), "{text}");
        assert!(text.lines().any(|line| line.starts_with("64 B polling       ▁")), "{text}");
        assert!(text.contains("not measured: 12 MB polling: no room"), "{text}");
        assert!(text.contains("contains a clock read (500 ns)"), "{text}");
    }
}
