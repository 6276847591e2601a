//! Bytes as `hexdump -C` shows them.

use std::io::{self, Write};

const LINE: usize = 16;
/// Offset, two spaces, 16 bytes in two groups, two spaces.
const TEXT_AT: usize = 8 + 2 + LINE * 3 + 1 + 1;

/// Writes bytes exactly as `hexdump -C` does: full lines that repeat the one before are shown as
/// one `*`.
pub(crate) fn write(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut before: Option<&[u8]> = None;
    let mut squeezing = false;
    for (index, line) in bytes.chunks(LINE).enumerate() {
        if before == Some(line) {
            if !squeezing {
                writeln!(out, "*")?;
            }
            squeezing = true;
            continue;
        }
        squeezing = false;
        before = Some(line);
        write_line(out, index * LINE, line)?;
    }
    if bytes.is_empty() { Ok(()) } else { writeln!(out, "{:08x}", bytes.len()) }
}

fn write_line(out: &mut impl Write, offset: usize, line: &[u8]) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut text = format!("{offset:08x} ");
    // The end of the columns moves with an offset of more than 32 bits.
    let text_at = TEXT_AT + text.len() - 9;
    for (at, byte) in line.iter().enumerate() {
        let gap = if at % 8 == 0 { " " } else { "" };
        let _ = write!(text, "{gap}{byte:02x} ");
    }
    let ascii: String =
        line.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' }).collect();
    writeln!(out, "{text:<text_at$}|{ascii}|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn looks_like_hexdump_c() {
        assert_eq!(dump(b""), "");
        let one = "00000000  61                                                |a|\n00000001\n";
        assert_eq!(dump(b"a"), one);
        let full = "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n00000010\n";
        assert_eq!(dump(b"0123456789abcdef"), full);
        let short = "\
00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
00000010  00 00 00 00 00                                    |.....|
00000015
";
        assert_eq!(dump(&[0; 21]), short);
    }

    #[test]
    fn repeated_lines_are_squeezed_but_not_a_short_last_one() {
        let mut bytes = [b'A'; 101];
        bytes[32..48].fill(b'B');
        bytes[96..].copy_from_slice(b"\x7f\x80\xff~ ");
        let expected = "\
00000000  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  |AAAAAAAAAAAAAAAA|
*
00000020  42 42 42 42 42 42 42 42  42 42 42 42 42 42 42 42  |BBBBBBBBBBBBBBBB|
00000030  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  |AAAAAAAAAAAAAAAA|
*
00000060  7f 80 ff 7e 20                                    |...~ |
00000065
";
        assert_eq!(dump(&bytes), expected);
        let zeros = "\
00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000040
";
        assert_eq!(dump(&[0; 64]), zeros);
        assert_eq!(
            dump(&[0; 40]).lines().nth(2),
            Some(format!("00000020  {:<50}|........|", "00 ".repeat(8)).as_str())
        );
    }
}
