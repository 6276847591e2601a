//! `conduit deaths`: recent deaths of publishers.

use std::io::Write;
use std::time::SystemTime;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::registry::{Client, RegistryEvent};
use conduit::{Domain, TopicPattern};

use crate::completion::topics;
use crate::failure::Failure;
use crate::output::{self, events};

/// Print how publishers died.
///
/// Prints the last 1,000 deaths of publishers and of creators of raw regions, oldest first: when
/// (UTC), the topic, the process, and its end. The registry keeps them in memory and has none from
/// before its own start. Needs the registry.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit deaths
  conduit deaths 'camera/**'
  conduit deaths --json | jq -r 'select(.topic == \"imu\") | .death.signal'")]
pub(crate) struct Args {
    /// Print only topics that match: * stays within a segment of the name, ** crosses segments
    #[arg(add = ArgValueCompleter::new(topics))]
    glob: Option<TopicPattern>,
    /// Print a JSON object per death: kind (died), topic, time_ms (since the epoch), process (pid,
    /// uid, program), death (exit_code or signal, core_dumped, last_sequence, last_message_age_ns,
    /// subscribers)
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
    output::print(|out| {
        deaths.iter().filter(|event| is_wanted(event)).try_for_each(|event| {
            if args.json { output::json_line(out, event) } else { writeln!(out, "{}", line(event, now)) }
        })
    })
}

/// A death as one line: when, topic, process, and how it died.
fn line(event: &RegistryEvent, now: SystemTime) -> String {
    format!("{}  {}  {}", events::when(event, now), event.topic, events::death(event))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use conduit::registry::{DeathCertificate, EventKind, Process};

    use super::*;

    #[test]
    fn a_death_is_a_line() {
        let process = Some(Process::new(7, 0, "imu_driver"));
        let mut death = DeathCertificate::default();
        death.signal = Some(9);
        let event = RegistryEvent::new(EventKind::Died, "imu", 5_000).with_process(process).with_death(Some(death));
        let line = line(&event, UNIX_EPOCH + Duration::from_secs(5 + 7 * 60));
        assert_eq!(line, "1970-01-01T00:00:05.000Z (7 min ago)  imu  imu_driver (7) was killed by SIGKILL");
    }
}
