//! `conduit pub`: publishes standard input, files or a text.

use std::fs;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use conduit::{LoanError, Publisher, PublisherBuilder, TopicName};

use crate::failure::Failure;
use crate::{output, signals};

/// How long to wait for a slot when subscribers hold all of them.
const HELD_INTERVAL: Duration = Duration::from_millis(1);
/// How often to check for the subscribers that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Size of a slot unless the messages need more.
const DEFAULT_SLOT_SIZE: usize = 4096;

/// Publish messages of raw bytes: lines of standard input, files, or a text.
///
/// Each line, without its line feed, or each file is one message. The topic is closed at the end of
/// the input, unless --keep is given: present subscribers can still read the last messages, later
/// ones cannot.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  seq 1000 | conduit pub numbers --wait-matching-subscribers 1
  conduit pub scan --file room.pcd --rate 10 --count 600
  conduit pub chatter --text 'hello' --rate 1 --count 10
  conduit pub map --file map.pgm --once --keep        (then: conduit echo map --from latest)")]
pub(crate) struct Args {
    /// Name of the topic to create: segments of A-Z a-z 0-9 _ -, none of which begins with -, with
    /// / between them
    topic: String,
    /// File to publish as one message; several are published in their order
    #[arg(long = "file", value_name = "PATH", conflicts_with = "text")]
    files: Vec<PathBuf>,
    /// Text to publish as one message
    #[arg(long, value_name = "STR")]
    text: Option<String>,
    /// Messages per second; by default as fast as possible
    #[arg(short, long, value_name = "HZ", value_parser = rate)]
    rate: Option<f64>,
    /// Publish the text or the files N times (once by default), or at most N lines
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Publish the text, the files, or one line, and exit
    #[arg(short = '1', long, conflicts_with = "count")]
    once: bool,
    /// Number of slots, a power of two
    #[arg(long, value_name = "N", default_value_t = 16)]
    slots: u32,
    /// Size of a slot, a multiple of 128 from 256 up, of which 192 are its state and header; by
    /// default 4096, or what the text or files need
    #[arg(long, value_name = "BYTES")]
    slot_size: Option<usize>,
    /// Wait for this many subscribers before publishing
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u16).range(..=60), alias = "wait-subscribers")]
    wait_matching_subscribers: u16,
    /// Keep the topic open after the last message, until Ctrl-C, for later subscribers
    #[arg(long)]
    keep: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1e-6..=1e9).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0.000001 to 1000000000".into()),
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topic = TopicName::new(&args.topic)?;
    let messages = given_messages(args)?;
    let output = TopicOutput::create(args, topic, messages.as_deref())?;
    output.wait_for_subscribers(args.wait_matching_subscribers.into())?;
    let count = if args.once { Some(1) } else { args.count };
    let mut pace = Pace::new(args.rate);
    match messages {
        Some(messages) => {
            for message in (0..count.unwrap_or(1)).flat_map(|_| &messages) {
                pace.wait();
                output.send(message)?;
            }
        }
        None => publish_lines(count.unwrap_or(u64::MAX), &output, &mut pace)?,
    }
    if args.keep {
        // Which closes the topic.
        signals::wait_for_the_end();
    }
    Ok(())
}

/// The messages if they are known from the start, `None` if standard input has them.
fn given_messages(args: &Args) -> Result<Option<Vec<Vec<u8>>>, Failure> {
    if let Some(text) = &args.text {
        return Ok(Some(vec![text.clone().into_bytes()]));
    }
    if args.files.is_empty() {
        return Ok(None);
    }
    args.files.iter().map(|path| fs::read(path).map_err(Failure::io("read", path))).collect::<Result<_, _>>().map(Some)
}

fn publish_lines(count: u64, output: &TopicOutput, pace: &mut Pace) -> Result<(), Failure> {
    let mut input = io::stdin().lock();
    let mut line = Vec::with_capacity(output.capacity);
    for _ in 0..count {
        let len = read_line(&mut input, &mut line, output.capacity);
        let Some(len) = len.map_err(|error| Failure::new(format_args!("cannot read standard input: {error}")))? else {
            break;
        };
        if len > line.len() {
            return Err(TopicOutput::refused(&LoanError::MessageTooLarge { len, capacity: output.capacity }));
        }
        pace.wait();
        output.send(&line)?;
    }
    Ok(())
}

/// Reads a line without its end, and gives its length; of a longer one only the first `limit` bytes
/// are kept.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> io::Result<Option<usize>> {
    line.clear();
    let mut len = 0;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok((len > 0).then_some(len));
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend_from_slice(&part[..part.len().min(limit - line.len())]);
        len += part.len();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(len));
        }
    }
}

/// The publisher, shared with the thread that closes the topic on a signal.
struct TopicOutput {
    publisher: Arc<Mutex<Option<Publisher<[u8]>>>>,
    topic: TopicName,
    capacity: usize,
}

impl TopicOutput {
    fn create(args: &Args, topic: TopicName, messages: Option<&[Vec<u8>]>) -> Result<Self, Failure> {
        let shared = Arc::new(Mutex::new(None));
        let on_signal = Arc::clone(&shared);
        // Locked, so that no topic is created after a signal closed it.
        let mut publisher = shared.lock().unwrap_or_else(PoisonError::into_inner);
        signals::before_ending(move || close(&on_signal)).map_err(Failure::new)?;
        let longest = messages.unwrap_or_default().iter().map(Vec::len).max().unwrap_or(0);
        let needed = || PublisherBuilder::slot_size_for(longest).max(DEFAULT_SLOT_SIZE);
        let builder = Publisher::<[u8]>::builder().slots(args.slots).slot_size(args.slot_size.unwrap_or_else(needed));
        let created = builder.create(topic.clone())?;
        let capacity = created.capacity();
        *publisher = Some(created);
        drop(publisher);
        Ok(Self { publisher: shared, topic, capacity })
    }

    /// Calls `f` with the publisher, unless a signal has closed it.
    fn with<R>(&self, f: impl FnOnce(&mut Publisher<[u8]>) -> R) -> Result<R, Failure> {
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.as_mut().map(f).ok_or(Failure::Interrupted)
    }

    fn wait_for_subscribers(&self, wanted: usize) -> Result<(), Failure> {
        while wanted > 0 && self.with(|publisher| publisher.subscribers().len())? < wanted {
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Publishes a message, however long subscribers hold all slots.
    fn send(&self, message: &[u8]) -> Result<(), Failure> {
        let mut is_announced = false;
        loop {
            match self.with(|publisher| publisher.send(message))? {
                Err(LoanError::AllSlotsHeld { slots }) => {
                    if !is_announced {
                        let slots = output::count(slots.into(), "slot");
                        let topic = &self.topic;
                        output::notice(format_args!("subscribers of \"{topic}\" hold all {slots}; waiting"));
                    }
                    is_announced = true;
                    thread::sleep(HELD_INTERVAL);
                }
                done => return done.map_err(|error| Self::refused(&error)),
            }
        }
    }

    /// An error of the library, with the option that helps.
    fn refused(error: &LoanError) -> Failure {
        match error {
            LoanError::MessageTooLarge { len, .. } => {
                let slot_bytes = PublisherBuilder::slot_size_for(*len);
                Failure::new(format_args!("{error} (--slot-size {slot_bytes})"))
            }
            error => Failure::new(error),
        }
    }
}

impl Drop for TopicOutput {
    fn drop(&mut self) {
        close(&self.publisher);
    }
}

fn close(publisher: &Mutex<Option<Publisher<[u8]>>>) {
    drop(publisher.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// When the next message is due.
struct Pace {
    period: Option<Duration>,
    due: Instant,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        Self { period: rate.map(|hz| Duration::from_secs_f64(1.0 / hz)), due: Instant::now() }
    }

    /// Sleeps until the next message is due. What was late is not made up for by a burst.
    fn wait(&mut self) {
        let Some(period) = self.period else { return };
        let now = Instant::now();
        thread::sleep(self.due.saturating_duration_since(now));
        self.due = self.due.max(now) + period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], limit: usize) -> Vec<(usize, Vec<u8>)> {
        // A buffer of 3 bytes makes lines span several reads.
        let mut input = io::BufReader::with_capacity(3, input);
        let mut line = Vec::new();
        std::iter::from_fn(|| read_line(&mut input, &mut line, limit).unwrap().map(|len| (len, line.clone()))).collect()
    }

    #[test]
    fn lines_are_messages() {
        assert_eq!(lines(b"", 8), []);
        assert_eq!(lines(b"one\n\ntwo", 8), [(3, b"one".to_vec()), (0, vec![]), (3, b"two".to_vec())]);
        assert_eq!(lines(b"a\r\n", 8), [(2, b"a\r".to_vec())]);
    }

    #[test]
    fn a_long_line_is_measured_but_not_kept() {
        assert_eq!(lines(b"0123456789\nab\n", 4), [(10, b"0123".to_vec()), (2, b"ab".to_vec())]);
        assert_eq!(lines(b"0123", 4), [(4, b"0123".to_vec())]);
    }

    #[test]
    fn rates_are_checked() {
        assert_eq!(rate("2.5"), Ok(2.5));
        for bad in ["0", "-1", "nan", "inf", "fast", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
