//! Counters and message headers, read from outside.

use nix::sys::uio::pread;
use zerocopy::{FromBytes, IntoBytes};

use super::Region;
use crate::model::SubscriberInfo;
use crate::ring::header::{Layout, program_name};
use crate::ring::layout::{
    CLOSED, ControlPage, ORPHANED, PRODUCER_AT, Producer, RECORDS, SLOT_STATE_BYTES, STATES_AT, SlotHeader, TURN,
};
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
    /// Messages published.
    pub published: u64,
    /// Position of the next message: what the subscribers' lag is counted from.
    pub head: u64,
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

impl Region {
    /// The counters of a topic; `None` for a raw region, or if the header was damaged or the file
    /// is cut short.
    pub fn counters(&self) -> Option<Counters> {
        let layout = self.layout.as_ref()?;
        let mut control = self.read_at::<ControlPage>(0)?;
        let is_attached = |index| LockByte::attached(index).is_write_locked(&self.file).unwrap_or(false);
        let signed = (0..RECORDS).filter(|&index| control.records[index].pid != 0);
        let attached: Vec<usize> = signed.filter(|&index| is_attached(index)).collect();
        if !attached.is_empty() {
            // Again: what was read before may have been the previous holders'.
            control = self.read_at(0)?;
        }
        let head = control.producer.head;
        let subscribers = attached.into_iter().map(|index| (index, &control.records[index]));
        let subscribers: Vec<_> = subscribers.filter(|(_, record)| record.pid != 0).collect();
        let held = if subscribers.is_empty() { [0; RECORDS] } else { self.held(layout) };
        let subscribers = subscribers.into_iter().map(|(index, record)| {
            let subscriber = SubscriberInfo {
                pid: record.pid,
                uid: record.uid,
                program: program_name(record.program.as_bytes()),
                received: record.received,
                lost: record.lost,
                held: held[index],
                lag: head.saturating_sub(record.cursor),
                asleep: control.consumers.waiting & (1 << index) != 0,
            };
            (index, subscriber)
        });
        let last_stamp_ns = head.checked_sub(1).and_then(|last| self.stamp_of(layout, last));
        let rate = window::rate(&self.steady_producer(control.producer), last_stamp_ns, clock::now_ns());
        Some(Counters {
            closed: control.consumers.wake & CLOSED != 0,
            orphaned: control.consumers.wake & ORPHANED != 0,
            published: control.producer.published,
            head,
            last_stamp_ns,
            rate_hz: rate.map(|rate| rate.messages),
            bytes_per_second: rate.map(|rate| rate.bytes),
            subscribers: subscribers.collect(),
        })
    }

    /// How many samples each subscriber holds: bits in the slots' states.
    fn held(&self, layout: &Layout) -> [u32; RECORDS] {
        let mut held = [0; RECORDS];
        let mut states = vec![[0u64; SLOT_STATE_BYTES / 8]; layout.geometry.slots() as usize];
        let len = pread(&self.file, states.as_mut_slice().as_mut_bytes(), STATES_AT as i64).unwrap_or(0);
        for [state, ..] in &states[..len / SLOT_STATE_BYTES] {
            for (record, held) in held.iter_mut().enumerate() {
                *held += (state >> record & 1) as u32;
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

    /// The header of the oldest message that is kept from a position on, if it lies within the next
    /// few positions: at those that the publisher skipped there is none.
    pub fn message_from(&self, position: u64) -> Option<MessageHeader> {
        let layout = self.layout.as_ref()?;
        (position..position.saturating_add(8)).find_map(|position| self.header_of(layout, position))
    }

    fn header_of(&self, layout: &Layout, position: u64) -> Option<MessageHeader> {
        let read = || {
            let slot = self.read_at::<SlotHeader<Plain>>(layout.geometry.slot_at(position));
            slot.filter(|slot| slot.position & !TURN == position + 1)
        };
        let slot = read()?;
        // It is that position's for as long as the publisher has not taken the slot (C2) and used
        // it (C3).
        let state = self.read_at::<u64>(layout.geometry.state_at(position))?;
        if (state ^ slot.position) & TURN != 0 || read()?.position != slot.position {
            return None;
        }
        let stamp_ns = Some(slot.stamp_ns).filter(|&stamp| stamp != 0);
        Some(MessageHeader { sequence: slot.sequence, stamp_ns, len_bytes: slot.len })
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
        let slot = self.read_at::<SlotHeader<Plain>>(layout.geometry.slot_at(position))?;
        Some(slot.stamp_ns).filter(|&stamp| stamp != 0)
    }

    /// A value at an offset of the file; `None` if the file is cut short.
    fn read_at<T: FromBytes>(&self, at: usize) -> Option<T> {
        let mut bytes = vec![0; size_of::<T>()];
        let len = pread(&self.file, &mut bytes, at as i64).ok()?;
        T::read_from_bytes(&bytes[..len]).ok()
    }
}
