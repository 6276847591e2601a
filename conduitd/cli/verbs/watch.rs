//! `conduit watch`: events as they happen.

use std::io::Write;
use std::time::Duration;

use clap::Args as ClapArgs;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use conduit::registry::{Client, EventKind, RegistryCallError, RegistryEvent, Watch};
use conduit::{Domain, TopicPattern};

use crate::completion::topics;
use crate::failure::Failure;
use crate::output::{self, events};

/// Print a line for each topic that appears or disappears and each subscriber that comes or leaves.
///
/// Starts with a snapshot of the present topics and subscribers. Needs the registry; if the
/// registry goes away, waits for the next one and starts again with a snapshot.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit watch
  conduit watch 'camera/**' --kind published --kind died
  conduit watch --json | jq 'select(.kind == \"died\")'")]
pub(crate) struct Args {
    /// Print only topics that match: * stays within a segment of the name, ** crosses segments
    #[arg(add = ArgValueCompleter::new(topics))]
    glob: Option<TopicPattern>,
    /// Print only events of this kind (may be repeated): present, published, closed, died,
    /// subscribed, ...
    #[arg(long, value_name = "KIND", value_parser = kind, add = ArgValueCandidates::new(kinds))]
    kind: Vec<EventKind>,
    /// Print a JSON object per event: kind, topic, time_ms (since the epoch), and process (pid,
    /// uid, program) and death if known
    #[arg(long)]
    json: bool,
}

/// How often to try to reconnect.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kinds = (!args.kind.is_empty()).then(|| args.kind.clone());
    let wanted = Watch::new(args.glob.as_ref().map(ToString::to_string), kinds);
    let domain = Domain::from_env();
    let mut registry = Client::connect(&domain)?;
    loop {
        let gone = follow(args, registry, &wanted)?;
        output::notice(format_args!("{gone}; waiting for a registry"));
        registry = loop {
            match Client::connect(&domain) {
                Ok(registry) => break registry,
                Err(_) => std::thread::sleep(RETRY_INTERVAL),
            }
        };
        output::notice("the registry is back");
    }
}

/// Prints events until something fails, or until the registry goes away, which is returned.
fn follow(args: &Args, registry: Client, wanted: &Watch) -> Result<RegistryCallError, Failure> {
    let gone = |error| match error {
        error @ RegistryCallError::Connection(_) => Ok(error),
        error => Err(error.into()),
    };
    let events = match registry.watch_matching(wanted) {
        Ok(events) => events,
        Err(error) => return gone(error),
    };
    for event in events {
        let event = match event {
            Ok(event) => event,
            Err(error) => return gone(error),
        };
        output::print(
            |out| {
                if args.json { output::json_line(out, &event) } else { writeln!(out, "{}", line(&event)) }
            },
        )?;
    }
    Err(Failure::new("the registry has ended the watch"))
}

fn kinds() -> Vec<CompletionCandidate> {
    EventKind::ALL.map(|kind| CompletionCandidate::new(kind.to_string())).into()
}

fn kind(text: &str) -> Result<EventKind, String> {
    let all = EventKind::ALL;
    let found = all.iter().find(|kind| kind.as_str() == text).cloned();
    found.ok_or_else(|| format!("use one of {}", all.map(|kind| kind.to_string()).join(", ")))
}

/// An event as one line: time (UTC), kind, topic, process, and how it died.
fn line(event: &RegistryEvent) -> String {
    let time = output::styled(output::FAINT, events::time_of_day(event.time_ms));
    let kind = output::styled(events::kind_style(&event.kind), format_args!("{:<18}", event.kind));
    let process = event.process.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    let death = event.death.as_ref().map_or_else(String::new, |death| format!(" {}", events::certificate(death)));
    format!("{time}  {kind}  {}  {process}{death}", event.topic)
}

#[cfg(test)]
mod tests {
    use conduit::registry::{DeathCertificate, Process};

    use super::*;

    fn event(kind: EventKind, death: Option<DeathCertificate>) -> RegistryEvent {
        let process = Some(Process::new(7, 0, "imu_driver"));
        RegistryEvent::new(kind, "imu", 86_400_000 + 45_296_789).with_process(process).with_death(death)
    }

    #[test]
    fn an_event_is_a_line() {
        let line = line(&event(EventKind::Published, None));
        assert_eq!(output::plain(line.as_bytes()), "12:34:56.789Z  published           imu  imu_driver (7)");
    }

    #[test]
    fn a_death_is_a_line_with_its_cause() {
        let mut killed = DeathCertificate::default();
        (killed.signal, killed.last_sequence) = (Some(9), Some(99));
        let line = line(&event(EventKind::Died, Some(killed)));
        let end = "died                imu  imu_driver (7) was killed by SIGKILL, after message #99";
        assert!(output::plain(line.as_bytes()).ends_with(end), "{line}");
    }
}
