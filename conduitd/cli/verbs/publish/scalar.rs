//! Single values from text.

use conduit::shape::Element;

/// How much of a wrong text is shown.
const EXCERPT: usize = 40;

/// The start of a text.
pub(super) fn excerpt(text: &str) -> String {
    let mut start: String = text.chars().take(EXCERPT).collect();
    if start.len() < text.len() {
        start += "...";
    }
    start
}

/// What a value is, in words.
pub(super) fn expected(element: &Element) -> String {
    match element {
        Element::Bool => "true or false".into(),
        Element::F32 | Element::F64 => "a number".into(),
        Element::Bytes { size } => format!("{size} bytes in hexadecimal"),
        Element::Struct { .. } => "fields".into(),
        _ => "a whole number".into(),
    }
}

/// The bytes of a whole number.
macro_rules! whole {
    ($number:ty, $text:expr) => {{
        let text = $text;
        let range = || format!("{} to {}", <$number>::MIN, <$number>::MAX);
        let number = whole_number(text)?;
        let number = <$number>::try_from(number);
        number.map_err(|_| format!("{} is out of range: {}", excerpt(text), range()))?.to_ne_bytes().to_vec()
    }};
}

/// The bytes of a number.
macro_rules! float {
    ($number:ty, $text:expr, $element:expr) => {{
        let (text, element) = ($text, $element);
        let number: $number = match text.strip_prefix('.').or_else(|| text.strip_prefix("-.")).unwrap_or(text) {
            // As YAML spells them; null is what JSON has in place of NaN.
            "inf" | "Inf" | "INF" if text.starts_with('-') => <$number>::NEG_INFINITY,
            "inf" | "Inf" | "INF" => <$number>::INFINITY,
            "nan" | "NaN" | "NAN" | "null" => <$number>::NAN,
            _ => match text.parse::<$number>() {
                Ok(number) if number.is_infinite() && text.contains(|digit: char| digit.is_ascii_digit()) => {
                    let range = format!("{:e} to {:e}", <$number>::MIN, <$number>::MAX);
                    return Err(format!("{} is out of range: {range}", excerpt(text)));
                }
                Ok(number) => number,
                Err(_) => whole_number(text).map_err(|_| unlike(element, text))? as $number,
            },
        };
        number.to_ne_bytes().to_vec()
    }};
}

/// Writes the value that a text means to its place.
pub(super) fn write(element: &Element, text: &str, out: &mut [u8]) -> Result<(), String> {
    if text.starts_with("... and ") && text.ends_with(" more") {
        return Err("the list was shortened; print it with `conduit echo --full-length`".into());
    }
    let bytes = match element {
        Element::Bool => match text {
            "true" | "True" | "TRUE" | "1" => vec![1],
            "false" | "False" | "FALSE" | "0" => vec![0],
            _ => return Err(unlike(element, text)),
        },
        Element::U8 => whole!(u8, text),
        Element::U16 => whole!(u16, text),
        Element::U32 => whole!(u32, text),
        Element::U64 => whole!(u64, text),
        Element::I8 => whole!(i8, text),
        Element::I16 => whole!(i16, text),
        Element::I32 => whole!(i32, text),
        Element::I64 => whole!(i64, text),
        Element::F32 => float!(f32, text, element),
        Element::F64 => float!(f64, text, element),
        Element::Bytes { .. } => bytes(text).ok_or_else(|| unlike(element, text))?,
        _ => return Err("a value of this type cannot be given".into()),
    };
    if bytes.len() != out.len() {
        return Err(format!("{} needed, found {}", expected(element), bytes.len()));
    }
    out.copy_from_slice(&bytes);
    Ok(())
}

fn unlike(element: &Element, text: &str) -> String {
    let found = if text.is_empty() || text == "~" { "nothing".into() } else { format!("{:?}", excerpt(text)) };
    format!("expected {}, found {found}", expected(element))
}

/// A whole number: decimal, hexadecimal, octal, binary, or one like 2.0 or 1e3 as other programs
/// print it.
fn whole_number(text: &str) -> Result<i128, String> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (-1, &text[1..]),
        [b'+', ..] => (1, &text[1..]),
        _ => (1, text),
    };
    let parsed = match digits.get(..2) {
        // A second sign would be taken for part of the number.
        _ if digits.starts_with(['+', '-']) => None,
        Some("0x" | "0o" | "0b") if digits[2..].starts_with(['+', '-']) => None,
        Some("0x") => i128::from_str_radix(&digits[2..], 16).ok(),
        Some("0o") => i128::from_str_radix(&digits[2..], 8).ok(),
        Some("0b") => i128::from_str_radix(&digits[2..], 2).ok(),
        _ => digits.parse::<i128>().ok().or_else(|| whole_float(digits)),
    };
    match parsed {
        Some(number) => Ok(sign * number),
        None if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Err(format!("{} is out of range", excerpt(text)))
        }
        None => Err(unlike(&Element::I64, text)),
    }
}

fn whole_float(digits: &str) -> Option<i128> {
    // Larger ones have lost digits.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let number: f64 = digits.parse().ok()?;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i128)
}

/// The bytes that hexadecimal digits mean, with or without `0x` before them.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        u8::from_str_radix(pair, 16).ok()
    };
    if digits.len().is_multiple_of(2) { digits.chunks(2).map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(element: Element, text: &str) -> Result<Vec<u8>, String> {
        let mut out = vec![0; element.size() as usize];
        write(&element, text, &mut out).map(|()| out)
    }

    #[test]
    fn numbers_are_exact_up_to_their_limits() {
        assert_eq!(of(Element::U64, "18446744073709551615"), Ok(u64::MAX.to_ne_bytes().into()));
        assert_eq!(of(Element::I64, "-9223372036854775808"), Ok(i64::MIN.to_ne_bytes().into()));
        assert_eq!(of(Element::U8, "0xff"), Ok(vec![255]));
        assert_eq!(of(Element::I8, "-0b101"), Ok((-5i8).to_ne_bytes().into()));
        assert_eq!(of(Element::U16, "1e3"), Ok(1000u16.to_ne_bytes().into()));
        assert_eq!(of(Element::I16, "-2.0"), Ok((-2i16).to_ne_bytes().into()));
        for float in [0.1f32, 1e-7, 1e16, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON, -0.0] {
            assert_eq!(of(Element::F32, &format!("{float:?}")), Ok(float.to_ne_bytes().into()));
            assert_eq!(of(Element::F64, &format!("{:?}", f64::from(float))), Ok(f64::from(float).to_ne_bytes().into()));
        }
        assert_eq!(of(Element::F64, "0x10"), Ok(16f64.to_ne_bytes().into()));
    }

    #[test]
    fn special_floats_are_those_of_yaml_and_json() {
        for text in [".nan", ".NaN", "NaN", "nan", "null"] {
            assert_eq!(of(Element::F32, text), Ok(f32::NAN.to_ne_bytes().into()), "{text}");
        }
        for (text, sign) in [(".inf", 1.0), ("inf", 1.0), ("Infinity", 1.0), ("-.inf", -1.0), ("-Infinity", -1.0)] {
            assert_eq!(of(Element::F64, text), Ok((sign * f64::INFINITY).to_ne_bytes().into()), "{text}");
        }
    }

    #[test]
    fn bytes_are_hexadecimal() {
        assert_eq!(of(Element::Bytes { size: 2 }, "ff01"), Ok(vec![255, 1]));
        assert_eq!(of(Element::Bytes { size: 2 }, "0xFF01"), Ok(vec![255, 1]));
        assert_eq!(of(Element::Bytes { size: 0 }, ""), Ok(vec![]));
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        for (element, text, complaint) in [
            (Element::U8, "256", "256 is out of range: 0 to 255"),
            (Element::U8, "-1", "-1 is out of range: 0 to 255"),
            (Element::I8, "128", "128 is out of range: -128 to 127"),
            (Element::U64, "18446744073709551616", "out of range: 0 to 18446744073709551615"),
            (Element::U64, &"9".repeat(60), "9999999999... is out of range"),
            (Element::U32, "1.5", "expected a whole number, found \"1.5\""),
            (Element::U64, "1e300", "expected a whole number"),
            (Element::I32, "", "expected a whole number, found nothing"),
            (Element::I32, "--5", "expected a whole number"),
            (Element::I32, "+-5e0", "expected a whole number"),
            (Element::I32, "0x-e", "expected a whole number"),
            (Element::I32, "-", "expected a whole number"),
            (Element::I32, "0x", "expected a whole number"),
            (Element::F32, "1e39", "1e39 is out of range: -3.4028235e38 to 3.4028235e38"),
            (Element::F64, "1e999", "out of range"),
            (Element::F64, "fast", "expected a number, found \"fast\""),
            (Element::Bool, "2", "expected true or false, found \"2\""),
            (Element::Bool, "\u{1b}[2J", "found \"\\u{1b}[2J\""),
            (Element::Bytes { size: 2 }, "ff", "2 bytes in hexadecimal needed, found 1"),
            (Element::Bytes { size: 2 }, "fff", "expected 2 bytes in hexadecimal"),
            (Element::Bytes { size: 2 }, "+1-1", "expected 2 bytes in hexadecimal"),
            (Element::Bytes { size: 2 }, "äö", "expected 2 bytes in hexadecimal"),
            (Element::U16, "... and 2 more", "--full-length"),
        ] {
            let error = of(element, text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
