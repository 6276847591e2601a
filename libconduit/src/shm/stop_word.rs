//! The word that ends the blocking calls of this process when they are to stop.
//!
//! A call that can be stopped sleeps on two words at once: on that of what it waits for, and on
//! this one. The kernel compares both before it puts the thread to sleep, so a stop that comes
//! between the last look at the word and the sleep is not missed.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::atomics::Atomic;
use crate::mutation::{mutated, order, step};

const STOPPED: u32 = 1;
/// A call sleeps in `poll(2)`, or did: there is a bell to ring.
const HAS_BELL: u32 = 2;

/// Whether to stop. Set once, and never cleared.
#[derive(Debug, Default)]
pub(crate) struct StopWord<C = AtomicU32>(C);

impl<C: Atomic<u32>> StopWord<C> {
    /// Wake the sleepers after this, and ring the bell if this returns true.
    pub(super) fn set(&self) -> bool {
        // Whoever finds it set finds what happened before; if there is a bell, this finds it.
        let before = if mutated!(stop_unset) {
            self.0.load(Relaxed)
        } else {
            self.0.fetch_or(STOPPED, order!(stop_set, AcqRel))
        };
        before & HAS_BELL != 0
    }

    /// Says that there is a bell. Look at the word after this, and sleep until the bell rings.
    pub(super) fn note_bell(&self) {
        step!(stop_bell, self.0.fetch_or(HAS_BELL, order!(stop_bell, Release)));
    }

    /// The word; see [`is_stop`]. Loaded before what else a call waits for: sleep only while it is
    /// the same.
    pub(crate) fn seen(&self) -> u32 {
        self.0.load(order!(stop_seen, Acquire))
    }

    pub(crate) fn is_set(&self) -> bool {
        is_stop(self.seen())
    }
}

/// Whether a word that was [seen](StopWord::seen) is set.
pub(crate) fn is_stop(seen: u32) -> bool {
    seen & STOPPED != 0
}

impl StopWord {
    /// What to sleep on.
    pub(super) fn word(&self) -> &AtomicU32 {
        &self.0
    }
}

#[cfg(test)]
mod model {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use loom::sync::atomic::AtomicU32;
    use loom::sync::{Condvar, Mutex};

    use super::{StopWord, is_stop};

    /// In every schedule, a call that is about to sleep finds the stop or is woken, and then what
    /// happened before the stop.
    #[test]
    fn no_stop_is_missed() {
        loom::model(|| {
            let before = Arc::new(AtomicU32::new(0));
            let shared = Arc::new((StopWord::<AtomicU32>::default(), Mutex::new(()), Condvar::new()));
            let stopping = {
                let (before, shared) = (Arc::clone(&before), Arc::clone(&shared));
                loom::thread::spawn(move || {
                    before.store(1, Relaxed);
                    let (word, asleep, woken) = &*shared;
                    word.set();
                    let _guard = asleep.lock().unwrap();
                    woken.notify_all();
                })
            };
            let (word, asleep, woken) = &*shared;
            loop {
                let seen = word.seen();
                if is_stop(seen) {
                    break;
                }
                // The kernel compares the word under a lock that the wake-up takes, too.
                let guard = asleep.lock().unwrap();
                if word.0.load(Relaxed) == seen {
                    drop(woken.wait(guard).unwrap());
                }
            }
            assert_eq!(before.load(Relaxed), 1);
            stopping.join().unwrap();
        });
    }

    /// In every schedule, a call that is about to sleep until the bell rings finds the stop, or the
    /// stop finds the bell.
    #[test]
    fn the_bell_is_rung_or_not_waited_for() {
        loom::model(|| {
            let bell = Arc::new(AtomicU32::new(0));
            let word = Arc::new(StopWord::<AtomicU32>::default());
            let stopping = {
                let (bell, word) = (Arc::clone(&bell), Arc::clone(&word));
                loom::thread::spawn(move || word.set() && bell.load(Relaxed) == 1)
            };
            bell.store(1, Relaxed);
            word.note_bell();
            let is_set = word.is_set();
            assert!(stopping.join().unwrap() || is_set);
        });
    }
}
