//! Being told of something, and finding it: a message, or the end.

use std::sync::atomic::Ordering::Acquire;

use super::*;
use crate::ring::layout::ENDED;

impl Checked {
    /// Looks at the slot alone, as a subscriber does that has looked at the clock a moment ago.
    fn poll(&mut self) -> Result<Option<Received>, Gone> {
        self.reader.receive_or_end(&mut CopyTo(&mut Vec::new()), || None)
    }
}

/// Who polls and finds its position passed finds the end.
#[test]
fn close_against_poller() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let poller = live(reader, |mut reader| {
            let mut end = reader.poll().and_then(|_| reader.poll()).err();
            // Nobody holds a slot, so position 1 is passed by the end alone.
            let is_passed = reader.ring.entry(1).position.load(Acquire) & ENDED != 0;
            while is_passed && end.is_none() {
                match reader.poll() {
                    Ok(received) => assert!(received.is_some(), "passed, but neither a message nor the end"),
                    Err(how) => end = Some(how),
                }
            }
            if end.is_some() {
                assert_eq!((end, reader.reader.received() + reader.reader.lost()), (Some(Gone::Closed), 1));
            }
        });
        send(&mut writer);
        writer.close();
        poller.join().unwrap();
    });
}

/// A reader to which news is reported finds a message.
#[test]
fn news_is_a_message() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let reader = live(reader, |mut reader| {
            if reader.reader.sleeper().has_news() {
                assert_eq!(reader.look(), Ok(true), "news, but no message");
            }
        });
        send(&mut writer);
        reader.join().unwrap();
    });
}

/// Threads that sleep for one reader leave nothing announced when the last has left, also if the
/// writer has woken them in between: it would cost the next message a system call.
#[test]
fn the_last_sleeper_clears_the_bit() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let sleepers = [0, 1].map(|_| {
            let sleeper = reader.reader.sleeper().clone();
            thread::spawn(move || {
                sleeper.enter();
                sleeper.announce();
                sleeper.leave();
            })
        });
        send(&mut writer);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert_eq!(ring.consumers.waiting.load(Relaxed), 0);
    });
}
