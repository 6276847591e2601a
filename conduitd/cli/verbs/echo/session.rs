//! The topics that are printed: opened as they are there, printed as messages arrive.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use conduit::{Domain, Event, Gone, OpenError, RecvError, Sample, Start, Subscriber, Token, TopicName, WaitSet};

use super::appearing::{self, NewName};
use super::args::Args;
use super::print::{PrintedMessage, Printer, Style, write_columns};
use super::wanted::WantedTopics;
use crate::backoff::Backoff;
use crate::failure::Failure;
use crate::output;
use crate::source::{Source, region_names};

/// Exit code when a publisher died.
const DIED: u8 = 3;
/// As many messages of a topic are printed before the others get their turn.
const BATCH: u32 = 64;
/// A topic that ends sooner is not tried again at once.
const SHORT: Duration = Duration::from_millis(100);

/// Why to end whatever happens.
pub(super) struct EndFlags {
    pub(super) is_interrupted: Arc<AtomicBool>,
    /// Nobody reads standard output.
    pub(super) is_closed: Arc<AtomicBool>,
}

impl EndFlags {
    fn check(&self) -> Result<(), Failure> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Failure::Output(io::ErrorKind::BrokenPipe.into()));
        }
        if self.is_interrupted.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

/// A topic that is open.
struct OpenTopic {
    name: TopicName,
    token: Token,
    opened: Instant,
    subscriber: Subscriber<[u8]>,
    printer: Printer,
}

/// Why a topic is not printed.
enum Unopened {
    /// It is not there, or nobody publishes it.
    Missing(OpenError),
    /// It cannot be read or printed.
    Refused(Failure),
}

pub(super) struct Echo<'a> {
    args: &'a Args,
    wanted: WantedTopics,
    style: Style,
    domain: Domain,
    source: Source,
    set: WaitSet,
    end: EndFlags,
    topics: Vec<OpenTopic>,
    /// Named topics that are not open, and why not if they never were.
    awaited: BTreeMap<TopicName, Option<OpenError>>,
    appearances: Option<Receiver<NewName>>,
    /// Topics that ended as soon as they were open, to be tried again when a timer expires.
    short_lived: Vec<TopicName>,
    backoff: Backoff,
    table: Table,
    printed: u64,
    /// When there was something new.
    last: Instant,
    has_opened: bool,
    /// The topics whose publishers died.
    died: Vec<TopicName>,
}

/// Standard output, and the columns of a table, which stay the same whoever publishes.
struct Table {
    out: BufWriter<StdoutLock<'static>>,
    columns: Option<Vec<String>>,
    is_begun: bool,
}

impl<'a> Echo<'a> {
    pub(super) fn new(args: &'a Args, wanted: WantedTopics, set: WaitSet, end: EndFlags) -> Self {
        let domain = Domain::from_env();
        Self {
            style: args.style(wanted.may_be_several()),
            source: Source::directory_only(&domain),
            topics: Vec::new(),
            awaited: BTreeMap::new(),
            appearances: None,
            short_lived: Vec::new(),
            backoff: Backoff::new(),
            table: Table { out: output::buffered(io::stdout().lock()), columns: None, is_begun: false },
            printed: 0,
            last: Instant::now(),
            has_opened: false,
            died: Vec::new(),
            args,
            wanted,
            domain,
            set,
            end,
        }
    }

    pub(super) fn run(mut self) -> Result<(), Failure> {
        let result = self.open_first().and_then(|()| self.print_all());
        // What was received is printed, whatever ended it.
        self.table.out.flush().map_err(Failure::Output)?;
        result
    }

    fn print_all(&mut self) -> Result<(), Failure> {
        while self.printed < self.wanted_count() {
            self.end.check()?;
            if self.topics.is_empty() && !self.may_go_on() {
                return result_of(&self.died);
            }
            // Output is kept back only as long as there is more to print at once.
            let mut events = self.set.wait_timeout(Duration::ZERO).map_err(Failure::new)?;
            if events.is_empty() {
                self.table.out.flush().map_err(Failure::Output)?;
                let deadline = self.args.timeout.and_then(|timeout| self.last.checked_add(timeout));
                let waited = match deadline {
                    Some(deadline) => self.set.wait_deadline(deadline),
                    None => self.set.wait(),
                };
                events = waited.map_err(Failure::new)?;
                if events.is_empty() {
                    return Err(self.timed_out());
                }
            }
            for event in events {
                match event {
                    Event::Ready(token) => self.receive(token)?,
                    Event::Timer { .. } => self.open_short_lived()?,
                    _ => self.open_appeared()?,
                }
            }
        }
        Ok(())
    }

    fn wanted_count(&self) -> u64 {
        if self.args.once { 1 } else { self.args.count.unwrap_or(u64::MAX) }
    }

    /// Whether there may be something to print although nothing is open.
    fn may_go_on(&self) -> bool {
        let is_unopened = self.awaited.values().any(Option::is_some) || !self.has_opened;
        self.args.follows() || (self.args.timeout.is_some() && is_unopened)
    }

    /// Opens the topics that exist, and awaits the rest as far as the arguments allow.
    fn open_first(&mut self) -> Result<(), Failure> {
        let waits = self.args.follow || self.args.timeout.is_some();
        if waits || self.args.follows() {
            let waker = self.set.waker();
            self.appearances = Some(appearing::watch(&self.domain, move || waker.wake())?);
        }
        // Whatever appears after the first notice is new.
        for name in self.matching() {
            match self.open(&name, self.args.start()) {
                Ok(()) | Err(Unopened::Missing(_)) => {}
                Err(Unopened::Refused(failure)) => return Err(failure),
            }
        }
        for name in self.wanted.names.clone() {
            match self.open(&name, self.args.start()) {
                Ok(()) => {}
                Err(Unopened::Missing(error)) if waits => {
                    if self.args.follow {
                        self.announce(&name, &error);
                    }
                    self.awaited.insert(name, Some(error));
                }
                Err(Unopened::Missing(error)) => return Err(self.source.unopened(&name, error)),
                Err(Unopened::Refused(failure)) => return Err(failure),
            }
        }
        if self.topics.is_empty() && self.awaited.is_empty() {
            if !waits {
                return Err(Failure::new(format_args!("no live topic matches {}", self.wanted.text())));
            }
            output::notice(format_args!("no live topic matches {} yet; waiting for one", self.wanted.text()));
        }
        Ok(())
    }

    /// Says that a topic is not there and awaited.
    fn announce(&mut self, name: &TopicName, error: &OpenError) {
        if matches!(error, OpenError::Orphaned { .. }) {
            return output::notice(format_args!("the publisher of topic \"{name}\" is dead; waiting for a new one"));
        }
        let suggestion = self.source.suggestion(name);
        let hint = suggestion.map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"));
        output::notice(format_args!("there is no topic \"{name}\" yet{hint}; waiting for it"));
    }

    /// Topics in the directory that match a pattern and are not open.
    fn matching(&self) -> Vec<TopicName> {
        if !self.wanted.has_patterns() {
            return Vec::new();
        }
        let is_new = |name: &TopicName| !self.wanted.is_named(name) && self.wanted.matches(name) && !self.is_open(name);
        region_names(&self.domain).into_iter().filter(is_new).collect()
    }

    fn is_open(&self, name: &TopicName) -> bool {
        self.topics.iter().any(|topic| topic.name == *name)
    }

    fn open(&mut self, name: &TopicName, start: Start) -> Result<(), Unopened> {
        let builder = Subscriber::<[u8]>::builder().any_type(true).copy_samples(true).start(start);
        let subscriber = builder.domain(&self.domain).open(name.clone()).map_err(|error| match error {
            OpenError::NotFound { .. } | OpenError::Orphaned { .. } => Unopened::Missing(error),
            // A raw region, which no pattern means.
            OpenError::Kind { .. } if !self.wanted.is_named(name) => Unopened::Missing(error),
            error => Unopened::Refused(error.into()),
        })?;
        let printer = self.printer(name, &subscriber).map_err(Unopened::Refused)?;
        let token = self.set.add(&subscriber).map_err(|error| Unopened::Refused(Failure::new(error)))?;
        self.topics.push(OpenTopic { name: name.clone(), token, opened: Instant::now(), subscriber, printer });
        self.has_opened = true;
        self.last = Instant::now();
        Ok(())
    }

    fn printer(&mut self, name: &TopicName, subscriber: &Subscriber<[u8]>) -> Result<Printer, Failure> {
        let region = self.source.region(name);
        let region = region.filter(|region| region.message_type() == Some(subscriber.message_type()));
        let shape = region.and_then(|region| region.shape());
        let failed = |reason| Failure::new(format_args!("topic \"{name}\": {reason}"));
        let printer = Printer::new(self.style.clone(), subscriber.message_type(), shape).map_err(failed)?;
        let columns = self.table.columns.get_or_insert_with(|| printer.columns().to_vec());
        if columns != printer.columns() {
            let reason = "its messages have other fields than those before; a table cannot change its columns";
            return Err(failed(reason.into()));
        }
        Ok(printer)
    }

    /// Opens a topic that has appeared, or has come back.
    fn reopen(&mut self, name: &TopicName) -> Result<(), Failure> {
        if self.is_open(name) {
            return Ok(());
        }
        // The next publisher's messages are printed from its first.
        match (self.open(name, Start::Oldest), self.wanted.is_named(name)) {
            (Ok(()), _) => {
                if let Some(None) = self.awaited.remove(name) {
                    let publisher = self.source.region(name).and_then(|region| region.describe().publisher);
                    let publisher = publisher.map_or_else(String::new, |process| format!(": {process}"));
                    output::notice(format_args!("\"{name}\" is published again{publisher}"));
                }
                Ok(())
            }
            (Err(Unopened::Missing(_)), _) => Ok(()),
            (Err(Unopened::Refused(Failure::Error { message, .. })), false) => {
                output::notice(format_args!("{message}; it is left out"));
                Ok(())
            }
            (Err(Unopened::Refused(failure)), _) => Err(failure),
        }
    }

    fn open_appeared(&mut self) -> Result<(), Failure> {
        let reports: Vec<_> = self.appearances.iter().flat_map(Receiver::try_iter).collect();
        for report in reports {
            let names = match report {
                NewName::Topic(name) => vec![name],
                NewName::Unknown => self.awaited.keys().cloned().chain(self.matching()).collect(),
            };
            for name in names {
                let is_new = self.wanted.matches(&name) && (self.args.follows() || !self.has_opened);
                if self.awaited.contains_key(&name) || is_new {
                    self.reopen(&name)?;
                }
            }
        }
        Ok(())
    }

    fn open_short_lived(&mut self) -> Result<(), Failure> {
        std::mem::take(&mut self.short_lived).iter().try_for_each(|name| self.reopen(name))
    }

    /// Prints what a topic has, and lets others have their turn.
    fn receive(&mut self, token: Token) -> Result<(), Failure> {
        for _ in 0..BATCH {
            if self.printed >= self.wanted_count() {
                break;
            }
            let Some(at) = self.topics.iter().position(|topic| topic.token == token) else { break };
            let topic = &mut self.topics[at];
            match topic.subscriber.try_recv() {
                Ok(Some(sample)) => self.table.print(self.args, topic, &sample).map_err(Failure::Output)?,
                Ok(None) => break,
                Err(RecvError::PublisherGone { how, .. }) => return self.end_topic(at, how),
                Err(error) => return Err(error.into()),
            }
            self.printed += 1;
            self.last = Instant::now();
        }
        Ok(())
    }

    /// A topic has ended: its next publisher is awaited if that is wanted.
    fn end_topic(&mut self, at: usize, how: Gone) -> Result<(), Failure> {
        let OpenTopic { name, token, opened, .. } = self.topics.remove(at);
        self.set.remove(token);
        if !self.args.follows() {
            match how {
                Gone::Closed => output::notice(format_args!("the publisher of \"{name}\" closed it")),
                Gone::Died => {
                    if !self.topics.is_empty() {
                        output::notice(format_args!("the publisher of \"{name}\" died"));
                    }
                    self.died.push(name);
                }
                how => return Err(RecvError::PublisherGone { topic: name, how }.into()),
            }
            return Ok(());
        }
        output::notice(format_args!("the publisher of topic \"{name}\" {how}; waiting for the next one"));
        if self.wanted.is_named(&name) {
            self.awaited.insert(name.clone(), None);
        }
        if opened.elapsed() >= SHORT {
            self.backoff = Backoff::new();
            return self.reopen(&name);
        }
        if self.short_lived.is_empty() {
            self.set.add_timer(self.backoff.next());
        }
        self.short_lived.push(name);
        Ok(())
    }

    /// The error when nothing has come for as long as the user wants to wait.
    fn timed_out(&mut self) -> Failure {
        let missing = self.awaited.iter_mut().find_map(|(name, error)| Some((name.clone(), error.take()?)));
        let timeout = self.args.timeout.unwrap_or_default();
        match (missing, self.wanted.names.as_slice()) {
            (Some((name, error)), _) if self.topics.is_empty() => self.source.unopened(&name, error),
            (_, [topic]) if !self.wanted.may_be_several() => {
                RecvError::TimedOut { topic: topic.clone(), timeout }.into()
            }
            _ => Failure::new(format_args!("no message on {} within {timeout:?}", self.wanted.text())),
        }
    }
}

impl Table {
    fn print(&mut self, args: &Args, topic: &OpenTopic, sample: &Sample<[u8]>) -> io::Result<()> {
        let mut message = PrintedMessage::new(topic.name.as_str(), sample);
        if args.no_lost_messages && !args.json {
            message.lost = 0;
        }
        if args.csv && !std::mem::replace(&mut self.is_begun, true) {
            write_columns(&mut self.out, topic.printer.columns())?;
        }
        topic.printer.print(&mut self.out, &message)
    }
}

/// The command's result when all topics have ended, and the publishers of these died.
fn result_of(died: &[TopicName]) -> Result<(), Failure> {
    let names: Vec<String> = died.iter().map(|name| format!("\"{name}\"")).collect();
    match names.as_slice() {
        [] => Ok(()),
        [name] => Err(Failure::with_code(format_args!("the publisher of {name} died"), DIED)),
        names => Err(Failure::with_code(format_args!("the publishers of {} died", names.join(", ")), DIED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_distinguishes_a_death_from_a_close() {
        let [imu, scan] = ["imu", "scan"].map(|name| TopicName::new(name).unwrap());
        assert!(result_of(&[]).is_ok());
        assert!(matches!(result_of(std::slice::from_ref(&imu)), Err(Failure::Error { code: DIED, .. })));
        let Err(Failure::Error { message, code: DIED }) = result_of(&[imu, scan]) else { panic!("an error") };
        assert_eq!(message, "the publishers of \"imu\", \"scan\" died");
    }
}
