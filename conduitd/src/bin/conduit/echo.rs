//! `conduit echo`: the messages of a topic, for the eye or for a pipe.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, ValueEnum, value_parser};
use conduit::{Gone, OpenError, RecvError, Sample, ShmRegion, Start, Subscriber, TopicName};

use crate::failure::Failure;
use crate::{duration, hexdump, output, signals};

/// Exit code when the publisher died.
const DIED: u8 = 3;
/// How often to look whether a signal came.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often to try to open a topic whose last publisher has left an orphan.
const REOPEN_INTERVAL: Duration = Duration::from_millis(10);
/// How long a signal waits for a sample that is being written out.
const PATIENCE: Duration = Duration::from_secs(1);

/// Print the messages of a topic, of any type, as a hex dump or as raw bytes.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit echo imu --from latest --count 1
  conduit echo camera/front --raw --count 1 > frame.bin

Exit codes:
  0  the publisher closed the topic, or --count messages were printed
  1  error, or no message within --timeout
  3  the publisher died")]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write the messages' bytes to standard output and nothing else
    #[arg(long)]
    raw: bool,
    /// Where to start
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = From::Next)]
    from: From,
    /// Give up if no message comes for this long; also wait that long for the topic to appear
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
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
    let done = open(args, &topic, &interrupted).and_then(|subscriber| echo(args, subscriber, &interrupted));
    drop(put_away);
    done
}

fn open(args: &Args, topic: &TopicName, interrupted: &AtomicBool) -> Result<Subscriber<[u8]>, Failure> {
    let start = match args.from {
        From::Next => Start::Next,
        From::Latest => Start::Latest,
        From::Oldest => Start::Oldest,
    };
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let left = || deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()));
    loop {
        let error = match Subscriber::<[u8]>::builder().any_type().start(start).open(topic.clone()) {
            Ok(subscriber) => return Ok(subscriber),
            Err(error @ (OpenError::NotFound { .. } | OpenError::Orphaned { .. })) if !left().is_zero() => error,
            Err(error) => return Err(error.into()),
        };
        if interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        if matches!(error, OpenError::Orphaned { .. }) {
            std::thread::sleep(REOPEN_INTERVAL.min(left()));
        } else {
            ShmRegion::wait_until_exists_for(topic.clone(), SIGNAL_INTERVAL.min(left()))?;
        }
    }
}

fn echo(args: &Args, mut subscriber: Subscriber<[u8]>, interrupted: &AtomicBool) -> Result<(), Failure> {
    // Standard output flushes after every line, which a dump has many of.
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        let sample = match receive(&mut subscriber, args.timeout, interrupted) {
            Ok(sample) => sample,
            Err(Ended::Interrupted) => return Err(Failure::Interrupted),
            Err(Ended::Receive(error)) => return end(&error),
        };
        let written = if args.raw { write_raw(&mut out, &sample) } else { write_dump(&mut out, &sample) };
        written.and_then(|()| out.flush()).map_err(Failure::Output)?;
    }
    Ok(())
}

enum Ended {
    Interrupted,
    Receive(RecvError),
}

fn receive(
    subscriber: &mut Subscriber<[u8]>,
    timeout: Option<Duration>,
    interrupted: &AtomicBool,
) -> Result<Sample<[u8]>, Ended> {
    let started = Instant::now();
    loop {
        if interrupted.load(Ordering::Relaxed) {
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

fn write_raw(out: &mut impl Write, sample: &Sample<[u8]>) -> io::Result<()> {
    if sample.lost() > 0 {
        eprintln!("conduit: {} lost before #{}", output::count(sample.lost(), "message"), sample.sequence());
    }
    out.write_all(sample)
}

fn write_dump(out: &mut impl Write, sample: &Sample<[u8]>) -> io::Result<()> {
    let lost = match sample.lost() {
        0 => String::new(),
        lost => format!(", {} lost before it", output::count(lost, "message")),
    };
    let age = sample.age().map_or("unknown".into(), output::duration);
    writeln!(out, "#{}: {}, age {age}{lost}", sample.sequence(), output::count(sample.len() as u64, "byte"))?;
    hexdump::write(out, sample)
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
