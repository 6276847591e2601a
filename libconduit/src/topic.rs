//! Topic names and their file names.

use std::fmt;
use std::str::FromStr;

/// The prefix of every region's file name.
pub(crate) const FILE_PREFIX: &str = "conduit_";

/// The name of a topic or raw region, known to be valid.
///
/// A name is one or more segments of `[A-Za-z0-9_-]` separated by `/`, none of which begins with
/// `-`, at most [`TopicName::MAX_LEN`] bytes in all. So no program takes a name for an option. In
/// the file name `/` becomes `.`, which no segment can contain, so names and files map one to one.
///
/// ```
/// let name: conduit::TopicName = "front/camera".parse()?;
/// assert_eq!(name.file_name(), "conduit_front.camera");
/// # Ok::<(), conduit::TopicNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Box<str>);

/// Why a text is not a topic name.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicNameError {
    /// The name has no characters.
    #[error("a topic name cannot be empty; use letters, digits, `_`, `-` and `/` between segments")]
    Empty,
    /// The name is longer than [`TopicName::MAX_LEN`].
    #[error("a topic name has at most {} bytes, this one has {len}", TopicName::MAX_LEN)]
    TooLong {
        /// Length of the rejected name in bytes.
        len: usize,
    },
    /// A character outside `[A-Za-z0-9_-]` and `/`.
    #[error("topic name {name:?} has {character:?} at byte {at}; allowed are A-Z a-z 0-9 _ - and / between segments")]
    Character {
        /// The rejected name.
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// Its offset in bytes, from 0.
        at: usize,
    },
    /// A `/` at the start, at the end, or after another one.
    #[error(
        "topic name {name:?} has an empty segment at byte {at}; write `a/b`, without leading, trailing or double `/`"
    )]
    EmptySegment {
        /// The rejected name.
        name: String,
        /// The offset of the empty segment in bytes, from 0.
        at: usize,
    },
    /// A segment that begins with `-`, as options of programs do.
    #[error(
        "topic name {name:?} has a segment that begins with `-` at byte {at}, like an option; begin it with a letter, a digit or `_`"
    )]
    LeadingHyphen {
        /// The rejected name.
        name: String,
        /// The offset of the segment in bytes, from 0.
        at: usize,
    },
}

impl TopicName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 200;

    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(TopicNameError::TooLong { len: name.len() });
        }
        let mut segment_is_empty = true;
        for (at, character) in name.char_indices() {
            match character {
                '-' if segment_is_empty => return Err(TopicNameError::LeadingHyphen { name: name.into(), at }),
                'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => segment_is_empty = false,
                '/' if segment_is_empty => return Err(TopicNameError::EmptySegment { name: name.into(), at }),
                '/' => segment_is_empty = true,
                _ => return Err(TopicNameError::Character { name: name.into(), character, at }),
            }
        }
        if segment_is_empty {
            return Err(TopicNameError::EmptySegment { name: name.into(), at: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// What stands in the place of a name where several topics are meant.
    pub(crate) fn of_several(text: &str) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the region's file in the shared-memory directory.
    pub fn file_name(&self) -> String {
        format!("{FILE_PREFIX}{}", self.0.replace('/', "."))
    }

    /// The topic of a file in the shared-memory directory; `None` if no topic has that file name.
    pub fn from_file_name(file_name: &str) -> Option<Self> {
        let name = file_name.strip_prefix(FILE_PREFIX)?;
        if name.contains('/') {
            return None;
        }
        Self::new(&name.replace('.', "/")).ok()
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(name: &str) -> Result<Self, TopicNameError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for TopicName {
    type Error = TopicNameError;

    fn try_from(name: &str) -> Result<Self, TopicNameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicNameError;

    fn try_from(name: String) -> Result<Self, TopicNameError> {
        Self::new(&name)
    }
}

/// What names a topic in a call: a `&str`, `String` or `&String`, which is checked, or a
/// [`TopicName`] or a reference to one.
///
/// This trait is sealed: it is implemented here alone.
pub trait IntoTopicName: sealed::Sealed {
    /// Checks the name if it is not known to be valid.
    fn into_topic_name(self) -> Result<TopicName, TopicNameError>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! into_topic_name {
    ($($name:ty: $convert:expr,)*) => {$(
        impl sealed::Sealed for $name {}

        impl IntoTopicName for $name {
            fn into_topic_name(self) -> Result<TopicName, TopicNameError> {
                $convert(self)
            }
        }
    )*};
}
into_topic_name! {
    &str: TopicName::new,
    String: TopicName::try_from,
    &String: |name: &String| TopicName::new(name),
    TopicName: Ok,
    &TopicName: |name: &TopicName| Ok(name.clone()),
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

crate::error_text::debug_as_display!(TopicNameError);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_names_are_accepted() {
        for name in ["imu", "a/b/c", "Front-Camera_2/raw", "_-", "0", &"x".repeat(200)] {
            assert_eq!(TopicName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn errors_name_the_defect_and_its_offset() {
        let segment = |name: &str, at| TopicNameError::EmptySegment { name: name.into(), at };
        let hyphen = |name: &str, at| TopicNameError::LeadingHyphen { name: name.into(), at };
        let character = |name: &str, character, at| TopicNameError::Character { name: name.into(), character, at };
        for (name, error) in [
            ("", TopicNameError::Empty),
            ("/imu", segment("/imu", 0)),
            ("a//b", segment("a//b", 2)),
            ("a/", segment("a/", 2)),
            ("-", hyphen("-", 0)),
            ("--force", hyphen("--force", 0)),
            ("a/-b/c", hyphen("a/-b/c", 2)),
            ("../x", character("../x", '.', 0)),
            ("a b", character("a b", ' ', 1)),
            ("a\0", character("a\0", '\0', 1)),
            ("aä", character("aä", 'ä', 1)),
            (&"x".repeat(300), TopicNameError::TooLong { len: 300 }),
        ] {
            assert_eq!(TopicName::new(name), Err(error), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn names_and_files_map_one_to_one(name in "[A-Za-z0-9_][A-Za-z0-9_-]{0,19}(/[A-Za-z0-9_][A-Za-z0-9_-]{0,19}){0,4}") {
            let topic = TopicName::new(&name).unwrap();
            prop_assert_eq!(TopicName::from_file_name(&topic.file_name()), Some(topic));
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in ".{0,250}") {
            if let Ok(topic) = TopicName::new(&text) {
                prop_assert_eq!(topic.as_str(), text);
            }
        }
    }
}
