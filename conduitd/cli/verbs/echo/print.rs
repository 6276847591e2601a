//! How messages are printed: for people, for a pipe, or for a spreadsheet.

use std::io::{self, Write};

use anstyle::Style;
use conduit::{Kind, Sample, Shape, TypeInfo};
use serde::Serialize;

use super::field_path::FieldPath;
use super::value::{Scalar, View, columns};
use super::yaml;
use crate::{hexdump, output};

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Fields as YAML, text as text, other bytes as a dump.
    Text,
    Hex,
    Raw,
    Json,
    Csv,
}

/// A message and its metadata.
#[derive(Debug)]
pub(super) struct PrintedMessage<'a> {
    pub(super) topic: &'a str,
    pub(super) sequence: u64,
    /// Messages missed before it; 0 if the user does not want to know.
    pub(super) lost: u64,
    pub(super) stamp_ns: Option<u64>,
    pub(super) age: Option<std::time::Duration>,
    pub(super) bytes: &'a [u8],
}

impl<'a> PrintedMessage<'a> {
    pub(super) fn new(topic: &'a str, sample: &'a Sample<[u8]>) -> Self {
        Self {
            topic,
            sequence: sample.sequence(),
            lost: sample.lost(),
            stamp_ns: sample.stamp_ns(),
            age: sample.age(),
            bytes: sample,
        }
    }
}

/// Prints the messages of one publisher.
#[derive(Debug)]
pub(super) struct Printer {
    format: Format,
    message_type: TypeInfo,
    /// Of a message, or of an element if messages are slices; `None` if unknown.
    shape: Option<Shape>,
    field: Option<FieldPath>,
    /// Elements of an array printed as YAML.
    max_elements: usize,
    /// Names of the columns of a table, until they are written.
    columns: Vec<String>,
    rows_are_elements: bool,
    pub(super) is_coloured: bool,
}

#[derive(Serialize)]
struct JsonMessage<'a> {
    topic: &'a str,
    sequence: u64,
    lost: u64,
    stamp_ns: Option<u64>,
    age_ns: Option<u64>,
    len_bytes: usize,
    #[serde(rename = "type")]
    message_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl Printer {
    pub(super) fn new(
        format: Format,
        message_type: TypeInfo,
        shape: Option<Shape>,
        field: Option<FieldPath>,
        max_elements: usize,
    ) -> Result<Self, String> {
        let is_slice = message_type.kind() == Kind::Slice;
        // Plain bytes have no fields to show.
        let shape = shape.filter(|_| !is_bytes(message_type));
        let mut selected = shape.clone();
        if let Some(field) = &field {
            let Some(shape) = &shape else {
                return Err(format!("the publisher does not say which fields messages of type {message_type} have"));
            };
            selected = Some(field.resolve(shape, is_slice)?);
        }
        let rows_are_elements = is_slice && field.is_none();
        let mut names: Vec<String> = ["sequence", "stamp_ns"].map(String::from).into();
        if format == Format::Csv {
            match &selected {
                Some(selected) => {
                    names.extend(rows_are_elements.then(|| "index".into()));
                    names.extend(columns(selected, &field.as_ref().map_or_else(String::new, ToString::to_string))?);
                }
                None => names.push("data".into()),
            }
        }
        Ok(Self {
            format,
            message_type,
            shape,
            field,
            max_elements,
            columns: names,
            rows_are_elements,
            is_coloured: false,
        })
    }

    /// Writes a message. Reports losses on standard error if the format has no place for them.
    pub(super) fn print(&mut self, out: &mut impl Write, message: &PrintedMessage<'_>) -> io::Result<()> {
        if self.format == Format::Csv && !self.columns.is_empty() {
            row(out, std::mem::take(&mut self.columns))?;
        }
        let view = self.shape.as_ref().and_then(|shape| match self.message_type.kind() {
            Kind::Value => View::value(shape, message.bytes),
            Kind::Slice => Some(View::Slice(shape, message.bytes)),
        });
        let view = match (&self.field, view) {
            (Some(field), view) => match view.and_then(|view| view.select(field)) {
                Some(view) => Some(view),
                None => {
                    output::notice(format_args!("message #{} is too short for {field}", message.sequence));
                    return Ok(());
                }
            },
            (None, view) => view,
        };
        let bytes = view.map_or(message.bytes, View::bytes);
        let has_header = matches!(self.format, Format::Text | Format::Hex) && self.field.is_none();
        if message.lost > 0 && !has_header && self.format != Format::Json {
            let lost = output::count(message.lost, "message");
            output::notice(format_args!("{lost} lost before #{} of \"{}\"", message.sequence, message.topic));
        }
        if has_header {
            self.header(out, message)?;
        }
        match (self.format, view) {
            (Format::Raw, _) => out.write_all(bytes),
            (Format::Hex, _) => hexdump::write(out, bytes),
            (Format::Json, view) => self.json(out, message, view),
            (Format::Csv, view) => self.csv(out, message, view),
            (Format::Text, Some(view)) => {
                yaml::write(out, view, self.max_elements)?;
                if self.field.is_none() { writeln!(out, "---") } else { Ok(()) }
            }
            (Format::Text, None) => match readable(bytes) {
                Some(text) => writeln!(out, "{text}"),
                None => hexdump::write(out, bytes),
            },
        }
    }

    fn json(&self, out: &mut impl Write, message: &PrintedMessage<'_>, view: Option<View<'_>>) -> io::Result<()> {
        let text = if view.is_none() { std::str::from_utf8(message.bytes).ok() } else { None };
        let hex = (view.is_none() && text.is_none()).then(|| hex(message.bytes));
        let line = JsonMessage {
            topic: message.topic,
            sequence: message.sequence,
            lost: message.lost,
            stamp_ns: message.stamp_ns,
            age_ns: message.age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
            len_bytes: message.bytes.len(),
            message_type: self.message_type.to_string(),
            value: view,
            text,
            hex,
        };
        output::json_line(out, &line)
    }

    fn csv(&self, out: &mut impl Write, message: &PrintedMessage<'_>, view: Option<View<'_>>) -> io::Result<()> {
        let start = [message.sequence.to_string(), message.stamp_ns.map_or_else(String::new, |ns| ns.to_string())];
        match (view, view.filter(|_| self.rows_are_elements).and_then(View::elements)) {
            (_, Some(elements)) => {
                for (index, element) in elements.enumerate() {
                    let mut cells = [start.as_slice(), &[index.to_string()]].concat();
                    element.cells(&mut cells);
                    row(out, cells)?;
                }
                Ok(())
            }
            (Some(view), None) => {
                let mut cells = start.to_vec();
                view.cells(&mut cells);
                row(out, cells)
            }
            (None, None) => {
                let data = std::str::from_utf8(message.bytes).map_or_else(|_| hex(message.bytes), str::to_owned);
                row(out, start.into_iter().chain([data]))
            }
        }
    }

    /// A comment in YAML.
    fn header(&self, out: &mut impl Write, message: &PrintedMessage<'_>) -> io::Result<()> {
        let style = |style| if self.is_coloured { style } else { Style::new() };
        let lost = match message.lost {
            0 => String::new(),
            lost => {
                let lost = format_args!(", {} lost before it", output::count(lost, "message")).to_string();
                output::styled(style(output::WARNING), lost)
            }
        };
        let age = message.age.map_or("unknown".into(), output::duration);
        let len = output::count(message.bytes.len() as u64, "byte");
        let start = output::styled(style(output::FAINT), format_args!("#{}: {len}, age {age}", message.sequence));
        writeln!(out, "{start}{lost}")
    }
}

fn row(out: &mut impl Write, cells: impl IntoIterator<Item = String>) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(cells.into_iter().map(String::into_bytes))?;
    writer.flush()
}

/// Whether messages are plain bytes.
fn is_bytes(message_type: TypeInfo) -> bool {
    message_type.name() == "u8" && message_type.kind() == Kind::Slice && message_type.size() == 1
}

fn hex(bytes: &[u8]) -> String {
    Scalar::Bytes(bytes).to_string()
}

/// The bytes as text, if a terminal can show it unchanged.
fn readable(bytes: &[u8]) -> Option<&str> {
    let is_shown = |char: char| !char.is_control() || char == '\n' || char == '\t';
    std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_shown))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conduit::Message as _;
    use conduit::shape::Element;

    use super::super::value::tests::pose;
    use super::*;

    fn message(bytes: &[u8]) -> PrintedMessage<'_> {
        let age = Some(Duration::from_micros(52));
        PrintedMessage { topic: "pose", sequence: 7, lost: 3, stamp_ns: Some(5), age, bytes }
    }

    fn print(
        format: Format,
        message_type: TypeInfo,
        shape: Option<Shape>,
        field: Option<&str>,
        bytes: &[u8],
    ) -> String {
        let field = field.map(|field| field.parse().unwrap());
        let mut printer = Printer::new(format, message_type, shape, field, 3).unwrap();
        let mut out = Vec::new();
        printer.print(&mut out, &message(bytes)).unwrap();
        output::plain(&out)
    }

    fn pose_type() -> TypeInfo {
        TypeInfo::value::<[u8; 32]>("robot/Pose")
    }

    #[test]
    fn fields_are_yaml() {
        let (shape, bytes) = pose();
        let expected = "\
#7: 32 bytes, age 52.0 us, 3 messages lost before it
at:
  x: 0.1
  y: 2.0
corners:
- {x: 3.5, y: -4.0}
- {x: 1e-7, y: .nan}
id: -7
ok: true
key: 'dead000001'
---
";
        assert_eq!(print(Format::Text, pose_type(), Some(shape.clone()), None, &bytes), expected);
        assert_eq!(print(Format::Text, pose_type(), Some(shape.clone()), Some("at"), &bytes), "x: 0.1\ny: 2.0\n");
        assert_eq!(print(Format::Text, pose_type(), Some(shape), Some("id"), &bytes), "-7\n");
    }

    #[test]
    fn long_arrays_are_truncated_in_yaml() {
        let bytes: Vec<u8> = [1u16, 2, 3, 4, 5].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let shape = Some(Shape::one(Element::U16));
        let expected = "#7: 10 bytes, age 52.0 us, 3 messages lost before it\n[1, 2, 3, '... and 2 more']\n---\n";
        assert_eq!(print(Format::Text, <[u16]>::TYPE, shape.clone(), None, &bytes), expected);
        let json = print(Format::Json, <[u16]>::TYPE, shape, None, &bytes);
        assert!(json.contains(r#""type":"[u16]","value":[1,2,3,4,5]}"#), "{json}");
        let points = Shape::structure(2, [("x", 0, Shape::one(Element::U8)), ("y", 1, Shape::one(Element::U8))]);
        let printed =
            print(Format::Text, TypeInfo::slice_of(TypeInfo::value::<[u8; 2]>("P")), Some(points), None, &[1; 10]);
        assert!(printed.ends_with("- {x: 1, y: 1}\n- {x: 1, y: 1}\n# and 2 more\n---\n"), "{printed}");
    }

    #[test]
    fn bytes_are_text_or_a_dump() {
        let text = |bytes: &[u8]| print(Format::Text, <[u8]>::TYPE, Some(<[u8]>::shape()), None, bytes);
        assert!(text(b"hello\tworld").ends_with("before it\nhello\tworld\n"));
        assert!(text(b"\x1b[31m").contains("|.[31m|"), "no control sequences");
        assert!(text(&[0xff]).contains("00000000  ff"));
        assert!(print(Format::Hex, <[u8]>::TYPE, None, None, b"hello").contains("|hello|"));
        let unknown = print(Format::Text, pose_type(), None, None, &[0; 32]);
        assert!(unknown.contains("00000020"), "{unknown}");
    }

    #[test]
    fn json_is_as_documented() {
        let line = print(Format::Json, <[u8]>::TYPE, None, None, b"hi");
        let expected = r#"{"topic":"pose","sequence":7,"lost":3,"stamp_ns":5,"age_ns":52000,"len_bytes":2,"type":"[u8]","text":"hi"}"#;
        assert_eq!(line, format!("{expected}\n"));
        assert!(print(Format::Json, <[u8]>::TYPE, None, None, &[0xff, 1]).contains(r#""hex":"ff01""#));
        let (shape, bytes) = pose();
        assert!(print(Format::Json, pose_type(), Some(shape), Some("at.x"), &bytes).contains(r#""value":0.1}"#));
    }

    #[test]
    fn csv_has_a_row_per_message_or_per_element() {
        let (shape, bytes) = pose();
        let printed = print(Format::Csv, pose_type(), Some(shape.clone()), Some("corners[1]"), &bytes);
        assert_eq!(printed, "sequence,stamp_ns,corners[1].x,corners[1].y\n7,5,1e-7,NaN\n");
        let printed = print(Format::Csv, pose_type(), Some(shape), None, &bytes);
        assert!(printed.ends_with("\n7,5,0.1,2.0,3.5,-4.0,1e-7,NaN,-7,true,dead000001\n"), "{printed}");
        let printed = print(Format::Csv, <[u8]>::TYPE, None, None, b"a \"b\", c");
        assert_eq!(printed, "sequence,stamp_ns,data\n7,5,\"a \"\"b\"\", c\"\n");
        let points = Shape::structure(2, [("x", 0, Shape::one(Element::U8)), ("y", 1, Shape::one(Element::I8))]);
        let slices = TypeInfo::slice_of(TypeInfo::value::<[u8; 2]>("Point"));
        let printed = print(Format::Csv, slices, Some(points), None, &[1, 2, 3, 0xff]);
        assert_eq!(printed, "sequence,stamp_ns,index,x,y\n7,5,0,1,2\n7,5,1,3,-1\n");
    }

    #[test]
    fn a_field_of_an_unknown_type_is_an_error() {
        let field = Some("x".parse().unwrap());
        let error = Printer::new(Format::Text, pose_type(), None, field, 3).unwrap_err();
        assert_eq!(error, "the publisher does not say which fields messages of type robot/Pose have");
    }
}
