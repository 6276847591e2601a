//! What the ring must do, told without its memory: entries, holders and claims.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) slot: u32,
    pub(super) len: usize,
}

impl Message {
    pub(super) fn words(self) -> [u64; WORDS] {
        [self.sequence, !self.sequence, self.sequence << 32 | self.len as u64]
    }

    pub(super) fn stamp_ns(self) -> u64 {
        1000 + self.sequence
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExpectedEntry {
    /// Its message, unless that was or may be overwritten.
    pub(super) message: Option<Message>,
    /// One more than the position in it.
    pub(super) number: u64,
    pub(super) slot: u32,
}

/// What the writer and the slots must do.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) reuse: Reuse,
    pub(super) entries: Vec<ExpectedEntry>,
    /// Of each slot.
    pub(super) holders: Vec<u64>,
    pub(super) next: u64,
    pub(super) bytes: u64,
    pub(super) claimed: Option<u32>,
    pub(super) meetings: u64,
    /// Bits of the subscribers that are alive.
    pub(super) alive: u64,
    /// What the records say, if anything.
    pub(super) cursors: [Option<u64>; SUBSCRIBERS],
}

impl Expected {
    pub(super) fn new(slots: u32, reuse: Reuse) -> Self {
        let mut new = Self {
            reuse,
            entries: (0..slots).map(|slot| ExpectedEntry { slot, ..ExpectedEntry::default() }).collect(),
            holders: vec![0; slots as usize],
            next: 0,
            bytes: 0,
            claimed: None,
            meetings: 0,
            alive: 0,
            cursors: [None; SUBSCRIBERS],
        };
        new.claim_ahead();
        new
    }

    pub(super) fn slots(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn index(&self, position: u64) -> usize {
        (position % self.slots()) as usize
    }

    pub(super) fn entry(&mut self, position: u64) -> &mut ExpectedEntry {
        let index = self.index(position);
        &mut self.entries[index]
    }

    /// Clears what the dead among `records` hold.
    pub(super) fn bury(&mut self, records: u64) {
        for holders in &mut self.holders {
            *holders &= self.alive | !records;
        }
    }

    /// The ages of the messages whose slots are tried, in this order; 1 is the newest message.
    pub(super) fn ages(&self) -> Vec<u64> {
        let first = match self.reuse {
            Reuse::Oldest => self.slots(),
            Reuse::Newest { retain } => {
                // Whoever has missed messages already has none to lose.
                let lags = self.cursors.iter().flatten().map(|cursor| self.next - cursor);
                let behind = lags.filter(|&lag| lag < self.slots()).max().unwrap_or(0);
                self.slots().min(1 + behind.max(retain.into()))
            }
        };
        (first..=self.slots()).chain((1..first).rev()).collect()
    }

    pub(super) fn first_free(&mut self, ages: &[u64]) -> Option<u64> {
        for age in ages {
            let from = self.next + self.slots() - age;
            let slot = self.entry(from).slot;
            let holders = self.holders[slot as usize];
            if holders == 0 {
                return Some(from);
            }
            self.meetings += 1;
            if self.meetings.is_multiple_of(64) {
                self.bury(holders);
            }
        }
        None
    }

    pub(super) fn claim(&mut self) -> Result<u32, AllSlotsHeld> {
        if self.claimed.is_none() {
            let ages = self.ages();
            let from = self.first_free(&ages).or_else(|| {
                self.bury(u64::MAX);
                self.first_free(&ages)
            });
            self.take(from.ok_or(AllSlotsHeld)?);
        }
        self.claimed.ok_or(AllSlotsHeld)
    }

    /// Gives the slot of an entry to the next one, and its message is gone.
    pub(super) fn take(&mut self, from: u64) {
        let (from, next) = (self.index(from), self.index(self.next));
        self.claimed = Some(self.entries[from].slot);
        (self.entries[from].slot, self.entries[next].slot) = (self.entries[next].slot, self.entries[from].slot);
        self.entries[from].message = None;
    }

    pub(super) fn claim_ahead(&mut self) {
        self.claimed = None;
        if self.reuse == (Reuse::Newest { retain: 0 }) {
            return;
        }
        let from = self.next + self.slots() - self.ages()[0];
        let slot = self.entry(from).slot;
        if self.holders[slot as usize] == 0 {
            self.take(from);
        }
    }

    pub(super) fn publish(&mut self, message: Message) {
        let entry = self.entry(message.sequence);
        entry.message = Some(message);
        entry.number = message.sequence + 1;
        self.next = message.sequence + 1;
        self.bytes += message.len as u64;
        // One fewer are kept than there are entries.
        self.entry(message.sequence + 1).message = None;
        self.claim_ahead();
    }
}
