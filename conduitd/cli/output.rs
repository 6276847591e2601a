//! How things look: tables, sizes, durations.

use std::io::{self, Write};
use std::time::Duration;

use anstream::AutoStream;
use anstream::stream::RawStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Titles of columns and of fields.
pub(crate) const TITLE: Style = Style::new().bold();
/// What is as it should be, or comes.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What somebody should look at, or leaves.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is wrong, or died.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Standard output for text with styles: they are left out where there is no terminal, and where the user wants none.
pub(crate) fn stdout() -> AutoStream<io::StdoutLock<'static>> {
    anstream::stdout().lock()
}

/// Whether what is written there may have colours.
pub(crate) fn is_coloured(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != anstream::ColorChoice::Never
}

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Writes rows as columns that are as wide as their widest cell. Cells may have styles.
pub(crate) fn table<const N: usize>(
    out: &mut impl Write,
    columns: [(&str, Align); N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let titles = columns.map(|(title, _)| if title.is_empty() { String::new() } else { styled(TITLE, title) });
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().chain([&titles]).map(|row| width(&row[column])).max().unwrap_or(0));
    for row in [&titles].into_iter().chain(rows) {
        let mut line = String::new();
        for ((cell, (_, align)), column) in row.iter().zip(columns).zip(widths) {
            let space = " ".repeat(column - width(cell));
            match align {
                Align::Left => line.extend([cell, &space, "  "]),
                Align::Right => line.extend([&space, cell, "  "]),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// How many columns of a terminal a text takes, whatever its style.
fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).map(|part| part.chars().count()).sum()
}

/// Writes a value as indented JSON.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// A size of memory: powers of 1024, like pages and slots.
pub(crate) fn memory_size(bytes: u64) -> String {
    with_unit(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// An amount of data: powers of 1000, like rates.
pub(crate) fn data_size(bytes: u64) -> String {
    with_unit(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn with_unit(bytes: u64, step: f64, units: [&str; 7]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be printed as "1024.0 KiB" is "1.0 MiB".
    while value >= step - 0.05 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} {}", units[0]) } else { format!("{value:.1} {}", units[unit]) }
}

/// A duration in the unit that suits it, with three digits.
pub(crate) fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    let (value, unit) = match ns {
        ..999.5 => return format!("{ns} ns"),
        ..999.5e3 => (ns / 1e3, "us"),
        ..999.5e6 => (ns / 1e6, "ms"),
        ..60e9 => (ns / 1e9, "s"),
        ..3600e9 => (ns / 60e9, "min"),
        _ => (ns / 3600e9, "h"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A frequency, with at least three digits.
pub(crate) fn rate(hz: f64) -> String {
    format!("{} Hz", three_digits(hz))
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        0.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// [`duration`] of nanoseconds.
pub(crate) fn duration_ns(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

/// A count with the right form of its noun.
pub(crate) fn count(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What somebody sees who has no colours.
#[cfg(test)]
pub(crate) fn plain(text: &[u8]) -> String {
    anstream::adapter::strip_str(std::str::from_utf8(text).unwrap()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let rates = [0.0, 0.5, 9.996, 99.96, 1000.4].map(rate);
        assert_eq!(rates, ["0 Hz", "0.50 Hz", "10.0 Hz", "100 Hz", "1000 Hz"]);
    }

    #[test]
    fn sizes_are_for_humans() {
        for (bytes, memory, data) in [
            (0, "0 B", "0 B"),
            (999, "999 B", "999 B"),
            (1023, "1023 B", "1.0 kB"),
            (1024, "1.0 KiB", "1.0 kB"),
            (69_632, "68.0 KiB", "69.6 kB"),
            (12_000_008, "11.4 MiB", "12.0 MB"),
            ((1 << 20) - 1, "1.0 MiB", "1.0 MB"),
            (u64::MAX, "16.0 EiB", "18.4 EB"),
        ] {
            assert_eq!((memory_size(bytes).as_str(), data_size(bytes).as_str()), (memory, data));
        }
    }

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_600, "1.00 ms"),
            (123_456_789, "123 ms"),
            (59_000_000_000, "59.0 s"),
            (90_000_000_000, "1.50 min"),
            (7_200_000_000_000, "2.00 h"),
        ] {
            assert_eq!(duration_ns(ns), text);
        }
    }

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut out = Vec::new();
        let rows =
            [["imu".into(), "7".into(), styled(GOOD, "x")], ["camera/front".into(), "12345".into(), String::new()]];
        table(&mut out, [("NAME", Align::Left), ("N", Align::Right), ("TYPE", Align::Left)], &rows).unwrap();
        let expected = "\
NAME              N  TYPE
imu               7  x
camera/front  12345
";
        assert_eq!(plain(&out), expected);
    }
}
