//! Computes a command from the latest measurement, a thousand times a second.

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Duration;

use conduit::{Subscriber, WaitSet};

fn main() -> Result<(), Box<dyn Error>> {
    let mut imu = Subscriber::<[f64; 6]>::builder().follow().open("imu")?;
    let mut set = WaitSet::new();
    set.add_interval(Duration::from_millis(1));
    loop {
        drop(set.wait()?);
        let Some(measured) = imu.latest_copy()? else { continue };
        writeln!(stdout(), "command {:.3}", -measured[0])?;
    }
}
