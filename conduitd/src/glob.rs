//! Patterns of topic names.

use conduit::TopicName;
use glob::{MatchOptions, Pattern, PatternError};

/// A pattern: `*` and `?` stay within a segment of the name, `**` stands for any number of segments, `[a-z]` for one
/// character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicGlob(Pattern);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{pattern}\" is no pattern of topic names: {reason}, at character {place}")]
pub(crate) struct GlobError {
    pub(crate) pattern: String,
    pub(crate) reason: &'static str,
    /// From 1.
    pub(crate) place: usize,
}

impl TopicGlob {
    pub(crate) fn new(pattern: &str) -> Result<Self, GlobError> {
        Pattern::new(pattern).map(Self).map_err(|PatternError { pos, msg }| GlobError {
            pattern: pattern.chars().take(TopicName::MAX_LEN).collect(),
            reason: msg,
            place: pos + 1,
        })
    }

    pub(crate) fn matches(&self, topic: &TopicName) -> bool {
        let by_segments =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
        self.0.matches_with(topic.as_str(), by_segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        TopicGlob::new(pattern).unwrap().matches(&topic.parse().unwrap())
    }

    #[test]
    fn patterns_go_by_segments() {
        for pattern in
            ["camera/front", "camera/*", "camera/**", "*/front", "**", "**/front", "camera/f?ont", "*/[e-g]ront"]
        {
            assert!(matches(pattern, "camera/front"), "{pattern}");
        }
        for pattern in ["camera", "*", "camera/*/*", "front", "Camera/*", "camera/front/**x"] {
            assert!(
                !TopicGlob::new(pattern).is_ok_and(|glob| glob.matches(&"camera/front".parse().unwrap())),
                "{pattern}"
            );
        }
        assert!(matches("camera/**", "camera/a/b") && !matches("camera/*", "camera/a/b"));
    }

    #[test]
    fn bad_patterns_say_where() {
        let error = TopicGlob::new("camera/[a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"camera/[a\" is no pattern of topic names: invalid range pattern, at character 8"
        );
        assert!(TopicGlob::new("a/***").is_err());
    }
}
