//! Stops the motors whenever measurements have been missing for a tenth of a second.

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Duration;

use conduit::{RecvError, Subscriber};

fn main() -> Result<(), Box<dyn Error>> {
    let imu = Subscriber::<[f64; 6]>::builder().follow().deadline(Duration::from_millis(100));
    for _ in imu.open("imu")?.iter().filter(|it| matches!(it, Err(RecvError::Overdue { .. }))) {
        writeln!(stdout(), "stop the motors")?;
    }
    Ok(())
}
