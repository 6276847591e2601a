//! Prints inertial measurements as they come, until their publisher ends.
//!
//!     cargo run --example imu_subscriber [MESSAGES]

mod imu;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use conduit::{Gone, RecvError, ShmRegion, Subscriber};
use imu::{Imu, TOPIC};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let messages = match &arguments[..] {
        [] => Some(u64::MAX),
        [count] => count.parse().ok(),
        _ => None,
    };
    let Some(messages) = messages else {
        let _ = writeln!(stderr(), "usage: imu_subscriber [MESSAGES]");
        return ExitCode::from(2);
    };
    if let Err(error) = subscribe(messages) {
        let _ = writeln!(stderr(), "imu_subscriber: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn subscribe(messages: u64) -> Result<(), Box<dyn Error>> {
    if !ShmRegion::wait_until_exists_for(TOPIC, PATIENCE)? {
        return Err(format!("no topic \"{TOPIC}\" within {PATIENCE:?}; run the example imu_publisher").into());
    }
    let mut subscriber = Subscriber::<Imu>::open(TOPIC)?;
    for _ in 0..messages {
        let sample = match subscriber.recv() {
            Ok(sample) => sample,
            Err(RecvError::PublisherGone { how: Gone::Closed, .. }) => break,
            Err(error) => return Err(error.into()),
        };
        let age_us = sample.age().unwrap_or_default().as_micros();
        writeln!(
            stdout(),
            "#{:<6} lost {} age {age_us:>4} us  gyro {:>6.3?} rad/s  acceleration {:>6.3?} m/s²",
            sample.sequence(),
            sample.lost(),
            sample.gyro,
            sample.acceleration
        )?;
    }
    writeln!(stdout(), "received {}, lost {}", subscriber.received(), subscriber.lost())?;
    Ok(())
}
