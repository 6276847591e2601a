//! `conduit top --once`: one measurement, for scripts and logs.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conduit::Domain;
use conduit::registry::{Process, RegionState, RegistryStatus};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Args;
use super::collect::Collector;
use super::quantiles::Quantiles;
use super::rows::{SubscriberRow, TopicRow, Totals, sort};
use crate::failure::Failure;
use crate::output;
use crate::output::topics::or_dash;
use crate::source::Source;

/// How often subscribers and messages are sampled.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How many of the last messages are sampled.
const MESSAGES: u64 = 64;

/// The output of `--json`; documented in its help.
#[derive(Debug, Serialize)]
struct TopReport<'a> {
    time_ms: u64,
    interval_s: f64,
    registry: Option<Value>,
    totals: Totals,
    topics: Vec<TopicReport<'a>>,
}

#[derive(Debug, Serialize)]
struct TopicReport<'a> {
    name: &'a str,
    state: &'a RegionState,
    #[serde(rename = "type")]
    message_type: Option<&'a str>,
    publisher: Option<&'a Process>,
    published: Option<u64>,
    rate_hz: Option<f64>,
    bytes_per_second: Option<f64>,
    last_message_age_ns: Option<u64>,
    interval_ns: Option<Quantiles>,
    subscribers: &'a [SubscriberRow],
}

impl<'a> TopicReport<'a> {
    fn new(row: &'a TopicRow) -> Self {
        Self {
            name: &row.topic.name,
            state: &row.topic.state,
            message_type: row.topic.message_type.as_deref(),
            publisher: row.topic.publisher.as_ref(),
            published: row.topic.published,
            rate_hz: row.topic.rate_hz,
            bytes_per_second: row.topic.bytes_per_second,
            last_message_age_ns: row.topic.last_message_age_ns,
            interval_ns: row.interval,
            subscribers: &row.readers,
        }
    }
}

pub(super) fn run(args: &Args, domain: &Domain, mut collector: Collector) -> Result<(), Failure> {
    let mut source = Source::connect(domain);
    let (_, news) = collector.refresh(source.topics_of_registry().as_deref())?;
    news.iter().for_each(output::notice);
    let begun = Instant::now();
    loop {
        let left = args.interval.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(LOOK_INTERVAL));
        collector.look(None, MESSAGES);
    }
    let (mut rows, _) = collector.refresh(source.topics_of_registry().as_deref())?;
    let interval = begun.elapsed();
    sort(&mut rows, args.sort, args.reverse);
    let status = source.registry.as_mut().and_then(|registry| registry.status().ok());
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    output::print(|out| {
        if args.json {
            output::json(out, &report(&rows, time.as_millis() as u64, interval, status.as_ref()))
        } else {
            print(out, &rows)
        }
    })
}

fn report<'a>(
    rows: &'a [TopicRow],
    time_ms: u64,
    interval: Duration,
    status: Option<&RegistryStatus>,
) -> TopReport<'a> {
    TopReport {
        time_ms,
        interval_s: interval.as_secs_f64(),
        registry: status.map(|status| json!({"pid": status.pid, "version": status.version})),
        totals: Totals::of(rows),
        topics: rows.iter().map(TopicReport::new).collect(),
    }
}

fn print(out: &mut impl Write, rows: &[TopicRow]) -> io::Result<()> {
    let about_topics = ["<TOPIC", "<STATE", ">RATE", ">BANDWIDTH", ">INTERVAL_P99"];
    let about_subscribers = [">SUBSCRIBERS", ">LOST", ">LOST/S", ">LAG", ">BEHIND_P99", "<PUBLISHER"];
    let columns = [about_topics.as_slice(), &about_subscribers].concat();
    output::table(out, &columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn cells(row: &TopicRow) -> [String; 11] {
    let topic = &row.topic;
    let unless_raw = |text: String| if topic.raw { "-".into() } else { text };
    [
        topic.name.clone(),
        topic.state.to_string(),
        or_dash(topic.rate_hz.map(output::rate)),
        or_dash(topic.bytes_per_second.map(|bytes| format!("{}/s", output::data_size(bytes.round() as u64)))),
        or_dash(row.interval.map(|interval| output::duration_ns(interval.p99))),
        unless_raw(row.readers.len().to_string()),
        unless_raw(row.lost().to_string()),
        unless_raw(format!("{:.1}", row.lost_per_second())),
        or_dash(row.lag().map(|lag| lag.to_string())),
        or_dash(row.behind_p99().map(output::duration_ns)),
        or_dash(topic.publisher.as_ref().map(ToString::to_string)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::rows;
    use super::*;

    #[test]
    fn the_object_is_as_documented() {
        let mut status = RegistryStatus::default();
        (status.version, status.pid) = ("1.2.3".into(), 77);
        let rows = rows();
        let mut out = Vec::new();
        let rows = &rows[1..2];
        output::json(&mut out, &report(rows, 1_700_000_000_000, Duration::from_secs(1), Some(&status))).unwrap();
        let expected = r#"{
  "time_ms": 1700000000000,
  "interval_s": 1.0,
  "registry": {
    "pid": 77,
    "version": "1.2.3"
  },
  "totals": {
    "topics": 1,
    "live": 1,
    "orphaned": 0,
    "subscribers": 1,
    "rate_hz": 15.0,
    "bytes_per_second": 60000.0,
    "lost_per_second": 0.2
  },
  "topics": [
    {
      "name": "camera/rear",
      "state": "live",
      "type": "[u8]",
      "publisher": {
        "pid": 7,
        "uid": 1000,
        "program": "imu_driver"
      },
      "published": 42,
      "rate_hz": 15.0,
      "bytes_per_second": 60000.0,
      "last_message_age_ns": 3200000,
      "interval_ns": {
        "p50": 5000000,
        "p99": 66666666,
        "max": 9000000
      },
      "subscribers": [
        {
          "pid": 12,
          "uid": 1000,
          "program": "viewer",
          "received": 1000,
          "lost": 2,
          "held": 1,
          "lag": 9,
          "asleep": false,
          "lost_per_second": 0.2,
          "behind_ns": {
            "p50": 9000000,
            "p99": 18000000,
            "max": 27000000
          }
        }
      ]
    }
  ]
}
"#;
        assert_eq!(output::plain(&out), expected);
    }

    #[test]
    fn the_table_has_a_line_per_topic() {
        let mut out = Vec::new();
        print(&mut out, &rows()[1..3]).unwrap();
        let expected = "\
TOPIC        STATE     RATE  BANDWIDTH  INTERVAL_P99  SUBSCRIBERS  LOST  LOST/S  LAG  BEHIND_P99  PUBLISHER
camera/rear  live   15.0 Hz  60.0 kB/s       66.7 ms            1     2     0.2    9     18.0 ms  imu_driver (7)
imu          live   1000 Hz   4.0 MB/s       1.00 ms            0     0     0.0    -           -  imu_driver (7)
";
        assert_eq!(output::plain(&out), expected);
    }
}
