//! Reads the whole directory: at the start; when the kernel has dropped changes; and while there
//! are names that are not tracked, of which some may have room now.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::TopicName;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Hub;

/// After how many names the service manager is asked for more time, and for how much. A name takes
/// microseconds unless its region is busy, and there may be any number.
const MANY_NAMES: usize = 1000;
const MORE_TIME: Duration = Duration::from_secs(30);
/// How long to wait after a reading before the next.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// How often names are counted that are not tracked: that they have changed is not noticed.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(30);
/// How long names are compared before other work has its turn.
const SLICE: Duration = Duration::from_micros(200);

impl Hub {
    /// Takes in the whole directory at the start, except the names that `is_left_out` returns true
    /// for.
    pub(super) fn scan(self: &Rc<Self>, is_left_out: impl Fn(&TopicName) -> bool) -> io::Result<()> {
        self.directory.finish_removals_later();
        let mut topics = self.directory.topics()?;
        topics.sort();
        for (number, topic) in topics.iter().filter(|topic| !is_left_out(topic)).enumerate() {
            if number > 0 && number.is_multiple_of(MANY_NAMES) {
                self.supervisor.needs_longer(MORE_TIME);
            }
            self.update(topic);
        }
        Ok(())
    }

    /// Reads the directory whenever that is due.
    pub(crate) async fn rescan(self: Rc<Self>) {
        loop {
            let due = self.scan_due.notified();
            if self.surplus.is_empty() {
                due.await;
            } else {
                let _ = timeout(RECOUNT_INTERVAL, due).await;
            }
            self.read_directory().await;
            tokio::time::sleep(SHORTEST_INTERVAL).await;
        }
    }

    async fn read_directory(self: &Rc<Self>) {
        self.directory.finish_removals_later();
        self.has_missed_changes.set(false);
        let mut unseen: BTreeSet<TopicName> = self.registry.borrow().topics().map(|topic| topic.name.clone()).collect();
        self.surplus.begin_recount();
        let mut batches = self.directory.read_names();
        let mut began = Instant::now();
        while let Some(batch) = batches.recv().await {
            for topic in batch {
                unseen.remove(&topic);
                self.compare(&topic, true);
                self.pause_after(SLICE, &mut began).await;
            }
        }
        self.surplus.end_recount();
        for topic in unseen {
            self.compare(&topic, true);
            self.pause_after(SLICE, &mut began).await;
        }
        self.scanned.notify_waiters();
    }

    /// Lets other work have its turn when a slice of time is over.
    pub(super) async fn pause_after(&self, slice: Duration, began: &mut Instant) {
        if began.elapsed() >= slice {
            yield_now().await;
            *began = Instant::now();
        }
    }
}
