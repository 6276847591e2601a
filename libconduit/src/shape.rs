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
//!
//! A shape that comes from there is a claim of another process, and is checked before anybody sees
//! it: fields lie inside their structures, in order, under different names that can be printed;
//! structures nest at most 16 deep; and it has hardly more values than bytes, however the counts
//! multiply. So no use of it takes longer than the message is long.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::fgetxattr;
use serde::{Deserialize, Serialize};

use crate::foreign_text::is_clean;

/// The attribute's name.
pub(crate) const XATTR: &str = "user.conduit.shape";
/// Longest text that is read or written. xattr(7) allows 64 KiB.
const MAX_TEXT: usize = 1 << 16;
/// How deep structures may nest.
const MAX_DEPTH: u32 = 16;
/// How many values there may be beyond one per byte: fields without bytes, such as markers.
const MAX_EMPTY_VALUES: u64 = 1024;
/// Longest name of a field, in bytes.
const MAX_FIELD_NAME: usize = 256;

/// One value, or an array of them.
///
/// One that was deserialised is consistent; otherwise that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ClaimedShape")]
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

/// What another process says a shape is.
#[derive(Deserialize)]
struct ClaimedShape {
    #[serde(rename = "type")]
    element: Element,
    #[serde(default)]
    count: Option<u64>,
}

impl TryFrom<ClaimedShape> for Shape {
    type Error = &'static str;

    fn try_from(ClaimedShape { element, count }: ClaimedShape) -> Result<Self, Self::Error> {
        let shape = Self { element, count };
        shape.is_sound().then_some(shape).ok_or("the shape contradicts itself, or claims too much")
    }
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
    /// Its name: text that can be printed, without line ends.
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

    /// An array of values of this shape; of values without bytes, an empty one.
    #[must_use]
    pub fn array(self, count: usize) -> Self {
        if self.size() == 0 {
            return Self { count: Some(0), ..self };
        }
        Self { count: Some((count as u64).saturating_mul(self.count.unwrap_or(1))), ..self }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.element.size().saturating_mul(self.count.unwrap_or(1))
    }

    /// How many values it has, in all elements and all fields of all elements; a structure without
    /// fields counts as one.
    pub fn value_count(&self) -> u64 {
        let one = match &self.element {
            Element::Struct { fields, .. } => {
                fields.iter().fold(0u64, |sum, field| sum.saturating_add(field.shape.value_count())).max(1)
            }
            _ => 1,
        };
        one.saturating_mul(self.count.unwrap_or(1))
    }

    /// The shape that a region's file has for elements of a size; `None` if it has none, or an
    /// invalid one.
    pub(crate) fn of_file(file: impl AsFd, size: u64) -> Option<Self> {
        let mut text = vec![0; MAX_TEXT];
        let len = fgetxattr(file, XATTR, &mut text[..]).ok()?;
        let shape: Self = serde_json::from_slice(&text[..len]).ok()?;
        // A message without bytes has nothing to show.
        (size > 0 && shape.size() == size).then_some(shape)
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
        let most = self.checked_size().map(|size| size.saturating_add(MAX_EMPTY_VALUES));
        most.is_some_and(|most| self.value_count() <= most) && self.element.is_sound(MAX_DEPTH)
    }

    fn checked_size(&self) -> Option<u64> {
        self.element.size().checked_mul(self.count.unwrap_or(1))
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

    /// Whether fields lie inside their structures, in order and under names that differ.
    fn is_sound(&self, depth: u32) -> bool {
        let Self::Struct { size, fields } = self else { return true };
        let mut end = 0;
        let mut names = HashSet::new();
        depth > 0
            && fields.iter().all(|Field { name, offset, shape }| {
                let is_name = (1..=MAX_FIELD_NAME).contains(&name.len()) && is_clean(name) && names.insert(name);
                let follows = *offset >= end;
                let next = shape.checked_size().and_then(|size| offset.checked_add(size)).filter(|next| next <= size);
                end = next.unwrap_or(end);
                is_name && follows && next.is_some() && shape.element.is_sound(depth - 1)
            })
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
            #[message(fixed_layout)]
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

    #[test]
    fn what_claims_more_values_than_bytes_is_rejected() {
        let parse = |text: &str| serde_json::from_str::<Shape>(text).map_err(|error| error.to_string());
        let within = |size: u64, field: &str| {
            parse(&format!(r#"{{"type": {{"struct": {{"size": {size}, "fields": [{field}]}}}}}}"#))
        };
        let nothing = r#""offset": 0, "type": {"struct": {"size": 0, "fields": []}}"#;
        assert!(within(8, &format!(r#"{{"name": "a", {nothing}}}"#)).is_ok());
        let huge = 1u64 << 63;
        for claim in [
            // Elements without bytes, as many as there are numbers.
            format!(r#"{{"name": "a", {nothing}, "count": {huge}}}"#),
            format!(r#"{{"name": "a", "offset": 0, "type": {{"bytes": {{"size": 0}}}}, "count": {huge}}}"#),
            // Sizes whose product is small again beyond 64 bits.
            format!(r#"{{"name": "a", "offset": 0, "type": "u16", "count": {huge}}}"#),
            format!(r#"{{"name": "a", "offset": 0, "type": {{"bytes": {{"size": {huge}}}}}, "count": 2}}"#),
            format!(r#"{{"name": "a", "offset": {}, "type": "u64"}}"#, u64::MAX - 7),
        ] {
            assert!(within(8, &claim).unwrap_err().contains("claims too much"), "{claim}");
        }
        // Empty fields, multiplied by an array that has bytes.
        let empty =
            |number: u32| format!(r#"{{"name": "e{number}", "offset": 0, "type": {{"bytes": {{"size": 0}}}}}}"#);
        let empties = (0..900).map(empty).collect::<Vec<_>>().join(",");
        let of_empties = format!(r#"{{"struct": {{"size": 1, "fields": [{empties}]}}}}"#);
        assert!(parse(&format!(r#"{{"type": {of_empties}}}"#)).is_ok());
        assert!(parse(&format!(r#"{{"type": {of_empties}, "count": 1000000}}"#)).is_err());
        // Structures in structures.
        let nested = |depth: usize| {
            let open = r#"{"struct": {"size": 8, "fields": [{"name": "a", "offset": 0, "type": "#;
            format!(r#"{{"type": {}"u64"{}}}"#, open.repeat(depth), "}]}}".repeat(depth))
        };
        assert!(parse(&nested(MAX_DEPTH as usize)).is_ok());
        assert!(parse(&nested(MAX_DEPTH as usize + 1)).is_err());
        assert!(parse(&nested(10_000)).is_err());
    }

    #[test]
    fn names_of_fields_can_be_printed_and_differ() {
        let named = |names: &[&str]| {
            let field =
                |(offset, name): (u64, &&str)| Field { name: (*name).into(), offset, shape: Shape::one(Element::U8) };
            let fields = (0..).zip(names).map(field).collect();
            Shape::one(Element::Struct { size: 8, fields }).is_sound()
        };
        assert!(named(&["a", "ä", "日本"]));
        let long = "x".repeat(MAX_FIELD_NAME + 1);
        for name in ["", "a\nb", "a\x7f", "\u{9b}", "\u{202e}a", "a\u{200b}", "a\u{2028}", "a  b", &long] {
            assert!(!named(&[name]), "{name:?}");
        }
        assert!(!named(&["a", "a"]), "two of one name");
    }

    #[test]
    fn arrays_of_nothing_are_empty() {
        let nothing = Shape::structure(0, []).array(1 << 40);
        assert_eq!((nothing.count, nothing.size(), nothing.value_count()), (Some(0), 0, 0));
        assert!(nothing.is_sound());
        assert_eq!(imu().array(3).value_count(), 21);
    }
}
