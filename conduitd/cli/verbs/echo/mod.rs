//! `conduit echo`: prints the messages of a topic, for people or for a pipe.

mod field_path;
mod print;
mod value;
mod yaml;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, ValueEnum, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, Gone, OpenError, RecvError, Sample, ShmRegion, Start, Subscriber, TopicName};

use crate::arguments::duration;
use crate::completion::{fields, topics};
use crate::failure::Failure;
use crate::source::Source;
use crate::{output, signals};
use field_path::FieldPath;
use print::{Format, PrintedMessage, Printer, Style, write_columns};

/// Exit code when the publisher died.
const DIED: u8 = 3;
/// How often to check for a signal.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often to try to open a topic that is an orphan.
const REOPEN_INTERVAL: Duration = Duration::from_millis(10);

/// Print the messages of a topic, of any type.
///
/// Fields are printed as YAML if the publisher describes them (`#[derive(Message)]` does), text as
/// text, other bytes in the format of `hexdump -C`. YAML 1.1 and 1.2 read the same values; each
/// document ends with `---`, except the lines of a single number that --field selects. Messages are
/// copied out, so no slot is held; a message overwritten meanwhile counts as lost.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit echo imu --once
  conduit echo imu --field gyro[2] --csv > gyro.csv
  conduit echo imu --json | jq .value.acceleration
  conduit echo camera/front --raw --once > frame.bin

Exit codes:
  0  the publisher closed the topic, or --count messages were printed
  1  error, or no message within --timeout
  3  the publisher died")]
pub(crate) struct Args {
    /// Name of the topic
    #[arg(add = ArgValueCompleter::new(topics))]
    topic: String,
    /// Exit after one message
    #[arg(short = '1', long, conflicts_with = "count")]
    once: bool,
    /// Exit after this many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write only the messages' bytes to standard output
    #[arg(long, group = "format")]
    raw: bool,
    /// Print all messages as a hex dump
    #[arg(long, group = "format")]
    hex: bool,
    /// Print a JSON object per message: topic, sequence, lost (messages missed before it), stamp_ns
    /// (CLOCK_MONOTONIC), age_ns and time (UTC; all three null without time stamps), len_bytes,
    /// type, and one of value (if the fields are known; NaN is null, infinities are the texts
    /// Infinity and -Infinity), text (if the bytes are UTF-8) and hex
    #[arg(long, group = "format")]
    json: bool,
    /// Print a line of comma-separated values per message (per element if messages are lists),
    /// after one line with the column names: sequence, stamp_ns, time (UTC), and the fields; or
    /// text and hex, of which one is empty: text if the bytes are UTF-8 that a line can show, hex if
    /// not. The columns stay the same: a publisher whose messages have others is an error
    #[arg(long, group = "format")]
    csv: bool,
    /// Print only this part of the messages: pose.position, gyro[2], [0].x
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(fields))]
    field: Option<FieldPath>,
    /// Print at most N elements of an array as YAML; the other formats print all
    #[arg(short = 'l', long, value_name = "N", default_value_t = 128)]
    truncate_length: usize,
    /// Print all elements of arrays
    #[arg(short = 'f', long, conflicts_with = "truncate_length")]
    full_length: bool,
    /// Where to start
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = From::Next)]
    from: From,
    /// Give up if no message arrives for this long; also wait this long for the topic to appear
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Do not report lost messages
    #[arg(long)]
    no_lost_messages: bool,
    /// Wait for the publisher, and for its return after it died or closed the topic; on a terminal
    /// the latter is the default
    #[arg(long, conflicts_with = "no_follow")]
    follow: bool,
    /// Exit with the publisher, on a terminal too
    #[arg(long)]
    no_follow: bool,
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

    fn start(&self) -> Start {
        match self.from {
            From::Next => Start::Next,
            From::Latest => Start::Latest,
            From::Oldest => Start::Oldest,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topic = TopicName::new(&args.topic)?;
    // The sender is dropped after the subscriber.
    let (is_interrupted, subscribed) = signals::set_before_ending().map_err(Failure::new)?;
    let domain = Domain::from_env();
    let source = Source::directory_only(&domain);
    let result =
        Echo { args, domain, source, topic, is_interrupted, table: None, is_table_begun: false, printed: 0 }.run();
    drop(subscribed);
    result
}

struct Echo<'a> {
    args: &'a Args,
    domain: Domain,
    source: Source,
    topic: TopicName,
    is_interrupted: Arc<AtomicBool>,
    /// The columns of the table, which stay the same whoever publishes.
    table: Option<Vec<String>>,
    is_table_begun: bool,
    printed: u64,
}

/// Why no more messages are printed.
enum EchoEnd {
    Interrupted,
    /// As many were printed as were requested.
    Enough,
    Output(io::Error),
    Receive(RecvError),
}

impl Echo<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let Args { follow, no_follow, .. } = *self.args;
        let mut subscriber = self.open(self.args.start(), follow)?;
        loop {
            let printer = self.printer(&subscriber)?;
            let end = self.print_all(&mut subscriber, &printer);
            drop(subscriber);
            match end {
                EchoEnd::Interrupted => return Err(Failure::Interrupted),
                EchoEnd::Enough => return Ok(()),
                EchoEnd::Output(error) => return Err(Failure::Output(error)),
                EchoEnd::Receive(error @ RecvError::PublisherGone { .. })
                    if follow || (!no_follow && io::stdout().is_terminal()) =>
                {
                    output::notice(format_args!("{error}; waiting for the next one"));
                }
                EchoEnd::Receive(error) => return result_of(&error),
            }
            // The next publisher's messages are printed from its first.
            subscriber = self.open(Start::Oldest, true)?;
            let publisher = self.source.region(&self.topic).and_then(|region| region.describe().publisher);
            let publisher = publisher.map_or_else(String::new, |process| format!(": {process}"));
            output::notice(format_args!("\"{}\" is published again{publisher}", self.topic));
        }
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    /// Opens the topic, waiting for it as long as the arguments allow.
    fn open(&mut self, start: Start, wait: bool) -> Result<Subscriber<[u8]>, Failure> {
        let deadline = match self.args.timeout {
            Some(timeout) => Instant::now().checked_add(timeout),
            None if wait => None,
            None => Some(Instant::now()),
        };
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        // After the end of a publisher the user knows that the topic is missing.
        let mut is_announced = !self.args.follow || start == Start::Oldest;
        loop {
            let builder =
                Subscriber::<[u8]>::builder().any_type(true).copy_samples(true).start(start).domain(&self.domain);
            let error = match builder.open(self.topic.clone()) {
                Ok(subscriber) => return Ok(subscriber),
                Err(error @ (OpenError::NotFound { .. } | OpenError::Orphaned { .. })) => error,
                Err(error) => return Err(error.into()),
            };
            if self.is_interrupted() {
                return Err(Failure::Interrupted);
            }
            if left().is_zero() {
                return Err(self.source.unopened(&self.topic, error));
            }
            if !std::mem::replace(&mut is_announced, true) {
                let suggestion = self.source.suggestion(&self.topic);
                let hint = suggestion.map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"));
                output::notice(format_args!("there is no topic \"{}\" yet{hint}; waiting for it", self.topic));
            }
            if matches!(error, OpenError::Orphaned { .. }) {
                std::thread::sleep(REOPEN_INTERVAL.min(left()));
            } else {
                ShmRegion::wait_until_exists_for(self.topic.clone(), SIGNAL_INTERVAL.min(left()))?;
            }
        }
    }

    fn printer(&mut self, subscriber: &Subscriber<[u8]>) -> Result<Printer, Failure> {
        let region = self.source.region(&self.topic);
        let region = region.filter(|region| region.message_type() == Some(subscriber.message_type()));
        let shape = region.and_then(|region| region.shape());
        let style = Style {
            format: self.args.format(),
            field: self.args.field.clone(),
            max_elements: if self.args.full_length { usize::MAX } else { self.args.truncate_length },
            is_coloured: output::is_coloured(&io::stdout()),
            names_topics: false,
        };
        let failed = |reason| Failure::new(format_args!("topic \"{}\": {reason}", self.topic));
        let printer = Printer::new(style, subscriber.message_type(), shape).map_err(failed)?;
        let columns = self.table.get_or_insert_with(|| printer.columns().to_vec());
        if columns != printer.columns() {
            let reason = "its messages have other fields than those before; a table cannot change its columns";
            return Err(failed(reason.into()));
        }
        Ok(printer)
    }

    fn print_all(&mut self, subscriber: &mut Subscriber<[u8]>, printer: &Printer) -> EchoEnd {
        let mut out = output::buffered(io::stdout().lock());
        let wanted = if self.args.once { 1 } else { self.args.count.unwrap_or(u64::MAX) };
        while self.printed < wanted {
            let sample = match subscriber.try_recv() {
                Ok(Some(sample)) => sample,
                Ok(None) => match out.flush().map_err(EchoEnd::Output).and_then(|()| self.receive(subscriber)) {
                    Ok(sample) => sample,
                    Err(end) => return end,
                },
                Err(error) => return out.flush().map_or_else(EchoEnd::Output, |()| EchoEnd::Receive(error)),
            };
            if let Err(error) = self.print(&mut out, printer, &sample) {
                return EchoEnd::Output(error);
            }
            self.printed += 1;
            if self.is_interrupted() {
                return out.flush().map_or_else(EchoEnd::Output, |()| EchoEnd::Interrupted);
            }
        }
        out.flush().map_or_else(EchoEnd::Output, |()| EchoEnd::Enough)
    }

    fn print(&mut self, out: &mut impl Write, printer: &Printer, sample: &Sample<[u8]>) -> io::Result<()> {
        let mut message = PrintedMessage::new(self.topic.as_str(), sample);
        if self.args.no_lost_messages && !self.args.json {
            message.lost = 0;
        }
        if self.args.csv && !std::mem::replace(&mut self.is_table_begun, true) {
            write_columns(out, printer.columns())?;
        }
        printer.print(out, &message)
    }

    fn receive(&self, subscriber: &mut Subscriber<[u8]>) -> Result<Sample<[u8]>, EchoEnd> {
        let started = Instant::now();
        let timeout = self.args.timeout;
        loop {
            if self.is_interrupted() {
                return Err(EchoEnd::Interrupted);
            }
            let left = timeout.map_or(SIGNAL_INTERVAL, |timeout| timeout.saturating_sub(started.elapsed()));
            match subscriber.recv_timeout(left.min(SIGNAL_INTERVAL)) {
                Ok(sample) => return Ok(sample),
                Err(RecvError::TimedOut { topic, .. }) => {
                    if let Some(timeout) = timeout.filter(|&timeout| started.elapsed() >= timeout) {
                        return Err(EchoEnd::Receive(RecvError::TimedOut { topic, timeout }));
                    }
                }
                Err(error) => return Err(EchoEnd::Receive(error)),
            }
        }
    }
}

/// The command's result when a receive failed.
fn result_of(error: &RecvError) -> Result<(), Failure> {
    match error {
        RecvError::PublisherGone { topic, how: Gone::Closed } => {
            output::notice(format_args!("the publisher of \"{topic}\" closed it"));
            Ok(())
        }
        RecvError::PublisherGone { topic, how: Gone::Died } => {
            Err(Failure::with_code(format_args!("the publisher of \"{topic}\" died"), DIED))
        }
        error => Err(Failure::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_distinguishes_a_death_from_a_close() {
        let gone = |how| result_of(&RecvError::PublisherGone { topic: TopicName::new("imu").unwrap(), how });
        assert!(gone(Gone::Closed).is_ok());
        assert!(matches!(gone(Gone::Died), Err(Failure::Error { code: DIED, .. })));
    }
}
