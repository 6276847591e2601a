//! Ending a wait from another thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Wake;

use crate::mutation::{order, step};
use crate::parker::entry::Notifications;
use crate::shm::atomics::Atomic;
use crate::shm::futex;

/// How other threads end a wait.
#[derive(Default)]
pub(super) struct Control<C = AtomicU32> {
    /// What the set sleeps on. Every wake-up counts, a parker's too.
    pub(super) word: Notifications<C>,
    /// How often a [`WaitSetWaker`] was used.
    calls: C,
}

impl<C: Atomic<u32>> Control<C> {
    /// Counts the use of a waker. Wake the set after this.
    fn call(&self) {
        // Whoever finds the word changed finds this; whoever finds this finds what the caller did.
        step!(set_call, self.calls.fetch_add(1, order!(set_call, Release)));
        self.word.add();
    }

    /// How often a waker was used, at least until the word was loaded.
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(order!(set_calls, Acquire))
    }
}

impl Control {
    fn wake_set(&self) {
        step!(set_wake, futex::wake_all_private(&self.word.0));
    }
}

impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.word.add();
        self.wake_set();
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
}

impl WaitSetWaker {
    /// Makes the current wait, or else the next one, report [`Event::Woken`](crate::Event::Woken).
    /// Never blocks. Does nothing in a forked process, which has a copy of the set.
    pub fn wake(&self) {
        self.control.call();
        self.control.wake_set();
    }
}

impl fmt::Debug for WaitSetWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSetWaker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod model {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use loom::sync::atomic::AtomicU32;
    use loom::sync::{Condvar, Mutex};

    use super::Control;

    /// In every schedule, a set that is about to sleep finds the call of its waker or is woken, and
    /// then what happened before the call.
    #[test]
    fn no_call_of_a_waker_is_missed() {
        loom::model(|| {
            let before = Arc::new(AtomicU32::new(0));
            let shared = Arc::new((Control::<AtomicU32>::default(), Mutex::new(()), Condvar::new()));
            let waker = {
                let (before, shared) = (Arc::clone(&before), Arc::clone(&shared));
                loom::thread::spawn(move || {
                    before.store(1, Relaxed);
                    let (control, asleep, woken) = &*shared;
                    control.call();
                    let _guard = asleep.lock().unwrap();
                    woken.notify_all();
                })
            };
            let (control, asleep, woken) = &*shared;
            loop {
                let seen = control.word.count();
                if control.calls() != 0 {
                    break;
                }
                let guard = asleep.lock().unwrap();
                if control.word.0.load(Relaxed) == seen {
                    drop(woken.wait(guard).unwrap());
                }
            }
            assert_eq!(before.load(Relaxed), 1);
            waker.join().unwrap();
        });
    }
}
