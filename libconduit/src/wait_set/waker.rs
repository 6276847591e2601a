//! Ending a wait from another thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::AcqRel;
use std::task::Wake;

use crate::mutation::{mutated, order, step};
use crate::shm::{fork, futex};

/// How other threads end a wait.
#[derive(Default)]
pub(super) struct Control {
    /// The word that the set sleeps on. Every wake-up changes it, a parker's too.
    pub(super) word: AtomicU32,
    /// How often a [`WaitSetWaker`] was used.
    pub(super) calls: AtomicU32,
}

impl Control {
    fn rouse(&self) {
        step!(set_change, self.word.fetch_add(1, order!(set_change, AcqRel)));
        step!(set_wake, futex::wake_all_private(&self.word));
    }
}

impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }
}

/// Ends the wait of a [`WaitSet`](crate::WaitSet) from another thread.
///
/// ```
/// use conduit::{Event, WaitSet};
///
/// let mut set = WaitSet::new();
/// let waker = set.waker();
/// let waiting = std::thread::spawn(move || set.wait().map(|events| events.collect::<Vec<_>>()));
/// waker.wake();
/// assert_eq!(waiting.join().unwrap()?, [Event::Woken]);
/// # Ok::<(), conduit::WaitSetError>(())
/// ```
#[derive(Clone)]
pub struct WaitSetWaker {
    pub(super) control: Arc<Control>,
    pub(super) _counted: Arc<()>,
    pub(super) generation: u32,
}

impl WaitSetWaker {
    /// Makes the current wait, or else the next one, report [`Event::Woken`](crate::Event::Woken).
    /// Never blocks. Does nothing in a forked process.
    pub fn wake(&self) {
        if self.generation == fork::generation() || mutated!(set_waker_in_child) {
            step!(set_call, self.control.calls.fetch_add(1, order!(set_call, AcqRel)));
            self.control.rouse();
        }
    }
}

impl fmt::Debug for WaitSetWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSetWaker").finish_non_exhaustive()
    }
}
