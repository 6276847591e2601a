//! Ending blocking calls from outside.

use std::io;
use std::sync::Arc;

use crate::shm::stop_flag::StopFlag;
use crate::shm::stop_signals::{TERMINATION, stop_on_signals};
use crate::shm::stop_word::StopWord;

/// Ends blocking calls, from another thread or on a signal.
///
/// A call that can wait for long takes a stop handle in advance; clones are the same stop. Once it
/// is [stopped](Self::stop), which is for good, each call that has it returns at once, also calls
/// that begin later, with an error that says so:
///
/// | what waits | takes the handle by | then returns |
/// |---|---|---|
/// | [`Subscriber::recv`](crate::Subscriber::recv) and its other calls that wait | [`SubscriberBuilder::stop`](crate::SubscriberBuilder::stop) | [`RecvError::Stopped`](crate::RecvError::Stopped) |
/// | [`Subscriber::iter`](crate::Subscriber::iter) | the same | no more messages |
/// | [`ShmRegion::wait_until_exists_or_stopped`](crate::ShmRegion::wait_until_exists_or_stopped) | an argument | [`WaitError::Stopped`](crate::WaitError::Stopped) |
/// | [`RegistryEvents::next_timeout`](crate::registry::RegistryEvents::next_timeout) | [`RegistryEvents::stop`](crate::registry::RegistryEvents::stop) | [`RegistryCallError::Stopped`](crate::registry::RegistryCallError::Stopped) |
/// | [`RegistryEvents`](crate::registry::RegistryEvents) as an iterator | the same | no more events |
/// | [`WaitSet::wait`](crate::WaitSet::wait) and its forms | [`WaitSet::stop`](crate::WaitSet::stop) | [`WaitSetError::Stopped`](crate::WaitSetError::Stopped) |
///
/// Stopping loses nothing: calls that do not wait, such as
/// [`try_recv`](crate::Subscriber::try_recv), work as before, and receive what has arrived.
/// An asynchronous program drops the future instead.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// # let _publisher = conduit::Publisher::<f64>::builder().domain(&domain).create("speed")?;
/// use conduit::{RecvError, Stop, Subscriber};
///
/// let stop = Stop::new();
/// let mut speed = Subscriber::<f64>::builder().stop(&stop)
///     # .domain(&domain)
///     .open("speed")?;
/// let receiving = std::thread::spawn(move || speed.recv().map(|speed| *speed));
/// stop.stop();
/// assert!(matches!(receiving.join().unwrap(), Err(RecvError::Stopped { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it costs
///
/// A call that has a handle sleeps on one more word, and wakes up for nothing else. For calls that
/// wait for a descriptor, the handle makes two of its own when it is first used so. Where the
/// kernel (before Linux 5.16) or a sandbox lacks
/// [`futex_waitv(2)`](https://docs.kernel.org/userspace-api/futex2.html), it looks at the handle
/// every 10 ms instead. Calls without a handle, and calls that do not wait, cost what they do
/// without this.
///
/// # Fork
///
/// A forked child has a stop of its own in the place of its parent's: stopping one does not stop
/// the other.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<StopFlag>,
}

impl Stop {
    /// A handle that nothing has stopped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle that SIGTERM or SIGINT stops: [`on_signals`](Self::on_signals) with these two.
    ///
    /// # Errors
    ///
    /// As for `on_signals`.
    pub fn on_termination() -> io::Result<Self> {
        Self::on_signals(TERMINATION)
    }

    /// A handle that each of these signals stops, given by their numbers, as in the crate `libc`.
    ///
    /// The first of them stops the handle. A further one, when it is stopped already, finds the
    /// action that the signal had before, which usually ends the process: who presses Ctrl-C a
    /// second time does not wait for a program that hangs. So does one that comes when the handle
    /// and its clones were all dropped. A signal that was ignored (`nohup`) stays ignored. If
    /// several handles have the same signal, it stops all of them.
    ///
    /// The signals are handled on whichever thread the kernel chooses. System calls that the
    /// program itself makes are continued (`SA_RESTART`). Nothing polls, and no thread is started.
    /// A forked child has the handlers and a handle of its own, until it executes another program.
    ///
    /// ```no_run
    /// use conduit::{Stop, Subscriber};
    ///
    /// let stop = Stop::on_termination()?;
    /// let mut speeds = Subscriber::<f64>::builder().follow().stop(&stop).open("speed")?;
    /// for speed in speeds.iter() {
    ///     println!("{}", *speed?);
    /// }
    /// println!("stopped");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// For a signal that cannot be handled (SIGKILL), or that an instruction raises (SIGSEGV).
    pub fn on_signals(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let stop = Self::new();
        let signals: Vec<i32> = signals.into_iter().collect();
        stop_on_signals(&stop.flag, &signals)?;
        Ok(stop)
    }

    /// Ends the calls that have this handle or a clone of it, for good. Stopping again changes
    /// nothing.
    ///
    /// Never blocks, and may be called by a signal handler.
    pub fn stop(&self) {
        self.flag.stop();
    }

    /// Whether it was stopped. Then what was done before is visible to this thread.
    pub fn is_stopped(&self) -> bool {
        self.flag.is_set()
    }

    /// What a call sleeps on.
    pub(crate) fn word(&self) -> &StopWord {
        self.flag.word()
    }

    /// What ends a sleep in `poll(2)`.
    pub(crate) fn flag(&self) -> &StopFlag {
        &self.flag
    }
}

#[cfg(test)]
mod tests;
