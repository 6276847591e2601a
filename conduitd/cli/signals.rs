//! Ending on a signal after cleaning up: topics closed, subscribers dropped, directories removed.
//!
//! The thread that waits for signals writes nothing and takes no locks: whatever a verb does to
//! clean up has a time limit, after which the signal ends the process all the same.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use conduit::internal::shm::process::kernel_text;
use nix::sys::signal::{SigSet, Signal, raise};

/// How long a signal waits for a verb that ends on its own.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for anything. Closing a topic can take long: a registry that does not answer,
/// or standard error that nobody reads.
const LONGEST_PATIENCE: Duration = Duration::from_secs(3);
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// From now on SIGINT, SIGTERM and SIGHUP first run `put_away`, on a thread of its own, and then
/// end the process the way they always do, so that a shell sees the signal. Those the process was
/// started to ignore (`nohup`) stay ignored.
///
/// To be called before other threads are started: they inherit that the signals are blocked.
pub(crate) fn before_ending(put_away: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let ignored = ignored_signals();
    let signals: SigSet = ENDING.into_iter().filter(|&signal| ignored & bit(signal) == 0).collect();
    signals.thread_block()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let signal = next(&signals);
        within(LONGEST_PATIENCE, put_away);
        end_by(signal);
    })?;
    Ok(())
}

fn next(signals: &SigSet) -> Signal {
    loop {
        if let Ok(signal) = signals.wait() {
            return signal;
        }
    }
}

/// Runs `work` on a thread of its own, and waits for it so long at most. Without memory for a
/// thread it is not run: it might never return.
fn within(patience: Duration, work: impl FnOnce() + Send + 'static) {
    let (busy, is_done) = mpsc::channel::<()>();
    let work = move || {
        let _busy = busy;
        work();
    };
    if thread::Builder::new().name("put-away".into()).spawn(work).is_ok() {
        let _ = is_done.recv_timeout(patience);
    }
}

/// Ends the process by the signal. Only process 1 of a pid namespace survives that, and exits.
fn end_by(signal: Signal) -> ! {
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
    std::process::exit(128 + signal as i32)
}

/// Like [`before_ending`], for a verb that ends when the flag is set. The signal ends the process
/// when the sender and its clones are dropped, or after [`PATIENCE`].
pub(crate) fn set_before_ending() -> io::Result<(Arc<AtomicBool>, Sender<()>)> {
    set_and_wake_before_ending(|| ())
}

/// Like [`set_before_ending`], and calls `wake` when the flag is set.
pub(crate) fn set_and_wake_before_ending(
    wake: impl FnOnce() + Send + 'static,
) -> io::Result<(Arc<AtomicBool>, Sender<()>)> {
    let is_over = Arc::new(AtomicBool::new(false));
    let (busy, is_done) = mpsc::channel::<()>();
    let on_signal = Arc::clone(&is_over);
    before_ending(move || {
        on_signal.store(true, Ordering::Relaxed);
        wake();
        let _ = is_done.recv_timeout(PATIENCE);
    })?;
    Ok((is_over, busy))
}

/// Like [`before_ending`] for what must also be put away while the process is stopped: `put_away`
/// runs before it ends and before it stops on SIGTSTP, `come_back` when it continues, also after
/// SIGSTOP. Both run on the thread that waits for signals, and must not block.
pub(crate) fn before_ending_or_stopping(
    mut put_away: impl FnMut() + Send + 'static,
    mut come_back: impl FnMut() + Send + 'static,
) -> io::Result<()> {
    let ignored = ignored_signals();
    let all = ENDING.into_iter().chain([Signal::SIGTSTP, Signal::SIGCONT]);
    let signals: SigSet = all.filter(|&signal| ignored & bit(signal) == 0).collect();
    signals.thread_block()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            let signal = next(&signals);
            if signal == Signal::SIGCONT {
                come_back();
                continue;
            }
            put_away();
            if signal != Signal::SIGTSTP {
                end_by(signal);
            }
            let only = SigSet::from(signal);
            let _ = only.thread_unblock();
            let _ = raise(signal);
            // Only a stop comes to an end.
            let _ = only.thread_block();
            come_back();
        }
    })?;
    Ok(())
}

/// Sends a signal to the processes in the foreground, as the terminal does unless it is in raw
/// mode.
pub(crate) fn as_if_typed(signal: Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(0), signal);
}

/// Whether the process was started to ignore a signal.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    ignored_signals() & bit(signal) != 0
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// The signals this process ignores: a blocked signal reaches `wait` even if it is ignored.
fn ignored_signals() -> u64 {
    let status = kernel_text("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Undoes what a child inherits of [`before_ending`].
pub(crate) fn unblock() {
    let _ = ENDING.into_iter().collect::<SigSet>().thread_unblock();
}

/// Parks the main thread until the thread of [`before_ending`] ends the process.
pub(crate) fn wait_for_the_end() -> ExitCode {
    loop {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_programs_ignore_sigpipe_and_that_is_seen() {
        assert_ne!(ignored_signals() & bit(Signal::SIGPIPE), 0);
        assert_eq!(ignored_signals() & bit(Signal::SIGSEGV), 0);
    }
}
