//! `conduit watch`: events as they happen.

use std::io::Write;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Instant;

use clap::Args as ClapArgs;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use conduit::registry::{Client, EventKind, RegistryCallError, RegistryEvent, Watch};
use conduit::{Domain, TopicPattern};

use crate::backoff::Backoff;
use crate::closed_output;
use crate::completion::topics;
use crate::failure::Failure;
use crate::output::{self, events};

/// Print a line for each topic that appears or disappears and each subscriber that comes or leaves.
///
/// Also for each topic that is overdue, because its publisher has sent nothing for longer than it
/// has promised, or sends again.
///
/// Starts with a snapshot of the present topics and subscribers. Each line has the date and time
/// (UTC), the kind of the event, the topic and the process. Needs the registry; if the registry
/// goes away, waits for the next one and starts again with a snapshot.
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

/// How many events may wait to be printed.
const MAX_QUEUED: usize = 1024;

/// What the thread that listens to the registry reports.
enum News {
    Event(RegistryEvent),
    /// The registry went away or came back, in words.
    Line(String),
    Failed(Failure),
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kinds = (!args.kind.is_empty()).then(|| args.kind.clone());
    let wanted = Watch::new(args.glob.as_ref().map(ToString::to_string), kinds);
    let domain = Domain::from_env();
    let registry = Client::connect(&domain)?;
    closed_output::end_when_closed()?;
    let (sender, news) = mpsc::sync_channel(MAX_QUEUED);
    thread::spawn(move || {
        let failure = listen(&domain, registry, &wanted, &sender);
        let _ = sender.send(News::Failed(failure));
    });
    let mut out = output::stdout();
    loop {
        // What has arrived is written at once, and together.
        let next = match news.try_recv() {
            Ok(next) => next,
            Err(_) => {
                out.flush().map_err(Failure::Output)?;
                let Ok(next) = news.recv() else { return Err(Failure::new("the registry is not listened to")) };
                next
            }
        };
        match next {
            News::Event(event) => {
                let written =
                    if args.json { output::json_line(&mut out, &event) } else { writeln!(out, "{}", line(&event)) };
                written.map_err(Failure::Output)?;
            }
            News::Line(line) => {
                out.flush().map_err(Failure::Output)?;
                output::notice(line);
            }
            News::Failed(failure) => {
                out.flush().map_err(Failure::Output)?;
                return Err(failure);
            }
        }
    }
}

/// Forwards events, also those of the registry's successors, until something fails.
fn listen(domain: &Domain, mut registry: Client, wanted: &Watch, news: &SyncSender<News>) -> Failure {
    let mut backoff = Backoff::new();
    loop {
        let begun = Instant::now();
        let gone = match follow(registry, wanted, news) {
            Ok(gone) => gone,
            Err(failure) => return failure,
        };
        // The receiver lives as long as the process.
        let _ = news.send(News::Line(format!("{gone}; waiting for a registry")));
        backoff.after(begun.elapsed());
        registry = loop {
            backoff.sleep();
            // One that accepts connections may still not answer.
            if let Ok(mut registry) = Client::connect(domain)
                && registry.status().is_ok()
            {
                break registry;
            }
        };
        let _ = news.send(News::Line("the registry is back".into()));
    }
}

/// Forwards events until something fails, or until the registry goes away, which is returned.
fn follow(registry: Client, wanted: &Watch, news: &SyncSender<News>) -> Result<RegistryCallError, Failure> {
    let gone = |error| match error {
        error @ RegistryCallError::Connection(_) => Ok(error),
        error => Err(error.into()),
    };
    let events = match registry.watch_matching(wanted) {
        Ok(events) => events,
        Err(error) => return gone(error),
    };
    for event in events {
        match event {
            Ok(event) => drop(news.send(News::Event(event))),
            // Of a newer registry.
            Err(error @ RegistryCallError::Reply(_)) => drop(news.send(News::Line(error.to_string()))),
            Err(error) => return gone(error),
        }
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

/// An event as one line: date and time (UTC), kind, topic, process, and how it died.
fn line(event: &RegistryEvent) -> String {
    let time = output::styled(output::FAINT, output::time_ms(event.time_ms));
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
        assert_eq!(output::plain(line.as_bytes()), "1970-01-02T12:34:56.789Z  published           imu  imu_driver (7)");
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
