//! `conduit echo`: the messages of a topic, for the eye or for a pipe.

mod print;
mod value;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, ValueEnum, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::{Domain, Gone, OpenError, RecvError, Sample, ShmRegion, Start, Subscriber, TopicName};

use crate::failure::Failure;
use crate::verbs::completions::topics;
use crate::verbs::info::{nearest, not_found};
use crate::verbs::list::{open_directory, read_directory};
use crate::{duration, output, signals};
use print::{Format, Message, Printer};
use value::Path;

/// Exit code when the publisher died.
const DIED: u8 = 3;
/// How often to look whether a signal came.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often to try to open a topic whose last publisher has left an orphan.
const REOPEN_INTERVAL: Duration = Duration::from_millis(10);
/// How long a signal waits for a message that is being written out.
const PATIENCE: Duration = Duration::from_secs(1);

/// Print the messages of a topic, of any type.
///
/// Fields are printed as YAML if the publisher says which there are (`#[derive(Message)]` does), text as text, other bytes as
/// `hexdump -C` does. The publisher is never kept from a slot: messages are copied out, and one that is overwritten
/// meanwhile counts as lost.
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
    /// End after one message
    #[arg(short = '1', long, conflicts_with = "count")]
    once: bool,
    /// End after this many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write the messages' bytes to standard output and nothing else
    #[arg(long, group = "format")]
    raw: bool,
    /// Print all bytes as a dump, whatever they mean
    #[arg(long, group = "format")]
    hex: bool,
    /// Print a JSON object per message: topic, sequence, lost (messages missed before it), stamp_ns (CLOCK_MONOTONIC) and age_ns
    /// (null without time stamps), len_bytes, type, and one of value (fields are known; numbers that are none are null), text
    /// (bytes that are UTF-8) and hex
    #[arg(long, group = "format")]
    json: bool,
    /// Print a line of comma-separated values per message (per element if messages are lists), after one with the names:
    /// sequence, stamp_ns, and the values, or data
    #[arg(long, group = "format")]
    csv: bool,
    /// Print this part of the messages only: pose.position, gyro[2], [0].x
    #[arg(long, value_name = "NAME")]
    field: Option<Path>,
    /// Elements of an array that are printed; the other formats than YAML have all
    #[arg(short = 'l', long, value_name = "N", default_value_t = 128)]
    truncate_length: usize,
    /// Print all elements of arrays
    #[arg(short = 'f', long, conflicts_with = "truncate_length")]
    full_length: bool,
    /// Where to start
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = From::Next)]
    from: From,
    /// Give up if no message comes for this long; also wait that long for the topic to appear
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Do not say when messages were lost
    #[arg(long)]
    no_lost_messages: bool,
    /// Wait for the publisher, and for its return after it died or closed the topic; so it is on a terminal, once it was there
    #[arg(long, conflicts_with = "no_follow")]
    follow: bool,
    /// End with the publisher, also on a terminal
    #[arg(long)]
    no_follow: bool,
}

/// Where to start.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// With the next message to be published
    Next,
    /// With the newest message there is
    Latest,
    /// With the oldest message there is
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
    let interrupted = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&interrupted);
    // Dropped when the subscriber has been.
    let (put_away, is_put_away) = mpsc::channel::<()>();
    signals::before_ending(move || {
        on_signal.store(true, Ordering::Relaxed);
        let _ = is_put_away.recv_timeout(PATIENCE);
    })
    .map_err(Failure::new)?;
    let domain = Domain::from_env();
    let done = Echo { args, domain, topic, interrupted, printed: 0 }.run();
    drop(put_away);
    done
}

struct Echo<'a> {
    args: &'a Args,
    domain: Domain,
    topic: TopicName,
    interrupted: Arc<AtomicBool>,
    printed: u64,
}

/// Why no more messages come.
enum Ended {
    Interrupted,
    /// As many were printed as were wanted.
    Enough,
    Output(io::Error),
    Receive(RecvError),
}

impl Echo<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let Args { follow, no_follow, .. } = *self.args;
        let mut subscriber = self.open(self.args.start(), follow)?;
        loop {
            let mut printer = self.printer(&subscriber)?;
            let ended = self.print_all(&mut subscriber, &mut printer);
            drop(subscriber);
            match ended {
                Ended::Interrupted => return Err(Failure::Interrupted),
                Ended::Enough => return Ok(()),
                Ended::Output(error) => return Err(Failure::Output(error)),
                Ended::Receive(error @ RecvError::PublisherGone { .. })
                    if follow || (!no_follow && io::stdout().is_terminal()) =>
                {
                    eprintln!("conduit: {error}; waiting for the next one");
                }
                Ended::Receive(error) => return end(&error),
            }
            // All that the next one has published counts.
            subscriber = self.open(Start::Oldest, true)?;
            let publisher = self.region().and_then(|region| region.describe().publisher);
            let publisher = publisher.map_or_else(String::new, |process| format!(": {process}"));
            eprintln!("conduit: \"{}\" is published again{publisher}", self.topic);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Opens the topic, waiting for it as long as the user wants.
    fn open(&self, start: Start, wait: bool) -> Result<Subscriber<[u8]>, Failure> {
        let deadline = match self.args.timeout {
            Some(timeout) => Instant::now().checked_add(timeout),
            None if wait => None,
            None => Some(Instant::now()),
        };
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        let mut said = false;
        loop {
            let builder = Subscriber::<[u8]>::builder().any_type().copy_samples().start(start).domain(&self.domain);
            let error = match builder.open(self.topic.clone()) {
                Ok(subscriber) => return Ok(subscriber),
                Err(error @ (OpenError::NotFound { .. } | OpenError::Orphaned { .. })) => error,
                Err(error) => return Err(error.into()),
            };
            if self.is_interrupted() {
                return Err(Failure::Interrupted);
            }
            if left().is_zero() {
                return Err(self.not_there(&error));
            }
            // After the end of a publisher this has been said.
            if !said && self.args.follow && start != Start::Oldest {
                said = true;
                let known = read_directory(&self.domain).unwrap_or_default();
                let nearest = nearest(self.topic.as_str(), known.iter().map(|topic| topic.name.as_str()));
                let hint = nearest.map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"));
                eprintln!("conduit: there is no topic \"{}\" yet{hint}; waiting for it", self.topic);
            }
            if matches!(error, OpenError::Orphaned { .. }) {
                std::thread::sleep(REOPEN_INTERVAL.min(left()));
            } else {
                ShmRegion::wait_until_exists_for(self.topic.clone(), SIGNAL_INTERVAL.min(left()))?;
            }
        }
    }

    fn not_there(&self, error: &OpenError) -> Failure {
        let known = matches!(error, OpenError::NotFound { .. }).then(|| read_directory(&self.domain).ok()).flatten();
        not_found(error, &self.topic, &known.unwrap_or_default())
    }

    fn region(&self) -> Option<Region> {
        Region::open(&open_directory(&self.domain).ok()?, &self.topic).ok()
    }

    fn printer(&self, subscriber: &Subscriber<[u8]>) -> Result<Printer, Failure> {
        let shape = self.region().filter(|region| region.message_type() == Some(subscriber.message_type()));
        let shape = shape.and_then(|region| region.shape());
        let longest = if self.args.full_length { usize::MAX } else { self.args.truncate_length };
        let format = self.args.format();
        Printer::new(format, subscriber.message_type(), shape, self.args.field.clone(), longest)
            .map(|printer| printer.coloured(output::is_coloured(&io::stdout())))
            .map_err(|reason| Failure::new(format_args!("topic \"{}\": {reason}", self.topic)))
    }

    fn print_all(&mut self, subscriber: &mut Subscriber<[u8]>, printer: &mut Printer) -> Ended {
        // Standard output flushes after every line, which a dump has many of.
        let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let wanted = if self.args.once { 1 } else { self.args.count.unwrap_or(u64::MAX) };
        while self.printed < wanted {
            let sample = match self.receive(subscriber) {
                Ok(sample) => sample,
                Err(ended) => return ended,
            };
            let mut message = Message::new(self.topic.as_str(), &sample);
            if self.args.no_lost_messages && !self.args.json {
                message.lost = 0;
            }
            if let Err(error) = printer.print(&mut out, &message).and_then(|()| out.flush()) {
                return Ended::Output(error);
            }
            self.printed += 1;
        }
        Ended::Enough
    }

    fn receive(&self, subscriber: &mut Subscriber<[u8]>) -> Result<Sample<[u8]>, Ended> {
        let started = Instant::now();
        let timeout = self.args.timeout;
        loop {
            if self.is_interrupted() {
                return Err(Ended::Interrupted);
            }
            let left = timeout.map_or(SIGNAL_INTERVAL, |timeout| timeout.saturating_sub(started.elapsed()));
            match subscriber.recv_timeout(left.min(SIGNAL_INTERVAL)) {
                Ok(sample) => return Ok(sample),
                Err(RecvError::TimedOut { topic, .. }) => {
                    if let Some(timeout) = timeout.filter(|&timeout| started.elapsed() >= timeout) {
                        return Err(Ended::Receive(RecvError::TimedOut { topic, timeout }));
                    }
                }
                Err(error) => return Err(Ended::Receive(error)),
            }
        }
    }
}

fn end(error: &RecvError) -> Result<(), Failure> {
    match error {
        RecvError::PublisherGone { topic, how: Gone::Closed } => {
            eprintln!("conduit: the publisher of \"{topic}\" closed it");
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
    fn the_exit_code_tells_a_death_from_a_close() {
        let gone = |how| end(&RecvError::PublisherGone { topic: TopicName::new("imu").unwrap(), how });
        assert!(gone(Gone::Closed).is_ok());
        assert!(matches!(gone(Gone::Died), Err(Failure::Error { code: DIED, .. })));
    }
}
