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
    Ok((FIRST..).zip(names).filter_map(|(number, name)| Some((name, take(number)?))).collect())
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
/// that was inherited starts without it, and whoever takes one sets it, as `sd_listen_fds` does.
fn take(number: RawFd) -> Option<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = TAKING.lock();
    // SAFETY: F_GETFD reads the flags of a descriptor and fails if it is not open; it changes
    // nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: sets a flag of a descriptor that was inherited: LISTEN_PID names this process, so the
    // numbers were open when it was executed, for it to take, and this one still is as it was then.
    unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
    // SAFETY: it is open. No other code owns it: no code of this process opened it (as above), and
    // from now on its flag keeps every other taker away, here and in other copies of this function.
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
        assert!(take(own.as_raw_fd()).is_none());
        assert!(take(RawFd::MAX).is_none());
    }
}
