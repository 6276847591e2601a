//! How long filling or comparing a whole message takes: in its slot, and in memory that no other
//! process uses, which is the limit of this machine.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Of so many messages one is followed by the same work in private memory.
const PRIVATE_EVERY: u64 = 8;

/// What takes longer counts as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// The processor time of a child's work on whole messages.
#[derive(Debug)]
pub(super) struct WorkTimer {
    slots: Histogram<u64>,
    private: Histogram<u64>,
}

/// Medians of processor time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WorkTimes {
    /// In the slots of the topic.
    pub(super) slot_ns: u64,
    /// In memory that no other process uses.
    pub(super) private_ns: u64,
}

impl WorkTimer {
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = || Histogram::new_with_max(LONGEST_NS, 3).map_err(Failure::new);
        Ok(Self { slots: histogram()?, private: histogram()? })
    }

    /// Works on the message of this index in its slot.
    pub(super) fn in_slot<R>(&mut self, work: impl FnOnce() -> R) -> R {
        time(&mut self.slots, work)
    }

    /// Works in private memory, if it is the turn of this index: that of the same messages in all
    /// processes, which get in each other's way alike then.
    pub(super) fn in_private(&mut self, index: u64, work: impl FnOnce()) {
        if index.is_multiple_of(PRIVATE_EVERY) {
            time(&mut self.private, work);
        }
    }

    pub(super) fn medians(&self) -> WorkTimes {
        WorkTimes { slot_ns: self.slots.value_at_quantile(0.5), private_ns: self.private.value_at_quantile(0.5) }
    }
}

fn time<R>(times: &mut Histogram<u64>, work: impl FnOnce() -> R) -> R {
    let begun = processor_ns();
    let result = work();
    times.saturating_record(processor_ns().saturating_sub(begun));
    result
}

/// The processor time of this thread so far: with fewer cores than processes, a clock would measure
/// how long they wait for one.
fn processor_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl WorkTimes {
    /// The middle of several processes' times.
    pub(super) fn mean(all: impl Iterator<Item = Self> + Clone) -> Self {
        let count = all.clone().count().max(1) as u64;
        let mean = |of: fn(Self) -> u64| all.clone().map(of).sum::<u64>() / count;
        Self { slot_ns: mean(|times| times.slot_ns), private_ns: mean(|times| times.private_ns) }
    }

    /// How many times longer it takes in a slot.
    pub(super) fn ratio(self) -> f64 {
        self.slot_ns as f64 / self.private_ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_messages_are_followed_by_private_work() {
        let mut timer = WorkTimer::new().unwrap();
        let mut turns = Vec::new();
        for index in 0..20 {
            timer.in_slot(|| ());
            timer.in_private(index, || turns.push(index));
        }
        assert_eq!(turns, [0, 8, 16]);
        assert_eq!((timer.slots.len(), timer.private.len()), (20, 3));
    }

    #[test]
    fn a_time_is_that_of_the_processor() {
        let mut timer = WorkTimer::new().unwrap();
        let spin = || {
            let begun = processor_ns();
            while processor_ns() < begun + 1_000_000 {}
        };
        timer.in_slot(spin);
        timer.in_private(0, spin);
        let WorkTimes { slot_ns, private_ns } = timer.medians();
        assert!((999_000..500_000_000).contains(&slot_ns) && private_ns >= 999_000, "{slot_ns} {private_ns}");
    }

    #[test]
    fn times_are_compared_with_private_memory() {
        let times = [(3000, 1000), (1000, 1000)].map(|(slot_ns, private_ns)| WorkTimes { slot_ns, private_ns });
        let mean = WorkTimes::mean(times.into_iter());
        assert_eq!((mean.slot_ns, mean.private_ns, mean.ratio()), (2000, 1000, 2.0));
        assert_eq!(WorkTimes::default().ratio(), 0.0);
    }
}
