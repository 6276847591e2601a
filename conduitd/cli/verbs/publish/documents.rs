//! Splits a stream into documents: messages as `conduit echo` prints them.

use std::io::BufRead;

use super::input::{InputError, read_line};

/// Reads documents of YAML or JSON.
///
/// `---` on a line of its own ends a document. One that begins with a bracket also ends with the
/// line on which the bracket is closed: so a line of JSON is a document. If messages are single
/// numbers, each line is a document.
pub(super) struct Documents<R> {
    input: R,
    lines_are_documents: bool,
    /// Longest document in bytes.
    limit: usize,
    line: Vec<u8>,
    /// The start of a document that was on the line that ended the one before.
    next: Vec<u8>,
}

impl<R: BufRead> Documents<R> {
    pub(super) fn new(input: R, lines_are_documents: bool, limit: usize) -> Self {
        Self { input, lines_are_documents, limit, line: Vec::new(), next: Vec::new() }
    }

    /// Reads the next document into `document`. Returns false at the end of the input.
    pub(super) fn read(&mut self, document: &mut Vec<u8>) -> Result<bool, InputError> {
        document.clear();
        let mut part = Part { text: document, brackets: Brackets::default(), has_content: false };
        let first = std::mem::take(&mut self.next);
        let mut is_over = !first.is_empty() && part.add(&first);
        while !is_over {
            if !read_line(&mut self.input, &mut self.line, self.limit)? {
                return Ok(part.has_content);
            }
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            let rest = line.strip_prefix(b"---");
            let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with(b" ")).map(<[u8]>::trim_ascii_end);
            if rest.is_some() || line.trim_ascii_end() == b"..." {
                let rest = rest.unwrap_or_default();
                if part.has_content {
                    self.next = rest.to_vec();
                    return Ok(true);
                }
                part.text.clear();
                is_over = part.add(rest);
            } else {
                is_over = part.add(line);
            }
            is_over |= self.lines_are_documents && part.has_content;
            if part.text.len() > self.limit {
                return Err(InputError::TooLong(part.text.len()));
            }
        }
        Ok(true)
    }
}

/// A document, as far as it was read.
struct Part<'a> {
    text: &'a mut Vec<u8>,
    brackets: Brackets,
    /// Whether there is more than comments.
    has_content: bool,
}

impl Part<'_> {
    /// Adds a line. Returns whether it ends the document.
    fn add(&mut self, line: &[u8]) -> bool {
        let had_content = self.has_content;
        self.has_content |= is_content(line);
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.brackets.read(line, !had_content)
    }
}

/// Whether there is more than a comment on a line.
fn is_content(line: &[u8]) -> bool {
    !matches!(line.trim_ascii_start(), [] | [b'#', ..])
}

/// Finds the end of a document that begins with a bracket.
#[derive(Default)]
struct Brackets {
    is_first: bool,
    depth: usize,
    quote: Option<u8>,
}

impl Brackets {
    /// Takes a line. Returns whether it closes the bracket with which the document begins.
    fn read(&mut self, line: &[u8], is_start: bool) -> bool {
        if is_start {
            self.is_first = matches!(line.trim_ascii_start(), [b'{' | b'[', ..]);
        }
        if !self.is_first {
            return false;
        }
        // Where a value may begin: there alone, a quote is one.
        let (mut may_begin, mut before) = (true, b' ');
        let mut bytes = line.iter().copied();
        while let Some(byte) = bytes.next() {
            match (self.quote, byte) {
                (Some(b'"'), b'\\') => drop(bytes.next()),
                // A quote that is doubled ends and begins at once.
                (Some(quote), _) if byte == quote => self.quote = None,
                (Some(_), _) => {}
                (None, b'#') if before.is_ascii_whitespace() => break,
                (None, b'"' | b'\'') if may_begin || before == byte => self.quote = Some(byte),
                (None, b'{' | b'[') => self.depth += 1,
                (None, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                (None, _) => {}
            }
            may_begin = b"{[,:".contains(&byte) || may_begin && byte.is_ascii_whitespace();
            before = byte;
        }
        self.depth == 0 && self.quote.is_none() && !line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &str, lines_are_documents: bool) -> Vec<String> {
        let mut documents = Documents::new(input.as_bytes(), lines_are_documents, 1000);
        let (mut document, mut found) = (Vec::new(), Vec::new());
        while documents.read(&mut document).unwrap() {
            found.push(String::from_utf8(document.clone()).unwrap());
        }
        found
    }

    #[test]
    fn dashes_end_documents() {
        let echoed = "#7: 4 bytes\na: 1\nb:\n- {x: 1}\n---\n#8: 4 bytes\na: 2\n---\n";
        assert_eq!(split(echoed, false), ["#7: 4 bytes\na: 1\nb:\n- {x: 1}\n", "#8: 4 bytes\na: 2\n"]);
        assert_eq!(split("---\na: 1\n...\n---\n\n---\n--- a: 2\n---", false), ["\na: 1\n", " a: 2\n"]);
        assert_eq!(
            split("a: 1\n--- {a: 2}\n--- {a: 3}\r\na: 4", false),
            ["a: 1\n", " {a: 2}\n", " {a: 3}\n", "a: 4\n"]
        );
        assert_eq!(split("a: 1\n----\nb: ---", false), ["a: 1\n----\nb: ---\n"]);
        assert_eq!(split("", false), [""; 0]);
        assert_eq!(split("# nothing\n\n", false), [""; 0]);
    }

    #[test]
    fn a_closed_bracket_ends_a_document() {
        let lines = "{\"a\": 1}\n{\"a\": 2}\n[1, 2]\n---\n\n{a: 3,\n b: [4,\n 5]} # }\n{}\n";
        let expected = ["{\"a\": 1}\n", "{\"a\": 2}\n", "[1, 2]\n", "\n\n{a: 3,\n b: [4,\n 5]} # }\n", "{}\n"];
        assert_eq!(split(lines, false), expected);
        for text in ["{a: '}', b: \"}\\\"}\"}\n", "{a: it's, b: don't}\n", "{a: 'it''s }', b: 1}\n", "{a: b#}, c: 1}\n"]
        {
            assert_eq!(split(&format!("{text}{{}}\n"), false).len(), 2, "{text}");
        }
        assert_eq!(split("{a: '\n}\n'}\n", false), ["{a: '\n}\n'}\n"]);
        assert_eq!(split("a: {b: 1}\nc: 2\n", false), ["a: {b: 1}\nc: 2\n"], "it begins without one");
    }

    #[test]
    fn numbers_are_one_to_a_line() {
        assert_eq!(split("1\n# two\n2\n\n---\n3", true), ["1\n", "# two\n2\n", "\n3\n"]);
        assert_eq!(split("1\n2\n", false), ["1\n2\n"]);
    }

    #[test]
    fn documents_are_bounded() {
        let mut documents = Documents::new(std::io::BufReader::new(std::io::repeat(b'\n')), false, 1000);
        assert!(matches!(documents.read(&mut Vec::new()), Err(InputError::TooLong(_))));
    }
}
