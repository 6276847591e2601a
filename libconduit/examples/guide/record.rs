//! Records the messages of all topics to a file: topic, time stamp, length and bytes of each.

use std::error::Error;
use std::fs::File;
use std::io::Write;

use conduit::Subscriber;

fn main() -> Result<(), Box<dyn Error>> {
    let mut file = File::create(std::env::args().nth(1).ok_or("to which file?")?)?;
    let topics = Subscriber::<[u8]>::builder().any_type(true).copy_samples(true);
    for message in topics.open_all("**")?.iter() {
        let message = message?;
        writeln!(file, "{} {:?} {}", message.topic(), message.stamp_ns(), message.len())?;
        file.write_all(&message)?;
    }
    Ok(())
}
