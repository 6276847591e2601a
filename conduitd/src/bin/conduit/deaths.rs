//! `conduit deaths`: which publishers died of late, and how.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args as ClapArgs;
use conduit::Domain;
use conduit::protocol::Event;
use conduit::registry::Client;

use crate::failure::Failure;
use crate::output;
use crate::watch::sentence;

/// Print the last 1,000 deaths of publishers and of raw regions' creators, oldest first.
///
/// The registry keeps them in memory: it has none from before its own start. Needs the registry.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  conduit deaths --json | jq -r 'select(.topic == \"imu\") | .death.signal'")]
pub(crate) struct Args {
    /// Print a JSON object for every death
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let deaths = Client::connect(&Domain::from_env())?.deaths()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = output::stdout();
    for event in deaths {
        let line = if args.json { serde_json::to_string(&event).map_err(Failure::new)? } else { line(&event, now) };
        writeln!(out, "{line}").map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)
}

/// A death as one line: how long ago, topic, process, and what is known of it.
fn line(event: &Event, now: Duration) -> String {
    let process = event.process.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    let told = event.death.as_ref().map(sentence).unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(event.time_ms));
    format!("{:>8} ago  {}  {process}: {told}", coarse(age), event.topic)
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
    use conduit::protocol::{Death, EventKind, Process};

    use super::*;

    #[test]
    fn a_death_is_a_line() {
        let process = Some(Process { pid: 7, uid: 0, program: "imu_driver".into() });
        let death = Some(Death { signal: Some(9), ..Death::default() });
        let event = Event { kind: EventKind::Died, topic: "imu".into(), time_ms: 5_000, process, death };
        let line = line(&event, Duration::from_secs(5 + 7 * 60));
        assert_eq!(line, "   7 min ago  imu  imu_driver (7): killed by SIGKILL");
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (200_000, "2 days")] {
            assert_eq!(coarse(Duration::from_secs(seconds)), text);
        }
    }
}
