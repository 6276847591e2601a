//! The ring: one writer and up to 60 readers share slots, and none of them ever waits for another.
//!
//! # The protocol
//!
//! *Positions and sequences.* The writer numbers positions 0, 1, 2, ...; position h is in slot h
//! mod N. Messages have sequence numbers of their own, since the writer skips positions whose slot
//! a reader holds.
//!
//! *Words.* A slot has a `state` (bit i: held by reader i) and, in other cache lines, a `position`
//! (h + 1: the slot has the message of position h). Both have a bit [`TURN`](layout::TURN). The
//! writer flips it in the state when it claims the slot, and in the position when it publishes
//! there: the message is valid while the two agree. A slot's `passed` (h + 1) says that position h
//! will never be published. The ring has `head` (the next position), `published` (the next
//! sequence), and for sleepers `waiting` (bit i: reader i sleeps) and the futex word `wake`, whose
//! lowest bits say how the topic ended.
//!
//! **Claim** the slot of position h: flip the turn of its state while no reader's bit is set (W1),
//! before any byte of the slot changes (W2). From then on no reader can hold or copy the old
//! message, and there is no way back. If a reader holds the slot, set its `passed` (W3) and try the
//! next position, up to N positions. If every slot is held, h stays: moving it would make readers
//! skip messages that they can still read. A claim outlives its loan: the next loan gets the same
//! slot.
//!
//! **Publish.** Write the message into the claimed slot and make its position readable (W4). Count
//! it (W5), *then* move head (W6). Take all bits of `waiting` (W7); if there were any, change the
//! wake word (W8) and wake the sleepers. Then claim the slot of h + 1 ahead of time, unless a
//! reader holds it: the line of its state, which readers have written, then moves to the writer's
//! cache while no message is delayed by it. So the ring keeps N - 1 messages, not N.
//!
//! **Receive position k.** Load the slot's position (R1). If the slot has an older position and k
//! is not passed (P1), there is no message: a polling reader shares a single line with the writer.
//! Otherwise load head (H1). If it is beyond k, load the slot's position again, because the message
//! may have come between the two loads; if k is still not readable, it is a hole or was
//! overwritten, and the next position to try is `max(k + 1, head + 1 - N)`. A readable position is
//! *pinned*: set the reader's bit in a state that has the position's turn (R2), load the position
//! again (R3); the bit is cleared later (R5). Or it is *copied*: read everything, then (C1) check
//! that the state's turn (C2) and the position (C3) have not changed.
//!
//! **Loss** is the gap between the expected sequence and the received one, and at the end the gap
//! up to `published`.
//!
//! **Sleep.** Load the wake word (S1), set the reader's bit in `waiting` (S2), check head again,
//! and sleep unless the wake word has changed. S2 and W7 are read-modify-writes of the same word,
//! so one of them observes the other: either the writer finds the bit and wakes the reader, or the
//! reader finds the message.
//!
//! **Close** sets a bit of the wake word (E1), which keeps every reader from falling asleep, passes
//! the next position (E3), for readers that poll, and wakes all sleepers. A reader that finds the
//! bit (E2) checks for messages once more before it reports the end.
//!
//! **Attach.** A record has two lock bytes, which the kernel releases when their holder dies. A
//! reader locks the first (A1) and so has the record; clears the bits of its previous holder, signs
//! it, and loads head, which is its cursor; then locks the second (A2). Whoever finds the second
//! byte locked finds the reader's own signature, and a cursor that is not beyond any message
//! published from then on: it is *attached*. The first byte alone says that its bits must not be
//! cleared. A reader that is dropped ends its signature, while its samples keep both locks.
//!
//! **Reclaim.** A dead reader's bits are cleared by the process that holds the first lock of its
//! record: the writer, when it keeps finding a slot held, or the next subscriber with that record.
//! Without the lock, the bits could be those of a new subscriber.
//!
//! # Orderings
//!
//! | label | pairs with | why |
//! |---|---|---|
//! | W1 acquire | R5 release, reclaim release | the last reads precede the overwriting |
//! | W1 release | R2, C2 acquire | if two claims restored the turn, R3 and C3 find a new position |
//! | W2 fence release | C1 fence acquire | if a byte of the new message was copied, C2 finds out |
//! | W4 release | R1 acquire | a readable message is complete, and its claim has happened |
//! | W6 release | H1 acquire | position and `published` are at least as new as head |
//! | W7 acq-rel | S2 acq-rel | one side observes the other; S1 stays before S2, W8 after W7 |
//! | E1 release | E2 acquire | with the end, all messages and counts before it are visible |
//! | E3 release | P1 acquire | a reader that finds the position passed finds the end |
//! | A2 lock | a probe of it | a reader that is found attached has loaded head |
//!
//! Everything else is relaxed. One turn bit is enough: between two claims of a slot its position is
//! published (W4), so the position has changed whenever the turns agree again. The models in
//! `tests/model.rs` run this code; `tests/reference.rs` specifies what a single thread observes.
//!
//! # Cache lines
//!
//! The cost of a message is the cache lines that move between two processors. Readers wait at the
//! slot's header, so the writer touches it once, after everything else is written. The state moves
//! to the writer before it is needed (by claiming ahead), and back to the reader while the reader
//! waits (`prefetch_state`).

pub(crate) mod attached;
pub(crate) mod copy;
pub(crate) mod end;
pub(crate) mod geometry;
pub(crate) mod header;
pub(crate) mod layout;
pub(crate) mod memory;
pub(crate) mod reader;
pub(crate) mod sleeper;
pub(crate) mod slot;
pub(crate) mod start;
#[cfg(test)]
mod tests;
pub(crate) mod window;
pub(crate) mod writer;
