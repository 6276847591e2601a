//! Values as YAML that YAML 1.1 (PyYAML) and 1.2 read alike, and without loss.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use conduit::internal::foreign_text::is_shown;

use super::value::{Scalar, View};

/// Words that are booleans or null, in any case. YAML 1.1 names `y` and `n`, too, but its parsers
/// take them for themselves, and coordinates are not worth quotes.
const RESERVED: [&str; 7] = ["yes", "no", "on", "off", "true", "false", "null"];

/// A value as a document of YAML, structures over several lines, arrays on one; as the value of a
/// name if there is one.
pub(super) fn write(out: &mut impl Write, name: Option<&str>, view: View<'_>, max_elements: usize) -> io::Result<()> {
    match (name, view) {
        (Some(name), view) => entry(out, name, view, 0, max_elements),
        (None, View::Slice(..)) if has_structures(view) && max_elements > 0 => lines(out, view, 0, max_elements),
        (None, view) => block(out, view, 0, max_elements),
    }
}

fn block(out: &mut impl Write, view: View<'_>, depth: usize, max_elements: usize) -> io::Result<()> {
    let Some(fields) = view.fields().filter(|_| has_fields(view)) else {
        write!(out, "{:depth$}", "")?;
        flow(out, view, max_elements)?;
        return writeln!(out);
    };
    for (name, value) in fields {
        entry(out, name, value, depth, max_elements)?;
    }
    Ok(())
}

/// A name and its value.
fn entry(out: &mut impl Write, name: &str, value: View<'_>, depth: usize, max_elements: usize) -> io::Result<()> {
    write!(out, "{:depth$}{}:", "", key(name))?;
    if has_fields(value) {
        writeln!(out)?;
        block(out, value, depth + 2, max_elements)
    } else if has_structures(value) && max_elements > 0 {
        writeln!(out)?;
        lines(out, value, depth, max_elements)
    } else {
        write!(out, " ")?;
        flow(out, value, max_elements)?;
        writeln!(out)
    }
}

/// Whether it is a list of structures or of lists that is not empty.
fn has_structures(view: View<'_>) -> bool {
    let first = view.elements().and_then(|mut elements| elements.next());
    first.is_some_and(|first| first.fields().is_some() || first.elements().is_some())
}

/// Whether it is a structure that is not empty.
fn has_fields(view: View<'_>) -> bool {
    view.fields().is_some_and(|mut fields| fields.next().is_some())
}

/// A list with an element per line.
fn lines(out: &mut impl Write, view: View<'_>, depth: usize, max_elements: usize) -> io::Result<()> {
    let Some(elements) = view.elements() else { return Ok(()) };
    let count = elements.len();
    for element in elements.take(max_elements) {
        write!(out, "{:depth$}- ", "")?;
        flow(out, element, max_elements)?;
        writeln!(out)?;
    }
    if count > max_elements { writeln!(out, "{:depth$}# and {} more", "", count - max_elements) } else { Ok(()) }
}

fn flow(out: &mut impl Write, view: View<'_>, max_elements: usize) -> io::Result<()> {
    if let Some(fields) = view.fields() {
        write!(out, "{{")?;
        for (index, (name, value)) in fields.enumerate() {
            write!(out, "{}{}: ", if index > 0 { ", " } else { "" }, key(name))?;
            flow(out, value, max_elements)?;
        }
        return write!(out, "}}");
    }
    let Some(elements) = view.elements() else {
        let scalar = view.scalar().map_or_else(|| "null".into(), scalar);
        return out.write_all(scalar.as_bytes());
    };
    let count = elements.len();
    write!(out, "[")?;
    for (index, element) in elements.take(max_elements).enumerate() {
        write!(out, "{}", if index > 0 { ", " } else { "" })?;
        flow(out, element, max_elements)?;
    }
    if count > max_elements {
        let comma = if max_elements > 0 { ", " } else { "" };
        write!(out, "{comma}'... and {} more'", count - max_elements)?;
    }
    write!(out, "]")
}

fn scalar(scalar: Scalar<'_>) -> String {
    match scalar {
        // Digits alone would be a number.
        Scalar::Bytes(_) => format!("'{scalar}'"),
        Scalar::F32(_) | Scalar::F64(_) => float(&scalar.to_string()),
        Scalar::Bool(_) | Scalar::Unsigned(_) | Scalar::Signed(_) => scalar.to_string(),
    }
}

/// YAML 1.1 takes a number for a float only if it has a point, and a sign in its exponent.
fn float(rust: &str) -> String {
    match (rust, rust.split_once('e')) {
        ("NaN", _) => ".nan".into(),
        ("inf", _) => ".inf".into(),
        ("-inf", _) => "-.inf".into(),
        (_, Some((mantissa, exponent))) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
        (rust, None) => rust.into(),
    }
}

/// A name as a key: in quotes if it could be taken for anything but itself.
pub(super) fn key(name: &str) -> Cow<'_, str> {
    // Numbers, dates and everything special begin with another character.
    let is_word = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '/'));
    if is_word && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name)) {
        name.into()
    } else {
        quoted(name).into()
    }
}

/// A text between double quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        let _ = match (char, u32::from(char)) {
            ('"' | '\\', _) => write!(quoted, "\\{char}"),
            ('\n', _) => write!(quoted, "\\n"),
            ('\t', _) => write!(quoted, "\\t"),
            (_, _) if is_shown(char) => write!(quoted, "{char}"),
            (_, code @ ..=0xff) => write!(quoted, "\\x{code:02x}"),
            (_, code @ ..=0xffff) => write!(quoted, "\\u{code:04x}"),
            (_, code) => write!(quoted, "\\U{code:08x}"),
        };
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use conduit::Shape;
    use conduit::shape::Element;

    use super::*;

    #[test]
    fn names_that_yaml_takes_for_something_else_are_quoted() {
        for plain in ["x", "y", "gyro_2", "_", "camera/front", "nullable", "e5", "inf", "nan", "a-b"] {
            assert_eq!(key(plain), plain);
        }
        for name in [
            "on",
            "Off",
            "NULL",
            "~",
            "=",
            "<<",
            "",
            "0",
            "0o17",
            "0x1f",
            "1_000",
            "1:30",
            "2026-11-27",
            "1e3",
            ".inf",
            ".nan",
            "-",
            "- a",
            "? a",
            "a: b",
            "a #b",
            " a",
            "a ",
            "#a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "[",
            "{",
            ",",
            "|",
            ">",
            "'",
            "größe",
        ] {
            assert_eq!(key(name), format!("\"{name}\""), "{name}");
        }
        assert_eq!(quoted("a\"b\\\n\t\x1b\x7f\u{85}"), r#""a\"b\\\n\t\x1b\x7f\x85""#);
        assert_eq!(quoted("\u{202e}\u{feff}\u{2028}\u{fffe}\u{e0001}"), r#""\u202e\ufeff\u2028\ufffe\U000e0001""#);
    }

    #[test]
    fn floats_have_a_point_and_a_signed_exponent() {
        let written = |number: f64| scalar(Scalar::F64(number));
        let numbers = [0.1, -0.0, 1e15, 1e16, 1e-7, 1.5e300, -2e-300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let expected = ["0.1", "-0.0", "1000000000000000.0", "1.0e+16", "1.0e-7", "1.5e+300", "-2.0e-300"];
        assert_eq!(numbers.map(written)[..7], expected);
        assert_eq!(numbers.map(written)[7..], [".inf", "-.inf", ".nan"]);
        assert_eq!(scalar(Scalar::F32(f32::MIN_POSITIVE)), "1.1754944e-38");
        assert_eq!(scalar(Scalar::Bytes(&[0x12, 0x34])), "'1234'");
    }

    #[test]
    fn nothing_is_left_out() {
        let written = |shape: &Shape, bytes: &[u8], max_elements| {
            let mut out = Vec::new();
            write(&mut out, None, View::value(shape, bytes).unwrap(), max_elements).unwrap();
            String::from_utf8(out).unwrap()
        };
        let shape = Shape::structure(2, [("none", 0, Shape::structure(0, [])), ("pairs", 0, pair().array(1))]);
        assert_eq!(written(&shape, &[1, 2], 1), "none: {}\npairs:\n- {\"on\": 1, \"off\": 2}\n");
        assert_eq!(written(&shape, &[1, 2], 0), "none: {}\npairs: ['... and 1 more']\n");
        assert_eq!(written(&Shape::structure(0, []), &[], 1), "{}\n");
    }

    fn pair() -> Shape {
        Shape::structure(2, [("on", 0, Shape::one(Element::U8)), ("off", 1, Shape::one(Element::U8))])
    }
}
