//! Text that another process has chosen: names of programs and types, what a registry replies, what
//! a client asks.
//!
//! It is for people, who read it on a terminal, in a log or in a table, and none of it may control
//! any of these. Whatever enters from another process therefore enters through this module. What is
//! not shown as one or two columns of text is written as an escape: `\x1b` for a control character
//! below 128 and for a byte that is not UTF-8, `\u{202e}` for any other character. A text that
//! needs no escape is unchanged, so cleaning twice is cleaning once.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Most characters of a name: as many as the longest name of a topic has.
const MAX_NAME_CHARS: usize = 200;
/// Most bytes of any text: as many as the longest path has.
const MAX_BYTES: usize = 4096;
/// Most combining marks on one character: some languages need three.
const MAX_MARKS: usize = 3;
/// Ends a text that was cut.
const CUT: char = '…';

/// A text as one line: no control characters, nothing invisible, nothing that directs writing, no
/// spaces but single ones inside, at most 4096 bytes. It cannot forge a row or a column.
pub fn clean(text: impl AsRef<[u8]>) -> String {
    cleaned(text.as_ref(), MAX_BYTES)
}

/// As [`clean`], and at most 200 characters.
pub fn clean_name(text: impl AsRef<[u8]>) -> String {
    cleaned(text.as_ref(), MAX_NAME_CHARS)
}

/// Lines of this program's own, which may have foreign text inside: line ends and spaces stay, and
/// nothing is cut.
pub fn clean_lines(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.into();
    }
    let mut cleaned = String::new();
    for c in text.chars() {
        if is_shown(c) || c == '\n' { cleaned.push(c) } else { escape(&mut cleaned, c) }
    }
    cleaned
}

/// Cleans every string of a JSON value, and the names of members.
pub fn clean_json(value: &mut Value) {
    match value {
        Value::String(text) => make_clean(text, MAX_BYTES),
        Value::Array(values) => values.iter_mut().for_each(clean_json),
        Value::Object(members) => {
            members.values_mut().for_each(clean_json);
            if members.keys().any(|name| !is_plain(name)) {
                *members = std::mem::take(members).into_iter().map(|(name, value)| (clean(name), value)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether [`clean_json`] certainly leaves a value unchanged, by the JSON text of the value. For
/// most texts it tells so without decoding them; it may not tell so for some that are clean.
pub(crate) fn is_surely_clean_json(json: &[u8]) -> bool {
    let (mut before, mut last_quote) = (b' ', 0);
    json.iter().enumerate().all(|(at, &byte)| {
        let is_plain = match byte {
            // No string has a space at its begin or end, or is too long.
            b'"' => before != b' ' && at - std::mem::replace(&mut last_quote, at) <= MAX_BYTES,
            b' ' => !matches!(before, b' ' | b'"'),
            b'\\' => false,
            _ => matches!(byte, b'!'..=b'~'),
        };
        before = byte;
        is_plain
    })
}

/// Whether [`clean`] leaves a text unchanged.
pub fn is_clean(text: &str) -> bool {
    is_plain(text) || clean(text) == text
}

/// Whether a terminal shows a character in columns of its own, or as a mark on the one before.
pub fn is_shown(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        // Letters and marks that are not shown, although Unicode counts them as such.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => false,
        '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}' => false,
        _ => is_printable(c),
    }
}

/// A member of a reply that is a name.
pub(crate) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut name = String::deserialize(deserializer)?;
    make_clean(&mut name, MAX_NAME_CHARS);
    Ok(name)
}

/// A member of a reply that is a name or missing.
pub(crate) fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let mut name = Option::<String>::deserialize(deserializer)?;
    name.iter_mut().for_each(|name| make_clean(name, MAX_NAME_CHARS));
    Ok(name)
}

fn make_clean(text: &mut String, max_chars: usize) {
    if !is_plain(text) {
        *text = cleaned(text.as_bytes(), max_chars);
    }
}

/// Whether a text is clean at first sight: short, visible ASCII, and single spaces inside.
fn is_plain(text: &str) -> bool {
    let is_visible = |byte: u8| matches!(byte, b'!'..=b'~');
    let mut was_visible = false;
    let is_plain = text.len() <= MAX_NAME_CHARS
        && text.bytes().all(|byte| {
            let follows = is_visible(byte) || (byte == b' ' && was_visible);
            was_visible = is_visible(byte);
            follows
        });
    is_plain && (was_visible || text.is_empty())
}

fn cleaned(text: &[u8], max_chars: usize) -> String {
    let mut out = CleanText { text: String::new(), chars: 0, max_chars, cut_at: 0 };
    let mut last = ' ';
    let mut marks = MAX_MARKS;
    for chunk in text.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            let is_mark = is_mark(c);
            marks = if is_mark {
                marks + 1
            } else if c == ' ' {
                MAX_MARKS
            } else {
                0
            };
            let is_between = |next: Option<&char>| last != ' ' && next.is_none_or(|next| *next != ' ');
            let is_last = chars.peek().is_none() && chunk.invalid().is_empty();
            let stays = match c {
                ' ' => is_between(chars.peek()) && !is_last,
                _ if is_mark => marks <= MAX_MARKS,
                _ => is_shown(c),
            };
            last = c;
            if !(if stays { out.push(c) } else { out.escape(c) }) {
                return out.cut();
            }
        }
        for byte in chunk.invalid() {
            (last, marks) = ('\\', 0);
            if !out.add(|text| write!(text, "\\x{byte:02x}")) {
                return out.cut();
            }
        }
    }
    out.text
}

/// A text within its bounds, so far.
struct CleanText {
    text: String,
    chars: usize,
    max_chars: usize,
    /// Where to cut if more comes than there may be.
    cut_at: usize,
}

impl CleanText {
    fn push(&mut self, c: char) -> bool {
        self.add(|text| text.write_char(c))
    }

    fn escape(&mut self, c: char) -> bool {
        self.add(|text| {
            escape(text, c);
            Ok(())
        })
    }

    /// Adds a character or an escape. Returns whether there was room for it.
    fn add(&mut self, add: impl FnOnce(&mut String) -> std::fmt::Result) -> bool {
        let before = self.text.len();
        // Writing to a string cannot fail.
        let _ = add(&mut self.text);
        self.chars += self.text[before..].chars().count();
        if self.chars < self.max_chars && self.text.len() + CUT.len_utf8() <= MAX_BYTES {
            self.cut_at = self.text.len();
        }
        self.chars <= self.max_chars && self.text.len() <= MAX_BYTES
    }

    fn cut(mut self) -> String {
        self.text.truncate(self.cut_at);
        self.text.push(CUT);
        self.text
    }
}

fn escape(text: &mut String, c: char) {
    let _ = match c {
        '\0'..='\u{7f}' => write!(text, "\\x{:02x}", u32::from(c)),
        _ => write!(text, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// Whether a character is neither unassigned, private, a control, a format nor a separator: the
/// standard library has the table.
fn is_printable(c: char) -> bool {
    let mut text = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    // Only at the start of a text does it escape combining marks.
    str::from_utf8(&text[..len]).is_ok_and(|text| text.escape_debug().skip(1).eq([c]))
}

/// Whether a character is shown as a mark on the one before it.
fn is_mark(c: char) -> bool {
    !c.is_ascii() && is_shown(c) && c.escape_debug().count() > 1
}

#[cfg(test)]
mod tests;
