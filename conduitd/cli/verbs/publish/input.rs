//! Where messages of bytes come from: files, lines, and records with their length before them.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

use conduit::{Domain, PublisherBuilder};

use crate::failure::Failure;
use crate::{output, private_directory};

/// Longest message from a source that does not tell its length, unless a slot size is given.
pub(super) const LONGEST_UNTOLD: usize = 64 << 20;
const STANDARD_INPUT: &str = "-";

/// What a message may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) slots: u32,
    /// As the user wants it; `None` for what the messages need.
    pub(super) slot_size: Option<usize>,
}

impl Room {
    /// Longest message to be read from a source that does not tell its length.
    pub(super) fn longest(self) -> usize {
        self.slot_size.unwrap_or(LONGEST_UNTOLD)
    }

    /// Refuses a message that cannot be sent before it is read.
    fn admit(self, what: &str, len: u64) -> Result<(), Failure> {
        let needed = usize::try_from(len).map_or(usize::MAX, PublisherBuilder::slot_size_for);
        if let Some(slot_size) = self.slot_size.filter(|&slot_size| needed > slot_size) {
            return Err(Failure::new(format_args!(
                "{what} has {len} bytes, which is too much for slots of {slot_size} (--slot-size {needed})"
            )));
        }
        let region = (needed as u64).saturating_mul(self.slots.into());
        let domain = Domain::from_env();
        let free = private_directory::free_bytes(domain.shm_dir())?;
        if region > free {
            let [len, region, free] = [len, region, free].map(output::memory_size);
            let (slots, directory) = (self.slots, domain.shm_dir().display());
            return Err(Failure::new(format_args!(
                "{what} has {len}: {slots} slots for it take {region}, {directory} has {free} free (--slots 2 takes least)"
            )));
        }
        Ok(())
    }
}

/// Reads a file as one message; `-` is standard input.
pub(super) fn read_file(path: &Path, room: Room) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == STANDARD_INPUT {
        return read_untold(io::stdin().lock(), "standard input", room);
    }
    let failed = |error| Failure::io("read", path)(error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let what = path.display().to_string();
    if metadata.is_dir() {
        return Err(Failure::new(format_args!("cannot read {what}: it is a directory; --file publishes files")));
    }
    // Files of /proc and the like have a length of 0 whatever they contain.
    if !metadata.is_file() || metadata.len() == 0 {
        return read_untold(file, &what, room);
    }
    room.admit(&what, metadata.len())?;
    // As long as it was when it was opened: a file may grow faster than it is read.
    let mut message = Vec::new();
    file.take(metadata.len()).read_to_end(&mut message).map_err(failed)?;
    Ok(message)
}

fn read_untold(source: impl Read, what: &str, room: Room) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    let longest = room.longest();
    let read = source.take(longest as u64 + 1).read_to_end(&mut message);
    read.map_err(|error| Failure::new(format_args!("cannot read {what}: {error}")))?;
    if message.len() > longest {
        return Err(Failure::new(format_args!(
            "{what} does not end after {longest} bytes; for a longer message give a larger --slot-size"
        )));
    }
    Ok(message)
}

/// Why there is no next message.
#[derive(Debug)]
pub(super) enum InputError {
    Read(io::Error),
    /// It has so many bytes, or more.
    TooLong(usize),
    /// It ends in the middle of a message.
    Cut,
}

impl From<io::Error> for InputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Cut } else { Self::Read(error) }
    }
}

/// Reads a line without its end. Returns false at the end of the input. A line of more than `limit`
/// bytes is measured, within reason, but not kept.
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> Result<bool, InputError> {
    line.clear();
    let mut len = 0;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend_from_slice(&part[..part.len().min(limit - line.len())]);
        len += part.len();
        let is_over = bytes.is_empty();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if is_over || end.is_some() || len > limit.max(LONGEST_UNTOLD) {
            return if len > limit { Err(InputError::TooLong(len)) } else { Ok(end.is_some() || len > 0) };
        }
    }
}

/// Reads a message that follows its length, 4 bytes with the least significant one first. Returns
/// false at the end of the input.
pub(super) fn read_record(input: &mut impl BufRead, record: &mut Vec<u8>, limit: usize) -> Result<bool, InputError> {
    record.clear();
    let is_over = loop {
        match input.fill_buf() {
            Ok(bytes) => break bytes.is_empty(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    };
    if is_over {
        return Ok(false);
    }
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > limit {
        return Err(InputError::TooLong(len));
    }
    record.resize(len, 0);
    input.read_exact(record)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Input<'a> = io::BufReader<&'a [u8]>;

    fn all<'a>(
        input: &'a [u8],
        limit: usize,
        read: impl Fn(&mut Input<'a>, &mut Vec<u8>, usize) -> Result<bool, InputError>,
    ) -> Result<Vec<Vec<u8>>, InputError> {
        // A buffer of 3 bytes makes messages span several reads.
        let mut input = io::BufReader::with_capacity(3, input);
        let (mut message, mut messages) = (Vec::new(), Vec::new());
        while read(&mut input, &mut message, limit)? {
            messages.push(message.clone());
        }
        Ok(messages)
    }

    #[test]
    fn lines_are_messages() {
        let lines = |input: &[u8]| all(input, 8, read_line).unwrap();
        assert_eq!(lines(b""), [b""; 0]);
        assert_eq!(lines(b"one\n\ntwo"), [&b"one"[..], b"", b"two"]);
        assert_eq!(lines(b"a\r\n"), [b"a\r"]);
        assert_eq!(lines(b"01234567"), [b"01234567"]);
    }

    #[test]
    fn a_long_line_is_measured_but_not_kept() {
        let error = all(b"ab\n0123456789\nab\n", 4, read_line).unwrap_err();
        assert!(matches!(error, InputError::TooLong(10)), "{error:?}");
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        let mut line = Vec::new();
        let error = read_line(&mut endless, &mut line, 4).unwrap_err();
        assert!(
            matches!(error, InputError::TooLong(len) if len > LONGEST_UNTOLD) && line.capacity() < 100,
            "{error:?}"
        );
    }

    #[test]
    fn records_follow_their_length() {
        assert_eq!(all(b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0\n", 8, read_record).unwrap(), [&b"hi"[..], b"", b"\n"]);
        assert!(matches!(all(b"\x09\0\0\0", 8, read_record), Err(InputError::TooLong(9))));
        for cut in [&b"\x02\0"[..], b"\x02\0\0\0h"] {
            assert!(matches!(all(cut, 8, read_record), Err(InputError::Cut)), "{cut:?}");
        }
    }
}
