//! The rate of a topic: the publisher keeps two windows of about a second in the region, from which
//! an observer computes the rate without a history of its own.
//!
//! The first message opens a window, and so does every message that comes a second or more after
//! the one that opened the current window. A window counts intervals, from the message that opens
//! it (not counted) to the one that opens the next (counted), so that the rate of a steady stream
//! is exact. Messages without a time stamp open no windows.

use std::sync::atomic::Ordering::Relaxed;

use super::layout::Producer;
use crate::mutation::step;
use crate::shm::atomics::{Atomic, Plain, WritableAtomics};

/// A window is at least this long, in nanoseconds.
const WINDOW_NS: u64 = 1_000_000_000;
/// A previous window longer than this, in microseconds, contains a pause and is ignored.
const LONGEST_US: u32 = 5_000_000;

/// The message that opened the current window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    stamp_ns: u64,
    published: u64,
    bytes: u64,
}

impl Window {
    /// Counts a message, the last of `published` with `bytes` in all.
    #[inline]
    pub(crate) fn count<A: WritableAtomics>(
        &mut self,
        producer: &Producer<A>,
        published: u64,
        bytes: u64,
        stamp_ns: u64,
    ) {
        if stamp_ns >= self.stamp_ns + WINDOW_NS {
            step!(window, self.open(producer, Self { stamp_ns, published, bytes }));
        }
    }

    /// All stores are relaxed: observers read them until two reads agree.
    #[cold]
    fn open<A: WritableAtomics>(&mut self, producer: &Producer<A>, next: Self) {
        if self.stamp_ns != 0 {
            let us = (next.stamp_ns - self.stamp_ns) / 1000;
            step!(previous_us, producer.previous_us.store(u32::try_from(us).unwrap_or(u32::MAX), Relaxed));
            let messages = next.published - self.published;
            step!(
                previous_messages,
                producer.previous_messages.store(u32::try_from(messages).unwrap_or(u32::MAX), Relaxed)
            );
            step!(previous_bytes, producer.previous_bytes.store(next.bytes - self.bytes, Relaxed));
        }
        step!(window_stamp_ns, producer.window_stamp_ns.store(next.stamp_ns, Relaxed));
        step!(window_published, producer.window_published.store(next.published, Relaxed));
        step!(window_bytes, producer.window_bytes.store(next.bytes, Relaxed));
        *self = next;
    }
}

/// The rate of a topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Messages per second.
    pub(crate) messages: f64,
    /// Bytes per second.
    pub(crate) bytes: f64,
}

/// The rate over the last one to two seconds; 0 if the last message is older than a second and than
/// two average intervals. `None` before the second message, and without time stamps.
///
/// The region is not trusted: the result is finite and not negative for any contents.
pub(crate) fn rate(producer: &Producer<Plain>, last_stamp_ns: Option<u64>, now_ns: u64) -> Option<Rate> {
    let last = last_stamp_ns.filter(|_| producer.window_stamp_ns != 0)?;
    let mut ns = last.saturating_sub(producer.window_stamp_ns) as f64;
    let mut messages = producer.head.saturating_sub(producer.window_published) as f64;
    let mut bytes = producer.bytes.saturating_sub(producer.window_bytes) as f64;
    if producer.previous_us <= LONGEST_US || messages == 0.0 {
        ns += f64::from(producer.previous_us) * 1000.0;
        messages += f64::from(producer.previous_messages);
        bytes += producer.previous_bytes as f64;
    }
    if ns == 0.0 || messages == 0.0 {
        return None;
    }
    let silence = now_ns.saturating_sub(last) as f64;
    if silence > (2.0 * ns / messages).max(WINDOW_NS as f64) {
        return Some(Rate { messages: 0.0, bytes: 0.0 });
    }
    Some(Rate { messages: messages / ns * 1e9, bytes: bytes / ns * 1e9 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;
    use crate::shm::atomics::Native;

    /// What a publisher's line says after messages of 10 bytes at these times, in milliseconds from
    /// its start.
    fn publish(times_ms: impl IntoIterator<Item = u64>) -> (Producer<Plain>, u64) {
        let producer = Producer::<Native>::default();
        let mut window = Window::default();
        let mut last = 0;
        for (count, time) in (1..).zip(times_ms) {
            last = 1_000_000_000_000 + time * 1_000_000;
            window.count(&producer, count, 10 * count, last);
            producer.head.store(count, Relaxed);
            producer.bytes.store(10 * count, Relaxed);
        }
        let line = Producer {
            head: producer.head.load(Relaxed),
            bytes: producer.bytes.load(Relaxed),
            window_stamp_ns: producer.window_stamp_ns.load(Relaxed),
            window_published: producer.window_published.load(Relaxed),
            window_bytes: producer.window_bytes.load(Relaxed),
            previous_us: producer.previous_us.load(Relaxed),
            previous_messages: producer.previous_messages.load(Relaxed),
            previous_bytes: producer.previous_bytes.load(Relaxed),
            deadline_ns: 0,
        };
        (line, last)
    }

    fn rate_after(times_ms: impl IntoIterator<Item = u64>, silence_ms: u64) -> Option<f64> {
        let (producer, last) = publish(times_ms);
        let rate = rate(&producer, Some(last), last + silence_ms * 1_000_000)?;
        assert!((rate.bytes - 10.0 * rate.messages).abs() < 1e-6 * rate.bytes.max(1.0));
        Some(rate.messages)
    }

    #[test]
    fn steady_streams_have_their_rate_at_any_time() {
        for (period_ms, hz) in [(1, 1000.0), (3, 1000.0 / 3.0), (100, 10.0), (700, 10.0 / 7.0), (2000, 0.5)] {
            for count in 2..40 {
                let found = rate_after((0..count).map(|n| n * period_ms), period_ms).unwrap();
                assert!((found - hz).abs() < hz * 1e-6, "{found} {hz}, {count} messages");
            }
        }
        assert_eq!(rate_after([0], 0), None);
        assert_eq!(rate_after([], 0), None);
    }

    #[test]
    fn a_rate_follows_recent_messages() {
        let then = |start: u64, period_ms: u64| (0..50).map(move |n| start + n * period_ms);
        assert_eq!(rate_after(then(0, 100), 1500), Some(0.0), "it has stopped");
        assert_eq!(rate_after(then(0, 2000), 1500), Some(0.5), "it has not");
        let resumed = rate_after((0..5000).chain(then(3_600_000, 10)), 0).unwrap();
        assert!((resumed - 100.0).abs() < 1.0, "{resumed}");
        // From 10 Hz to 100 Hz: two seconds later nothing is left of the old rate.
        let faster = rate_after(then(0, 100).chain((0..210).map(|n| 5000 + 10 * n)), 0).unwrap();
        assert!((faster - 100.0).abs() < 1.0, "{faster}");
    }

    proptest! {
        #[test]
        fn a_lying_region_gives_a_number(words in prop::array::uniform8(any::<u64>()), last: Option<u64>, now: u64) {
            let producer = Producer::<Plain>::read_from_bytes(words.as_bytes()).unwrap();
            if let Some(rate) = rate(&producer, last, now) {
                prop_assert!(rate.messages.is_finite() && rate.messages >= 0.0);
                prop_assert!(rate.bytes.is_finite() && rate.bytes >= 0.0);
            }
        }
    }

    #[test]
    fn an_empty_window_has_no_rate() {
        assert_eq!(rate(&Producer::default(), Some(5), 6), None);
    }
}
