//! The policy, on a clock that the tests move.

use super::*;

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// A subscriber whose time passes only while it waits.
struct Simulation {
    policy: SpinPolicy,
    now: Duration,
    /// What a wake-up costs on this machine.
    wake_up: Duration,
    has_stamps: bool,
    has_processors: bool,
    received: u64,
    /// Waits that ended while it polled.
    polled: u32,
    slept: u32,
    /// Time spent polling.
    spun: Duration,
}

impl Simulation {
    fn new(wake_up: Duration) -> Self {
        Self {
            policy: SpinPolicy::new(),
            now: us(1_000_000),
            wake_up,
            has_stamps: true,
            has_processors: true,
            received: 0,
            polled: 0,
            slept: 0,
            spun: Duration::ZERO,
        }
    }

    /// Receives a message that is, or was, published at that time.
    fn receive(&mut self, published: Duration) {
        if published > self.now {
            self.wait(published);
        }
        self.received += 1;
    }

    fn wait(&mut self, published: Duration) {
        let begun = self.now;
        let budget = self.policy.begin(self.received, || self.has_processors);
        if published - begun <= budget {
            self.polled += 1;
            self.spun += published - begun;
            self.now = published;
        } else {
            self.spun += budget;
            self.slept += 1;
            let asleep = begun + budget;
            self.now = published.max(asleep) + self.wake_up;
            let wake_up = self.has_stamps.then_some(self.wake_up);
            self.policy.slept(self.now - asleep, wake_up);
        }
        self.policy.waited(self.now - begun);
    }

    /// Receives so many messages, of which one is published in every period.
    fn stream(&mut self, messages: u32, period: Duration) -> &mut Self {
        self.bursts(messages, 1, period)
    }

    /// Receives so many bursts of messages that are published at once.
    fn bursts(&mut self, bursts: u32, messages: u32, period: Duration) -> &mut Self {
        let begun = self.now;
        (self.polled, self.slept, self.spun) = (0, 0, Duration::ZERO);
        for burst in 1..=bursts {
            (0..messages).for_each(|_| self.receive(begun + period * burst));
        }
        self
    }
}

#[test]
fn it_polls_while_messages_come_faster_than_a_wake_up_costs() {
    for (wake_up, period) in [(20, 1), (20, 7), (20, 15), (50, 40), (8, 3)] {
        let mut run = Simulation::new(us(wake_up));
        run.stream(100, us(period));
        run.stream(1000, us(period));
        assert_eq!((run.polled, run.slept), (1000, 0), "{period} us of {wake_up} us");
    }
}

#[test]
fn it_sleeps_and_never_polls_while_messages_come_slower() {
    for (wake_up, period) in [(20, 30), (20, 100), (20, 1000), (20, 1_000_000), (8, 12), (50, 70)] {
        let mut run = Simulation::new(us(wake_up));
        run.stream(100, us(period));
        run.stream(1000, us(period));
        // Only probes poll, in two waits at most, and only where polling might pay.
        let probes = if period >= 5 * wake_up { 0 } else { 1000 / WAITS_PER_PROBE };
        assert!(run.polled <= probes, "{period} us of {wake_up} us: {} polled", run.polled);
        assert!(run.spun <= probes * us(2 * wake_up), "{period} us of {wake_up} us: {:?}", run.spun);
    }
}

#[test]
fn the_first_messages_of_a_slow_stream_are_not_polled_for() {
    assert_eq!(Simulation::new(us(20)).stream(10, us(1000)).spun, Duration::ZERO);
}

#[test]
fn a_stream_that_changes_is_followed_within_few_messages() {
    let mut run = Simulation::new(us(20));
    for _ in 0..3 {
        run.stream(100, us(1000));
        assert!(run.stream(20, us(5)).slept <= 4, "{} sleeps", run.slept);
        assert_eq!(run.stream(20, us(5)).slept, 0);
        assert!(run.stream(20, us(1000)).spun <= 3 * us(20), "{:?}", run.spun);
        assert_eq!(run.stream(20, us(1000)).spun, Duration::ZERO);
    }
}

#[test]
fn a_pause_in_a_fast_stream_costs_one_wake_up_and_changes_nothing() {
    let mut run = Simulation::new(us(20));
    run.stream(100, us(5));
    assert_eq!(run.stream(1, us(1_000_000)).spun, us(20));
    assert_eq!(run.stream(100, us(5)).slept, 0);
}

#[test]
fn it_does_not_poll_between_bursts() {
    for messages in [2, 10, 1000] {
        let mut run = Simulation::new(us(20));
        assert_eq!(run.bursts(100, messages, us(10_000)).spun, Duration::ZERO, "bursts of {messages}");
    }
}

#[test]
fn without_time_stamps_the_sleeps_say_what_a_wake_up_costs() {
    for (wake_up, period) in [(10, 3), (20, 7), (40, 15)] {
        let mut run = Simulation { has_stamps: false, ..Simulation::new(us(wake_up)) };
        run.stream(100, us(period));
        assert_eq!(run.stream(100, us(period)).slept, 0, "{period} us of {wake_up} us");
        assert!(run.stream(100, us(1000)).spun <= 3 * ASSUMED_WAKE_UP, "{:?}", run.spun);
        assert_eq!(run.stream(100, us(1000)).spun, Duration::ZERO);
    }
}

#[test]
fn absurd_wake_ups_leave_the_time_bounded() {
    let mut run = Simulation::new(us(50_000));
    run.stream(10, us(100_000));
    assert_eq!(run.policy.wake_up(), WAKE_UP_MOST);
    // Messages that arrive before the sleep begins.
    let mut policy = SpinPolicy::new();
    (0..9).for_each(|_| policy.slept(us(1), Some(us(1))));
    assert_eq!(policy.wake_up(), ASSUMED_WAKE_UP);
}

#[test]
fn one_slow_wake_up_does_not_count() {
    let mut policy = SpinPolicy::new();
    (0..5).for_each(|_| policy.slept(us(500), Some(us(12))));
    policy.slept(us(90_000), Some(us(80_000)));
    assert_eq!(policy.wake_up(), us(12));
}

#[test]
fn a_wait_in_pieces_is_one_wait() {
    let mut run = Simulation::new(us(20));
    run.stream(100, us(5));
    // Timeouts of 15 us, and no message: polling ends with the first 20 us in all.
    let budgets = [0; 4].map(|_| {
        let budget = run.policy.begin(run.received, || true);
        run.policy.waited(us(15));
        budget
    });
    assert_eq!(budgets, [us(20), us(5), us(0), us(0)]);
    run.received += 1;
    run.policy.begin(run.received, || true);
    assert!(run.policy.waits.values.contains(&us(60)));
}

#[test]
fn it_never_polls_where_the_publisher_cannot_run_meanwhile() {
    let mut run = Simulation { has_processors: false, ..Simulation::new(us(20)) };
    assert_eq!(run.stream(1000, us(5)).spun, Duration::ZERO);
}

#[test]
fn a_publisher_that_waits_for_answers_is_found_by_a_probe() {
    let mut run = Simulation::new(us(20));
    // It answers 3 us after the wait has begun: each sleep makes it look slower than a wake-up.
    (0..40).for_each(|_| run.receive(run.now + us(3)));
    run.slept = 0;
    (0..100).for_each(|_| run.receive(run.now + us(3)));
    assert_eq!(run.slept, 0);
}

#[test]
fn a_duration_is_a_fixed_time() {
    assert_eq!(Spin::from(us(3)), Spin::For(us(3)));
    assert_eq!(Spin::default(), Spin::Never);
}
