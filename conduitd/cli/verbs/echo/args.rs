//! The arguments of `conduit echo`.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::Start;

use super::field_path::FieldPath;
use super::print::{Format, Style};
use crate::arguments::duration;
use crate::completion::{fields, topics};
use crate::output;

/// Print the messages of topics, of any type.
///
/// Fields are printed as YAML if the publisher describes them (`#[derive(Message)]` does), text as
/// text, other bytes in the format of `hexdump -C`. YAML 1.1 and 1.2 read the same values; each
/// document ends with `---`, except the lines of a single number that --field selects. Messages are
/// copied out, so no slot is held; a message overwritten meanwhile counts as lost.
///
/// With several topics, or a pattern, each YAML document is a mapping from the topic's name, text
/// is quoted, each JSON object has the topic as always, and a table has a column for it; --raw
/// takes one topic only.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit echo imu --once
  conduit echo imu --field gyro[2] --csv > gyro.csv
  conduit echo imu --json | jq .value.acceleration
  conduit echo camera/front --raw --once > frame.bin
  conduit echo 'camera/*' imu --follow --json > log.jsonl

Exit codes:
  0  the publishers closed their topics, or --count messages were printed
  1  error, or no message within --timeout
  3  a publisher died")]
pub(crate) struct Args {
    /// Names of topics, and patterns: * stays within a segment of the name, ** crosses segments
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    pub(super) topics: Vec<String>,
    /// Exit after one message
    #[arg(short = '1', long, conflicts_with = "count")]
    pub(super) once: bool,
    /// Exit after this many messages, of all topics together
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Write only the messages' bytes to standard output
    #[arg(long, group = "format")]
    pub(super) raw: bool,
    /// Print all messages as a hex dump
    #[arg(long, group = "format")]
    pub(super) hex: bool,
    /// Print a JSON object per message: topic, sequence, lost (messages missed before it), stamp_ns
    /// (CLOCK_MONOTONIC), age_ns and time (UTC; all three null without time stamps), len_bytes,
    /// type, and one of value (if the fields are known; NaN is null, infinities are the texts
    /// Infinity and -Infinity), text (if the bytes are UTF-8) and hex
    #[arg(long, group = "format")]
    pub(super) json: bool,
    /// Print a line of comma-separated values per message (per element if messages are lists),
    /// after one line with the column names: topic (if there are several), sequence, stamp_ns, time
    /// (UTC), and the fields; or text and hex, of which one is empty: text if the bytes are UTF-8
    /// that a line can show, hex if not. The columns stay the same: a topic or a publisher whose
    /// messages have others is an error
    #[arg(long, group = "format")]
    pub(super) csv: bool,
    /// Print only this part of the messages: pose.position, gyro[2], [0].x
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(fields))]
    pub(super) field: Option<FieldPath>,
    /// Print at most N elements of an array as YAML; the other formats print all
    #[arg(short = 'l', long, value_name = "N", default_value_t = 128)]
    pub(super) truncate_length: usize,
    /// Print all elements of arrays
    #[arg(short = 'f', long, conflicts_with = "truncate_length")]
    pub(super) full_length: bool,
    /// Where to start
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = From::Next)]
    from: From,
    /// Give up if no message arrives for this long; also wait this long for the topics to appear
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// Do not report lost messages
    #[arg(long)]
    pub(super) no_lost_messages: bool,
    /// Wait for the publishers, for their return after they died or closed their topics, and for
    /// more topics that match a pattern; on a terminal the latter two are the default
    #[arg(long, conflicts_with = "no_follow")]
    pub(super) follow: bool,
    /// Exit with the publishers, on a terminal too
    #[arg(long)]
    pub(super) no_follow: bool,
}

/// The message to start with.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// With the next message to be published
    Next,
    /// With the newest message in the ring
    Latest,
    /// With the oldest message in the ring
    Oldest,
}

impl Args {
    fn format(&self) -> Format {
        match self {
            Self { raw: true, .. } => Format::Raw,
            Self { hex: true, .. } => Format::Hex,
            Self { json: true, .. } => Format::Json,
            Self { csv: true, .. } => Format::Csv,
            _ => Format::Text,
        }
    }

    pub(super) fn start(&self) -> Start {
        match self.from {
            From::Next => Start::Next,
            From::Latest => Start::Latest,
            From::Oldest => Start::Oldest,
        }
    }

    /// Whether publishers may come back, and more topics appear.
    pub(super) fn follows(&self) -> bool {
        self.follow || (!self.no_follow && io::stdout().is_terminal())
    }

    pub(super) fn style(&self, names_topics: bool) -> Style {
        Style {
            format: self.format(),
            field: self.field.clone(),
            max_elements: if self.full_length { usize::MAX } else { self.truncate_length },
            is_coloured: output::is_coloured(&io::stdout()),
            names_topics,
        }
    }
}
