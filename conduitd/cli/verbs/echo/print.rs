//! How messages are printed: for people, for a pipe, or for a spreadsheet.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use conduit::internal::foreign_text::is_shown;
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
    pub(super) age: Option<Duration>,
    /// When it was published, by the clock on the wall as it is set now.
    pub(super) time: Option<SystemTime>,
    pub(super) bytes: &'a [u8],
}

impl<'a> PrintedMessage<'a> {
    pub(super) fn new(topic: &'a str, sample: &'a Sample<[u8]>) -> Self {
        let age = sample.age();
        Self {
            topic,
            sequence: sample.sequence(),
            lost: sample.lost(),
            stamp_ns: sample.stamp_ns(),
            age,
            time: age.and_then(|age| SystemTime::now().checked_sub(age)),
            bytes: sample,
        }
    }

    fn time(&self) -> Option<String> {
        self.time.map(output::time_us)
    }
}

/// How the messages of all topics are printed.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) format: Format,
    pub(super) field: Option<FieldPath>,
    /// Elements of an array printed as YAML.
    pub(super) max_elements: usize,
    pub(super) is_coloured: bool,
    /// Whether each message says which topic it is of.
    pub(super) names_topics: bool,
}

/// Prints the messages of one publisher.
#[derive(Debug)]
pub(super) struct Printer {
    style: Style,
    message_type: TypeInfo,
    /// Of a message, or of an element if messages are slices; `None` if unknown.
    shape: Option<Shape>,
    columns: Vec<String>,
    rows_are_elements: bool,
}

#[derive(Serialize)]
struct JsonMessage<'a> {
    topic: &'a str,
    sequence: u64,
    lost: u64,
    stamp_ns: Option<u64>,
    age_ns: Option<u64>,
    time: Option<String>,
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
    pub(super) fn new(style: Style, message_type: TypeInfo, shape: Option<Shape>) -> Result<Self, String> {
        let is_slice = message_type.kind() == Kind::Slice;
        // Plain bytes have no fields to show.
        let shape = shape.filter(|_| !is_bytes(message_type));
        let mut selected = shape.clone();
        if let Some(field) = &style.field {
            let Some(shape) = &shape else {
                return Err(format!("the publisher does not say which fields messages of type {message_type} have"));
            };
            selected = Some(field.resolve(shape, is_slice)?);
        }
        let rows_are_elements = is_slice && style.field.is_none() && shape.is_some();
        let mut names = Vec::new();
        if style.format == Format::Csv {
            names.extend(style.names_topics.then(|| "topic".into()));
            names.extend(["sequence", "stamp_ns", "time"].map(String::from));
            match &selected {
                Some(selected) => {
                    names.extend(rows_are_elements.then(|| "index".into()));
                    let prefix = style.field.as_ref().map_or_else(String::new, ToString::to_string);
                    names.extend(columns(selected, &prefix)?);
                }
                None => names.extend(["text", "hex"].map(String::from)),
            }
        }
        Ok(Self { style, message_type, shape, columns: names, rows_are_elements })
    }

    /// The names of a table's columns; none of other formats.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Writes a message. Reports losses on standard error if the format has no place for them.
    pub(super) fn print(&self, out: &mut impl Write, message: &PrintedMessage<'_>) -> io::Result<()> {
        let Style { format, ref field, names_topics, .. } = self.style;
        let view = self.shape.as_ref().and_then(|shape| match self.message_type.kind() {
            Kind::Value => View::value(shape, message.bytes),
            Kind::Slice => Some(View::Slice(shape, message.bytes)),
        });
        let view = match (field, view) {
            (Some(field), view) => match view.and_then(|view| view.select(field)) {
                Some(view) => Some(view),
                None => {
                    output::notice(format_args!(
                        "message #{} of \"{}\" is too short for {field}",
                        message.sequence, message.topic
                    ));
                    return Ok(());
                }
            },
            (None, view) => view,
        };
        let bytes = view.map_or(message.bytes, View::bytes);
        let has_header = matches!(format, Format::Text | Format::Hex) && (field.is_none() || names_topics);
        if message.lost > 0 && !has_header && format != Format::Json {
            let lost = output::count(message.lost, "message");
            output::notice(format_args!("{lost} lost before #{} of \"{}\"", message.sequence, message.topic));
        }
        if has_header {
            self.header(out, message)?;
        }
        match (format, view) {
            (Format::Raw, _) => out.write_all(bytes),
            (Format::Hex, _) => hexdump::write(out, bytes),
            (Format::Json, view) => self.json(out, message, view),
            (Format::Csv, view) => self.csv(out, message, view),
            (Format::Text, Some(view)) => self.yaml(out, message, view),
            (Format::Text, None) => match readable(bytes) {
                Some(text) if names_topics => {
                    writeln!(out, "{}: {}\n---", yaml::key(message.topic), yaml::quoted(text))
                }
                Some(text) => writeln!(out, "{text}"),
                None => hexdump::write(out, bytes),
            },
        }
    }

    fn yaml(&self, out: &mut impl Write, message: &PrintedMessage<'_>, view: View<'_>) -> io::Result<()> {
        let name = self.style.names_topics.then_some(message.topic);
        yaml::write(out, name, view, self.style.max_elements)?;
        // A value on its own line needs no end, and scripts read lines.
        let is_line = self.style.field.is_some() && name.is_none() && view.scalar().is_some();
        if is_line { Ok(()) } else { writeln!(out, "---") }
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
            time: message.time(),
            len_bytes: message.bytes.len(),
            message_type: self.message_type.to_string(),
            value: view,
            text,
            hex,
        };
        output::json_line(out, &line)
    }

    fn csv(&self, out: &mut impl Write, message: &PrintedMessage<'_>, view: Option<View<'_>>) -> io::Result<()> {
        let mut start: Vec<String> = self.style.names_topics.then(|| message.topic.into()).into_iter().collect();
        start.push(message.sequence.to_string());
        start.push(message.stamp_ns.map_or_else(String::new, |ns| ns.to_string()));
        start.push(message.time().unwrap_or_default());
        let mut table = csv_writer(out);
        match (view, view.filter(|_| self.rows_are_elements).and_then(View::elements)) {
            (_, Some(elements)) => {
                for (index, element) in elements.enumerate() {
                    let mut cells = [start.as_slice(), &[index.to_string()]].concat();
                    element.cells(&mut cells);
                    table.write_record(cells)?;
                }
            }
            (Some(view), None) => {
                view.cells(&mut start);
                table.write_record(start)?;
            }
            (None, None) => {
                // One of the two is empty, so that nothing can be taken for the other.
                let [text, hex] = match readable(message.bytes).filter(|text| text.chars().all(is_shown)) {
                    Some(text) => [text.to_owned(), String::new()],
                    None => [String::new(), hex(message.bytes)],
                };
                start.extend([text, hex]);
                table.write_record(start)?;
            }
        }
        table.flush()
    }

    /// A comment in YAML.
    fn header(&self, out: &mut impl Write, message: &PrintedMessage<'_>) -> io::Result<()> {
        let style = |style| if self.style.is_coloured { style } else { anstyle::Style::new() };
        let lost = match message.lost {
            0 => String::new(),
            lost => {
                let lost = format_args!(", {} lost before it", output::count(lost, "message")).to_string();
                output::styled(style(output::WARNING), lost)
            }
        };
        let topic = if self.style.names_topics { format!(" {} #", message.topic) } else { String::new() };
        let age = message.age.map_or("unknown".into(), output::duration);
        let time = message.time().map_or_else(String::new, |time| format!(", {time}"));
        let len = output::count(message.bytes.len() as u64, "byte");
        let start = format_args!("#{topic}{}: {len}, age {age}{time}", message.sequence).to_string();
        writeln!(out, "{}{lost}", output::styled(style(output::FAINT), start))
    }
}

/// Writes the first line of a table.
pub(super) fn write_columns(out: &mut impl Write, columns: &[String]) -> io::Result<()> {
    let mut table = csv_writer(out);
    table.write_record(columns)?;
    table.flush()
}

/// A writer of lines of comma-separated values, which does not flush what it writes to.
fn csv_writer<W: Write>(out: &mut W) -> csv::Writer<Unflushed<'_, W>> {
    csv::WriterBuilder::new().buffer_capacity(1 << 12).from_writer(Unflushed(out))
}

/// Passes on bytes, but no flush.
struct Unflushed<'a, W: Write>(&'a mut W);

impl<W: Write> Write for Unflushed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    let is_readable = |char: char| is_shown(char) || char == '\n' || char == '\t';
    std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_readable))
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
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(1_795_770_000_000_123));
        PrintedMessage { topic: "pose", sequence: 7, lost: 3, stamp_ns: Some(5), age, time, bytes }
    }

    fn style(format: Format, field: Option<&str>) -> Style {
        let field = field.map(|field| field.parse().unwrap());
        Style { format, field, max_elements: 3, is_coloured: false, names_topics: false }
    }

    fn print(
        format: Format,
        message_type: TypeInfo,
        shape: Option<Shape>,
        field: Option<&str>,
        bytes: &[u8],
    ) -> String {
        print_in(style(format, field), message_type, shape, bytes)
    }

    /// The message after the line with the columns, if there is one.
    fn print_in(style: Style, message_type: TypeInfo, shape: Option<Shape>, bytes: &[u8]) -> String {
        let printer = Printer::new(style, message_type, shape).unwrap();
        let mut out = Vec::new();
        if !printer.columns().is_empty() {
            write_columns(&mut out, printer.columns()).unwrap();
        }
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
#7: 32 bytes, age 52.0 us, 2026-11-27T09:00:00.000123Z, 3 messages lost before it
at:
  x: 0.1
  y: 2.0
corners:
- {x: 3.5, y: -4.0}
- {x: 1.0e-7, y: .nan}
id: -7
ok: true
key: 'dead000001'
---
";
        assert_eq!(print(Format::Text, pose_type(), Some(shape.clone()), None, &bytes), expected);
        assert_eq!(print(Format::Text, pose_type(), Some(shape.clone()), Some("at"), &bytes), "x: 0.1\ny: 2.0\n---\n");
        assert_eq!(print(Format::Text, pose_type(), Some(shape), Some("id"), &bytes), "-7\n");
    }

    #[test]
    fn long_arrays_are_truncated_in_yaml() {
        let bytes: Vec<u8> = [1u16, 2, 3, 4, 5].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let shape = Some(Shape::one(Element::U16));
        let expected = "#7: 10 bytes, age 52.0 us, 2026-11-27T09:00:00.000123Z, 3 messages lost before it\n[1, 2, 3, '... and 2 more']\n---\n";
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
        let expected = r#"{"topic":"pose","sequence":7,"lost":3,"stamp_ns":5,"age_ns":52000,"time":"2026-11-27T09:00:00.000123Z","len_bytes":2,"type":"[u8]","text":"hi"}"#;
        assert_eq!(line, format!("{expected}\n"));
        assert!(print(Format::Json, <[u8]>::TYPE, None, None, &[0xff, 1]).contains(r#""hex":"ff01""#));
        let (shape, bytes) = pose();
        assert!(print(Format::Json, pose_type(), Some(shape), Some("at.x"), &bytes).contains(r#""value":0.1}"#));
    }

    #[test]
    fn csv_has_a_row_per_message_or_per_element() {
        let (shape, bytes) = pose();
        let printed = print(Format::Csv, pose_type(), Some(shape.clone()), Some("corners[1]"), &bytes);
        let [names, stamp] = ["sequence,stamp_ns,time", "7,5,2026-11-27T09:00:00.000123Z"];
        assert_eq!(printed, format!("{names},corners[1].x,corners[1].y\n{stamp},1e-7,NaN\n"));
        let printed = print(Format::Csv, pose_type(), Some(shape), None, &bytes);
        assert!(printed.ends_with(&format!("\n{stamp},0.1,2.0,3.5,-4.0,1e-7,NaN,-7,true,dead000001\n")), "{printed}");
        let points = Shape::structure(2, [("x", 0, Shape::one(Element::U8)), ("y", 1, Shape::one(Element::I8))]);
        let slices = TypeInfo::slice_of(TypeInfo::value::<[u8; 2]>("Point"));
        let printed = print(Format::Csv, slices, Some(points), None, &[1, 2, 3, 0xff]);
        assert_eq!(printed, format!("{names},index,x,y\n{stamp},0,1,2\n{stamp},1,3,-1\n"));
    }

    #[test]
    fn a_table_tells_text_from_bytes_and_has_no_control_characters() {
        let cells = |bytes: &[u8]| {
            let printed = print(Format::Csv, <[u8]>::TYPE, None, None, bytes);
            let start = "sequence,stamp_ns,time,text,hex\n7,5,2026-11-27T09:00:00.000123Z,";
            printed.strip_prefix(start).unwrap_or_else(|| panic!("{printed}")).trim_end_matches('\n').to_owned()
        };
        assert_eq!(cells(b"a \"b\", c"), "\"a \"\"b\"\", c\",");
        assert_eq!([cells(b"ff01"), cells(b"\xff\x01"), cells(b"")], ["ff01,", ",ff01", ","]);
        assert_eq!([cells(b"a\0"), cells(b"\x1b[2J"), cells(b"a\nb")], [",6100", ",1b5b324a", ",610a62"]);
        assert_eq!([cells("\u{9b}".as_bytes()), cells("\u{202e}".as_bytes())], [",c29b", ",e280ae"]);
    }

    #[test]
    fn several_topics_are_told_apart() {
        let print = |format, message_type, shape: Option<Shape>, field, bytes: &[u8]| {
            print_in(Style { names_topics: true, ..style(format, field) }, message_type, shape, bytes)
        };
        let (shape, bytes) = pose();
        let header = "# pose #7: 32 bytes, age 52.0 us, 2026-11-27T09:00:00.000123Z, 3 messages lost before it\n";
        let printed = print(Format::Text, pose_type(), Some(shape.clone()), Some("at"), &bytes);
        assert_eq!(printed, format!("{header}pose:\n  x: 0.1\n  y: 2.0\n---\n"));
        let printed = print(Format::Text, pose_type(), Some(shape.clone()), Some("id"), &bytes);
        assert_eq!(printed, format!("{header}pose: -7\n---\n"));
        let printed = print(Format::Text, <[u8]>::TYPE, None, None, b"a\n# imu #8: 1 byte");
        assert!(printed.ends_with("before it\npose: \"a\\n# imu #8: 1 byte\"\n---\n"), "{printed}");
        let printed = print(Format::Csv, pose_type(), Some(shape), Some("id"), &bytes);
        assert_eq!(printed, "topic,sequence,stamp_ns,time,id\npose,7,5,2026-11-27T09:00:00.000123Z,-7\n");
    }

    #[test]
    fn a_field_of_an_unknown_type_is_an_error() {
        let error = Printer::new(style(Format::Text, Some("x")), pose_type(), None).unwrap_err();
        assert_eq!(error, "the publisher does not say which fields messages of type robot/Pose have");
    }
}
