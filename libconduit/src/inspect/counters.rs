//! Counters and message headers, read from outside.

use nix::sys::uio::pread;
use zerocopy::{FromBytes, IntoBytes};

use super::Region;
use crate::model::SubscriberInfo;
use crate::ring::header::{Layout, program_name};
use crate::ring::layout::{
    CLOSED, ControlPage, ENDED, MessageEntry, ORPHANED, PINNING_RECORDS, PRODUCER_AT, Producer, RECORD_BYTES,
    RECORDS_AT, Record, SLOT_STATE_BYTES,
};
use crate::ring::memory::{ANY_NUMBER, waiting_bit};
use crate::ring::window;
use crate::shm::atomics::Plain;
use crate::shm::clock;
use crate::shm::lock::LockByte;

/// What a topic's region says of itself at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Counters {
    /// Whether the publisher closed it.
    pub closed: bool,
    /// Whether a reaper marked it.
    pub orphaned: bool,
    /// Messages published: the sequence number of the next one, which the subscribers' lag is
    /// counted from.
    pub published: u64,
    /// When the last message was published: CLOCK_MONOTONIC in nanoseconds.
    pub last_stamp_ns: Option<u64>,
    /// Messages per second, over the last one to two seconds.
    pub rate_hz: Option<f64>,
    /// Bytes per second, over the same time.
    pub bytes_per_second: Option<f64>,
    /// The subscribers that are attached, each with the number of its record: those that receive
    /// whatever is published from now on. A subscriber without a record is not among them.
    pub subscribers: Vec<(usize, SubscriberInfo)>,
}

/// What a slot says of its message: everything but the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageHeader {
    /// Sequence number.
    pub sequence: u64,
    /// When it was published: CLOCK_MONOTONIC in nanoseconds; none if the publisher's time stamps
    /// are off.
    pub stamp_ns: Option<u64>,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl MessageHeader {
    /// A header; `stamp_ns` is on CLOCK_MONOTONIC.
    pub fn new(sequence: u64, stamp_ns: Option<u64>, len_bytes: u64) -> Self {
        Self { sequence, stamp_ns, len_bytes }
    }
}

/// The samples that a subscriber holds.
#[derive(Clone, Copy, Default)]
struct Held {
    samples: u32,
    /// When the oldest of them was published; none if time stamps are off.
    oldest_stamp_ns: Option<u64>,
}

impl Region {
    /// The counters of a topic; `None` for a raw region, or if the header was damaged or the file
    /// is cut short.
    pub fn counters(&self) -> Option<Counters> {
        let layout = self.layout.as_ref()?;
        let is_attached = |index| LockByte::attached(index).is_write_locked(&self.file).unwrap_or(false);
        let signed = self.records(layout)?.into_iter().enumerate().filter(|(_, record)| record.pid != 0);
        let attached: Vec<usize> = signed.map(|(index, _)| index).filter(|&index| is_attached(index)).collect();
        let control = self.read_at::<ControlPage>(0)?;
        let head = control.producer.head;
        let now_ns = clock::now_ns();
        let (mut records, mut held) = (Vec::new(), Vec::new());
        if !attached.is_empty() {
            // Again: what was read before may have been the previous holders'.
            records = self.records(layout)?;
            held = self.held(layout);
        }
        let subscribers = attached.into_iter().filter_map(|index| {
            let record = records.get(index).filter(|record| record.pid != 0)?;
            let subscriber = SubscriberInfo {
                pid: record.pid,
                uid: record.uid,
                program: program_name(record.program.as_bytes()),
                received: record.received,
                lost: record.lost,
                held: held.get(index).map_or(0, |held| held.samples),
                oldest_held_age_ns: held.get(index).and_then(|held| Some(now_ns.saturating_sub(held.oldest_stamp_ns?))),
                lag: head.saturating_sub(record.cursor),
                asleep: control.consumers.waiting & waiting_bit(index) != 0,
            };
            Some((index, subscriber))
        });
        let last_stamp_ns = head.checked_sub(1).and_then(|last| self.stamp_of(layout, last));
        let rate = window::rate(&self.steady_producer(control.producer), last_stamp_ns, now_ns);
        Some(Counters {
            closed: control.consumers.wake & CLOSED != 0,
            orphaned: control.consumers.wake & ORPHANED != 0,
            published: head,
            last_stamp_ns,
            rate_hz: rate.map(|rate| rate.messages),
            bytes_per_second: rate.map(|rate| rate.bytes),
            subscribers: subscribers.collect(),
        })
    }

    /// The subscriber records.
    fn records(&self, layout: &Layout) -> Option<Vec<Record<Plain>>> {
        let mut bytes = vec![0; layout.geometry.records() * RECORD_BYTES];
        let len = pread(&self.file, &mut bytes, RECORDS_AT as i64).ok()?;
        let records = bytes[..len].chunks_exact(RECORD_BYTES).map(Record::read_from_bytes);
        Some(records.filter_map(Result::ok).collect())
    }

    /// The samples that each subscriber holds, by the slots' states.
    fn held(&self, layout: &Layout) -> Vec<Held> {
        let mut held = vec![Held::default(); PINNING_RECORDS];
        let mut states = vec![[0u64; SLOT_STATE_BYTES / 8]; layout.geometry.slots() as usize];
        let at = layout.geometry.state_at(0);
        let len = pread(&self.file, states.as_mut_slice().as_mut_bytes(), at as i64).unwrap_or(0);
        for [state, stamp_ns, ..] in &states[..len / SLOT_STATE_BYTES] {
            let stamp_ns = Some(*stamp_ns).filter(|&stamp| stamp != 0);
            for held in held.iter_mut().enumerate().filter(|(record, _)| state >> record & 1 != 0).map(|(_, held)| held)
            {
                held.samples += 1;
                held.oldest_stamp_ns = held.oldest_stamp_ns.into_iter().chain(stamp_ns).min();
            }
        }
        held
    }

    /// The headers of the messages that are kept from a position on, oldest first, and the position
    /// to continue from. Start with position 0 for all that is kept, or with `u64::MAX` for none.
    /// `None` for a raw region, or if the header was damaged or the file is cut short.
    ///
    /// Costs the publisher nothing, whatever the size of the messages. Those that are overwritten
    /// before they are read are left out.
    pub fn messages_since(&self, position: u64) -> Option<(Vec<MessageHeader>, u64)> {
        let layout = self.layout.as_ref()?;
        let head = self.read_at::<Producer<Plain>>(PRODUCER_AT)?.head;
        let oldest = head.saturating_sub(layout.geometry.slots().into());
        let messages = (position.max(oldest)..head).filter_map(|position| self.header_of(layout, position));
        Some((messages.collect(), head))
    }

    /// The header of a position's message, if it is kept.
    pub fn message_at(&self, position: u64) -> Option<MessageHeader> {
        self.header_of(self.layout.as_ref()?, position)
    }

    fn header_of(&self, layout: &Layout, position: u64) -> Option<MessageHeader> {
        let read = || self.entry(layout, position).filter(|entry| entry.position & !ENDED == position + 1);
        let entry = read()?;
        // It is that position's for as long as the publisher has not taken it (C2).
        read()?;
        let stamp_ns = Some(entry.stamp_ns).filter(|&stamp| stamp != 0);
        Some(MessageHeader { sequence: position, stamp_ns, len_bytes: entry.len })
    }

    fn entry(&self, layout: &Layout, position: u64) -> Option<MessageEntry<Plain>> {
        self.read_at(layout.geometry.slot_at(layout.geometry.entry_of::<ANY_NUMBER>(position)))
    }

    /// The publisher's line as it is between two messages, if it comes to rest: its numbers belong
    /// together.
    fn steady_producer(&self, mut seen: Producer<Plain>) -> Producer<Plain> {
        for _ in 0..8 {
            match self.read_at(PRODUCER_AT) {
                Some(again) if again != seen => seen = again,
                _ => break,
            }
        }
        seen
    }

    fn stamp_of(&self, layout: &Layout, position: u64) -> Option<u64> {
        Some(self.entry(layout, position)?.stamp_ns).filter(|&stamp| stamp != 0)
    }

    /// A value at an offset of the file; `None` if the file is cut short.
    fn read_at<T: FromBytes>(&self, at: usize) -> Option<T> {
        let mut bytes = vec![0; size_of::<T>()];
        let len = pread(&self.file, &mut bytes, at as i64).ok()?;
        T::read_from_bytes(&bytes[..len]).ok()
    }
}
