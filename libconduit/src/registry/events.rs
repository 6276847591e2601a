//! What happens, as the registry reports it.

use std::io::{self, BufRead, BufReader};
use std::iter::FusedIterator;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::connection::{Patience, RegistrySocket};
use super::protocol::{END, EventReply};
use super::reply::{MAX_REPLY_BYTES, RegistryCallError, closed, decode};
use crate::model::RegistryEvent;
use crate::stop::Stop;

/// The events that a [`Client`](super::Client) [watches](super::Client::watch): an iterator that
/// waits for the next one.
///
/// For loops that wait for other things too, it has a descriptor ([`AsFd`]), which is readable when
/// an event has come: take events with [`try_next`](Self::try_next) until there is none, and then
/// wait for the descriptor. Never read from it.
#[derive(Debug)]
#[must_use = "a watch that is dropped reports nothing"]
pub struct RegistryEvents {
    stream: BufReader<RegistrySocket>,
    /// The beginning of an event whose end has not come.
    partial: Vec<u8>,
    is_over: bool,
    stop: Option<Stop>,
}

impl RegistryEvents {
    /// The answers to a call that was sent.
    pub(super) fn new(stream: BufReader<RegistrySocket>) -> Self {
        Self { stream, partial: Vec::new(), is_over: false, stop: None }
    }

    /// Lets `stop` end the calls that wait, from another thread or on a signal: see [`Stop`]. Once
    /// it is stopped, the iterator ends and [`next_timeout`](Self::next_timeout) returns
    /// [`RegistryCallError::Stopped`]. What has come can be taken with
    /// [`try_next`](Self::try_next).
    pub fn stop(&mut self, stop: &Stop) {
        self.stop = Some(stop.clone());
    }

    /// The next event, if it has come.
    ///
    /// # Errors
    ///
    /// An event that is not understood is a [`Reply`](RegistryCallError::Reply), after which there
    /// are more. After any other error the watch has ended, and every call is an error.
    pub fn try_next(&mut self) -> Result<Option<RegistryEvent>, RegistryCallError> {
        self.next_until(Some(Instant::now()), None)
    }

    /// The next event, if it comes before the timeout expires.
    ///
    /// # Errors
    ///
    /// As for [`try_next`](Self::try_next), and [`Stopped`](RegistryCallError::Stopped), after
    /// which there may be more events.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<RegistryEvent>, RegistryCallError> {
        // A timeout beyond the range of the clock never expires.
        self.next_until(Instant::now().checked_add(timeout), self.stop.clone())
    }

    fn next_until(
        &mut self,
        deadline: Option<Instant>,
        stop: Option<Stop>,
    ) -> Result<Option<RegistryEvent>, RegistryCallError> {
        if self.is_over {
            return Err(closed().into());
        }
        if stop.as_ref().is_some_and(Stop::is_stopped) {
            return Err(RegistryCallError::Stopped);
        }
        self.stream.get_mut().stops(stop);
        let reply = match self.read(deadline) {
            Ok(()) => decode(&mem::take(&mut self.partial)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(RegistryCallError::Stopped),
            Err(error) => Err(error.into()),
        };
        self.is_over = !matches!(reply, Ok((_, true)));
        let (parameters, _) = reply?;
        Ok(Some(serde_json::from_value::<EventReply>(parameters)?.event))
    }

    /// Reads the rest of an event, without its end.
    fn read(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let stream = &mut self.stream;
            stream.get_mut().waits(left.map(Patience::exactly));
            let buffer = stream.fill_buf()?;
            let end = buffer.iter().position(|&byte| byte == END);
            let (len, used) = end.map_or((buffer.len(), buffer.len()), |end| (end, end + 1));
            if used == 0 || (self.partial.len() + len) as u64 > MAX_REPLY_BYTES {
                return Err(closed());
            }
            self.partial.extend_from_slice(&buffer[..len]);
            stream.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

impl Iterator for RegistryEvents {
    type Item = Result<RegistryEvent, RegistryCallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.next_until(None, self.stop.clone()) {
            Err(RegistryCallError::Stopped) => None,
            result => result.transpose(),
        }
    }
}

impl FusedIterator for RegistryEvents {}

impl AsFd for RegistryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::Domain;
    use crate::model::EventKind;
    use crate::registry::Client;

    /// A registry that answers the first call, and then sends what `says` yields.
    fn registry(listener: UnixListener, says: mpsc::Receiver<&'static [u8]>) {
        let (mut client, _) = listener.accept().unwrap();
        let mut byte = [0];
        let mut calls = 0;
        while calls < 2 {
            client.read_exact(&mut byte).unwrap();
            if byte[0] == END {
                calls += 1;
                if calls == 1 {
                    client.write_all(b"{\"parameters\":{}}\0").unwrap();
                }
            }
        }
        says.into_iter().for_each(|text| client.write_all(text).unwrap());
    }

    fn is_readable(events: &RegistryEvents, timeout: PollTimeout) -> bool {
        poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
    }

    /// A registry that has sent half of an event: what is stopped continues where it was.
    #[test]
    fn a_stop_ends_the_wait_and_loses_no_event() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let socket = directory.path().join("registry.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (say, says) = mpsc::channel();
        let registry = std::thread::spawn(move || registry(listener, says));
        let domain = Domain::new(directory.path()).with_socket(socket);
        let mut events = Client::connect(&domain).unwrap().watch().unwrap();
        let minute = Duration::from_secs(60);
        say.send(b"{\"continues\":true,\"parameters\":{\"event\":{\"kind\":\"died\",").unwrap();
        for by_iterator in [false, true] {
            let stop = Stop::new();
            events.stop(&stop);
            let stopping = stop.clone();
            let stopping = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                stopping.stop();
            });
            let begun = Instant::now();
            for _ in 0..2 {
                if by_iterator {
                    assert!(events.next().is_none());
                } else {
                    assert!(matches!(events.next_timeout(minute), Err(RegistryCallError::Stopped)));
                }
            }
            assert!(begun.elapsed() < minute / 2);
            stopping.join().unwrap();
        }
        say.send(b"\"topic\":\"a\"}}}\0").unwrap();
        assert!(is_readable(&events, PollTimeout::NONE));
        assert_eq!(events.try_next().unwrap().unwrap().topic, "a");
        drop(say);
        registry.join().unwrap();
    }

    #[test]
    fn events_are_taken_as_they_come_whole_or_in_parts() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let socket = directory.path().join("registry.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (say, says) = mpsc::channel();
        let registry = std::thread::spawn(move || registry(listener, says));
        let domain = Domain::new(directory.path()).with_socket(socket);
        let mut events = Client::connect(&domain).unwrap().watch().unwrap();
        assert!(events.try_next().unwrap().is_none() && !is_readable(&events, PollTimeout::ZERO));
        let begun = Instant::now();
        assert!(events.next_timeout(Duration::from_millis(20)).unwrap().is_none());
        assert!(begun.elapsed() >= Duration::from_millis(20));

        let minute = Duration::from_secs(60);
        say.send(b"{\"continues\":true,\"parameters\":{\"event\":{\"kind\":\"died\",").unwrap();
        assert!(is_readable(&events, PollTimeout::NONE));
        assert!(events.try_next().unwrap().is_none(), "half of one");
        say.send(
            b"\"topic\":\"a\"}}}\0{\"continues\":true,\"parameters\":{\"event\":{\"kind\":\"new\",\"topic\":\"b\"}}}\0",
        )
        .unwrap();
        let first = events.next_timeout(minute).unwrap().unwrap();
        assert_eq!((first.kind, &*first.topic), (EventKind::Died, "a"));
        let second = events.next_timeout(minute).unwrap().unwrap();
        assert_eq!((second.kind, &*second.topic), (EventKind::Unknown("new".into()), "b"));
        assert!(events.try_next().unwrap().is_none() && !is_readable(&events, PollTimeout::ZERO));

        // One that is not understood, and the end.
        say.send(b"{\"continues\":true,\"parameters\":{\"event\":7}}\0").unwrap();
        assert!(matches!(events.next_timeout(minute), Err(RegistryCallError::Reply(_))));
        say.send(b"{\"continues\":true,\"parameters\":{\"event\":{\"kind\":\"kept\",\"topic\":\"c\"}}}\0").unwrap();
        assert_eq!(events.next().unwrap().unwrap().topic, "c");
        drop(say);
        registry.join().unwrap();
        assert!(matches!(events.next(), Some(Err(RegistryCallError::Connection(_)))));
        assert!(events.next().is_none());
        assert!(matches!(events.try_next(), Err(RegistryCallError::Connection(_))));
    }
}
