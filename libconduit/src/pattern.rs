//! Patterns of topic names.

use std::fmt;
use std::str::FromStr;

use glob::Pattern;

use crate::TopicName;

/// A pattern of topic names.
///
/// | pattern | matches |
/// |---|---|
/// | `*` | any characters within one segment |
/// | `?` | one character |
/// | `[a-z]`, `[!a-z]` | one character in, or outside, the set |
/// | `**` | any number of whole segments; at the end of a pattern, at least one |
///
/// ```
/// use conduit::{TopicName, TopicPattern};
///
/// let cameras: TopicPattern = "camera/**".parse()?;
/// assert!(cameras.matches(&TopicName::new("camera/front/raw")?));
/// assert!(!cameras.matches(&TopicName::new("lidar")?));
///
/// let error = TopicPattern::new("camera//raw").unwrap_err();
/// assert_eq!(error.at(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// The crate `glob` matches single segments only, where it backtracks over at most one `*`. Over a
// whole name it would try every combination; `matches` takes at most the product of both lengths,
// whatever the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`
    AnyNumber,
    One(Pattern),
}

/// Why a text is not a pattern of topic names.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?} is invalid at byte {at}: {reason}")]
pub struct TopicPatternError {
    pattern: String,
    at: usize,
    reason: String,
}

impl TopicPatternError {
    /// Offset of the first invalid byte, from 0.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl TopicPattern {
    /// The longest pattern, in bytes.
    pub const MAX_LEN: usize = 1000;

    /// Parses a pattern of at most [`MAX_LEN`](Self::MAX_LEN) bytes.
    ///
    /// # Errors
    ///
    /// If the pattern is too long, has an empty segment, a character that no topic name contains, a
    /// `-` at the start of a segment, a `**` that is not a whole segment, or an unclosed or empty
    /// `[]`.
    pub fn new(text: &str) -> Result<Self, TopicPatternError> {
        let error = |at, reason: &str| {
            // The text may be as long as a message of the registry's protocol.
            let pattern = text.chars().take(TopicName::MAX_LEN).collect();
            Err(TopicPatternError { pattern, at, reason: reason.into() })
        };
        if text.len() > Self::MAX_LEN {
            return error(Self::MAX_LEN, &format!("it has {} bytes, the limit is {}", text.len(), Self::MAX_LEN));
        }
        let mut segments = Vec::new();
        let mut start = 0;
        for segment in text.split('/') {
            if segment.is_empty() {
                return error(start, "empty segment; write `a/b`, without leading, trailing or double `/`");
            }
            if let Some((at, reason)) = defect_of(segment) {
                return error(start + at, &reason);
            }
            segments.push(match segment {
                "**" => Segment::AnyNumber,
                one => match Pattern::new(one) {
                    Ok(pattern) => Segment::One(pattern),
                    Err(defect) => return error(start + defect.pos, defect.msg),
                },
            });
            start += segment.len() + 1;
        }
        Ok(Self { text: text.into(), segments })
    }

    /// Whether the pattern matches a topic's whole name.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let names: Vec<&str> = topic.as_str().split('/').collect();
        let (mut at, mut name) = (0, 0);
        // Backtracking to the last `**` suffices: an earlier one cannot make better use of a
        // segment.
        let mut last_any = None;
        loop {
            match self.segments.get(at) {
                Some(Segment::AnyNumber) if at + 1 == self.segments.len() && name < names.len() => return true,
                Some(Segment::AnyNumber) if at + 1 < self.segments.len() => {
                    last_any = Some((at, name));
                    at += 1;
                    continue;
                }
                Some(Segment::One(pattern)) if names.get(name).is_some_and(|name| pattern.matches(name)) => {
                    (at, name) = (at + 1, name + 1);
                    continue;
                }
                None if name == names.len() => return true,
                _ => {}
            }
            let Some((any, taken)) = last_any.filter(|(_, taken)| *taken < names.len()) else { return false };
            last_any = Some((any, taken + 1));
            (at, name) = (any + 1, taken + 1);
        }
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Rejects what the crate `glob` accepts but no topic name can match, and what it reports without a
/// remedy.
fn defect_of(segment: &str) -> Option<(usize, String)> {
    if segment.starts_with('-') {
        return Some((0, "no segment of a topic name begins with `-`".into()));
    }
    if let Some(at) = segment.find("**").filter(|_| segment != "**") {
        return Some((at, "`**` stands for whole segments; write `a/**/b`, or `*` within a segment".into()));
    }
    let mut set_start = None;
    for (at, character) in segment.char_indices() {
        match (set_start, character) {
            (_, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-') | (None, '*' | '?') => {}
            (None, '[') => set_start = Some(at),
            (Some(start), '!') if at == start + 1 => {}
            (Some(start), ']') => {
                if matches!(&segment[start..at], "[" | "[!") {
                    return Some((start, "`[]` matches no character; write `[a-z]` or leave it out".into()));
                }
                set_start = None;
            }
            (_, character) => {
                let reason = "is in no topic name; allowed are A-Z a-z 0-9 _ - / and the wildcards * ** ? [a-z]";
                return Some((at, format!("{character:?} {reason}")));
            }
        }
    }
    set_start.map(|at| (at, "`[` has no `]`; write `[a-z]`".into()))
}

impl FromStr for TopicPattern {
    type Err = TopicPatternError;

    fn from_str(text: &str) -> Result<Self, TopicPatternError> {
        Self::new(text)
    }
}

impl AsRef<str> for TopicPattern {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

crate::error_text::debug_as_display!(TopicPatternError);

#[cfg(test)]
mod tests;
