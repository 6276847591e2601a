//! `conduit watch`: what happens, as it happens.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use anstyle::Style;
use clap::Args as ClapArgs;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use conduit::Domain;
use conduit::registry::{Client, RegistryCallError};
use conduit::registry::{DeathCertificate, EventKind, RegistryEvent, Watch};
use nix::sys::signal::Signal;

use crate::failure::Failure;
use crate::output;
use crate::verbs::completions::topics;

/// Print a line for every topic that appears or goes and every subscriber that comes or leaves.
///
/// Begins with what is there. Needs the registry; when that goes, it waits for the next one and begins anew with what is there.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit watch
  conduit watch 'camera/**' --kind published --kind died
  conduit watch --json | jq 'select(.kind == \"died\")'")]
pub(crate) struct Args {
    /// Only topics that match: * stays within a segment of the name, ** crosses segments
    #[arg(add = ArgValueCompleter::new(topics))]
    glob: Option<String>,
    /// Only events of this kind (may be repeated): present, published, closed, died, subscribed, ...
    #[arg(long, value_name = "KIND", value_parser = kind, add = ArgValueCandidates::new(kinds))]
    kind: Vec<EventKind>,
    /// Print a JSON object for every event: kind, topic, time_ms (since the epoch), process (pid, uid, program) and death if they are known
    #[arg(long)]
    json: bool,
}

/// How often to look whether there is a registry again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kinds = (!args.kind.is_empty()).then(|| args.kind.clone());
    let wanted = Watch { topic: args.glob.clone(), kinds };
    let domain = Domain::from_env();
    let mut registry = Client::connect(&domain)?;
    loop {
        let ended = follow(args, registry, &wanted);
        let Err(Ended::Registry(error)) = ended else {
            return match ended {
                Err(Ended::Here(failure)) => Err(failure),
                _ => Ok(()),
            };
        };
        eprintln!("conduit: {error}; waiting for a registry");
        registry = loop {
            match Client::connect(&domain) {
                Ok(registry) => break registry,
                Err(_) => std::thread::sleep(RETRY_INTERVAL),
            }
        };
        eprintln!("conduit: there is a registry again");
    }
}

/// Why no more events come.
enum Ended {
    /// The registry went away.
    Registry(RegistryCallError),
    Here(Failure),
}

fn follow(args: &Args, registry: Client, wanted: &Watch) -> Result<(), Ended> {
    let classify = |error| match error {
        error @ RegistryCallError::Connection(_) => Ended::Registry(error),
        error => Ended::Here(error.into()),
    };
    let mut out = output::stdout();
    for event in registry.watch_matching(wanted).map_err(classify)? {
        let event = event.map_err(classify)?;
        let line = if args.json { serde_json::to_string(&event) } else { Ok(line(&event)) };
        let line = line.map_err(|error| Ended::Here(Failure::new(error)))?;
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Ended::Here(Failure::Output(error)))?;
    }
    Err(Ended::Here(Failure::new("the registry has ended the watch")))
}

fn kinds() -> Vec<CompletionCandidate> {
    EventKind::ALL.map(|kind| CompletionCandidate::new(kind.to_string())).into()
}

fn kind(text: &str) -> Result<EventKind, String> {
    let all = EventKind::ALL;
    let found = all.into_iter().find(|kind| kind.to_string() == text);
    found.ok_or_else(|| format!("use one of {}", all.map(|kind| kind.to_string()).join(", ")))
}

/// An event as one line: time (UTC), kind, topic, process, and what is known of a death.
fn line(event: &RegistryEvent) -> String {
    let time = output::styled(output::FAINT, time_of_day(event.time_ms));
    let kind = output::styled(style_of(event.kind), format_args!("{:<18}", event.kind));
    let process = event.process.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    let death = event.death.as_ref().map_or_else(String::new, |death| format!(" {}", sentence(death)));
    format!("{time}  {kind}  {}  {process}{death}", event.topic)
}

/// How a kind of event looks.
pub(crate) fn style_of(kind: EventKind) -> Style {
    match kind {
        EventKind::Present | EventKind::SubscriberPresent => output::FAINT,
        EventKind::Published | EventKind::Subscribed => output::GOOD,
        EventKind::Closed | EventKind::Kept | EventKind::Unsubscribed => Style::new(),
        EventKind::Unlinked | EventKind::Removed => output::WARNING,
        EventKind::Died | EventKind::SubscriberDied => output::BAD,
    }
}

/// The time of the day in UTC.
pub(crate) fn time_of_day(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}Z", seconds % 60, time_ms % 1000)
}

/// A death certificate in words, to follow the name of who died.
pub(crate) fn sentence(death: &DeathCertificate) -> String {
    let mut sentence = cause(death);
    if let Some(sequence) = death.last_sequence {
        let age = death.last_message_age_ns.map_or_else(String::new, |age| format!("{} ", output::duration_ns(age)));
        let _ = write!(sentence, ", {age}after message #{sequence}");
    }
    let count = death.subscribers.len() as u64;
    if count > 0 {
        let asleep = death.subscribers.iter().filter(|subscriber| subscriber.asleep).count();
        let _ = write!(sentence, "; it had {}, {asleep} of them asleep", output::count(count, "subscriber"));
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

/// What mostly is behind a signal; see signal(7).
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

#[cfg(test)]
mod tests {
    use conduit::registry::{Process, SubscriberInfo};

    use super::*;

    fn event(kind: EventKind, death: Option<DeathCertificate>) -> RegistryEvent {
        let process = Some(Process { pid: 7, uid: 0, program: "imu_driver".into() });
        RegistryEvent { kind, topic: "imu".into(), time_ms: 86_400_000 + 45_296_789, process, death }
    }

    #[test]
    fn an_event_is_a_line() {
        let line = line(&event(EventKind::Published, None));
        assert_eq!(output::plain(line.as_bytes()), "12:34:56.789Z  published           imu  imu_driver (7)");
    }

    #[test]
    fn a_death_is_told_in_a_sentence() {
        let killed = DeathCertificate {
            signal: Some(9),
            last_sequence: Some(99),
            last_message_age_ns: Some(3_200_000),
            ..DeathCertificate::default()
        };
        let line = line(&event(EventKind::Died, Some(killed)));
        let end = "died                imu  imu_driver (7) was killed by SIGKILL, 3.20 ms after message #99";
        assert!(output::plain(line.as_bytes()).ends_with(end), "{line}");
        let dumped = DeathCertificate { signal: Some(11), core_dumped: Some(true), ..DeathCertificate::default() };
        assert_eq!(sentence(&dumped), "was killed by SIGSEGV (invalid memory access) and dumped core");
        let one = |asleep| SubscriberInfo {
            pid: 1,
            uid: 0,
            program: "viewer".into(),
            received: 0,
            lost: 0,
            held: 0,
            lag: 0,
            asleep,
        };
        let watched = DeathCertificate {
            signal: Some(9),
            subscribers: vec![one(true), one(false)],
            ..DeathCertificate::default()
        };
        assert_eq!(sentence(&watched), "was killed by SIGKILL; it had 2 subscribers, 1 of them asleep");
        assert_eq!(
            sentence(&DeathCertificate { signal: Some(40), ..DeathCertificate::default() }),
            "was killed by signal 40"
        );
        assert_eq!(
            sentence(&DeathCertificate { exit_code: Some(1), ..DeathCertificate::default() }),
            "exited with code 1 without closing the topic"
        );
        assert_eq!(sentence(&DeathCertificate::default()), "died");
    }
}
