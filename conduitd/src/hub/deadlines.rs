//! Looks at topics whose publishers have promised to send, when their next messages are due.

use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;
use tokio::task::yield_now;

use super::Hub;
use crate::deadlines::{PublisherProgress, Punctuality};
use crate::reaping::HeldRegion;
use crate::registry::Key;

/// How long topics are looked at before other work has its turn.
const SLICE: Duration = Duration::from_micros(200);
/// The pause between two rounds of looks, and as many times what the round took: all looks together
/// take a twentieth of the time at most, whatever is promised.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES_PER_ROUND: u32 = 19;

impl Hub {
    /// A topic was found: its publisher may have promised to send.
    pub(super) fn await_messages(&self, key: &Key, region: &HeldRegion) {
        let Some((deadline, found)) = region.deadline().zip(progress_of(region)) else { return };
        self.deadlines.borrow_mut().insert(key, deadline, found, now_ns());
        self.deadlines_changed.notify_one();
    }

    /// Sleeps until a message is due; for ever, if nobody has promised one.
    pub(crate) async fn watch_deadlines(self: Rc<Self>) {
        loop {
            let next_ns = self.deadlines.borrow().next_ns();
            let changed = self.deadlines_changed.notified();
            let Some(next_ns) = next_ns else {
                changed.await;
                continue;
            };
            let left = Duration::from_nanos(next_ns.saturating_sub(now_ns()));
            if tokio::time::timeout(left, changed).await.is_ok() {
                continue;
            }
            let spent = self.look_at_due().await;
            tokio::time::sleep(PAUSE.max(spent * PAUSES_PER_ROUND)).await;
        }
    }

    /// One round. Returns how long it took, without other work.
    async fn look_at_due(self: &Rc<Self>) -> Duration {
        let (mut began, mut spent) = (Instant::now(), Duration::ZERO);
        let due = self.deadlines.borrow().due(now_ns());
        for key in due {
            self.look_at(&key);
            if began.elapsed() >= SLICE {
                spent += began.elapsed();
                yield_now().await;
                began = Instant::now();
            }
        }
        spent + began.elapsed()
    }

    fn look_at(self: &Rc<Self>, key: &Key) {
        // Before the look: what is stamped later comes after it.
        let now_ns = now_ns();
        let found = self.topics.file(key).and_then(|region| progress_of(&region));
        let Some(change) = self.deadlines.borrow_mut().looked(key, found, now_ns) else { return };
        let changes = self.registry.borrow_mut().set_overdue(key, change == Punctuality::Overdue);
        self.carry_out(changes);
    }
}

fn progress_of(region: &HeldRegion) -> Option<PublisherProgress> {
    let (_, published) = region.messages_since(u64::MAX)?;
    let last = published.checked_sub(1).and_then(|last| region.message_at(last));
    Some(PublisherProgress { published, last_stamp_ns: last.and_then(|last| last.stamp_ns) })
}
