//! What the bytes of a message mean: the names, types and offsets of its fields.
//!
//! Publisher and subscriber agree by [`TypeInfo`](crate::TypeInfo) alone. A shape is for tools that
//! do not have the type: those that display messages, record them, or pass them to another
//! language. It is stored beside the region, in the extended attribute `user.conduit.shape` of its
//! file, as JSON:
//!
//! ```json
//! {"type": {"struct": {"size": 48, "fields": [
//!     {"name": "gyro", "offset": 0, "type": "f64", "count": 3},
//!     {"name": "acceleration", "offset": 24, "type": "f64", "count": 3}]}}}
//! ```

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::fgetxattr;
use serde::{Deserialize, Serialize};

/// The attribute's name.
pub(crate) const XATTR: &str = "user.conduit.shape";
/// Longest text that is read or written. xattr(7) allows 64 KiB.
const MAX_TEXT: usize = 1 << 16;

/// One value, or an array of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shape {
    /// The type of the value, or of each element.
    #[serde(rename = "type")]
    pub element: Element,
    /// The number of elements, if it is an array. An array of arrays counts as one array of all
    /// elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// The type of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the primitive numbers are known by their names")]
pub enum Element {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    /// Bytes of which nothing else is known.
    Bytes {
        /// How many.
        size: u64,
    },
    /// A structure.
    Struct {
        /// Its length in bytes, including padding after the last field.
        size: u64,
        /// Its fields, ordered by offset; they do not overlap.
        fields: Vec<Field>,
    },
}

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Field {
    /// Its name, without control characters.
    pub name: String,
    /// Its offset in the structure, in bytes.
    pub offset: u64,
    /// Its shape.
    #[serde(flatten)]
    pub shape: Shape,
}

impl Shape {
    /// One value.
    pub const fn one(element: Element) -> Self {
        Self { element, count: None }
    }

    /// Bytes of which nothing else is known.
    pub const fn bytes(size: u64) -> Self {
        Self::one(Element::Bytes { size })
    }

    /// A structure whose fields are given by their names, offsets and shapes.
    pub fn structure(size: usize, fields: impl IntoIterator<Item = (&'static str, usize, Self)>) -> Self {
        let field = |(name, offset, shape): (&str, usize, _)| Field { name: name.into(), offset: offset as u64, shape };
        let mut fields: Vec<Field> = fields.into_iter().map(field).collect();
        fields.sort_by_key(|field| field.offset);
        Self::one(Element::Struct { size: size as u64, fields })
    }

    /// An array of values of this shape.
    #[must_use]
    pub fn array(self, count: usize) -> Self {
        Self { count: Some((count as u64).saturating_mul(self.count.unwrap_or(1))), ..self }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.element.size().saturating_mul(self.count.unwrap_or(1))
    }

    /// The shape that a region's file has for elements of a size; `None` if it has none, or an
    /// invalid one.
    pub(crate) fn of_file(file: impl AsFd, size: u64) -> Option<Self> {
        let mut text = vec![0; MAX_TEXT];
        let len = fgetxattr(file, XATTR, &mut text[..]).ok()?;
        let shape: Self = serde_json::from_slice(&text[..len]).ok()?;
        (shape.size() == size && shape.is_sound()).then_some(shape)
    }

    /// The text for a region's file; `None` if the shape is mere bytes, or the text would be too
    /// long.
    pub(crate) fn to_text(&self) -> Option<Vec<u8>> {
        let is_informative = !matches!(self.element, Element::Bytes { .. });
        let text = is_informative.then(|| serde_json::to_vec(self).ok()).flatten()?;
        (text.len() <= MAX_TEXT).then_some(text)
    }

    /// Whether it is consistent: a peer may have written anything.
    fn is_sound(&self) -> bool {
        match &self.element {
            Element::Struct { size, fields } => {
                let mut end = 0;
                fields.iter().all(|Field { name, offset, shape }| {
                    let follows = *offset >= end && !name.is_empty() && !name.contains(char::is_control);
                    end = offset.saturating_add(shape.size());
                    follows && end <= *size && shape.is_sound()
                })
            }
            _ => true,
        }
    }
}

impl Element {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Bytes { size } | Self::Struct { size, .. } => *size,
        }
    }
}

impl fmt::Display for Shape {
    /// As in an interface description: `f64[3]`, `{x f32, y f32}[16]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.element {
            Element::Bytes { size } => write!(f, "bytes[{size}]")?,
            Element::Struct { fields, .. } => {
                f.write_str("{")?;
                for (index, field) in fields.iter().enumerate() {
                    write!(f, "{}{} {}", if index > 0 { ", " } else { "" }, field.name, field.shape)?;
                }
                f.write_str("}")?;
            }
            scalar => {
                let name = format!("{scalar:?}");
                f.write_str(&name.to_lowercase())?;
            }
        }
        self.count.map_or(Ok(()), |count| write!(f, "[{count}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imu() -> Shape {
        let vector = || Shape::one(Element::F64).array(3);
        Shape::structure(
            56,
            [("gyro", 0, vector()), ("acceleration", 24, vector()), ("ok", 48, Shape::one(Element::Bool))],
        )
    }

    #[test]
    fn the_text_is_the_documented_one() {
        let shape = Shape::structure(24, [("gyro", 0, Shape::one(Element::F64).array(3))]);
        let text = String::from_utf8(shape.to_text().unwrap()).unwrap();
        let expected =
            r#"{"type":{"struct":{"size":24,"fields":[{"name":"gyro","offset":0,"type":"f64","count":3}]}}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Shape>(&text).unwrap(), shape);
        assert_eq!(Shape::bytes(7).to_text(), None, "nothing to say");
        assert_eq!(imu().to_string(), "{gyro f64[3], acceleration f64[3], ok bool}");
    }

    #[test]
    fn a_derived_shape_tells_messages_from_other_fields() {
        use crate::Message;
        use crate::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

        #[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        struct Unnamed([u8; 4]);

        #[derive(Message, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(u8)]
        enum Mode {
            _Idle,
            _Moving,
        }

        #[derive(Message, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        struct Point(f32, f32);

        #[derive(Message, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        struct Pose {
            points: [Point; 2],
            r#type: Unnamed,
            mode: Mode,
            rest: [[i8; 3]; 1],
        }

        let expected = "{points {0 f32, 1 f32}[2], type bytes[4], mode u8, rest i8[3]}";
        assert_eq!(Pose::shape().to_string(), expected);
        assert!(Pose::shape().is_sound() && Pose::shape().size() == Pose::TYPE.size());

        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = crate::Domain::new(directory.path()).without_registry();
        let shape = |topic: &str| crate::inspect::Region::open(&domain, topic).unwrap().shape();
        let _pose = crate::Publisher::<Pose>::builder().domain(&domain).create("pose").unwrap();
        let _points = crate::Publisher::<[Point]>::builder().domain(&domain).create("points").unwrap();
        let _bytes = crate::Publisher::<[u8]>::builder().domain(&domain).create("bytes").unwrap();
        assert_eq!(shape("pose"), Some(Pose::shape()));
        assert_eq!(shape("points").unwrap().to_string(), "{0 f32, 1 f32}");
        assert_eq!(shape("bytes"), Some(Shape::one(Element::U8)));
        let path = directory.path().join("conduit_pose");
        for lie in ["", "{", "{\"type\": \"f64\"}", "{\"type\": {\"bytes\": {\"size\": 1}}}"] {
            rustix::fs::setxattr(&path, XATTR, lie.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
            assert_eq!(shape("pose"), None, "{lie}");
        }
    }

    #[test]
    fn arrays_of_arrays_are_one() {
        let shape = Shape::one(Element::F32).array(3).array(2);
        assert_eq!((shape.count, shape.size()), (Some(6), 24));
    }

    #[test]
    fn inconsistent_shapes_are_rejected() {
        assert!(imu().is_sound());
        let one = |name: &str, offset, element| Field { name: name.into(), offset, shape: Shape::one(element) };
        let of = |size, fields| Shape::one(Element::Struct { size, fields }).is_sound();
        assert!(of(8, vec![one("a", 0, Element::U32), one("b", 4, Element::U32)]));
        assert!(!of(8, vec![one("a", 0, Element::U32), one("b", 3, Element::U32)]), "overlap");
        assert!(!of(7, vec![one("a", 0, Element::U32), one("b", 4, Element::U32)]), "beyond the end");
        assert!(!of(8, vec![one("a\x1b", 0, Element::U32)]), "a control character");
        assert!(!of(8, vec![one("a", u64::MAX, Element::U32)]));
        let inner = Element::Struct { size: 4, fields: vec![one("x", 2, Element::U32)] };
        assert!(!of(8, vec![one("a", 0, inner)]), "inside");
        let huge = Shape { element: Element::U64, count: Some(u64::MAX) };
        assert!(
            !Shape::one(Element::Struct { size: 8, fields: vec![Field { name: "a".into(), offset: 0, shape: huge }] })
                .is_sound()
        );
    }
}
