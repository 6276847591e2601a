//! The descriptors that a service manager leaves open for this process: see
//! [`sd_listen_fds(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use nix::libc;

/// The first inherited descriptor.
const FIRST: RawFd = 3;
/// A descriptor without a name is called so.
const UNNAMED: &str = "unknown";

/// Takes ownership of the descriptors that `LISTEN_FDS` announces to this process, with their names
/// from `LISTEN_FDNAMES`. Each is returned once in the life of the process, and left out if it is
/// not open.
///
/// # Errors
///
/// If the variables contradict each other. No descriptor is taken then.
pub fn take_inherited() -> io::Result<Vec<(String, OwnedFd)>> {
    let variable = |name| std::env::var(name).ok();
    // A parent's variables, or those of the process this one was forked from, announce nothing to
    // it.
    if variable("LISTEN_PID").is_none_or(|pid| pid != std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let names = names(variable("LISTEN_FDS").as_deref(), variable("LISTEN_FDNAMES").as_deref())?;
    // SAFETY: LISTEN_PID names this process, and the number is one of LISTEN_FDS.
    let take = |(number, name)| Some((name, unsafe { take(number) }?));
    Ok((FIRST..).zip(names).filter_map(take).collect())
}

fn names(count: Option<&str>, names: Option<&str>) -> io::Result<Vec<String>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some(count) = count else { return Ok(Vec::new()) };
    let count: u16 =
        count.parse().map_err(|_| invalid(format!("LISTEN_FDS={count} is not a number of descriptors")))?;
    let names: Vec<String> = match names {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec![UNNAMED.to_owned(); count.into()],
    };
    if names.len() != usize::from(count) {
        return Err(invalid(format!("LISTEN_FDS={count}, but LISTEN_FDNAMES has {} names", names.len())));
    }
    Ok(names)
}

/// Takes an inherited descriptor, unless it was taken before.
///
/// The close-on-exec flag decides: `execve` closes every descriptor that has it, so a descriptor
/// that was inherited starts without it, and its taker sets it, as `sd_listen_fds` does.
///
/// # Safety
///
/// The number was open, and announced to this process, when it was executed.
unsafe fn take(number: RawFd) -> Option<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = TAKING.lock();
    // SAFETY: F_GETFD reads the flags of a descriptor and fails if it is not open; it changes
    // nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: the descriptor is the inherited one (the caller's promise), and was not taken before.
    unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
    // SAFETY: it is open, and no other code owns it: no code of this process opened it, and from
    // now on its flag keeps every other taker away, here and in other copies of this function.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_must_agree() {
        assert_eq!(names(None, Some("a")).unwrap(), Vec::<String>::new());
        assert_eq!(names(Some("2"), Some("a:")).unwrap(), ["a", ""]);
        assert_eq!(names(Some("2"), None).unwrap(), [UNNAMED; 2]);
        assert!(names(Some("-1"), None).is_err());
        assert!(names(Some("1"), Some("a:b")).is_err());
    }

    #[test]
    fn a_descriptor_of_this_process_is_not_taken() {
        use std::os::fd::AsRawFd;
        // Opened with the close-on-exec flag, as everything is that Rust's standard library opens.
        let own = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: neither is taken, since one has the flag and the other is not open.
        let taken = [own.as_raw_fd(), RawFd::MAX].map(|number| unsafe { take(number) });
        assert!(taken.iter().all(Option::is_none));
    }
}
