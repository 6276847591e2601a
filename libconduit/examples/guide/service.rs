//! Prints a topic until SIGTERM or Ctrl-C stops it.

use std::error::Error;
use std::io::{Write, stdout};

use conduit::{Stop, Subscriber};

fn main() -> Result<(), Box<dyn Error>> {
    let stop = Stop::on_termination()?;
    for sample in Subscriber::<[f64; 6]>::builder().follow().stop(&stop).open("imu")?.iter() {
        writeln!(stdout(), "{:?}", *sample?)?;
    }
    writeln!(stdout(), "stopped")?;
    Ok(())
}
