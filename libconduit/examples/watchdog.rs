//! Tells when measurements fail to come, and when they come again.
//!
//!     cargo run --example watchdog [SILENCES]

mod imu;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use conduit::{Subscriber, TopicEvent};
use imu::{Imu, TOPIC};

/// The publisher sends every 10 ms.
const DEADLINE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let silences = match &arguments[..] {
        [] => Some(u64::MAX),
        [count] => count.parse().ok(),
        _ => None,
    };
    let Some(silences) = silences else {
        let _ = writeln!(stderr(), "usage: watchdog [SILENCES]");
        return ExitCode::from(2);
    };
    if let Err(error) = watch(silences) {
        let _ = writeln!(stderr(), "watchdog: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn watch(mut silences: u64) -> Result<(), Box<dyn Error>> {
    let mut imu = Subscriber::<Imu>::builder().follow().deadline(DEADLINE).open(TOPIC)?;
    while silences > 0 {
        match imu.recv_event()? {
            TopicEvent::Overdue { silence } => writeln!(stdout(), "nothing for {silence:.0?}: stopping the motors")?,
            TopicEvent::Resumed { after } => {
                writeln!(stdout(), "measurements again, after {after:.0?}")?;
                silences -= 1;
            }
            _ => {}
        }
    }
    Ok(())
}
