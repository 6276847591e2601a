//! Entries of the journal, in its [native protocol](https://systemd.io/JOURNAL_NATIVE_PROTOCOL/):
//! fields that `journalctl` can select by.

use std::fmt;
use std::sync::Arc;

use conduit::internal::foreign_text::clean_lines;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::queue::LogQueue;

/// The longest value of a field in bytes: an entry is a datagram, whose length is limited.
const MAX_VALUE_BYTES: usize = 4096;

/// Writes events as entries of the journal.
pub(super) struct JournalLayer(pub(super) Arc<LogQueue>);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = JournalEntry::new(*metadata.level());
        entry.put("TARGET", metadata.target());
        if let Some((file, line)) = metadata.file().zip(metadata.line()) {
            entry.put("CODE_FILE", file);
            entry.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        self.0.push(entry.0);
    }
}

/// The begin of a text, of at most this many bytes.
pub(super) fn cut(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// An entry with nothing but a message.
pub(super) fn plain_entry(level: Level, message: &str) -> Vec<u8> {
    let mut entry = JournalEntry::new(level);
    entry.put("MESSAGE", message);
    entry.0
}

struct JournalEntry(Vec<u8>);

impl JournalEntry {
    fn new(level: Level) -> Self {
        let mut entry = Self(Vec::with_capacity(512));
        entry.put("PRIORITY", priority(level));
        entry.put("SYSLOG_IDENTIFIER", "conduitd");
        entry
    }

    fn put(&mut self, name: &str, value: &str) {
        let value = clean_lines(cut(value, MAX_VALUE_BYTES));
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Its length in front: no value can look like another field.
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for JournalEntry {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name().replace('.', "_").to_ascii_uppercase();
        self.put(&name, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// See `syslog(3)`.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_forge_fields_and_are_cut() {
        let mut entry = JournalEntry(Vec::new());
        entry.put("MESSAGE", "a\nPRIORITY=0");
        entry.put("CONDUIT_PROGRAM", "\x1b[2J\u{202e}");
        entry.put("CONDUIT_TOPIC", "scan");
        assert_eq!(
            entry.0,
            b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nCONDUIT_PROGRAM=\\x1b[2J\\u{202e}\nCONDUIT_TOPIC=scan\n"
        );
        let mut entry = JournalEntry(Vec::new());
        entry.put("A", &"ü".repeat(MAX_VALUE_BYTES));
        assert_eq!(entry.0.len(), MAX_VALUE_BYTES + 3);
        entry.put("A", &format!("x{}", "ü".repeat(MAX_VALUE_BYTES)));
        assert_eq!(entry.0.len(), 2 * (MAX_VALUE_BYTES + 3) - 1, "not within a character");
    }
}
