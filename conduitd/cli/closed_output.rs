//! Noticing at once that nobody reads standard output any more, also while there is nothing to
//! write.

use std::io;
use std::os::fd::AsFd;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::{BROKEN_PIPE, Failure};

/// From now on the process ends as by SIGPIPE when the last reader of standard output is gone. For
/// verbs that have nothing to put away.
pub(crate) fn end_when_closed() -> Result<(), Failure> {
    when_closed(|| std::process::exit(BROKEN_PIPE.into()))
}

/// Calls `then` on a thread of its own when the last reader of standard output is gone. Files and
/// the like never lose their readers.
pub(crate) fn when_closed(then: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let wait = move || {
        let out = io::stdout();
        // Nothing is asked for: what poll always reports, an error or a hang-up, ends the wait.
        let mut polled = [PollFd::new(out.as_fd(), PollFlags::empty())];
        loop {
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => return then(),
                Err(Errno::EINTR) => {}
                // The next write tells.
                Err(_) => return,
            }
        }
    };
    let started = thread::Builder::new().name("reader".into()).spawn(wait);
    started.map(drop).map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))
}
