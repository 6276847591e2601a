//! Messages from text: a document of YAML, of which JSON is a part, becomes the bytes that a shape
//! says.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use conduit::internal::foreign_text::clean;
use conduit::shape::{Element, Field};
use conduit::{Kind, Shape};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::message_type::DescribedType;
use super::scalar;
use crate::suggestion::nearest;

/// Why a document is no message of a type.
#[derive(Debug)]
pub(super) struct EncodeError {
    /// The way to the value: `pose.position[2]`; empty if it is the whole message.
    path: String,
    what: String,
    /// Where in the document, both from 1.
    line: usize,
    column: usize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, line, column } = self;
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "{path}{colon}{what} (line {line}, column {column})")
    }
}

/// The bytes of the message that a document describes: fields that it does not name are zero.
/// Messages of more than `longest` bytes are refused.
///
/// What `conduit echo --json` prints is accepted too: an object with the message as its `value`.
pub(super) fn encode(document: &str, message: &DescribedType, longest: usize) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder { parser: Parser::new_from_str(document), path: String::new(), longest };
    while matches!(encoder.peek()?, Event::StreamStart | Event::DocumentStart(_)) {
        encoder.next()?;
    }
    let mut out = Vec::new();
    if is_echoed(document, &message.shape) {
        encoder.echoed(message, &mut out)?;
    } else {
        encoder.message(message, &mut out)?;
    }
    match encoder.next()? {
        (Event::DocumentEnd, _) => {}
        (_, span) => return encoder.fail(span, "something follows the message"),
    }
    match encoder.next()? {
        (Event::StreamEnd, _) => Ok(out),
        (_, span) => encoder.fail(span, "a second document follows; one is expected"),
    }
}

/// Whether a document is an object that `conduit echo --json` printed, and not a message.
fn is_echoed(document: &str, shape: &Shape) -> bool {
    let is_object = document.trim_start().starts_with("{\"topic\":");
    let is_whole = ["\"sequence\":", "\"len_bytes\":", "\"value\":"].iter().all(|key| document.contains(key));
    let Element::Struct { fields, .. } = &shape.element else { return is_object && is_whole };
    is_object && is_whole && fields.iter().all(|field| field.name != "topic")
}

struct Encoder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// The way to the value that is being read.
    path: String,
    longest: usize,
}

impl<'a> Encoder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), EncodeError> {
        let event = match self.parser.next_event() {
            Some(event) => event.map_err(|error| self.no_yaml(&error))?,
            None => (Event::StreamEnd, Span::default()),
        };
        match event {
            (Event::Alias(_), span) => self.fail(span, "references to anchors (`*name`) are not supported"),
            event => Ok(event),
        }
    }

    fn peek(&mut self) -> Result<&Event<'a>, EncodeError> {
        // The parser is asked twice for the sake of the borrow checker.
        if let Some(Err(error)) = self.parser.peek() {
            return Err(self.no_yaml(&error));
        }
        match self.parser.peek() {
            Some(Ok((event, _))) => Ok(event),
            _ => Ok(&Event::StreamEnd),
        }
    }

    fn no_yaml(&self, error: &ScanError) -> EncodeError {
        let (at, path) = (error.marker(), self.path.clone());
        let what = format!("this is neither YAML nor JSON: {}", clean(error.info()));
        EncodeError { path, what, line: at.line(), column: at.col() + 1 }
    }

    fn fail<T>(&self, span: Span, what: impl Into<String>) -> Result<T, EncodeError> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        Err(EncodeError { path: self.path.clone(), what: what.into(), line, column })
    }

    /// Runs `read` one step further along the path.
    fn step<T>(
        &mut self,
        step: fmt::Arguments<'_>,
        read: impl FnOnce(&mut Self) -> Result<T, EncodeError>,
    ) -> Result<T, EncodeError> {
        let len = self.path.len();
        // Writing to a string does not fail.
        let _ = self.path.write_fmt(step);
        // A failure keeps the path.
        let done = read(self)?;
        self.path.truncate(len);
        Ok(done)
    }

    fn message(&mut self, message: &DescribedType, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if message.info.kind() == Kind::Value {
            let bytes = self.grow(message, out)?;
            return self.value(&message.shape, bytes);
        }
        let (Event::SequenceStart(..), _) = self.next_but("a list of elements")? else { return Ok(()) };
        for index in 0_u64.. {
            if matches!(self.peek()?, Event::SequenceEnd) {
                break;
            }
            self.step(format_args!("[{index}]"), |it| {
                let bytes = it.grow(message, out)?;
                it.value(&message.shape, bytes)
            })?;
        }
        self.next().map(drop)
    }

    /// Makes room for a value or element at the end, and returns it.
    fn grow<'b>(&mut self, message: &DescribedType, out: &'b mut Vec<u8>) -> Result<&'b mut [u8], EncodeError> {
        let begin = out.len();
        let end = usize::try_from(message.info.size()).ok().and_then(|size| begin.checked_add(size));
        let Some(end) = end.filter(|&end| end <= self.longest) else {
            let span = self.parser.peek().and_then(Result::ok).map(|(_, span)| *span).unwrap_or_default();
            let longest = self.longest;
            return self.fail(span, format!("the message has more than {longest} bytes (--slot-size)"));
        };
        out.resize(end, 0);
        Ok(&mut out[begin..])
    }

    /// Reads the value of an object of `conduit echo --json`.
    fn echoed(&mut self, message: &DescribedType, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.next()?;
        loop {
            match self.next()? {
                (Event::Scalar(key, ..), _) if key == "value" => self.message(message, out)?,
                (Event::Scalar(..), _) => self.skip()?,
                _ => return Ok(()),
            }
        }
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), EncodeError> {
        let mut depth = 0_usize;
        loop {
            match self.next()?.0 {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
                Event::Scalar(..) => {}
                _ => return Ok(()),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The next event, which must begin a list or be an error.
    fn next_but(&mut self, expected: &str) -> Result<(Event<'a>, Span), EncodeError> {
        match self.next()? {
            event @ (Event::SequenceStart(..), _) => Ok(event),
            (event, span) => self.fail(span, format!("expected {expected}, found {}", name_of(&event))),
        }
    }

    fn value(&mut self, shape: &Shape, out: &mut [u8]) -> Result<(), EncodeError> {
        match (shape.count, &shape.element) {
            (Some(count), element) => self.array(element, count, out),
            (None, Element::Struct { fields, .. }) => self.structure(fields, out),
            (None, element) => self.scalar(element, out),
        }
    }

    fn array(&mut self, element: &Element, count: u64, out: &mut [u8]) -> Result<(), EncodeError> {
        if let (Event::Scalar(_, style, ..), Element::U8) = (self.peek()?, element)
            && *style != ScalarStyle::Plain
        {
            return self.text(out);
        }
        let (_, span) = self.next_but(&format!("a list of {count}"))?;
        let size = usize::try_from(element.size()).unwrap_or(usize::MAX);
        let of_one = Shape::one(element.clone());
        for index in 0..=count {
            if matches!(self.peek()?, Event::SequenceEnd) {
                self.next()?;
                return if index == count {
                    Ok(())
                } else {
                    self.fail(span, format!("the list has {index} elements, {count} are needed"))
                };
            }
            self.step(format_args!("[{index}]"), |it| {
                let place = usize::try_from(index).ok().and_then(|index| index.checked_mul(size));
                let place = place.filter(|_| index < count).and_then(|at| out.get_mut(at..at.checked_add(size)?));
                match place {
                    Some(place) => it.value(&of_one, place),
                    None => {
                        let (_, span) = it.next()?;
                        it.fail(span, format!("the list has {count} elements"))
                    }
                }
            })?;
        }
        Ok(())
    }

    /// An array of bytes that is given as text.
    fn text(&mut self, out: &mut [u8]) -> Result<(), EncodeError> {
        let (event, span) = self.next()?;
        let Event::Scalar(text, ..) = event else { return Ok(()) };
        let Some(place) = out.get_mut(..text.len()) else {
            return self.fail(span, format!("the text has {} bytes, there is room for {}", text.len(), out.len()));
        };
        place.copy_from_slice(text.as_bytes());
        Ok(())
    }

    fn structure(&mut self, fields: &[Field], out: &mut [u8]) -> Result<(), EncodeError> {
        match self.next()? {
            (Event::MappingStart(..), _) => {}
            (event, span) => {
                let found = name_of(&event);
                return self.fail(span, format!("expected {}, found {found}", names_of(fields)));
            }
        }
        let mut given: Vec<&str> = Vec::new();
        loop {
            let name = match self.next()? {
                (Event::MappingEnd, _) => return Ok(()),
                (Event::Scalar(name, ..), span) => (name, span),
                (event, span) => {
                    return self.fail(span, format!("expected the name of a field, found {}", name_of(&event)));
                }
            };
            let (field, span) = (self.field(fields, &name.0, name.1)?, name.1);
            let dot = if self.path.is_empty() { "" } else { "." };
            self.step(format_args!("{dot}{}", field.name), |it| {
                if given.contains(&field.name.as_str()) {
                    return it.fail(span, "this field is given twice");
                }
                let end = field.offset.saturating_add(field.shape.size());
                let place = usize::try_from(field.offset).ok().zip(usize::try_from(end).ok());
                match place.and_then(|(begin, end)| out.get_mut(begin..end)) {
                    Some(place) => it.value(&field.shape, place),
                    None => it.fail(span, "this field lies outside of its structure"),
                }
            })?;
            given.push(&field.name);
        }
    }

    fn field<'f>(&self, fields: &'f [Field], name: &str, span: Span) -> Result<&'f Field, EncodeError> {
        if let Some(field) = fields.iter().find(|field| field.name == name) {
            return Ok(field);
        }
        let hint = match nearest(name, fields.iter().map(|field| field.name.as_str())) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("it has {}", names_of(fields)),
        };
        self.fail(span, format!("there is no field {name:?}; {hint}"))
    }

    fn scalar(&mut self, element: &Element, out: &mut [u8]) -> Result<(), EncodeError> {
        match self.next()? {
            (Event::Scalar(text, ..), span) => scalar::write(element, &text, out).or_else(|what| self.fail(span, what)),
            (event, span) => {
                self.fail(span, format!("expected {}, found {}", scalar::expected(element), name_of(&event)))
            }
        }
    }
}

fn name_of<'a>(event: &'a Event<'_>) -> Cow<'a, str> {
    match event {
        Event::Scalar(text, ..) if text.is_empty() || text == "~" => "nothing".into(),
        Event::Scalar(text, ..) => format!("{:?}", scalar::excerpt(text)).into(),
        Event::SequenceStart(..) => "a list".into(),
        Event::MappingStart(..) => "fields".into(),
        _ => "nothing".into(),
    }
}

fn names_of(fields: &[Field]) -> String {
    let names: Vec<&str> = fields.iter().take(20).map(|field| field.name.as_str()).collect();
    let more = if fields.len() > names.len() { ", ..." } else { "" };
    format!("the fields {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use conduit::TypeInfo;

    use super::*;

    fn pose() -> DescribedType {
        let point = || Shape::structure(8, [("x", 0, Shape::one(Element::F32)), ("y", 4, Shape::one(Element::F32))]);
        let shape = Shape::structure(
            40,
            [
                ("at", 0, point()),
                ("corners", 8, point().array(2)),
                ("id", 24, Shape::one(Element::I16)),
                ("on", 26, Shape::one(Element::Bool)),
                ("key", 27, Shape::bytes(5)),
                ("name", 32, Shape::one(Element::U8).array(8)),
            ],
        );
        DescribedType { info: TypeInfo::new("robot/Pose", Kind::Value, 40, 4).unwrap(), shape }
    }

    fn points() -> DescribedType {
        let shape = Shape::structure(2, [("x", 0, Shape::one(Element::U8)), ("y", 1, Shape::one(Element::I8))]);
        DescribedType { info: TypeInfo::new("Point", Kind::Slice, 2, 1).unwrap(), shape }
    }

    fn bytes(floats: [f32; 6], id: i16, rest: [u8; 14]) -> Vec<u8> {
        [&floats.map(f32::to_ne_bytes).concat()[..], &id.to_ne_bytes(), &rest].concat()
    }

    #[test]
    fn documents_of_yaml_and_json_are_messages() {
        let whole = bytes([0.1, 2.0, 3.5, -4.0, 1e-7, f32::INFINITY], -7, *b"\x01\xde\xad\0\0\x01left\0\0\0\0");
        for text in [
            "at:\n  x: 0.1\n  y: 2.0\ncorners:\n- {x: 3.5, y: -4.0}\n- {x: 1e-7, y: .inf}\nid: -7\non: true\nkey: 'dead000001'\nname: 'left'\n",
            "# a comment\n---\n{name: [108, 101, 102, 116, 0, 0, 0, 0], 'on': 1, key: \"0xdead000001\", id: -7, at: {y: 2, x: 0.1}, corners: [{x: 3.5, y: -4}, {y: Infinity, x: 1.0e-7}]}",
            r#"{"at":{"x":0.1,"y":2.0},"corners":[{"x":3.5,"y":-4.0},{"x":1e-7,"y":"inf"}],"id":-7,"on":true,"key":"dead000001","name":"left"}"#,
            r#"{"topic":"pose","sequence":7,"lost":{"a":[1]},"len_bytes":40,"value":{"at":{"x":0.1,"y":2.0},"corners":[{"x":3.5,"y":-4.0},{"x":1e-7,"y":".inf"}],"id":-7,"on":true,"key":"dead000001","name":"left"},"type":"robot/Pose"}"#,
        ] {
            assert_eq!(encode(text, &pose(), 100).unwrap(), whole, "{text}");
        }
        let zero = bytes([0.0; 6], 0, [0; 14]);
        assert_eq!(encode("{}", &pose(), 100).unwrap(), zero, "fields that are not given are zero");
        assert_eq!(encode("- {x: 1}\n- {y: -1, x: 0x10}\n", &points(), 100).unwrap(), [1, 0, 16, 255]);
        assert_eq!(encode("[]", &points(), 100).unwrap(), [0; 0]);
        let number =
            DescribedType { info: TypeInfo::new("f64", Kind::Value, 8, 8).unwrap(), shape: Shape::one(Element::F64) };
        assert_eq!(encode("0.5", &number, 100).unwrap(), 0.5f64.to_ne_bytes());
    }

    #[test]
    fn errors_have_the_path_the_place_and_what_would_be_right() {
        let deep = "[".repeat(10_000);
        for (text, complaint) in [
            ("{id: 40000}", "id: 40000 is out of range: -32768 to 32767 (line 1, column 6)"),
            ("id: 1\nat: {x: fast}", "at.x: expected a number, found \"fast\" (line 2, column 9)"),
            ("{corners: [{}, {x: {}}]}", "corners[1].x: expected a number, found fields"),
            ("{corners: [{}]}", "corners: the list has 1 elements, 2 are needed"),
            ("{corners: [{}, {}, {}]}", "corners[2]: the list has 2 elements"),
            ("{corners: {x: 1}}", "corners: expected a list of 2, found fields"),
            ("{name: left}", "name: expected a list of 8, found \"left\""),
            ("{name: 'too long for it'}", "name: the text has 15 bytes, there is room for 8"),
            ("{name: [1, 2, '... and 6 more']}", "name[2]: the list was shortened; print it with"),
            ("{key: 'dead'}", "key: 5 bytes in hexadecimal needed, found 2"),
            ("{at: 5}", "at: expected the fields x, y, found \"5\""),
            ("{at: }", "at: expected the fields x, y, found nothing"),
            ("{at: {zebra: 1}}", "at: there is no field \"zebra\"; it has the fields x, y"),
            ("{idd: 1}", "there is no field \"idd\"; did you mean \"id\"?"),
            ("{\"\\e[2J\": 1}", "there is no field \"\\u{1b}[2J\""),
            ("{id: 1, id: 2}", "id: this field is given twice"),
            ("{? [1] : 2}", "expected the name of a field, found a list"),
            ("[1]", "expected the fields at, corners, id, on, key, name, found a list"),
            ("5", "found \"5\""),
            ("", "found nothing"),
            ("{id: 1}\n{id: 2}", "this is neither YAML nor JSON"),
            ("{id: 1", "this is neither YAML nor JSON"),
            ("{id: &a 1, on: *a}", "on: references to anchors"),
            ("--- {id: 1}\n--- {id: 2}", "a second document follows"),
            ("id: \t\u{7}", "id: expected a whole number, found \"\\u{7}\""),
            (&deep, "recursion limit exceeded"),
        ] {
            let error = encode(text, &pose(), 100).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text:.80}: {error}");
        }
        let error = encode("[{}, {}, {}]", &points(), 4).unwrap_err().to_string();
        assert!(error.starts_with("[2]: the message has more than 4 bytes (--slot-size)"), "{error}");
        let error = encode("[{x: 1}, 2]", &points(), 4).unwrap_err().to_string();
        assert!(error.starts_with("[1]: expected the fields x, y, found \"2\" (line 1, column 10)"), "{error}");
    }
}
