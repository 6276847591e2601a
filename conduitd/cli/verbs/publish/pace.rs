//! When messages are due: on a schedule that starts once, so that a late message makes no other
//! one late.

use std::time::{Duration, Instant};
use std::{hint, thread};

use conduit::TopicName;
use nix::sys::prctl;

use crate::output;

/// Above 1 kHz the end of a pause is spent polling the clock: a sleep ends some microseconds late.
const SHORT_PERIOD: Duration = Duration::from_millis(1);
const POLLED: Duration = Duration::from_micros(20);
/// What is later than this is not caught up with, for whoever reads would only see a flood.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// An input that is silent for so long has nothing to catch up with.
const LONGEST_SILENCE: Duration = Duration::from_millis(100);
/// When to report that the rate is not met: first, and then again.
const FIRST_REPORT: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Delays that a machine has at any time are no shortfall.
const USUAL_DELAY: Duration = Duration::from_millis(50);

/// Keeps to a rate, if there is one.
pub(super) struct Pace {
    schedule: Option<Schedule>,
}

impl Pace {
    pub(super) fn new(rate_hz: Option<f64>, topic: &TopicName) -> Self {
        if rate_hz.is_some() {
            // Sleeps of this thread end 50 us late by default.
            let _ = prctl::set_timerslack(1);
        }
        Self { schedule: rate_hz.map(|rate_hz| Schedule::new(rate_hz, topic, Instant::now())) }
    }

    /// Waits until the next message is due.
    pub(super) fn wait(&mut self) {
        let Some(schedule) = &mut self.schedule else { return };
        let now = Instant::now();
        match schedule.due(now) {
            Due::In(left) if schedule.period < SHORT_PERIOD => {
                thread::sleep(left.saturating_sub(POLLED));
                while now.elapsed() < left {
                    hint::spin_loop();
                }
            }
            Due::In(left) => thread::sleep(left),
            Due::Now => {}
        }
        if let Some(shortfall) = schedule.count(Instant::now()) {
            output::remark(shortfall);
        }
    }

    /// The next message was not to be had since then.
    pub(super) fn input_came(&mut self, asked: Instant) {
        if let Some(schedule) = &mut self.schedule {
            schedule.excuse(asked, Instant::now());
        }
    }

    /// Reports how far the rate was missed after all messages.
    pub(super) fn finish(&self) {
        if let Some(shortfall) = self.schedule.as_ref().and_then(|it| it.total_shortfall(Instant::now())) {
            output::remark(shortfall);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Due {
    In(Duration),
    Now,
}

struct Schedule {
    topic: TopicName,
    rate_hz: f64,
    period: Duration,
    /// When the first message was due. Moved when the schedule gives up what is too late.
    start: Instant,
    has_given_up: bool,
    /// Whether a message of the current window was not late: then the rate is met, and what is late
    /// now is a delay that is caught up with.
    was_on_time: bool,
    /// Whether the current window includes a delay that was given up.
    is_cut: bool,
    /// When the first message was due, pauses of the input left out.
    begun: Instant,
    /// Messages counted so far.
    sent: u64,
    /// Since when messages are late, and how many were counted before.
    late_since: Option<(Instant, u64)>,
    /// The current window of the report: its begin, its end, and how many messages were before it.
    window: (Instant, Instant, u64),
}

impl Schedule {
    fn new(rate_hz: f64, topic: &TopicName, now: Instant) -> Self {
        Self {
            topic: topic.clone(),
            rate_hz,
            period: Duration::try_from_secs_f64(1.0 / rate_hz).unwrap_or(Duration::MAX),
            start: now,
            has_given_up: false,
            was_on_time: false,
            is_cut: false,
            begun: now,
            sent: 0,
            late_since: None,
            window: (now, now + FIRST_REPORT, 0),
        }
    }

    /// How long after the start so many messages take.
    fn planned(&self, messages: u64) -> Duration {
        Duration::try_from_secs_f64(messages as f64 / self.rate_hz).unwrap_or(Duration::MAX)
    }

    fn due(&mut self, now: Instant) -> Due {
        let (elapsed, planned) = (now.saturating_duration_since(self.start), self.planned(self.sent));
        if let Some(left) = planned.checked_sub(elapsed).filter(|left| !left.is_zero()) {
            (self.was_on_time, self.late_since) = (true, None);
            return Due::In(left);
        }
        let late = elapsed.saturating_sub(planned);
        if late > LONGEST_DELAY {
            self.start += late;
            (self.has_given_up, self.is_cut) = (true, true);
        }
        // Caught up with at twice the rate, which subscribers can follow.
        let (begin, before) = *self.late_since.get_or_insert((now, self.sent));
        let soonest = self.planned(self.sent - before) / 2;
        let left = soonest.checked_sub(now.saturating_duration_since(begin)).filter(|left| !left.is_zero());
        left.map_or(Due::Now, Due::In)
    }

    /// Counts a message. At the end of a window it returns what is to be reported about it.
    fn count(&mut self, now: Instant) -> Option<String> {
        self.sent += 1;
        let (begin, end, before) = self.window;
        if now < end {
            return None;
        }
        self.window = (now, now + REPORT_INTERVAL, self.sent);
        let window = now.saturating_duration_since(begin);
        let (sent, found_hz) = (self.sent - before, (self.sent - before) as f64 / window.as_secs_f64());
        let (was_on_time, is_cut) = (std::mem::take(&mut self.was_on_time), std::mem::take(&mut self.is_cut));
        let is_short = is_behind(window, self.planned(sent));
        ((is_cut || !was_on_time) && is_short).then(|| {
            let [found, wanted] = [found_hz, self.rate_hz].map(output::rate);
            let seconds = output::duration(window);
            format!("\"{}\" is published at {found} instead of {wanted} (over {seconds}); {CAUSE}", self.topic)
        })
    }

    fn excuse(&mut self, asked: Instant, came: Instant) {
        let silence = came.saturating_duration_since(asked);
        if silence < LONGEST_SILENCE {
            return;
        }
        // Only what it was late by: without an input the schedule waits as ever.
        let late = came.saturating_duration_since(self.start).saturating_sub(self.planned(self.sent)).min(silence);
        self.start += late;
        self.begun += late;
        self.window = (self.window.0 + late, self.window.1 + late, self.window.2);
    }

    fn total_shortfall(&self, now: Instant) -> Option<String> {
        let elapsed = now.saturating_duration_since(self.begun);
        // The first one is due at the start.
        let periods = self.sent.checked_sub(1)?;
        ((self.has_given_up || !self.was_on_time) && is_behind(elapsed, self.planned(periods))).then(|| {
            let messages = output::count(self.sent, "message");
            let [found, wanted] = [periods as f64 / elapsed.as_secs_f64(), self.rate_hz].map(output::rate);
            format!("published {messages} at {found} instead of {wanted}; {CAUSE}")
        })
    }
}

const CAUSE: &str = "this machine is too slow, or subscribers hold the slots";

/// Whether so much more time than planned has passed that a user wants to know.
fn is_behind(elapsed: Duration, planned: Duration) -> bool {
    let late = elapsed.saturating_sub(planned);
    late > USUAL_DELAY && late > planned / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A schedule of 1 kHz, and its start.
    fn schedule() -> (Schedule, Instant) {
        let start = Instant::now();
        (Schedule::new(1000.0, &"imu".parse().unwrap(), start), start)
    }

    #[test]
    fn late_messages_do_not_delay_the_others() {
        let (mut schedule, start) = schedule();
        assert_eq!(schedule.due(start), Due::Now);
        schedule.count(start);
        assert_eq!(schedule.due(start), Due::In(MS));
        // A stop of half a second is caught up with within as long, at twice the rate.
        let (mut now, mut sent) = (start + 500 * MS, 1);
        loop {
            match schedule.due(now) {
                Due::In(left) if left > MS / 2 => break,
                Due::In(left) => now += left,
                Due::Now => {}
            }
            assert_eq!(schedule.count(now), None);
            sent += 1;
        }
        assert!((998..=1000).contains(&sent) && now.duration_since(start).as_millis().abs_diff(1000) < 3, "{sent}");
        assert_eq!(schedule.total_shortfall(now), None);
        // Late at the end of a window, but not all of it.
        assert_eq!(schedule.count(start + 1200 * MS), None);
    }

    #[test]
    fn a_process_that_seldom_runs_can_catch_up() {
        let (mut schedule, start) = schedule();
        // It runs every 20 ms.
        for turn in 1..100 {
            let now = start + turn * 20 * MS;
            while schedule.due(now) == Due::Now {
                assert_eq!(schedule.count(now), None);
            }
        }
        assert!(schedule.sent > 1950, "{}", schedule.sent);
    }

    #[test]
    fn a_stop_of_minutes_is_no_flood_but_is_reported() {
        let (mut schedule, start) = schedule();
        schedule.count(start);
        let later = start + Duration::from_secs(60);
        assert_eq!(schedule.due(later), Due::Now);
        let shortfall = schedule.count(later).unwrap();
        assert_eq!(schedule.due(later), Due::In(MS), "one message, not 60,000");
        assert!(
            shortfall.starts_with("\"imu\" is published at 0.03 Hz instead of 1000 Hz (over 1.00 min"),
            "{shortfall}"
        );
        let total = schedule.total_shortfall(later).unwrap();
        assert!(total.starts_with("published 2 messages at 0.02 Hz instead of 1000 Hz; "), "{total}");
    }

    #[test]
    fn a_rate_that_is_not_met_is_reported_for_each_window() {
        let (mut schedule, start) = schedule();
        // A message every 1.25 ms instead of 1.
        let reports: Vec<_> = (0..16_000).filter_map(|n| schedule.count(start + n * MS * 5 / 4)).collect();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports.iter().all(|it| it.contains("at 80") && it.contains("instead of 1000 Hz")), "{reports:?}");
        assert!(schedule.total_shortfall(start + 20_000 * MS).unwrap().contains("at 800 Hz"));
    }

    #[test]
    fn a_silent_input_has_nothing_to_catch_up_with() {
        let (mut schedule, start) = schedule();
        schedule.count(start);
        schedule.excuse(start, start + 5000 * MS);
        assert_eq!(schedule.due(start + 5000 * MS), Due::Now);
        assert_eq!(schedule.count(start + 5000 * MS), None);
        assert_eq!(schedule.due(start + 5000 * MS), Due::In(MS));
        assert_eq!(schedule.total_shortfall(start + 5000 * MS), None);
        // A short wait is the program's own.
        schedule.excuse(start + 5000 * MS, start + 5050 * MS);
        assert_eq!(schedule.due(start + 5050 * MS), Due::Now);
    }
}
