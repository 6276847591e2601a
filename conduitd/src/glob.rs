//! Patterns of topic names.

use std::fmt;

use conduit::TopicName;
use glob::Pattern;

/// Every message of a client may bring one, and each is kept.
const MAX_BYTES: usize = 1000;

/// A pattern of topic names: `*` and `?` stay within a segment, `**` stands for any number of whole segments, for at
/// least one at the end; `[a-z]` and `[!a-z]` are one character.
///
/// Matching takes at most the product of both lengths, whoever wrote the pattern: the crate `glob` compares segments only,
/// where it never goes back by more than one `*`. Over a whole name it would try all combinations of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicGlob {
    text: Box<str>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    One(Pattern),
}

/// Why a text is no pattern of topic names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("glob {glob:?} is wrong at byte {at}: {reason}")]
pub struct GlobError {
    glob: String,
    /// In bytes from 0.
    pub(crate) at: usize,
    pub(crate) reason: String,
}

impl TopicGlob {
    /// Checks a pattern, of at most 1,000 bytes.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let error = |at, reason: &str| {
            // It may be as long as a message.
            let glob = text.chars().take(TopicName::MAX_LEN).collect();
            Err(GlobError { glob, at, reason: reason.into() })
        };
        if text.len() > MAX_BYTES {
            return error(MAX_BYTES, &format!("it has {} bytes, the limit is {MAX_BYTES}", text.len()));
        }
        let mut segments = Vec::new();
        let mut start = 0;
        for segment in text.split('/') {
            if segment.is_empty() {
                return error(start, "a segment is empty; write `a/b`, without leading, trailing or double `/`");
            }
            if let Some((at, reason)) = fault_of(segment) {
                return error(start + at, &reason);
            }
            segments.push(match segment {
                "**" => Segment::Any,
                one => match Pattern::new(one) {
                    Ok(pattern) => Segment::One(pattern),
                    Err(fault) => return error(start + fault.pos, fault.msg),
                },
            });
            start += segment.len() + 1;
        }
        Ok(Self { text: text.into(), segments })
    }

    /// Whether a topic's name has this pattern.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let names: Vec<&str> = topic.as_str().split('/').collect();
        let (mut at, mut name) = (0, 0);
        // Only the last `**` need ever take more: what it takes, one before it could not put to better use.
        let mut last_any = None;
        loop {
            match self.segments.get(at) {
                Some(Segment::Any) if at + 1 == self.segments.len() && name < names.len() => return true,
                Some(Segment::Any) if at + 1 < self.segments.len() => {
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
}

/// What `glob` would take but no topic's name can have, and what it would only hint at.
fn fault_of(segment: &str) -> Option<(usize, String)> {
    if let Some(at) = segment.find("**").filter(|_| segment != "**") {
        return Some((at, "`**` stands for whole segments; write `a/**/b`, or `*` within a segment".into()));
    }
    let mut class = None;
    for (at, character) in segment.char_indices() {
        match (class, character) {
            (_, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-') | (None, '*' | '?') => {}
            (None, '[') => class = Some(at),
            (Some(start), '!') if at == start + 1 => {}
            (Some(start), ']') => {
                if matches!(&segment[start..at], "[" | "[!") {
                    return Some((start, "`[]` stands for no character; write `[a-z]` or leave it out".into()));
                }
                class = None;
            }
            (_, character) => {
                let reason = "can be in no topic name; allowed are A-Z a-z 0-9 _ - / and the wildcards * ** ? [a-z]";
                return Some((at, format!("{character:?} {reason}")));
            }
        }
    }
    class.map(|at| (at, "`[` has no `]`; write `[a-z]`".into()))
}

impl fmt::Display for TopicGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn matches(glob: &str, topic: &str) -> bool {
        TopicGlob::new(glob).unwrap().matches(&topic.parse().unwrap())
    }

    #[test]
    fn a_star_stays_within_its_segment_and_two_cross() {
        for (glob, yes, no) in [
            ("imu", &["imu"][..], &["imu2", "a/imu", "imu/a", "IMU"][..]),
            ("*", &["imu"], &["a/b"]),
            ("cam*/*t", &["camera/front", "cam/t"], &["camera", "camera/front/left", "camera/frontx", "x/t"]),
            ("camera/**", &["camera/front", "camera/a/b/c"], &["camera", "cameras/front", "a/camera/b"]),
            ("**", &["imu", "a/b/c"], &[]),
            ("**/raw", &["raw", "a/raw", "a/b/raw", "raw/raw"], &["a/raw/b", "xraw"]),
            ("a/**/z", &["a/z", "a/b/z", "a/z/z", "a/z/b/z"], &["a", "a/b", "z/a"]),
            ("a/**/m/**/z", &["a/m/z", "a/m/m/z", "a/x/m/y/z", "a/z/m/z"], &["a/z", "a/m/z/m"]),
            ("**/**", &["a", "a/b"], &[]),
            ("**/a/*", &["a/b", "a/a/a", "x/a/b"], &["a", "a/b/c"]),
            ("lidar[0-3]", &["lidar0", "lidar3"], &["lidar4", "lidar", "lidar01"]),
            ("lidar[!0-3]/?", &["lidar4/a"], &["lidar3/a", "lidar4/ab", "lidar4"]),
        ] {
            for topic in yes {
                assert!(matches(glob, topic), "{glob} matches {topic}");
            }
            for topic in no {
                assert!(!matches(glob, topic), "{glob} does not match {topic}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let whole = "`**` stands for whole segments; write `a/**/b`, or `*` within a segment";
        let empty = "a segment is empty; write `a/b`, without leading, trailing or double `/`";
        let unclosed = "`[` has no `]`; write `[a-z]`";
        let nothing = "`[]` stands for no character; write `[a-z]` or leave it out";
        let character = |character: &str| {
            format!(
                "'{character}' can be in no topic name; allowed are A-Z a-z 0-9 _ - / and the wildcards * ** ? [a-z]"
            )
        };
        for (glob, at, reason) in [
            ("", 0, empty),
            ("/a", 0, empty),
            ("a//b", 2, empty),
            ("a/", 2, empty),
            ("a/b**", 3, whole),
            ("a/***", 2, whole),
            ("a/b[0-", 3, unclosed),
            ("a[/]", 1, unclosed),
            ("a[]", 1, nothing),
            ("a/x[!]", 3, nothing),
            ("a b", 1, &character(" ")),
            ("a/ä", 2, &character("ä")),
            ("a]", 1, &character("]")),
            ("!a", 0, &character("!")),
            ("[*]", 1, &character("*")),
            ("{a,b}", 0, &character("{")),
        ] {
            let error = TopicGlob::new(glob).map(|_| ()).unwrap_err();
            assert_eq!(error, GlobError { glob: glob.into(), at, reason: reason.into() });
        }
        let error = TopicGlob::new("a//b").unwrap_err();
        assert_eq!(error.to_string(), format!("glob \"a//b\" is wrong at byte 2: {empty}"));
        let error = TopicGlob::new(&"x".repeat(60_000)).unwrap_err().to_string();
        assert!(error.ends_with("it has 60000 bytes, the limit is 1000") && error.len() < 300, "{error}");
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_another() {
        let (sender, receiver) = std::sync::mpsc::channel();
        // What takes for ever can not be stopped, but left.
        std::thread::spawn(move || {
            for (glob, topic) in [
                (format!("{}b/x", "*a".repeat(90)), format!("{}/x", "a".repeat(190))),
                (format!("{}b", "**/a/".repeat(90)), format!("{}a", "a/".repeat(99))),
                (format!("{}x/*b", "**/*a*a*a/".repeat(20)), format!("{}aaaaaaaaaaaa", "aaaaaa/".repeat(25))),
            ] {
                sender.send(matches(&glob, &topic)).unwrap();
            }
        });
        for _ in 0..3 {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(false));
        }
    }

    /// As one would define it, without a thought to time.
    fn reference(glob: &[&str], names: &[&str]) -> bool {
        match glob {
            [] => names.is_empty(),
            ["**"] => !names.is_empty(),
            ["**", rest @ ..] => (0..=names.len()).any(|taken| reference(rest, &names[taken..])),
            [one, rest @ ..] => names.split_first().is_some_and(|(name, names)| {
                let letters: Vec<char> = name.chars().collect();
                in_segment(&one.chars().collect::<Vec<_>>(), &letters) && reference(rest, names)
            }),
        }
    }

    fn in_segment(glob: &[char], name: &[char]) -> bool {
        match glob {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len()).any(|taken| in_segment(rest, &name[taken..])),
            ['?', rest @ ..] => !name.is_empty() && in_segment(rest, &name[1..]),
            [letter, rest @ ..] => name.first() == Some(letter) && in_segment(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_its_definition_says(
            glob in prop::collection::vec("\\*\\*|[ab*?]{1,4}", 1..6),
            topic in prop::collection::vec("[ab]{1,3}", 1..6),
        ) {
            let (text, topic) = (glob.join("/"), topic.join("/"));
            prop_assume!(TopicGlob::new(&text).is_ok());
            let glob: Vec<&str> = text.split('/').collect();
            let names: Vec<&str> = topic.split('/').collect();
            prop_assert_eq!(matches(&text, &topic), reference(&glob, &names), "{} {}", text, topic);
        }

        #[test]
        fn any_text_is_a_glob_or_an_error_within_it(text in ".{0,40}|[a/*?\\[\\]!-]{0,12}", topic in "[a/-]{1,9}") {
            match TopicGlob::new(&text) {
                Ok(glob) => {
                    prop_assert_eq!(glob.to_string(), text);
                    if let Ok(topic) = topic.parse() {
                        glob.matches(&topic);
                    }
                }
                Err(error) => prop_assert!(text.is_char_boundary(error.at)),
            }
        }
    }
}
