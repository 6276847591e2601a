//! How events and deaths are worded and styled.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anstyle::Style;
use conduit::registry::{DeathCertificate, EventKind, RegistryEvent};
use nix::sys::signal::Signal;

use super::{BAD, FAINT, GOOD, WARNING, count, duration_ns};

pub(crate) fn kind_style(kind: &EventKind) -> Style {
    match kind {
        EventKind::Present | EventKind::SubscriberPresent => FAINT,
        EventKind::Published | EventKind::Subscribed | EventKind::Resumed => GOOD,
        EventKind::Unlinked | EventKind::Removed | EventKind::Overdue => WARNING,
        EventKind::Died | EventKind::SubscriberDied => BAD,
        _ => Style::new(),
    }
}

/// A death certificate in words, to follow the name of the dead process.
pub(crate) fn certificate(death: &DeathCertificate) -> String {
    let mut sentence = cause(death);
    if let Some(sequence) = death.last_sequence {
        let age = death.last_message_age_ns.map_or_else(String::new, |age| format!("{} ", duration_ns(age)));
        let _ = write!(sentence, ", {age}after message #{sequence}");
    }
    let subscribers = death.subscribers.len() as u64;
    if subscribers > 0 {
        let asleep = death.subscribers.iter().filter(|subscriber| subscriber.asleep).count();
        let _ = write!(sentence, "; it had {}, {asleep} of them asleep", count(subscribers, "subscriber"));
    }
    sentence
}

fn cause(death: &DeathCertificate) -> String {
    let dumped = if death.core_dumped == Some(true) { " and dumped core" } else { "" };
    match (death.signal, death.exit_code) {
        (Some(number), _) => {
            let signal = Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |it| it.to_string());
            format!("was killed by {signal}{}{dumped}", meaning(number))
        }
        (None, Some(code)) => format!("exited with code {code} without closing the topic"),
        (None, None) => "died".into(),
    }
}

/// The usual reason for a signal; see signal(7).
fn meaning(signal: i32) -> &'static str {
    match Signal::try_from(signal) {
        Ok(Signal::SIGSEGV | Signal::SIGBUS) => " (invalid memory access)",
        Ok(Signal::SIGABRT) => " (it aborted: a panic or failed assertion)",
        Ok(Signal::SIGFPE) => " (arithmetic error)",
        Ok(Signal::SIGILL) => " (illegal instruction)",
        Ok(Signal::SIGSYS) => " (forbidden system call)",
        _ => "",
    }
}

/// When an event happened, and how long ago that is if the clock says so.
pub(crate) fn when(event: &RegistryEvent, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = now.checked_sub(Duration::from_millis(event.time_ms));
    let ago = ago.map_or_else(String::new, |ago| format!(" ({} ago)", coarse(ago)));
    super::time_ms(event.time_ms) + &ago
}

/// Which process died, and how.
pub(crate) fn death(event: &RegistryEvent) -> String {
    let process = event.process.as_ref().map_or_else(|| "a process".into(), ToString::to_string);
    format!("{process} {}", event.death.as_ref().map_or_else(|| "died".into(), certificate))
}

/// A duration in its largest unit.
fn coarse(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => count(seconds / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use conduit::registry::SubscriberInfo;

    use super::*;

    #[test]
    fn a_certificate_is_a_sentence() {
        let one = |asleep| {
            let mut subscriber = SubscriberInfo::default();
            (subscriber.pid, subscriber.program, subscriber.asleep) = (1, "viewer".into(), asleep);
            subscriber
        };
        let death = |change: fn(&mut DeathCertificate)| {
            let mut death = DeathCertificate::default();
            change(&mut death);
            death
        };
        let mut with_subscribers = death(|death| death.signal = Some(9));
        with_subscribers.subscribers = vec![one(true), one(false)];
        let mut with_message = death(|death| death.signal = Some(9));
        (with_message.last_sequence, with_message.last_message_age_ns) = (Some(99), Some(3_200_000));
        for (death, expected) in [
            (with_message, "was killed by SIGKILL, 3.20 ms after message #99"),
            (
                death(|death| (death.signal, death.core_dumped) = (Some(11), Some(true))),
                "was killed by SIGSEGV (invalid memory access) and dumped core",
            ),
            (with_subscribers, "was killed by SIGKILL; it had 2 subscribers, 1 of them asleep"),
            (death(|death| death.signal = Some(40)), "was killed by signal 40"),
            (death(|death| death.exit_code = Some(1)), "exited with code 1 without closing the topic"),
            (DeathCertificate::default(), "died"),
        ] {
            assert_eq!(certificate(&death), expected);
        }
    }

    #[test]
    fn a_time_is_absolute_whatever_the_clock_says_later() {
        let event = RegistryEvent::new(EventKind::Died, "imu", 1_795_770_000_123);
        let when = |seconds| when(&event, UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(when(1_795_770_420), "2026-11-27T09:00:00.123Z (6 min ago)");
        assert_eq!(when(1_795_770_000), "2026-11-27T09:00:00.123Z");
        assert_eq!(when(0), "2026-11-27T09:00:00.123Z");
    }

    #[test]
    fn ages_are_coarse() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (86_400, "1 day"), (200_000, "2 days")] {
            assert_eq!(coarse(Duration::from_secs(seconds)), text);
        }
    }
}
