//! JSON for a terminal and for programs: what a terminal would not show is written as JSON's own
//! escapes, so that strings control nothing and lose nothing.

use std::fmt::Write as _;
use std::io::{self, Write};

use conduit::internal::foreign_text::is_shown;
use serde::Serialize;

/// Writes a value as indented JSON.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", shown(serde_json::to_string_pretty(value)?))
}

/// Writes a value as one line of JSON.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", shown(serde_json::to_string(value)?))
}

/// Outside its strings, JSON is visible ASCII and line ends.
fn shown(json: String) -> String {
    let is_as_it_is = |c: char| c == '\n' || is_shown(c);
    if json.chars().all(is_as_it_is) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if is_as_it_is(c) {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_nothing_controls_the_terminal() {
        let text = "a\x1b[2J\x7f\u{9b}\u{202e}\u{2028}\u{e0041}\u{fffd}ä🦀\n\"\\";
        let mut out = Vec::new();
        json(&mut out, &serde_json::json!({ text: text })).unwrap();
        json_line(&mut out, &text).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.chars().all(|c| c == '\n' || is_shown(c)), "{out}");
        let escaped = r#""a\u001b[2J\u007f\u009b\u202e\u2028\udb40\udc41�ä🦀\n\"\\""#;
        assert_eq!(out, format!("{{\n  {escaped}: {escaped}\n}}\n{escaped}\n"));
        assert_eq!(serde_json::from_str::<String>(out.lines().last().unwrap()).unwrap(), text);
    }
}
