//! Texts that are safe to print and to paste into a shell.

use std::fmt::Write as _;
use std::path::Path;

use conduit::internal::foreign_text::{clean_lines, is_shown};

/// A text as one line: names of files and programs must not control the terminal.
pub(super) fn printable(text: &str) -> String {
    clean_lines(&text.replace('\n', r"\x0a"))
}

/// A path, quoted for a shell if necessary.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+,:=@%".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else if !text.chars().all(is_shown) {
        let escaped = text.chars().fold(String::new(), |mut escaped, char| {
            match char {
                '\'' | '\\' => escaped.extend(['\\', char]),
                char if !is_shown(char) => {
                    let mut bytes = [0; 4];
                    for byte in char.encode_utf8(&mut bytes).bytes() {
                        let _ = write!(escaped, "\\x{byte:02x}");
                    }
                }
                char => escaped.push(char),
            }
            escaped
        });
        format!("$'{escaped}'")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        for (path, expected) in [
            ("/dev/shm/conduit_a.b", "/dev/shm/conduit_a.b"),
            ("/dev/shm/conduit_a b;c", "'/dev/shm/conduit_a b;c'"),
            ("a'b", r"'a'\''b'"),
            ("a'\nb\\", r"$'a\'\x0ab\\'"),
            ("a\u{202e}b", r"$'a\xe2\x80\xaeb'"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
