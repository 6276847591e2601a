//! Publishes a synthetic inertial measurement 100 times a second.
//!
//!     cargo run --example imu_publisher [MESSAGES]

mod imu;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use conduit::{LoanError, Publisher};
use imu::{Imu, TOPIC};

const PERIOD: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let messages = match &arguments[..] {
        [] => Some(u64::MAX),
        [count] => count.parse().ok(),
        _ => None,
    };
    let Some(messages) = messages else {
        let _ = writeln!(stderr(), "usage: imu_publisher [MESSAGES]");
        return ExitCode::from(2);
    };
    if let Err(error) = publish(messages) {
        let _ = writeln!(stderr(), "imu_publisher: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn publish(messages: u64) -> Result<(), Box<dyn Error>> {
    let mut publisher = Publisher::<Imu>::create(TOPIC)?;
    writeln!(stdout(), "publishing {}", publisher.path().display())?;
    let start = Instant::now();
    // Counting from the start, not from the last message, keeps the rate exact.
    let mut next = start;
    for _ in 0..messages {
        match publisher.loan() {
            Ok(mut loan) => {
                *loan = measure(start.elapsed());
                loan.publish();
            }
            // A measurement is worthless by the time a slot is free.
            Err(error @ LoanError::AllSlotsHeld { .. }) => drop(writeln!(stderr(), "imu_publisher: {error}")),
            Err(error) => return Err(error.into()),
        }
        next += PERIOD;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    writeln!(stdout(), "published {}", publisher.published())?;
    Ok(())
}

/// A body that rocks about its x axis.
fn measure(time: Duration) -> Imu {
    let (amplitude, rate) = (0.2, std::f64::consts::TAU);
    let phase = rate * time.as_secs_f64();
    let (tilt, tilt_rate) = (amplitude * phase.sin(), amplitude * rate * phase.cos());
    Imu { gyro: [tilt_rate, 0.0, 0.0], acceleration: [0.0, 9.81 * tilt.sin(), 9.81 * tilt.cos()] }
}
