//! Threads that stay on their cores, and what a cache line takes from one to another.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;
use crate::statistics::median;

/// Round trips that are timed together, and how often.
const ROUNDS: u32 = 500;
const REPEATS: u32 = 7;
/// How long both threads try: a thousand times what idle cores take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Loads between two looks at the clock.
const SPINS: u32 = 1 << 16;

/// Keeps the calling thread on a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| format!("cannot run on core {core}: {error}").into())
}

/// One way between two different cores, in nanoseconds; `None` if they are too busy to tell.
pub(super) fn line_ns(first: usize, second: usize) -> Result<Option<f64>> {
    let word = &AtomicU32::new(0);
    let last = 2 * ROUNDS * REPEATS;
    let deadline = Instant::now() + PATIENCE;
    thread::scope(|scope| {
        let answer = scope.spawn(move || {
            pin(second)?;
            Result::Ok((1..last).step_by(2).all(|value| has_handed_on(word, value, deadline)))
        });
        // A thread of its own, so that the caller may still run everywhere.
        let ask = scope.spawn(move || {
            pin(first)?;
            let mut times = Vec::new();
            for from in (0..last).step_by(2 * ROUNDS as usize) {
                let begun = Instant::now();
                if !(from..from + 2 * ROUNDS).step_by(2).all(|value| has_handed_on(word, value, deadline)) {
                    return Ok(None);
                }
                times.push(begun.elapsed().as_nanos() as f64 / f64::from(2 * ROUNDS));
            }
            Result::Ok(median(times))
        });
        let panicked = |_| "a thread that measures cores has panicked";
        let has_answered = answer.join().map_err(panicked)??;
        let line_ns = ask.join().map_err(panicked)??;
        Ok(line_ns.filter(|_| has_answered))
    })
}

/// Waits for a value and stores the next one, unless it does not come in time.
fn has_handed_on(word: &AtomicU32, value: u32, deadline: Instant) -> bool {
    while (0..SPINS).all(|_| word.load(Acquire) != value) {
        if Instant::now() > deadline {
            return false;
        }
    }
    word.store(value + 1, Release);
    true
}
