//! How the command writes: styles, tables, JSON, notices; and how it words what it shows.

pub(crate) mod events;
mod json;
mod time;
pub(crate) mod topics;
mod units;

use std::fmt::Display;
use std::io::{self, Write};

use anstream::AutoStream;
use anstream::stream::RawStream;
use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use crate::failure::Failure;
pub(crate) use crate::failure::{notice, remark};
pub(crate) use json::{json, json_line};
pub(crate) use time::{time_ms, time_us};
pub(crate) use units::{count, data_size, duration, duration_ns, memory_size, rate};

/// Titles of columns and of fields.
pub(crate) const TITLE: Style = Style::new().bold();
/// Healthy, or new.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Worth attention, or removed.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// Wrong, or dead.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Less important.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Standard output for styled text, with a buffer that has to be flushed. Styles are dropped if it
/// is not a terminal or the user disabled them.
pub(crate) type Out = AutoStream<Box<dyn Write>>;

pub(crate) fn stdout() -> Out {
    let out = io::stdout().lock();
    let choice = AutoStream::choice(&out);
    // Standard output by itself would write line by line.
    AutoStream::new(Box::new(buffered(out)), choice)
}

/// With a buffer that makes long output cheap.
pub(crate) fn buffered<W: Write>(out: W) -> io::BufWriter<W> {
    io::BufWriter::with_capacity(1 << 16, out)
}

/// Writes to standard output and flushes it.
pub(crate) fn print(write: impl FnOnce(&mut Out) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = stdout();
    write(&mut out).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Whether text written to this stream may have colours.
pub(crate) fn is_coloured(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != anstream::ColorChoice::Never
}

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes a table whose columns are as wide as their widest cell; nothing if there are no rows.
///
/// A column is its alignment, `<` or `>`, and its title. Cells may be styled.
pub(crate) fn table(out: &mut impl Write, columns: &[&str], rows: &[impl AsRef<[String]>]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let title = |column: &&str| if column.len() > 1 { styled(TITLE, &column[1..]) } else { String::new() };
    let titles: Vec<String> = columns.iter().map(title).collect();
    let lines: Vec<&[String]> = [&titles[..]].into_iter().chain(rows.iter().map(AsRef::as_ref)).collect();
    let widest = |at: usize| lines.iter().map(|cells| width(&cells[at])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    for cells in &lines {
        let mut line = String::new();
        for ((cell, column), widest) in cells.iter().zip(columns).zip(&widths) {
            let space = " ".repeat(widest - width(cell));
            let is_left = column.starts_with('<');
            line.extend(if is_left { [cell, &space, "  "] } else { [&space, cell, "  "] });
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// How many terminal columns a text takes, styles excluded.
fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).map(UnicodeWidthStr::width).sum()
}

/// The text without styles.
#[cfg(test)]
pub(crate) fn plain(text: &[u8]) -> String {
    anstream::adapter::strip_str(std::str::from_utf8(text).unwrap()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut out = Vec::new();
        let rows = [
            ["imu".into(), "7".into(), styled(GOOD, "x")],
            ["camera/front".into(), "12345".into(), String::new()],
            ["日本".into(), "1".into(), "e\u{301}".into()],
        ];
        table(&mut out, &["<NAME", ">N", "<TYPE"], &rows).unwrap();
        let expected = "\
NAME              N  TYPE
imu               7  x
camera/front  12345
日本              1  e\u{301}
";
        assert_eq!(plain(&out), expected);
    }
}
