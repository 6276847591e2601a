//! `conduit watch`: what happens, as it happens.

use std::io::Write;

use clap::Args as ClapArgs;
use conduit::Domain;
use conduit::protocol::{Death, Event, EventKind, Watch};
use conduit::registry::Client;
use nix::sys::signal::Signal;

use crate::failure::Failure;
use crate::output;

/// Print a line for every topic that appears or goes and every subscriber that comes or leaves.
///
/// Begins with what is there. Needs the registry.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  conduit watch --json | jq 'select(.kind == \"died\")'")]
pub(crate) struct Args {
    /// Only topics that match: * stays within a segment of the name, ** crosses segments
    glob: Option<String>,
    /// Only events of this kind (may be repeated): present, published, closed, died, subscribed, ...
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Vec<EventKind>,
    /// Print a JSON object for every event
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kinds = (!args.kind.is_empty()).then(|| args.kind.clone());
    let wanted = Watch { topic: args.glob.clone(), kinds };
    let events = Client::connect(&Domain::from_env())?.watch_matching(&wanted)?;
    let mut out = output::stdout();
    for event in events {
        let event = event?;
        let line = if args.json { serde_json::to_string(&event).map_err(Failure::new)? } else { line(&event) };
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::Output)?;
    }
    Err(Failure::new("the registry has ended the watch"))
}

fn kind(text: &str) -> Result<EventKind, String> {
    let all = EventKind::ALL;
    let found = all.into_iter().find(|kind| kind.to_string() == text);
    found.ok_or_else(|| format!("use one of {}", all.map(|kind| kind.to_string()).join(", ")))
}

/// An event as one line: time (UTC), kind, topic, process, and what is known of a death.
fn line(event: &Event) -> String {
    let process = event.process.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    let mut line = format!("{}  {:<18}  {}  {process}", time_of_day(event.time_ms), event.kind, event.topic);
    if let Some(death) = &event.death {
        line.push_str(": ");
        line.push_str(&sentence(death));
    }
    line
}

/// The time of the day in UTC.
pub(crate) fn time_of_day(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}Z", seconds % 60, time_ms % 1000)
}

/// A death certificate in words.
pub(crate) fn sentence(death: &Death) -> String {
    let mut parts = vec![cause(death)];
    if let Some(sequence) = death.last_sequence {
        let age = death.last_message_age_ns.map(output::duration_ns);
        let age = age.map_or_else(String::new, |age| format!(" {age} before"));
        parts.push(format!("last message #{sequence}{age}"));
    }
    if !death.subscribers.is_empty() {
        let asleep = death.subscribers.iter().filter(|subscriber| subscriber.asleep).count();
        parts.push(format!("{} ({asleep} asleep)", output::count(death.subscribers.len() as u64, "subscriber")));
    }
    parts.join(", ")
}

fn cause(death: &Death) -> String {
    let dumped = if death.core_dumped == Some(true) { " (core dumped)" } else { "" };
    match (death.signal, death.exit_code) {
        (Some(signal), _) => match Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}{dumped}"),
            Err(_) => format!("killed by signal {signal}{dumped}"),
        },
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "died".into(),
    }
}

#[cfg(test)]
mod tests {
    use conduit::protocol::{Process, Subscriber};

    use super::*;

    fn event(kind: EventKind, death: Option<Death>) -> Event {
        let process = Some(Process { pid: 7, uid: 0, program: "imu_driver".into() });
        Event { kind, topic: "imu".into(), time_ms: 86_400_000 + 45_296_789, process, death }
    }

    #[test]
    fn an_event_is_a_line() {
        let line = line(&event(EventKind::Published, None));
        assert_eq!(line, "12:34:56.789Z  published           imu  imu_driver (7)");
    }

    #[test]
    fn a_death_is_told_in_a_sentence() {
        let killed = Death {
            signal: Some(9),
            last_sequence: Some(99),
            last_message_age_ns: Some(3_200_000),
            ..Death::default()
        };
        let line = line(&event(EventKind::Died, Some(killed)));
        let end = "died                imu  imu_driver (7): killed by SIGKILL, last message #99 3.20 ms before";
        assert!(line.ends_with(end), "{line}");
        let dumped = Death { signal: Some(11), core_dumped: Some(true), ..Death::default() };
        assert_eq!(sentence(&dumped), "killed by SIGSEGV (core dumped)");
        let one = |asleep| Subscriber {
            pid: 1,
            uid: 0,
            program: "viewer".into(),
            received: 0,
            lost: 0,
            held: 0,
            lag: 0,
            asleep,
        };
        let watched = Death { signal: Some(9), subscribers: vec![one(true), one(false)], ..Death::default() };
        assert_eq!(sentence(&watched), "killed by SIGKILL, 2 subscribers (1 asleep)");
        assert_eq!(sentence(&Death { signal: Some(40), ..Death::default() }), "killed by signal 40");
        assert_eq!(sentence(&Death { exit_code: Some(1), ..Death::default() }), "exited with code 1");
        assert_eq!(sentence(&Death::default()), "died");
    }
}
