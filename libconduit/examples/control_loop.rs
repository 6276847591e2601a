//! Acts a thousand times a second on the latest measurements, however often they come.
//!
//!     cargo run --example control_loop [ROUNDS]

mod imu;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use conduit::{ShmRegion, Start, Subscriber, WaitSet};
use imu::{Imu, TOPIC};

const PERIOD: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match &arguments[..] {
        [] => Some(u64::MAX),
        [count] => count.parse().ok(),
        _ => None,
    };
    let Some(rounds) = rounds else {
        let _ = writeln!(stderr(), "usage: control_loop [ROUNDS]");
        return ExitCode::from(2);
    };
    if let Err(error) = control(rounds) {
        let _ = writeln!(stderr(), "control_loop: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn control(rounds: u64) -> Result<(), Box<dyn Error>> {
    if !ShmRegion::wait_until_exists_for(TOPIC, PATIENCE)? {
        return Err(format!("no topic \"{TOPIC}\" within {PATIENCE:?}; run the example imu_publisher").into());
    }
    let mut imu = Subscriber::<Imu>::builder().start(Start::Latest).open(TOPIC)?;
    let (mut set, mut command) = (WaitSet::new(), 0.0);
    set.add_interval(PERIOD);
    for _ in 0..rounds {
        drop(set.wait()?); // until the next period: the timer does not drift
        if let Some(measured) = imu.latest_copy()? {
            command = -measured.gyro[0];
        }
        actuate(command);
    }
    let (received, skipped) = (imu.received(), imu.skipped());
    writeln!(stdout(), "commanded {command:.3}, used {received} measurements, skipped {skipped}")?;
    Ok(())
}

/// What a robot would do with it.
fn actuate(command: f64) {
    std::hint::black_box(command);
}
