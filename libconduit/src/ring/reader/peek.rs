//! Looking at the next message without receiving it.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{ENDED, Reader, ReaderMemory, head};
use crate::mutation::order;
use crate::shm::atomics::AtomicLoad;

/// The next message, before it is received: it may be overwritten until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peeked {
    pub(crate) position: u64,
    /// 0 without time stamps.
    pub(crate) stamp_ns: u64,
}

impl<M: ReaderMemory> Reader<M> {
    /// The next message, if there is one. Holds nothing, and writes nothing to the region.
    pub(crate) fn peek(&mut self) -> Option<Peeked> {
        loop {
            let position = self.cursor;
            let entry = self.memory.entry(position);
            // R1
            // survives r1_of_peek_relaxed: on this processor loads are not reordered. The litmus
            // test of W4 and R1 shows what others need.
            let found = entry.position.load(order!(r1_of_peek, Acquire));
            if found & !ENDED == position + 1 {
                return Some(Peeked { position, stamp_ns: entry.stamp_ns.load(Relaxed) });
            }
            if !self.move_beyond(found) {
                return None;
            }
        }
    }

    /// Counts a message that another reader has received on behalf of this one.
    pub(crate) fn count_received(&mut self) {
        self.received += 1;
    }

    /// A position at most as many messages ahead as there are slots: what lies beyond it has not
    /// been published yet.
    pub(crate) fn horizon(&self) -> u64 {
        let most = self.cursor.saturating_add(self.memory.slots().into());
        head(&*self.memory, Relaxed).clamp(self.cursor, most)
    }
}
