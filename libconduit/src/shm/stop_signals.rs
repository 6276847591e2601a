//! Signals that stop the blocking calls of this process.
//!
//! A handler must neither lock nor free memory. So what it looks at is made once and never freed: a
//! list of what signals stop, and what each signal did before. A signal that finds nothing left to
//! stop does what it did before: usually it ends the process.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::{io, mem};

use nix::errno::Errno;
use nix::libc::{self, c_int};

use super::fork::ForkGuard;
use super::stop_flag::StopFlag;
use crate::mutation::{mutated, step};

/// Those that ask a program to end.
pub(crate) const TERMINATION: [c_int; 2] = [libc::SIGTERM, libc::SIGINT];
/// One more than the largest number of a signal.
const SIGNALS: usize = 65;
/// Those that a program cannot handle, or that an instruction raises, which would be executed
/// again.
const UNSUITABLE: [c_int; 8] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// What signals stop.
struct Stoppable {
    flag: Arc<StopFlag>,
    /// A bit for each signal.
    signals: u128,
    next: *const Stoppable,
}

/// The last one that was added; null if there is none.
static STOPPABLES: AtomicPtr<Stoppable> = AtomicPtr::new(ptr::null_mut());
/// What each signal did before; null if that was never changed.
static EARLIER: [AtomicPtr<libc::sigaction>; SIGNALS] = [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS];

/// Lets each of the signals set the flag.
///
/// # Errors
///
/// If one of them cannot be handled.
pub(crate) fn stop_on_signals(flag: &Arc<StopFlag>, signals: &[c_int]) -> io::Result<()> {
    let is_suitable = |signal: &c_int| (1..SIGNALS as c_int).contains(signal) && !UNSUITABLE.contains(signal);
    if let Some(signal) = signals.iter().find(|signal| !is_suitable(signal)) {
        return Err(unsuitable(*signal));
    }
    // One thread at a time, whose handlers do not run.
    let _no_fork = ForkGuard::new();
    let bits = signals.iter().fold(0, |bits, signal| bits | 1 << signal);
    let next = STOPPABLES.load(Acquire);
    // Before the handlers are there: one that finds nothing to stop does what the signal did
    // before.
    let stoppable = Box::leak(Box::new(Stoppable { flag: Arc::clone(flag), signals: bits, next }));
    STOPPABLES.store(stoppable, Release);
    signals.iter().try_for_each(|&signal| install(signal))
}

fn unsuitable(signal: c_int) -> io::Error {
    let text =
        format!("signal {signal} cannot stop calls; use SIGTERM, SIGINT, SIGHUP or another one that ends a process");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Installs the handler of a signal, unless it is there already, or the signal is ignored.
fn install(signal: c_int) -> io::Result<()> {
    let handler = stop_or_as_before as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: zeros are a valid `sigaction`: the default action, no flags, an empty mask.
    let (mut before, mut new): (libc::sigaction, libc::sigaction) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: the call only writes `before`.
    Errno::result(unsafe { libc::sigaction(signal, ptr::null(), &raw mut before) }).map_err(|_| unsuitable(signal))?;
    if before.sa_sigaction == handler || before.sa_sigaction == libc::SIG_IGN && !mutated!(stop_on_ignored) {
        return Ok(());
    }
    // Not freed: a handler may be looking at the one that this replaces.
    EARLIER[signal as usize].swap(Box::leak(Box::new(before)), AcqRel);
    new.sa_sigaction = handler;
    // Other system calls of the program go on; it may have a stack for its handlers.
    new.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler calls only what a handler may call, and never unwinds.
    Errno::result(unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) })
        .map_err(|_| unsuitable(signal))?;
    Ok(())
}

extern "C" fn stop_or_as_before(signal: c_int) {
    let errno = Errno::last_raw();
    let mut has_stopped = false;
    let mut next = STOPPABLES.load(Acquire).cast_const();
    // SAFETY: null, or from `Box::leak`.
    while let Some(stoppable) = unsafe { next.as_ref() } {
        // Without the list's own reference.
        let is_used = Arc::strong_count(&stoppable.flag) > 1 || mutated!(stop_of_the_dropped);
        if stoppable.signals >> signal & 1 == 1 && is_used && (!stoppable.flag.is_set() || mutated!(stop_forever)) {
            step!(signal_stops, stoppable.flag.stop());
            has_stopped = true;
        }
        next = stoppable.next;
    }
    if !has_stopped {
        act_as_before(signal);
    }
    Errno::set_raw(errno);
}

/// Gives the signal back its earlier action, and raises it again: it is handled when this handler
/// has returned.
fn act_as_before(signal: c_int) {
    let Some(earlier) = EARLIER.get(signal as usize).map(|earlier| earlier.load(Acquire)) else { return };
    if !earlier.is_null() {
        // SAFETY: from `Box::leak`, and as the kernel returned it.
        unsafe { libc::sigaction(signal, earlier, ptr::null_mut()) };
        // SAFETY: it may be called by a handler.
        unsafe { libc::raise(signal) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// Has the kernel handle a signal on this thread, before it returns.
    fn raise(signal: c_int) {
        // SAFETY: the signal is handled, by functions of this file.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    fn handle(signal: c_int, handler: libc::sighandler_t) {
        // SAFETY: zeros are a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler;
        // SAFETY: the handlers of this file only touch atomics.
        assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
    }

    fn stop_on(signal: c_int) -> Arc<StopFlag> {
        let flag = Arc::new(StopFlag::default());
        stop_on_signals(&flag, &[signal]).unwrap();
        flag
    }

    /// Real-time signals, one for each test: signals are the process's.
    const BASE: c_int = 50;

    #[test]
    fn a_second_signal_and_one_that_nobody_waits_for_do_what_they_did_before() {
        static BEFORE: AtomicU32 = AtomicU32::new(0);
        extern "C" fn count(_: c_int) {
            BEFORE.fetch_add(1, Relaxed);
        }
        let signal = BASE;
        handle(signal, count as extern "C" fn(c_int) as libc::sighandler_t);
        let flag = stop_on(signal);
        raise(signal);
        assert!(flag.is_set() && BEFORE.load(Relaxed) == 0);
        raise(signal);
        assert_eq!(BEFORE.load(Relaxed), 1);
        raise(signal);
        assert_eq!(BEFORE.load(Relaxed), 2, "its action stays");
        // Another one takes the signal again, and leaves it when it is dropped.
        let again = stop_on(signal);
        raise(signal);
        assert!(again.is_set() && BEFORE.load(Relaxed) == 2);
        drop(stop_on(signal));
        raise(signal);
        assert_eq!(BEFORE.load(Relaxed), 3);
    }

    #[test]
    fn a_signal_stops_all_that_have_it_and_nothing_else() {
        let (first, second, other) = (stop_on(BASE + 1), stop_on(BASE + 1), stop_on(BASE + 2));
        Errno::set_raw(7);
        raise(BASE + 1);
        assert_eq!(Errno::last_raw(), 7, "the handler leaves errno alone");
        assert!(first.is_set() && second.is_set() && !other.is_set());
    }

    #[test]
    fn an_ignored_signal_stays_ignored() {
        handle(BASE + 3, libc::SIG_IGN);
        let flag = stop_on(BASE + 3);
        raise(BASE + 3);
        assert!(!flag.is_set());
    }

    #[test]
    fn signals_that_cannot_stop_are_refused() {
        let flag = Arc::new(StopFlag::default());
        for signal in [0, -1, 65, libc::SIGKILL, libc::SIGSEGV, 32] {
            let error = stop_on_signals(&flag, &[signal]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(
                error.to_string().starts_with(&format!("signal {signal} cannot stop calls; use SIGTERM")),
                "{error}"
            );
        }
    }
}
