//! Receiving the newest message instead of the next one.

use std::sync::atomic::Ordering::Acquire;

use super::{ANY_NUMBER, ENDED, Found, Memory, NUMBER, Reader, ReaderMemory, ReceiveMode, Received, head};
use crate::mutation::{mutated, order, step};
use crate::shm::atomics::{AtomicLoad, Atomics};

/// Takes the newest message, in another mode, and skips those before it.
#[derive(Debug)]
pub(crate) struct Newest<T>(pub(crate) T);

impl<M: Memory, T: ReceiveMode<M>> ReceiveMode<M> for Newest<T> {
    const PINS: bool = T::PINS;
    const SKIPS: bool = true;

    #[inline(always)]
    fn take(&mut self, memory: &M, message: Found<'_, M>) -> Option<Received> {
        self.0.take(memory, message)
    }
}

impl<M: ReaderMemory> Reader<M> {
    /// Receives the newest message that is kept, unless it was received before. Each further round
    /// means that the writer has published a message.
    pub(super) fn receive_newest(&mut self, mode: &mut impl ReceiveMode<M>) -> Option<Received> {
        let mut tried = self.cursor;
        loop {
            let next = self.beyond_newest(tried);
            let oldest = tried.max(next.saturating_sub(self.memory.slots().into()));
            for position in (oldest..next).rev() {
                let found = Found::at::<ANY_NUMBER>(&*self.memory, position);
                // R1
                // survives r1_of_newest_relaxed: what lies before `next` is visible by H1, or by
                // the R1 below.
                if found.entry.position.load(order!(r1_of_newest, Acquire)) & !ENDED == position + 1
                    && let Some(message) = mode.take(&self.memory, found)
                {
                    self.move_to(next);
                    self.skipped = self.skipped.saturating_add(position.saturating_sub(self.expected));
                    self.expected = position + 1;
                    self.received += 1;
                    return Some(message);
                }
            }
            if next == tried || mutated!(newest_of_one_round) {
                self.move_to(next);
                return None;
            }
            // C2 may have found a newer message than head and R1 did, which must find it now.
            step!(newest_fence, M::Atomics::fence(Acquire));
            tried = next;
        }
    }

    /// The position after that of the newest message, `least` at least. It may be beyond head,
    /// which moves when the message is readable.
    fn beyond_newest(&self, least: u64) -> u64 {
        let mut next = head(&*self.memory, order!(h1_of_newest, Acquire)).max(least);
        for _ in 0..self.memory.slots() {
            // R1
            // survives r1_of_number_relaxed: the R1 above reads the same entry again.
            let number = self.memory.entry(next).position.load(order!(r1_of_number, Acquire)) & NUMBER;
            if number <= next || mutated!(newest_by_head) {
                break;
            }
            next = number;
        }
        next
    }
}
