//! Prints inertial measurements, whenever there is a publisher, and what happens in between.
//!
//!     cargo run --example follow [MESSAGES]

mod imu;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use conduit::{RecvError, Subscriber, TopicEvent};
use imu::{Imu, TOPIC};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let messages = match &arguments[..] {
        [] => Some(u64::MAX),
        [count] => count.parse().ok(),
        _ => None,
    };
    let Some(messages) = messages else {
        let _ = writeln!(stderr(), "usage: follow [MESSAGES]");
        return ExitCode::from(2);
    };
    if let Err(error) = follow(messages) {
        let _ = writeln!(stderr(), "follow: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn follow(messages: u64) -> Result<(), Box<dyn Error>> {
    let mut imu = Subscriber::<Imu>::builder().follow().open(TOPIC)?;
    while imu.received() < messages {
        match imu.recv_event() {
            Ok(TopicEvent::Sample(sample)) => {
                let (epoch, sequence) = (sample.epoch(), sample.sequence());
                writeln!(stdout(), "{epoch}#{sequence} gyro {:.3?} rad/s", sample.gyro)?;
            }
            Ok(TopicEvent::Connected { publisher }) => writeln!(stdout(), "connected to {publisher}")?,
            Ok(TopicEvent::Lost { how, certificate }) => {
                let signal = certificate.and_then(|certificate| certificate.signal);
                let cause = signal.map_or_else(String::new, |signal| format!(" by signal {signal}"));
                writeln!(stdout(), "the publisher {how}{cause}; waiting for the next one")?;
            }
            Ok(_) => {}
            // The subscriber waits for another one.
            Err(error @ (RecvError::TypeChanged { .. } | RecvError::NotFollowed { .. })) => {
                writeln!(stderr(), "follow: {error}")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    writeln!(stdout(), "received {} from {} publishers, lost {}", imu.received(), imu.epoch(), imu.lost())?;
    Ok(())
}
