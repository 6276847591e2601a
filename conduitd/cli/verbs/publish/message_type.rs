//! The type of messages that are given as text: from a topic that has it, or from a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use conduit::inspect::Region;
use conduit::shape::Element;
use conduit::{Domain, Kind, Message, OpenError, Shape, TopicName, TypeInfo};
use serde::Deserialize;

use crate::failure::Failure;

/// Longest file that describes a type: longer than any shape that a region can have.
const LONGEST_FILE: u64 = 1 << 20;

/// What messages are, and what their fields are.
#[derive(Clone, Debug)]
pub(super) struct DescribedType {
    pub(super) info: TypeInfo,
    /// Of a message, or of an element if messages are slices.
    pub(super) shape: Shape,
}

/// What `conduit type --json` prints.
#[derive(Deserialize)]
struct TypeFile {
    #[serde(rename = "type")]
    message_type: Option<String>,
    align: Option<u32>,
    shape: Option<Shape>,
}

impl DescribedType {
    /// The type of an existing topic, alive or dead.
    pub(super) fn of_topic(domain: &Domain, topic: &TopicName) -> Result<Self, Failure> {
        let region = Region::open(domain, topic).map_err(|error| match error {
            OpenError::NotFound { .. } => Failure::new(format_args!(
                "there is no topic \"{topic}\", so the fields of its messages are not known; name a topic of the \
                 same type with --type-of, or a file with --type"
            )),
            error => error.into(),
        })?;
        let Some(info) = region.message_type() else {
            return Err(Failure::new(format_args!("\"{topic}\" is a raw region: it has no messages")));
        };
        let shape = if info == <[u8]>::TYPE { Some(<[u8]>::shape()) } else { region.shape() };
        match shape {
            Some(shape) => Ok(Self { info, shape }),
            None => Err(Failure::new(format_args!(
                "the publisher of \"{topic}\" does not say which fields messages of type {info} have; \
                 describe them in a file (--type)"
            ))),
        }
    }

    /// The type that a file describes as `conduit type --json` does.
    pub(super) fn of_file(path: &Path) -> Result<Self, Failure> {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut text));
        read.map_err(Failure::io("read", path))?;
        let refused = |why: String| {
            Failure::new(format_args!(
                "{} does not describe a type as `conduit type TOPIC --json` does: {why}",
                path.display()
            ))
        };
        if text.len() as u64 > LONGEST_FILE {
            return Err(refused(format!("it has more than {LONGEST_FILE} bytes")));
        }
        let file: TypeFile = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        let (Some(name), Some(shape)) = (file.message_type, file.shape) else {
            return Err(refused("its type or its shape is missing".into()));
        };
        let element = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let kind = if element.is_some() { Kind::Slice } else { Kind::Value };
        let align = file.align.unwrap_or_else(|| natural_align(&shape));
        let info = TypeInfo::new(element.unwrap_or(&name), kind, shape.size(), align);
        Ok(Self { info: info.map_err(|error| refused(error.to_string()))?, shape })
    }

    /// Whether a message is a single value: no list, and without fields.
    pub(super) fn is_single(&self) -> bool {
        let Shape { element, count, .. } = &self.shape;
        self.info.kind() == Kind::Value && count.is_none() && !matches!(element, Element::Struct { .. })
    }
}

/// The alignment that C gives to such a value.
fn natural_align(shape: &Shape) -> u32 {
    match &shape.element {
        Element::Struct { fields, .. } => fields.iter().map(|field| natural_align(&field.shape)).max().unwrap_or(1),
        Element::Bytes { .. } => 1,
        number => number.size() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> Result<DescribedType, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        DescribedType::of_file(file.path()).map_err(|failure| match failure {
            Failure::Error { message, .. } => message,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_file_describes_a_type() {
        let point = r#"{"struct": {"size": 8, "fields": [
            {"name": "x", "offset": 0, "type": "i16", "count": 2}, {"name": "y", "offset": 4, "type": "f32"}]}}"#;
        let points = of_text(&format!(r#"{{"topic": "scan", "type": "[lidar/Point]", "shape": {{"type": {point}}}}}"#));
        let DescribedType { info, shape } = points.unwrap();
        assert_eq!(info, TypeInfo::new("lidar/Point", Kind::Slice, 8, 4).unwrap());
        assert_eq!(shape.to_string(), "{x i16[2], y f32}");
        let value = of_text(&format!(r#"{{"type": "P", "align": 8, "shape": {{"type": {point}}}}}"#)).unwrap();
        assert_eq!(value.info, TypeInfo::new("P", Kind::Value, 8, 8).unwrap());
    }

    #[test]
    fn a_file_that_describes_none_is_refused() {
        let field = |offset: u64, shape: &str| {
            format!(
                r#"{{"type": "P", "shape": {{"type": {{"struct": {{"size": 8, "fields": [
                    {{"name": "a", "offset": 0, "type": "u32"}}, {{"name": "b", "offset": {offset}, {shape}}}]}}}}}}}}"#
            )
        };
        for (text, complaint) in [
            ("", "EOF"),
            ("[1]", "invalid"),
            (r#"{"topic": "map", "type": null, "shape": null}"#, "its type or its shape is missing"),
            (&field(3, r#""type": "u8""#), "contradicts itself"),
            (&field(8, r#""type": "u8""#), "contradicts itself"),
            (&field(4, r#""type": "f64", "count": 9223372036854775807"#), "contradicts itself"),
            (&field(u64::MAX, r#""type": "f64""#), "contradicts itself"),
            (r#"{"type": "P", "shape": {"type": "f64", "count": 18446744073709551615}}"#, "contradicts itself"),
            (r#"{"type": "P", "align": 3, "shape": {"type": "f64"}}"#, "align"),
            (r#"{"type": "", "shape": {"type": "f64"}}"#, "name"),
        ] {
            let error = of_text(text).unwrap_err();
            assert!(
                error.contains(complaint) && error.contains("as `conduit type TOPIC --json` does"),
                "{text}: {error}"
            );
        }
    }
}
