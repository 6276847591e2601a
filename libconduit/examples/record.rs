//! Records the messages of all topics, or of those that match a pattern: of each its topic, time
//! stamp and length, and then its bytes.
//!
//!     cargo run --example record FILE [PATTERN [MESSAGES]]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write, stderr, stdout};
use std::process::ExitCode;

use conduit::{PatternEvent, Start, Subscriber};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, pattern, messages) = match &arguments[..] {
        [file] => (file.as_str(), "**", Some(u64::MAX)),
        [file, pattern] => (file.as_str(), pattern.as_str(), Some(u64::MAX)),
        [file, pattern, messages] => (file.as_str(), pattern.as_str(), messages.parse().ok()),
        _ => ("", "", None),
    };
    let Some(messages) = messages else {
        let _ = writeln!(stderr(), "usage: record FILE [PATTERN [MESSAGES]]");
        return ExitCode::from(2);
    };
    if let Err(error) = record(file, pattern, messages) {
        let _ = writeln!(stderr(), "record: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn record(path: &str, pattern: &str, messages: u64) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    let topics = Subscriber::<[u8]>::builder().any_type(true).start(Start::Oldest);
    // A recorder may be stopped at any moment, and must not withhold slots then.
    let mut topics = topics.copy_samples(true).open_all(pattern)?;
    while topics.received() < messages {
        match topics.recv_event()? {
            PatternEvent::Sample(message) => {
                let stamp_ns = message.stamp_ns().unwrap_or(0);
                writeln!(file, "{} {stamp_ns} {}", message.topic(), message.len())?;
                file.write_all(&message)?;
            }
            PatternEvent::Connected { topic, publisher } => writeln!(stdout(), "{topic}: {publisher}")?,
            PatternEvent::Lost { topic, how, .. } => writeln!(stdout(), "{topic}: its publisher {how}")?,
            PatternEvent::NotFollowed { reason, .. } => writeln!(stderr(), "record: {reason}")?,
            _ => {}
        }
    }
    file.flush()?;
    for source in topics.sources() {
        writeln!(stdout(), "{}: received {}, lost {}", source.topic, source.received, source.lost)?;
    }
    Ok(())
}
