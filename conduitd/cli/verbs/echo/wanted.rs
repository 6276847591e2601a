//! Which topics are to be printed: names and patterns.

use conduit::{TopicName, TopicNameError, TopicPattern, TopicPatternError};

/// The topics of a command line.
#[derive(Debug, Default)]
pub(super) struct WantedTopics {
    /// Each once, in the order of the arguments.
    pub(super) names: Vec<TopicName>,
    patterns: Vec<TopicPattern>,
}

/// Why an argument is neither a name nor a pattern.
#[derive(Debug, thiserror::Error)]
pub(super) enum WantedError {
    #[error(transparent)]
    Name(#[from] TopicNameError),
    #[error(transparent)]
    Pattern(#[from] TopicPatternError),
}

impl WantedTopics {
    /// An argument with wildcards is a pattern.
    pub(super) fn new(arguments: &[String]) -> Result<Self, WantedError> {
        let mut wanted = Self::default();
        for argument in arguments {
            if argument.contains(['*', '?', '[']) {
                wanted.patterns.push(argument.parse()?);
                continue;
            }
            let name = argument.parse()?;
            if !wanted.names.contains(&name) {
                wanted.names.push(name);
            }
        }
        Ok(wanted)
    }

    /// Whether there may be more than one, so that each message has to say which it is of.
    pub(super) fn may_be_several(&self) -> bool {
        self.names.len() > 1 || !self.patterns.is_empty()
    }

    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether a topic is named.
    pub(super) fn is_named(&self, topic: &TopicName) -> bool {
        self.names.contains(topic)
    }

    /// Whether a topic is named or matches a pattern.
    pub(super) fn matches(&self, topic: &TopicName) -> bool {
        self.is_named(topic) || self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// All arguments, for an error.
    pub(super) fn text(&self) -> String {
        let names = self.names.iter().map(TopicName::as_str);
        let all: Vec<String> =
            names.chain(self.patterns.iter().map(TopicPattern::as_str)).map(|text| format!("\"{text}\"")).collect();
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_names_and_patterns() {
        let wanted = |arguments: &[&str]| {
            WantedTopics::new(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        let topic = |name: &str| name.parse::<TopicName>().unwrap();
        let one = wanted(&["imu", "imu"]).unwrap();
        assert!(!one.may_be_several() && one.matches(&topic("imu")) && !one.matches(&topic("imus")));
        let several = wanted(&["imu", "camera/*"]).unwrap();
        assert!(several.may_be_several() && several.matches(&topic("camera/front")) && several.is_named(&topic("imu")));
        assert_eq!(several.text(), "\"imu\", \"camera/*\"");
        assert!(wanted(&["camera/?"]).unwrap().may_be_several());
        assert!(wanted(&["a//b"]).unwrap_err().contains("empty segment"));
        assert!(wanted(&["a["]).unwrap_err().contains("at byte 1"));
    }
}
