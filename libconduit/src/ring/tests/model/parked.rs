//! A parker and a ticket: a thread that sleeps on behalf of a task, which it wakes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Wake, Waker};

use super::*;
use crate::parker::entry::{Awaited, Entry, Guard, Notifications, State};
use crate::ring::sleeper::Sleeper;

/// A subscriber that is waited for.
struct Topic {
    ring: Shared,
    sleeper: Sleeper<Ring>,
}

impl Awaited for Topic {
    type Sleeper = Sleeper<Ring>;
    type State = Mutex<State>;

    fn sleeper(&self) -> &Sleeper<Ring> {
        &self.sleeper
    }
    fn wake(&self) -> u32 {
        self.ring.consumers.wake.load(Acquire)
    }
    fn can_be_woken(&self) -> bool {
        true
    }
    fn is_ready(&self) -> bool {
        self.sleeper.has_news() || self.sleeper.has_ended().is_some()
    }
}

impl<T: Default> Guard<T> for Mutex<T> {
    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        action(&mut self.lock().unwrap())
    }
}

/// What sleeps until its waker is called.
#[derive(Default)]
struct Task {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap() = true;
        self.woken.notify_one();
    }
}

impl Task {
    fn sleep(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = self.woken.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }
}

struct Parker {
    notified: Notifications<AtomicU32>,
    tickets: Mutex<Vec<Arc<Entry<Topic>>>>,
    bed: Bed,
}

impl Parker {
    fn notify(&self) {
        self.notified.add();
        let (asleep, woken) = &*self.bed;
        let _guard = asleep.lock().unwrap();
        woken.notify_all();
    }

    /// As the parker's thread, which sleeps on several words at once.
    fn run(&self) {
        loop {
            let notified = self.notified.count();
            let entries = self.tickets.lock().unwrap().clone();
            if entries.is_empty() {
                return;
            }
            entries.iter().for_each(|entry| _ = entry.check(Duration::ZERO));
            let words: Vec<_> = entries.iter().map(|entry| entry.slept_on()).collect();
            let (asleep, woken) = &*self.bed;
            let guard = asleep.lock().unwrap();
            let is_same = |(entry, seen): (&Arc<Entry<Topic>>, &Option<u32>)| {
                seen.is_none_or(|seen| entry.watched.ring.consumers.wake.load(Relaxed) == seen)
            };
            if self.notified.0.load(Relaxed) == notified && entries.iter().zip(&words).all(is_same) {
                drop(woken.wait(guard).unwrap());
            }
        }
    }
}

/// A task that receives or loses `messages`, or waits for the end, with a parker that sleeps for
/// it.
#[expect(clippy::arc_with_non_send_sync, reason = "loom runs all its threads on one")]
fn receive_parked(mut reader: Checked, messages: u64) -> Checked {
    let ring = Shared::clone(&reader.ring);
    let sleeper = reader.reader.sleeper().clone();
    let entry = Arc::new(Entry::new(Arc::new(Topic { ring: Shared::clone(&ring), sleeper })));
    let parker = Parker {
        notified: Notifications::default(),
        tickets: Mutex::new(vec![Arc::clone(&entry)]),
        bed: Bed::clone(&ring.bed),
    };
    let parker = Arc::new(parker);
    let running = {
        let parker = Arc::clone(&parker);
        thread::spawn(move || parker.run())
    };
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    while reader.reader.received() + reader.reader.lost() < messages {
        match reader.look() {
            Ok(true) => (),
            Ok(false) if entry.arm(&waker, || parker.notify()) => (),
            Ok(false) => task.sleep(),
            Err(_) => break,
        }
    }
    entry.disarm();
    parker.tickets.lock().unwrap().clear();
    parker.notify();
    running.join().unwrap();
    assert_eq!(ring.consumers.waiting.load(Relaxed), 0, "announced for nobody");
    reader
}

/// A parker wakes its task for every message.
#[test]
fn parked_task_receives_every_message() {
    for messages in [1, 2] {
        model(2, move || {
            let ring = Ring::with_slots(SLOTS + 1);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let reader = Checked::first(&ring, 0, false);
            let sender = thread::spawn(move || (0..messages).for_each(|_| send(&mut writer)));
            receive_parked(reader, messages);
            sender.join().unwrap();
        });
    }
}

/// Of a ring that keeps a single message a task is woken for the last one, if it comes late for
/// those before.
#[test]
fn parked_task_of_a_ring_that_keeps_one_message() {
    for (messages, preemptions) in [(2, 2), (3, 1)] {
        model(preemptions, move || {
            let ring = Ring::new();
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let reader = Checked::first(&ring, 0, false);
            let sender = thread::spawn(move || (0..messages).for_each(|_| send(&mut writer)));
            let reader = receive_parked(reader, messages);
            assert_eq!(reader.next, Some(messages));
            sender.join().unwrap();
        });
    }
}

/// A parker wakes its task for the end.
#[test]
fn parked_task_finds_the_end() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let sender = thread::spawn(move || writer.close());
        let reader = receive_parked(reader, 1);
        assert_eq!(reader.reader.received(), 0);
        sender.join().unwrap();
    });
}
