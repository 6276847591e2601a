//! Prints a topic, whoever publishes it.

use std::error::Error;
use std::io::{Write, stdout};

use conduit::Subscriber;

fn main() -> Result<(), Box<dyn Error>> {
    for sample in Subscriber::<[f64; 6]>::builder().follow().open("imu")?.iter() {
        writeln!(stdout(), "{:?}", *sample?)?;
    }
    Ok(())
}
