//! A message as its shape describes it: values, arrays and structures, read in place.

use std::fmt;

use conduit::shape::{Element, Field, Shape};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::field_path::{FieldPath, PathStep};

/// Most columns of a table.
const MAX_COLUMNS: u64 = 100_000;

/// Some bytes and what they mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    One(&'a Element, &'a [u8]),
    /// As many elements as there is room for.
    Array(&'a Element, &'a [u8]),
    /// The elements of a message that is a slice.
    Slice(&'a Shape, &'a [u8]),
}

impl<'a> View<'a> {
    /// A message of one value; `None` if its length is not that of the shape.
    pub(super) fn value(shape: &'a Shape, bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() as u64 == shape.size()).then(|| Self::of(shape, bytes))
    }

    fn of(shape: &'a Shape, bytes: &'a [u8]) -> Self {
        let element = &shape.element;
        if shape.count.is_some() { Self::Array(element, bytes) } else { Self::One(element, bytes) }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::One(_, bytes) | Self::Array(_, bytes) | Self::Slice(_, bytes) => bytes,
        }
    }

    /// The elements of an array or slice; none of a value.
    pub(super) fn elements(self) -> Option<impl ExactSizeIterator<Item = Self>> {
        let (size, bytes) = match self {
            Self::One(..) => return None,
            Self::Array(element, bytes) => (element.size(), bytes),
            Self::Slice(shape, bytes) => (shape.size(), bytes),
        };
        // Elements without bytes are not worth a line each.
        let size = usize::try_from(size).ok().filter(|&size| size > 0).unwrap_or(bytes.len().max(1));
        Some(bytes.chunks_exact(size).map(move |bytes| match self {
            Self::Slice(shape, _) => Self::of(shape, bytes),
            Self::One(element, _) | Self::Array(element, _) => Self::One(element, bytes),
        }))
    }

    /// The fields of a structure.
    pub(super) fn fields(self) -> Option<impl Iterator<Item = (&'a str, Self)>> {
        let Self::One(Element::Struct { fields, .. }, bytes) = self else { return None };
        Some(fields.iter().map(move |field| (field.name.as_str(), Self::of(&field.shape, field_bytes(field, bytes)))))
    }

    /// The one value; `None` for arrays and structures.
    pub(super) fn scalar(self) -> Option<Scalar<'a>> {
        match self {
            Self::One(element, bytes) => Scalar::read(element, bytes),
            Self::Array(..) | Self::Slice(..) => None,
        }
    }

    /// What a path leads to; `None` if an array is too short for it.
    pub(super) fn select(self, path: &FieldPath) -> Option<Self> {
        path.0.iter().try_fold(self, |view, step| match step {
            PathStep::Index(index) => view.elements()?.nth(*index),
            PathStep::Field(name) => view.fields()?.find(|(field, _)| field == name).map(|(_, view)| view),
        })
    }

    /// All values in their order, as the cells of a row.
    pub(super) fn cells(self, cells: &mut Vec<String>) {
        if let Some(fields) = self.fields() {
            fields.for_each(|(_, field)| field.cells(cells));
        } else if let Some(elements) = self.elements() {
            elements.for_each(|element| element.cells(cells));
        } else if let Some(scalar) = self.scalar() {
            cells.push(scalar.to_string());
        }
    }
}

/// A shape that was checked has its fields inside.
fn field_bytes<'a>(field: &Field, bytes: &'a [u8]) -> &'a [u8] {
    let end = field.offset.saturating_add(field.shape.size()).min(bytes.len() as u64);
    &bytes[field.offset.min(end) as usize..end as usize]
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    #[serde(serialize_with = "number")]
    F32(f32),
    #[serde(serialize_with = "number")]
    F64(f64),
    #[serde(serialize_with = "hexadecimal")]
    Bytes(&'a [u8]),
}

impl<'a> Scalar<'a> {
    fn read(element: &Element, bytes: &'a [u8]) -> Option<Self> {
        fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.try_into().ok()
        }
        Some(match element {
            // The publisher may have written any byte.
            Element::Bool => match bytes {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                _ => Self::Unsigned((*bytes.first()?).into()),
            },
            Element::U8 => Self::Unsigned(u8::from_ne_bytes(array(bytes)?).into()),
            Element::U16 => Self::Unsigned(u16::from_ne_bytes(array(bytes)?).into()),
            Element::U32 => Self::Unsigned(u32::from_ne_bytes(array(bytes)?).into()),
            Element::U64 => Self::Unsigned(u64::from_ne_bytes(array(bytes)?)),
            Element::I8 => Self::Signed(i8::from_ne_bytes(array(bytes)?).into()),
            Element::I16 => Self::Signed(i16::from_ne_bytes(array(bytes)?).into()),
            Element::I32 => Self::Signed(i32::from_ne_bytes(array(bytes)?).into()),
            Element::I64 => Self::Signed(i64::from_ne_bytes(array(bytes)?)),
            Element::F32 => Self::F32(f32::from_ne_bytes(array(bytes)?)),
            Element::F64 => Self::F64(f64::from_ne_bytes(array(bytes)?)),
            Element::Bytes { .. } => Self::Bytes(bytes),
            _ => return None,
        })
    }
}

/// As few digits as tell the number from all others of its type; bytes in hexadecimal.
impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::F32(value) => write!(f, "{value:?}"),
            Self::F64(value) => write!(f, "{value:?}"),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// JSON has no infinities; as null they could not be told from NaN.
fn number<F: Copy + Into<f64> + Serialize, S: Serializer>(number: &F, serializer: S) -> Result<S::Ok, S::Error> {
    match (*number).into() {
        f64::INFINITY => serializer.serialize_str("Infinity"),
        f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
        _ => number.serialize(serializer),
    }
}

fn hexadecimal<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Scalar::Bytes(bytes))
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(fields) = self.fields() {
            let mut map = serializer.serialize_map(None)?;
            for (name, value) in fields {
                map.serialize_entry(name, &value)?;
            }
            map.end()
        } else if let Some(elements) = self.elements() {
            let mut list = serializer.serialize_seq(Some(elements.len()))?;
            for element in elements {
                list.serialize_element(&element)?;
            }
            list.end()
        } else {
            self.scalar().serialize(serializer)
        }
    }
}

/// The names of the cells that [`View::cells`] gives.
pub(super) fn columns(shape: &Shape, prefix: &str) -> Result<Vec<String>, String> {
    let count = shape.value_count();
    if count > MAX_COLUMNS {
        return Err(format!("a table of {count} columns is none; choose some with --field"));
    }
    let mut names = Vec::new();
    name_cells(shape, prefix.into(), &mut names);
    Ok(names)
}

fn name_cells(shape: &Shape, prefix: String, names: &mut Vec<String>) {
    match (&shape.count, &shape.element) {
        (Some(count), element) => {
            let element = Shape::one(element.clone());
            (0..*count).for_each(|index| name_cells(&element, format!("{prefix}[{index}]"), names));
        }
        (None, Element::Struct { fields, .. }) => {
            let dot = if prefix.is_empty() { "" } else { "." };
            fields.iter().for_each(|field| name_cells(&field.shape, format!("{prefix}{dot}{}", field.name), names));
        }
        (None, _) => names.push(if prefix.is_empty() { "value".into() } else { prefix }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn pose() -> (Shape, Vec<u8>) {
        let point = || Shape::structure(8, [("x", 0, Shape::one(Element::F32)), ("y", 4, Shape::one(Element::F32))]);
        let shape = Shape::structure(
            32,
            [
                ("at", 0, point()),
                ("corners", 8, point().array(2)),
                ("id", 24, Shape::one(Element::I16)),
                ("ok", 26, Shape::one(Element::Bool)),
                ("key", 27, Shape::bytes(5)),
            ],
        );
        let mut bytes = Vec::new();
        for number in [0.1f32, 2.0, 3.5, -4.0, 1e-7, f32::NAN] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend((-7i16).to_ne_bytes());
        bytes.extend([1, 0xde, 0xad, 0, 0, 1]);
        (shape, bytes)
    }

    #[test]
    fn json_has_the_fields_in_their_order() {
        let (shape, bytes) = pose();
        let json = serde_json::to_string(&View::value(&shape, &bytes).unwrap()).unwrap();
        let expected = r#"{"at":{"x":0.1,"y":2.0},"corners":[{"x":3.5,"y":-4.0},{"x":1e-7,"y":null}],"id":-7,"ok":true,"key":"dead000001"}"#;
        assert_eq!(json, expected);
        let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN].map(f32::to_ne_bytes).concat();
        let special = serde_json::to_string(&View::Slice(&Shape::one(Element::F32), &special)).unwrap();
        assert_eq!(special, r#"["Infinity","-Infinity",null]"#);
        let slice = serde_json::to_string(&View::Slice(&Shape::one(Element::U8).array(2), &[1, 2, 3, 4, 5])).unwrap();
        assert_eq!(slice, "[[1,2],[3,4]]");
        assert!(View::value(&shape, &bytes[1..]).is_none());
    }

    #[test]
    fn a_row_has_as_many_cells_as_there_are_columns() {
        let (shape, bytes) = pose();
        let names = columns(&shape, "").unwrap();
        let mut cells = Vec::new();
        View::value(&shape, &bytes).unwrap().cells(&mut cells);
        let expected =
            ["at.x", "at.y", "corners[0].x", "corners[0].y", "corners[1].x", "corners[1].y", "id", "ok", "key"];
        assert_eq!(names, expected);
        assert_eq!(cells, ["0.1", "2.0", "3.5", "-4.0", "1e-7", "NaN", "-7", "true", "dead000001"]);
        assert_eq!(columns(&Shape::one(Element::U8), "").unwrap(), ["value"]);
        assert!(columns(&Shape::one(Element::U8).array(1_000_000), "").unwrap_err().contains("--field"));
    }
}
