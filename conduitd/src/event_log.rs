//! Owns what the daemon remembers of events: the recent deaths, oldest first; and writes every
//! event to the log.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conduit::TopicName;
use conduit::registry::{EventKind, Process, RegistryEvent, SubscriberInfo};

use crate::logging::message_id;
use crate::pace::WorkPace;

/// How many deaths are remembered. Each later one replaces the oldest of the user who has most.
const MAX_DEATHS: usize = 1000;
/// Each user's lines in the log: so many at once, and afterwards one per interval.
const LINES_AT_ONCE: u32 = 2000;
const LINE_INTERVAL: Duration = Duration::from_millis(50);
/// Users without recent lines who are remembered.
const IDLE_USERS: usize = 64;

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
    lines: RefCell<HashMap<Option<u32>, UserLines>>,
}

#[derive(Debug, Default)]
struct UserLines {
    pace: WorkPace,
    /// Lines that were left out since the last one.
    left_out: u64,
}

impl EventLog {
    /// Logs an event, and remembers it if an owner died.
    pub(crate) fn record(&self, event: &RegistryEvent) {
        if self.may_log(uid_of(event)) {
            log(event);
        }
        if event.kind == EventKind::Died {
            let mut deaths = self.deaths.borrow_mut();
            if deaths.len() == MAX_DEATHS {
                make_room(&mut deaths);
            }
            deaths.push_back(event.clone());
        }
    }

    /// Whether a line that a user has caused may be written. Those that are left out are counted.
    pub(crate) fn may_log(&self, uid: Option<u32>) -> bool {
        let now = Instant::now();
        let mut lines = self.lines.borrow_mut();
        if lines.len() > IDLE_USERS {
            lines.retain(|_, user| !user.pace.is_idle(now));
        }
        let user = lines.entry(uid).or_default();
        if user.pace.wait(now, LINE_INTERVAL * LINES_AT_ONCE).is_some() {
            user.left_out += 1;
            return false;
        }
        user.pace.spend(now, LINE_INTERVAL);
        let left_out = std::mem::take(&mut user.left_out);
        if left_out > 0 {
            tracing::warn!(
                conduit.uid = uid,
                "{left_out} lines about topics and clients of {} were left out: there are too many",
                uid.map_or_else(|| "unknown users".into(), |uid| format!("uid {uid}"))
            );
        }
        true
    }

    /// The last [`MAX_DEATHS`] deaths, oldest first.
    pub(crate) fn deaths(&self) -> Vec<RegistryEvent> {
        self.deaths.borrow().iter().cloned().collect()
    }
}

fn uid_of(event: &RegistryEvent) -> Option<u32> {
    event.process.as_ref().map(|process| process.uid)
}

/// Removes the oldest death of the user who has most.
fn make_room(deaths: &mut VecDeque<RegistryEvent>) {
    let mut counts: HashMap<Option<u32>, usize> = HashMap::new();
    for death in &*deaths {
        *counts.entry(uid_of(death)).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(uid, _)| uid);
    if let Some(at) = deaths.iter().position(|death| Some(uid_of(death)) == most) {
        deaths.remove(at);
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
    use EventKind::{Closed, Died, Kept, Overdue, Present, Published, Resumed, Unlinked};
    matches!(kind, Present | Published | Closed | Kept | Died | Unlinked | Overdue | Resumed)
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
        EventKind::Overdue => format!("{topic} is overdue: {who} has sent nothing for longer than it promised"),
        EventKind::Resumed => format!("{topic} has resumed: {who} sends again"),
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
    fn one_users_deaths_do_not_displace_those_of_others() {
        let log = EventLog::default();
        let died = |uid| event_of(EventKind::Died).with_process(Some(Process::new(7, uid, "node")));
        log.record(&died(1));
        for _ in 0..2 * MAX_DEATHS {
            log.record(&died(2));
        }
        let deaths = log.deaths();
        assert_eq!((deaths.len(), uid_of(&deaths[0])), (MAX_DEATHS, Some(1)));
    }

    #[test]
    fn one_users_lines_are_limited() {
        let log = EventLog::default();
        let logged = (0..3 * LINES_AT_ONCE).filter(|_| log.may_log(Some(1))).count();
        assert!((1..2 * LINES_AT_ONCE as usize).contains(&logged), "{logged}");
        assert!(log.may_log(Some(2)) && log.may_log(None));
        let mut lines = log.lines.borrow_mut();
        assert!(lines[&Some(1)].left_out > 0);
        lines.get_mut(&Some(1)).unwrap().pace = WorkPace::default();
        drop(lines);
        assert!(log.may_log(Some(1)));
        assert_eq!(log.lines.borrow()[&Some(1)].left_out, 0);
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
