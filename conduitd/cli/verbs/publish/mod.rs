//! `conduit pub`: publishes standard input, files or a text, as bytes or as messages of a type.

mod documents;
mod encode;
mod input;
mod message_type;
mod pace;
mod scalar;

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, LoanError, Publisher, PublisherBuilder, TopicName};

use crate::completion::topics;
use crate::failure::Failure;
use crate::{output, signals};
use documents::Documents;
use input::{InputError, Room, read_file, read_line, read_record};
use message_type::DescribedType;
use pace::Pace;

/// How long to wait for a slot when subscribers hold all of them.
const HELD_INTERVAL: Duration = Duration::from_millis(1);
/// How often to check for the subscribers that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Size of a slot unless the messages need more.
const DEFAULT_SLOT_SIZE: usize = 4096;

/// Publish messages: bytes from standard input, files or a text, or values of a type from YAML or
/// JSON.
///
/// Without a type, each line of standard input, without its line feed, or each file is one message.
///
/// With VALUE, --type-of or --type, messages are documents of YAML or JSON, as `conduit echo`
/// prints them: fields that are not given are zero, and an array of bytes can be a quoted text. On
/// standard input and in files, `---` ends a document, and so does the line on which its first
/// bracket is closed: a line of JSON is a message.
///
/// The topic is closed at the end of the input, unless --keep is given: present subscribers can
/// still read the last messages, later ones cannot.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  seq 1000 | conduit pub numbers --wait-matching-subscribers 1
  conduit pub scan --file room.pcd --rate 10 --count 600
  conduit pub chatter --text 'hello' --rate 1 --count 10
  conduit pub map --file map.pgm --once --keep        (then: conduit echo map --from latest)
  conduit pub imu/copy '{gyro: [0, 0, 1]}' --type-of imu
  conduit echo imu --json | conduit pub imu/copy --type-of imu
  conduit type imu --json > imu.json; conduit pub imu --type imu.json < messages.yaml")]
pub(crate) struct Args {
    /// Name of the topic to create: segments of A-Z a-z 0-9 _ -, none of which begins with -, with
    /// / between them
    topic: String,
    /// A message as YAML or JSON: '{gyro: [0, 0, 1]}'. By default it has the type of the topic of
    /// this name that a dead publisher left
    #[arg(value_name = "VALUE", conflicts_with_all = ["text", "files"], allow_negative_numbers = true)]
    value: Option<String>,
    /// Publish messages of the type of this topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "type_file", add = ArgValueCompleter::new(topics))]
    type_of: Option<String>,
    /// Publish messages of the type that this file describes: what `conduit type TOPIC --json`
    /// prints
    #[arg(long = "type", value_name = "PATH", id = "type_file")]
    type_file: Option<PathBuf>,
    /// File to publish as one message, or of documents; several are published in their order. - is
    /// standard input as a whole
    #[arg(long = "file", value_name = "PATH", conflicts_with = "text")]
    files: Vec<PathBuf>,
    /// Text to publish as one message
    #[arg(long, value_name = "STR", conflicts_with_all = ["type_of", "type_file"])]
    text: Option<String>,
    /// Read messages of any bytes from standard input: before each, its length in 4 bytes, the
    /// least significant one first
    #[arg(long, conflicts_with_all = ["value", "type_of", "type_file", "text", "files"])]
    length_prefixed: bool,
    /// Messages per second; by default as fast as possible. A rate that is not met is reported on
    /// standard error; a delay of up to 10 s is caught up with
    #[arg(short, long, value_name = "HZ", value_parser = rate)]
    rate: Option<f64>,
    /// Publish the value, the text or the files N times (once by default), or at most N messages of
    /// standard input
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Publish the value, the text, the files, or one message of standard input, and exit
    #[arg(short = '1', long, conflicts_with = "count")]
    once: bool,
    /// Number of slots, 2 to 65536
    #[arg(long, value_name = "N", default_value_t = 16)]
    slots: u32,
    /// Size of a slot, a multiple of 128 from 256 up, of which 192 are its state and header; by
    /// default 4096, or what the type, the text or the files need
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
    let message_type = message_type(args, &topic)?;
    let messages = given_messages(args, message_type.as_ref())?;
    let output = TopicOutput::create(args, topic, message_type.as_ref(), messages.as_deref())?;
    output.wait_for_subscribers(args.wait_matching_subscribers.into())?;
    let count = if args.once { Some(1) } else { args.count };
    let mut pace = Pace::new(args.rate, &output.topic);
    match messages {
        Some(messages) => {
            for message in (0..count.unwrap_or(1)).flat_map(|_| &messages) {
                pace.wait();
                output.send(message)?;
            }
        }
        None => {
            let mut source = MessageSource::new(args, message_type.as_ref(), output.capacity);
            publish_all(&mut source, count.unwrap_or(u64::MAX), &output, &mut pace)?;
        }
    }
    pace.finish();
    if args.keep {
        // Which closes the topic.
        signals::wait_for_the_end();
    }
    Ok(())
}

/// The type of messages that are given as text; `None` if messages are bytes.
fn message_type(args: &Args, topic: &TopicName) -> Result<Option<DescribedType>, Failure> {
    let domain = Domain::from_env();
    match (&args.type_file, &args.type_of, &args.value) {
        (Some(path), ..) => DescribedType::of_file(path).map(Some),
        (None, Some(other), _) => DescribedType::of_topic(&domain, &TopicName::new(other)?).map(Some),
        (None, None, Some(_)) => DescribedType::of_topic(&domain, topic).map(Some),
        (None, None, None) => Ok(None),
    }
}

impl Args {
    fn room(&self) -> Room {
        Room { slots: self.slots, slot_size: self.slot_size }
    }
}

/// The messages if they are known from the start, `None` if standard input has them.
fn given_messages(args: &Args, message_type: Option<&DescribedType>) -> Result<Option<Vec<Vec<u8>>>, Failure> {
    let longest = args.room().longest();
    if let (Some(value), Some(message_type)) = (&args.value, message_type) {
        let message = encode::encode(value, message_type, longest);
        return Ok(Some(vec![message.map_err(Failure::new)?]));
    }
    if let Some(text) = &args.text {
        return Ok(Some(vec![text.clone().into_bytes()]));
    }
    if args.files.is_empty() {
        return Ok(None);
    }
    let mut messages = Vec::new();
    for path in &args.files {
        let content = read_file(path, args.room())?;
        let Some(message_type) = message_type else {
            messages.push(content);
            continue;
        };
        let mut source = MessageSource::of_documents(&content[..], path.display().to_string(), message_type, longest);
        while let Some(message) = source.next()? {
            messages.push(message.to_vec());
        }
    }
    Ok(Some(messages))
}

/// Messages that are read one after the other.
struct MessageSource<'a, R> {
    /// For errors.
    name: String,
    framing: Framing<'a, R>,
    /// Longest message in bytes.
    limit: usize,
    message: Vec<u8>,
    number: u64,
}

enum Framing<'a, R> {
    Lines(R),
    Records(R),
    Documents(Documents<R>, &'a DescribedType),
}

impl<'a> MessageSource<'a, io::StdinLock<'static>> {
    fn new(args: &Args, message_type: Option<&'a DescribedType>, capacity: usize) -> Self {
        let (input, name) = (io::stdin().lock(), "standard input".to_owned());
        match message_type {
            Some(message_type) => Self::of_documents(input, name, message_type, args.room().longest()),
            None => {
                let framing = if args.length_prefixed { Framing::Records(input) } else { Framing::Lines(input) };
                Self { name, framing, limit: capacity, message: Vec::new(), number: 0 }
            }
        }
    }
}

impl<'a, R: BufRead> MessageSource<'a, R> {
    fn of_documents(input: R, name: String, message_type: &'a DescribedType, limit: usize) -> Self {
        // Text takes more room than what it means.
        let longest = limit.max(input::LONGEST_UNTOLD);
        let documents = Documents::new(input, message_type.is_single(), longest);
        Self { name, framing: Framing::Documents(documents, message_type), limit, message: Vec::new(), number: 0 }
    }

    /// The next message, `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.number += 1;
        let (name, number) = (&self.name, self.number);
        let read = match &mut self.framing {
            Framing::Lines(input) => read_line(input, &mut self.message, self.limit),
            Framing::Records(input) => read_record(input, &mut self.message, self.limit),
            Framing::Documents(documents, _) => documents.read(&mut self.message),
        };
        let is_read = read.map_err(|error| match error {
            InputError::Read(error) => Failure::new(format_args!("cannot read {name}: {error}")),
            InputError::Cut => Failure::new(format_args!("{name} ends in the middle of message {number}")),
            InputError::TooLong(len) => {
                let error = LoanError::MessageTooLarge { len, capacity: self.limit };
                Failure::new(format_args!("message {number} of {name}: {}", TopicOutput::with_remedy(&error)))
            }
        })?;
        if !is_read {
            return Ok(None);
        }
        if let Framing::Documents(_, message_type) = &self.framing {
            let refused = |why: String| Failure::new(format_args!("message {number} of {name}: {why}"));
            let document = std::str::from_utf8(&self.message).map_err(|error| refused(format!("no text: {error}")))?;
            let message = encode::encode(document, message_type, self.limit);
            self.message = message.map_err(|error| refused(error.to_string()))?;
        }
        Ok(Some(&self.message))
    }
}

fn publish_all(
    source: &mut MessageSource<'_, impl BufRead>,
    count: u64,
    output: &TopicOutput,
    pace: &mut Pace,
) -> Result<(), Failure> {
    for _ in 0..count {
        let asked = Instant::now();
        let Some(message) = source.next()? else { break };
        pace.input_came(asked);
        pace.wait();
        output.send(message)?;
    }
    Ok(())
}

/// The publisher, shared with the thread that closes the topic on a signal.
struct TopicOutput {
    publisher: Arc<Mutex<Option<Publisher<[u8]>>>>,
    topic: TopicName,
    capacity: usize,
}

impl TopicOutput {
    fn create(
        args: &Args,
        topic: TopicName,
        message_type: Option<&DescribedType>,
        messages: Option<&[Vec<u8>]>,
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Mutex::new(None));
        let on_signal = Arc::clone(&shared);
        // Locked, so that no topic is created after a signal closed it.
        let mut publisher = shared.lock().unwrap_or_else(PoisonError::into_inner);
        signals::before_ending(move || close(&on_signal)).map_err(Failure::new)?;
        let longest = messages.unwrap_or_default().iter().map(Vec::len).max().unwrap_or(0);
        let of_type = message_type.map_or(0, |it| usize::try_from(it.info.size()).unwrap_or(usize::MAX));
        let needed = || PublisherBuilder::slot_size_for(longest.max(of_type)).max(DEFAULT_SLOT_SIZE);
        let builder = Publisher::<[u8]>::builder().slots(args.slots).slot_size(args.slot_size.unwrap_or_else(needed));
        let created = match message_type {
            Some(it) => builder.message_type(it.info).shape(it.shape.clone()).create(topic.clone())?,
            None => builder.create(topic.clone())?,
        };
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
                        output::remark(format_args!("subscribers of \"{topic}\" hold all {slots}; waiting"));
                    }
                    is_announced = true;
                    thread::sleep(HELD_INTERVAL);
                }
                done => return done.map_err(|error| Failure::new(Self::with_remedy(&error))),
            }
        }
    }

    /// An error of the library, with the option that helps.
    fn with_remedy(error: &LoanError) -> String {
        match error {
            LoanError::MessageTooLarge { len, .. } => {
                format!("{error} (--slot-size {})", PublisherBuilder::slot_size_for(*len))
            }
            error => error.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_checked() {
        assert_eq!(rate("2.5"), Ok(2.5));
        for bad in ["0", "-1", "nan", "inf", "fast", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
