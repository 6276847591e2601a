//! The threads that feed the screen. A slow source does not delay the others.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::registry::{Client, EventKind, RegistryCallError, RegistryEvent, TopicInfo, Watch};
use ratatui::crossterm::event::{self, Event as Input, KeyEvent};

use super::args::Args;
use super::collect::Collector;
use super::rows::TopicRow;
use super::state::{Mood, RegistryLink};
use crate::backoff::Backoff;
use crate::failure::Failure;

/// How often the topic of the detail pane and all others are sampled, and how many of their last
/// messages.
const CLOSE_LOOK: (Duration, u64) = (Duration::from_millis(20), 64);
const LOOK: (Duration, u64) = (Duration::from_millis(200), 16);
/// A change to be shown.
pub(super) enum Update {
    Key(KeyEvent),
    Redraw,
    Rows(Vec<TopicRow>),
    News(String, Mood),
    Event(RegistryEvent),
    /// Deaths from before this program started.
    Deaths(Vec<RegistryEvent>),
    /// The registry appeared or disappeared, with a line that says so.
    Registry(RegistryLink, String, Mood),
    Failed(Failure),
}

/// The registry's last list; `None` if it did not answer.
type ListedTopics = Arc<Mutex<Option<Vec<TopicInfo>>>>;

/// The threads. They end with the process.
pub(super) struct Feeds {
    focus: Sender<Option<String>>,
}

impl Feeds {
    pub(super) fn start(
        domain: &Domain,
        args: &Args,
        collector: Collector,
        out: &Sender<Update>,
    ) -> Result<Self, Failure> {
        let listed = ListedTopics::default();
        let interval = args.interval;
        let wanted = Watch::new(args.glob.as_ref().map(ToString::to_string), Some(kinds()));
        let (focus, focuses) = mpsc::channel();
        start("list", {
            let (domain, listed) = (domain.clone(), listed.clone());
            move || keep_listing(&domain, &listed, interval)
        })?;
        start("watch", {
            let (domain, out) = (domain.clone(), out.clone());
            move || keep_watching(&domain, &wanted, &out)
        })?;
        start("collect", {
            let out = out.clone();
            move || collect(collector, interval, &listed, &focuses, &out)
        })?;
        start("input", {
            let out = out.clone();
            move || read_keys(&out)
        })?;
        Ok(Self { focus })
    }

    /// Which topic to sample more often.
    pub(super) fn look_at(&self, topic: Option<&str>) {
        let _ = self.focus.send(topic.map(str::to_owned));
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started: io::Result<_> = thread::Builder::new().name(name.into()).spawn(body);
    started.map(drop).map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))
}

/// All but the snapshot, which the table shows already.
fn kinds() -> Vec<EventKind> {
    let is_news = |kind: &EventKind| !matches!(kind, EventKind::Present | EventKind::SubscriberPresent);
    EventKind::ALL.into_iter().filter(is_news).collect()
}

fn read_keys(out: &Sender<Update>) {
    loop {
        let update = match event::read() {
            Ok(Input::Key(key)) => Update::Key(key),
            Ok(Input::Resize(..)) => Update::Redraw,
            Ok(_) => continue,
            Err(error) => Update::Failed(Failure::new(format_args!("cannot read the terminal: {error}"))),
        };
        let is_over = matches!(update, Update::Failed(_));
        if out.send(update).is_err() || is_over {
            return;
        }
    }
}

fn keep_listing(domain: &Domain, listed: &ListedTopics, interval: Duration) {
    let mut registry = None;
    loop {
        if registry.is_none() {
            registry = Client::connect(domain).ok();
        }
        let topics = registry.as_mut().map(Client::list).and_then(Result::ok);
        if topics.is_none() {
            registry = None;
        }
        *listed.lock().unwrap_or_else(PoisonError::into_inner) = topics;
        thread::sleep(interval);
    }
}

fn keep_watching(domain: &Domain, wanted: &Watch, out: &Sender<Update>) {
    let mut is_missed = false;
    let mut backoff = Backoff::new();
    loop {
        let begun = Instant::now();
        let error = match watch(domain, wanted, out) {
            Ok(()) => {
                is_missed = false;
                "the registry has ended the watch".into()
            }
            Err(error) => describe(&error),
        };
        if !is_missed {
            let text = format!("no registry, reading {}: {error}", domain.shm_dir().display());
            if out.send(Update::Registry(RegistryLink::Missing, text, Mood::Warning)).is_err() {
                return;
            }
        }
        is_missed = true;
        backoff.after(begun.elapsed());
        backoff.sleep();
    }
}

fn describe(error: &RegistryCallError) -> String {
    match error {
        RegistryCallError::Unreachable { sockets, source, .. } => format!("{sockets}: {source}"),
        error => error.to_string(),
    }
}

/// Forwards events until the registry goes away; an error if there is none.
fn watch(domain: &Domain, wanted: &Watch, out: &Sender<Update>) -> Result<(), RegistryCallError> {
    let mut registry = Client::connect(domain)?;
    let (status, deaths) = (registry.status()?, registry.deaths()?);
    let events = registry.watch_matching(wanted)?;
    let text = format!("registry {} answers (pid {})", status.version, status.pid);
    let answers = RegistryLink::Answers { version: status.version, pid: status.pid };
    let begin = [Update::Deaths(deaths), Update::Registry(answers, text, Mood::Good)];
    // A newer registry's events need not be understood.
    let events = events.filter(|event| !matches!(event, Err(RegistryCallError::Reply(_))));
    let events = events.map_while(Result::ok).map(Update::Event);
    // Without a receiver the process is about to end.
    let _ = begin.into_iter().chain(events).all(|update| out.send(update).is_ok());
    Ok(())
}

fn collect(
    mut collector: Collector,
    interval: Duration,
    listed: &ListedTopics,
    focuses: &Receiver<Option<String>>,
    out: &Sender<Update>,
) {
    let mut focus: Option<String> = None;
    let (mut next_rows, mut next_look) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        if now >= next_look {
            collector.look(None, LOOK.1);
            next_look = now + LOOK.0.min(interval);
        } else if let Some(topic) = &focus {
            collector.look(Some(topic), CLOSE_LOOK.1);
        }
        if now >= next_rows {
            let topics = listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let updates = match collector.refresh(topics.as_deref()) {
                Ok((rows, news)) => {
                    let news = news.into_iter().map(|news| Update::News(news, Mood::Warning));
                    news.chain([Update::Rows(rows)]).collect()
                }
                Err(failure) => vec![Update::Failed(failure)],
            };
            if updates.into_iter().any(|update| out.send(update).is_err()) {
                return;
            }
            // After a stop, missed refreshes are not made up for.
            next_rows = (next_rows + interval).max(now + interval / 2);
        }
        let mut next = next_look.min(next_rows);
        if focus.is_some() {
            next = next.min(now + CLOSE_LOOK.0);
        }
        match focuses.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(topic) => focus = topic,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
