//! `conduit deaths`: which publishers died of late, and how.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::registry::Client;
use conduit::registry::RegistryEvent;
use conduit::{Domain, TopicPattern};

use crate::failure::Failure;
use crate::output;
use crate::verbs::completions::topics;
use crate::verbs::list::glob;
use crate::verbs::watch::sentence;

/// Print how publishers died.
///
/// The last 1,000 deaths of publishers and of raw regions' creators, oldest first.
/// The registry keeps them in memory: it has none from before its own start. Needs the registry.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit deaths
  conduit deaths 'camera/**'
  conduit deaths --json | jq -r 'select(.topic == \"imu\") | .death.signal'")]
pub(crate) struct Args {
    /// Only of topics that match: * stays within a segment of the name, ** crosses segments
    #[arg(value_parser = glob, add = ArgValueCompleter::new(topics))]
    glob: Option<TopicPattern>,
    /// Print a JSON object for every death: kind (died), topic, time_ms (since the epoch), process (pid, uid, program), death (exit_code or
    /// signal, core_dumped, last_sequence, last_message_age_ns, subscribers)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let deaths = Client::connect(&Domain::from_env())?.deaths()?;
    let now = SystemTime::now();
    let is_wanted = |event: &RegistryEvent| {
        let matches = |glob: &TopicPattern| event.topic.parse().is_ok_and(|name| glob.matches(&name));
        args.glob.as_ref().is_none_or(matches)
    };
    let mut out = output::stdout();
    for event in deaths.into_iter().filter(is_wanted) {
        let line = if args.json { serde_json::to_string(&event).map_err(Failure::new)? } else { line(&event, now) };
        writeln!(out, "{line}").map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)
}

/// A death as one line: how long ago, topic, process, and what is known of it.
fn line(event: &RegistryEvent, now: SystemTime) -> String {
    format!("{:>8} ago  {}  {}", ago(event, now), event.topic, obituary(event))
}

/// How long ago something happened.
pub(crate) fn ago(event: &RegistryEvent, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    coarse(now.saturating_sub(Duration::from_millis(event.time_ms)))
}

/// Who died, and how.
pub(crate) fn obituary(event: &RegistryEvent) -> String {
    let process = event.process.as_ref().map_or_else(|| "a process".into(), ToString::to_string);
    format!("{process} {}", event.death.as_ref().map_or_else(|| "died".into(), sentence))
}

/// A duration as a person would say it.
fn coarse(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use conduit::registry::{DeathCertificate, EventKind, Process};

    use super::*;

    #[test]
    fn a_death_is_a_line() {
        let process = Some(Process { pid: 7, uid: 0, program: "imu_driver".into() });
        let death = Some(DeathCertificate { signal: Some(9), ..DeathCertificate::default() });
        let event = RegistryEvent { kind: EventKind::Died, topic: "imu".into(), time_ms: 5_000, process, death };
        let line = line(&event, UNIX_EPOCH + Duration::from_secs(5 + 7 * 60));
        assert_eq!(line, "   7 min ago  imu  imu_driver (7) was killed by SIGKILL");
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (200_000, "2 days")] {
            assert_eq!(coarse(Duration::from_secs(seconds)), text);
        }
    }
}
