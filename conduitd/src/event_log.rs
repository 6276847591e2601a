//! Owns what the daemon remembers of events: the recent deaths, oldest first; and writes every
//! event to the log.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use conduit::TopicName;
use conduit::registry::{EventKind, Process, RegistryEvent, SubscriberInfo};

use crate::logging::message_id;

/// How many deaths are remembered; each later one replaces the oldest.
const MAX_DEATHS: usize = 1000;

/// An event of now.
pub(crate) fn event(kind: EventKind, topic: &TopicName, process: Option<Process>) -> RegistryEvent {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    RegistryEvent::new(kind, topic.to_string(), time_ms).with_process(process)
}

/// The log of events.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    deaths: RefCell<VecDeque<RegistryEvent>>,
}

impl EventLog {
    /// Logs an event, and remembers it if an owner died.
    pub(crate) fn record(&self, event: &RegistryEvent) {
        log(event);
        if event.kind == EventKind::Died {
            let mut deaths = self.deaths.borrow_mut();
            if deaths.len() == MAX_DEATHS {
                deaths.pop_front();
            }
            deaths.push_back(event.clone());
        }
    }

    /// The last [`MAX_DEATHS`] deaths, oldest first.
    pub(crate) fn deaths(&self) -> Vec<RegistryEvent> {
        self.deaths.borrow().iter().cloned().collect()
    }
}

fn log(event: &RegistryEvent) {
    let process = event.process.as_ref();
    let death = event.death.as_ref();
    let subscribers = death.map(|death| death.subscribers.as_slice());
    macro_rules! log {
        ($($message_id:tt)*) => {
            tracing::info!(
                $($message_id)*
                conduit.topic = event.topic,
                conduit.event = %event.kind,
                conduit.owner_pid = process.filter(|_| is_of_owner(&event.kind)).map(|process| process.pid),
                conduit.pid = process.map(|process| process.pid),
                conduit.uid = process.map(|process| process.uid),
                conduit.program = process.map(|process| process.program.as_str()),
                conduit.signal = death.and_then(|death| death.signal),
                conduit.exit_code = death.and_then(|death| death.exit_code),
                conduit.core_dumped = death.and_then(|death| death.core_dumped),
                conduit.last_sequence = death.and_then(|death| death.last_sequence),
                conduit.last_message_age_ns = death.and_then(|death| death.last_message_age_ns),
                conduit.subscribers = subscribers.map(|all| names(all.iter())),
                conduit.asleep = subscribers.map(|all| names(all.iter().filter(|one| one.asleep))),
                "{}",
                sentence(event)
            )
        };
    }
    match event.kind {
        EventKind::Died => log!(message_id = message_id::OWNER_DIED,),
        EventKind::SubscriberDied => log!(message_id = message_id::SUBSCRIBER_DIED,),
        _ => log!(),
    }
}

/// Whether the process of such events is the topic's owner.
fn is_of_owner(kind: &EventKind) -> bool {
    use EventKind::{Closed, Died, Kept, Present, Published, Unlinked};
    matches!(kind, Present | Published | Closed | Kept | Died | Unlinked)
}

/// The event as a sentence, for logs without fields.
fn sentence(event: &RegistryEvent) -> String {
    let who = event.process.as_ref().map_or_else(|| "an unknown process".into(), ToString::to_string);
    let topic = format!("topic \"{}\"", event.topic);
    match event.kind {
        EventKind::Present => format!("{topic} exists, owned by {who}"),
        EventKind::SubscriberPresent => format!("{topic} has the subscriber {who}"),
        EventKind::Published => format!("{topic} is published by {who}"),
        EventKind::Closed => format!("{topic} was closed by {who}"),
        EventKind::Kept => format!("{topic} was released by {who} and is kept"),
        EventKind::Died => format!("{topic} is gone: its owner {who} died{}", how(event)),
        EventKind::Unlinked => format!("{topic} of {who} has lost its name"),
        EventKind::Removed => format!("{topic} was removed by {who}"),
        EventKind::Subscribed => format!("{topic} is subscribed by {who}"),
        EventKind::Unsubscribed => format!("{topic} is no longer subscribed by {who}"),
        EventKind::SubscriberDied => format!("{topic}: its subscriber {who} died{}", how(event)),
        _ => format!("{topic}: {} by {who}", event.kind),
    }
}

fn how(event: &RegistryEvent) -> String {
    match event.death.as_ref().map(|death| (death.signal, death.exit_code)) {
        Some((Some(signal), _)) => format!(", killed by signal {signal}"),
        Some((None, Some(code))) => format!(", exit code {code}"),
        _ => String::new(),
    }
}

fn names<'a>(subscribers: impl Iterator<Item = &'a SubscriberInfo>) -> String {
    let names: Vec<String> = subscribers.map(|one| format!("{} ({})", one.program, one.pid)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use conduit::registry::DeathCertificate;

    use super::*;

    fn event_of(kind: EventKind) -> RegistryEvent {
        event(kind, &"a".parse().unwrap(), None)
    }

    #[test]
    fn only_the_latest_deaths_are_remembered() {
        let log = EventLog::default();
        log.record(&event_of(EventKind::Closed));
        for time_ms in 0..MAX_DEATHS as u64 + 3 {
            log.record(&RegistryEvent::new(EventKind::Died, "a", time_ms));
        }
        let times: Vec<u64> = log.deaths().iter().map(|event| event.time_ms).collect();
        assert_eq!(times, (3..MAX_DEATHS as u64 + 3).collect::<Vec<_>>());
    }

    #[test]
    fn a_sentence_names_the_process_and_how_it_died() {
        let process = Some(Process::new(7, 0, "node"));
        let death = |signal, exit_code| {
            let mut death = DeathCertificate::default();
            (death.signal, death.exit_code) = (signal, exit_code);
            Some(death)
        };
        let died = event_of(EventKind::Died).with_process(process).with_death(death(Some(9), None));
        assert_eq!(sentence(&died), "topic \"a\" is gone: its owner node (7) died, killed by signal 9");
        let died = died.with_death(death(None, Some(3)));
        assert_eq!(sentence(&died), "topic \"a\" is gone: its owner node (7) died, exit code 3");
        assert_eq!(sentence(&event_of(EventKind::Closed)), "topic \"a\" was closed by an unknown process");
    }
}
