//! Why a verb fails, how that is reported, and the exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use conduit::internal::foreign_text::clean_lines;
use conduit::registry::RegistryCallError;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::signals;

/// What a shell reports for a process that was killed by SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 128 + 13;

/// Writes a line to standard error. If that fails, there is nowhere to report it.
///
/// Paths, arguments and variables that it quotes may have any characters: none controls the
/// terminal.
pub(crate) fn notice(line: impl Display) {
    let _ = writeln!(io::stderr(), "conduit: {}", clean_lines(&line.to_string()));
}

/// Writes a line to standard error if that takes it at once: the work of a verb must not wait for
/// whoever reads what it remarks.
pub(crate) fn remark(line: impl Display) {
    let _ = HastyStderr.write_all(format!("conduit: {line}\n").as_bytes());
}

/// Standard error, for lines that are dropped rather than waited for.
pub(crate) struct HastyStderr;

impl Write for HastyStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        // A pipe that is writable takes a page.
        if poll(&mut writable, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            stderr.lock().write(line)
        } else {
            Ok(line.len())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a verb ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Reported on standard error. The exit code is 1 unless another one is documented.
    Error { message: String, code: u8 },
    /// Standard output cannot be written.
    Output(io::Error),
    /// A signal arrived; [`crate::signals`] ends the process as soon as everything is cleaned up.
    Interrupted,
}

impl Failure {
    /// An error with exit code 1.
    pub(crate) fn new(message: impl Display) -> Self {
        Self::with_code(message, 1)
    }

    /// An error with an exit code of its own.
    pub(crate) fn with_code(message: impl Display, code: u8) -> Self {
        Self::Error { message: message.to_string(), code }
    }

    /// An error of the file system, for `map_err`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(format_args!("cannot {doing} {}: {error}", path.display()))
    }

    /// Reports the failure. A reader of standard output that leaves early is no error to report.
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Self::Error { message, code } => {
                notice(message);
                ExitCode::from(code)
            }
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(BROKEN_PIPE),
            Self::Output(error) => {
                notice(format_args!("cannot write to standard output: {error}"));
                ExitCode::FAILURE
            }
            Self::Interrupted => signals::wait_for_the_end(),
        }
    }
}

macro_rules! from_errors_of_the_library {
    ($($error:ty)*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        }
    )*};
}
from_errors_of_the_library!(
    conduit::CreateError conduit::OpenError conduit::LoanError conduit::RecvError conduit::WaitError
    conduit::TopicNameError
);

impl From<RegistryCallError> for Failure {
    fn from(error: RegistryCallError) -> Self {
        if error.is_too_busy() {
            return Self::new(format_args!(
                "the registry is too busy: {error}; end some of its clients, or raise its limits (`conduitd --help`)"
            ));
        }
        Self::new(with_remedy(&error))
    }
}

/// Why the registry did not answer a call that nothing else can answer, and how to find out what to
/// do.
pub(crate) fn with_remedy(error: &RegistryCallError) -> String {
    match error {
        RegistryCallError::Connection(source) if source.kind() == io::ErrorKind::TimedOut => {
            format!("{error} `conduit doctor` names the remedy")
        }
        error => error.to_string(),
    }
}
