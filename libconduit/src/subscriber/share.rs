//! How many samples a subscriber may hold at once.

/// A subscriber's share of the slots. Samples are counted when they are received, and not when they
/// are dropped, so that dropping one does no more than release its slot: once as many were received
/// as may be held, the slots that are held are counted, which is exact.
#[derive(Debug)]
pub(super) struct Share {
    /// What was asked for.
    asked: Option<u32>,
    max_held: u32,
    /// At least as many as are held.
    counted: u32,
}

impl Share {
    /// What was asked for, or half of the slots.
    pub(super) fn new(asked: Option<u32>, slots: u32) -> Self {
        Self { asked, max_held: asked.unwrap_or(slots / 2).max(1), counted: 0 }
    }

    /// The same for another ring, of which nothing is held yet.
    pub(super) fn renew(&mut self, slots: u32) {
        *self = Self::new(self.asked, slots);
    }

    pub(super) fn max_held(&self) -> u32 {
        self.max_held
    }

    /// Whether another sample may be held, as far as is known without counting.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.counted < self.max_held
    }

    /// Counts a sample that is held from now on.
    #[inline(always)]
    pub(super) fn add(&mut self) {
        self.counted += 1;
    }

    /// Notes how many samples are held.
    pub(super) fn recount(&mut self, held: u32) {
        self.counted = held;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Domain, Gone, Publisher, RecvError, Subscriber};

    fn topic(slots: u32) -> (Publisher<u64>, Domain, tempfile::TempDir) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let publisher = Publisher::builder().domain(&domain).slots(slots).create("ticks").unwrap();
        (publisher, domain, directory)
    }

    #[track_caller]
    fn assert_refused<R>(received: Result<R, RecvError>, most: u32) {
        assert!(matches!(received, Err(RecvError::TooManyHeld { max_held, .. }) if max_held == most));
    }

    /// One that holds whatever it gets takes no slot that another or the publisher needs.
    #[test]
    fn who_holds_too_many_gets_an_error_and_nobody_else_loses_a_message() {
        let (mut publisher, domain, _directory) = topic(16);
        let mut greedy = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        let mut other = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        let mut held = Vec::new();
        for tick in 0..298 {
            publisher.send(&tick).expect("a slot is free");
            match greedy.try_recv() {
                Ok(sample) => held.push(sample.expect("it was sent")),
                refused => assert_refused(refused, 8),
            }
            let sample = other.try_recv().unwrap().unwrap();
            assert_eq!((*sample, sample.lost()), (tick, 0));
        }
        assert_eq!(held.iter().map(|sample| **sample).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn every_way_to_hold_a_slot_needs_room() {
        let (mut publisher, domain, _directory) = topic(8);
        let mut subscriber = Subscriber::<u64>::builder().domain(&domain).max_held(2).open("ticks").unwrap();
        (0..4).for_each(|tick| publisher.send(&tick).unwrap());
        let mut held = vec![subscriber.recv().unwrap(), subscriber.recv().unwrap()];
        for _ in 0..2 {
            assert_refused(subscriber.try_recv(), 2);
            assert_refused(subscriber.recv(), 2);
            assert_refused(subscriber.recv_timeout(Duration::from_secs(60)), 2);
            assert_refused(subscriber.try_recv_with(|_| unreachable!("there is no room")), 2);
            assert_refused(subscriber.try_recv_batch(9, |_| unreachable!("there is no room")), 2);
            assert_refused(subscriber.latest(), 2);
        }
        // Copies hold none; the message that was refused has stayed.
        assert_eq!(*subscriber.try_recv_copy().unwrap().unwrap(), 2);
        held.pop();
        assert_eq!(subscriber.try_recv_with(|tick| *tick).unwrap(), Some(3));
        publisher.send(&4).unwrap();
        held.push(subscriber.try_recv().unwrap().unwrap());
        assert_eq!((*held[1], held[1].lost()), (4, 0));
        publisher.send(&5).unwrap();
        assert_refused(subscriber.try_recv(), 2);
    }

    #[test]
    fn samples_that_were_dropped_are_not_counted() {
        let (mut publisher, domain, _directory) = topic(2);
        let mut subscriber = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        for tick in 0..100 {
            publisher.send(&tick).unwrap();
            let sample = if tick % 2 == 0 { subscriber.try_recv() } else { subscriber.latest() };
            assert_eq!(*sample.unwrap().unwrap(), tick);
        }
        publisher.send(&100).unwrap();
        let held = subscriber.try_recv().unwrap().unwrap();
        let age_ns = publisher.subscribers()[0].oldest_held_age_ns.expect("it is held");
        assert!(u128::from(age_ns) <= held.age().unwrap().as_nanos());
        publisher.send(&101).unwrap();
        assert_refused(subscriber.try_recv(), 1);
    }

    #[test]
    fn the_end_is_reported_to_a_subscriber_that_holds_its_share() {
        let (mut publisher, domain, _directory) = topic(4);
        let mut subscriber = Subscriber::<u64>::builder().domain(&domain).max_held(1).open("ticks").unwrap();
        (0..2).for_each(|tick| publisher.send(&tick).unwrap());
        let first = subscriber.try_recv().unwrap().unwrap();
        drop(publisher);
        assert_refused(subscriber.try_recv(), 1);
        drop(first);
        let last = subscriber.try_recv().unwrap().unwrap();
        assert_eq!(*last, 1);
        let ended = subscriber.try_recv();
        assert!(matches!(ended, Err(RecvError::PublisherGone { how: Gone::Closed, .. })), "{ended:?}");
    }

    #[test]
    fn copies_hold_nothing() {
        let (mut publisher, domain, _directory) = topic(2);
        let copies = Subscriber::<u64>::builder().domain(&domain).max_held(1).copy_samples(true);
        let mut subscriber = copies.open("ticks").unwrap();
        let receive = |tick| {
            publisher.send(&tick).unwrap();
            subscriber.try_recv().unwrap().unwrap()
        };
        let held: Vec<_> = (0..10).map(receive).collect();
        assert_eq!(*held[9], 9);
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        let (_publisher, domain, _directory) = topic(2);
        let error = Subscriber::<u64>::builder().domain(&domain).max_held(0).open("ticks").unwrap_err();
        assert!(error.to_string().contains("max_held(0)"), "{error}");
    }
}
