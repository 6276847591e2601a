//! The ring: how one writer and up to 60 readers share slots without ever waiting for each other.
//!
//! # The protocol
//!
//! The writer numbers *positions* 0, 1, 2, ...; position h lives in slot h mod N. Messages carry a *sequence* of their
//! own, because the writer skips positions whose slot a reader holds. A slot has a `state` (bit i: held by reader i) and, in
//! cache lines of its own, a `position` (h + 1: what the slot has is that of position h). Both have a bit [`TURN`](layout::TURN), which the writer
//! flips in the state when it takes the slot, and in the position when it has written it: what a slot has is valid while the two
//! agree. `passed` says of which position nothing will come. The ring has `head` (the next position), `published` (the next sequence) and,
//! to sleep on, `waiting` (bit i: reader i sleeps) and the futex word `wake`, whose lowest bits say how the topic ended.
//!
//! **Claim** the slot at h: flip the turn of its state while no reader's bit is set (W1), before any byte changes (W2). From
//! then on nobody can hold or copy what the slot has, and nothing needs to be given back. If a reader
//! holds it, say so in `passed` (W3) and try the next position, N at most. If every slot is held, h stays as it is: moving it would tell
//! readers that messages they can still read are gone. A claim outlives its loan: the next loan takes the same slot.
//!
//! **Publish.** Write the message into the claimed slot, and make its position readable (W4). Count it (W5), *then* move head (W6). If
//! `waiting` was not empty, take all of it (W7), change the wake word (W8) and wake the sleepers. At last claim the slot at h + 1, if nobody
//! holds it: its state, which readers have written to, then comes from their cache while nobody waits for it. So N - 1
//! messages are kept, not N.
//!
//! **Receive at position k.** Look at the slot (R1). If k is not there, and neither has a later position taken its place nor
//! has k been passed (P1), there is nothing: a reader that polls shares one line with the writer, and nothing else. Otherwise look at head (H1); if
//! it has passed k, look at the slot once more, for the message may have come between the two looks; then k is a hole or
//! overwritten, and the next position to try is `max(k + 1, head + 1 - N)`. A position that is readable is *pinned*: set the own bit in a
//! state that has the position's turn (R2), look at the position again (R3); and later cleared (R5). Or it is *copied out*: read
//! everything, then (C1) check that state (C2) and position (C3) are as before.
//!
//! **Loss** is the gap between the sequence received and the one expected, and at the end the gap up to `published`.
//!
//! **Sleep.** Read the wake word (S1), set the own bit in `waiting` (S2), look at head once more, and sleep unless the
//! word has changed. S2 and W7 are both read-modify-writes of one word, so one of them sees the other: either the
//! writer sees the bit and wakes, or the reader sees the message. **Close** sets a bit of the wake word (E1), which by
//! itself keeps everybody from falling asleep, passes the next position (E3), for those who poll, and wakes all; a reader that finds the bit
//! looks once more for messages before it reports the end (E2).
//!
//! **Reclaim.** A dead reader's bits are cleared by whoever holds the lock of its record: the writer, when it keeps
//! meeting a held slot, or the next subscriber with that record. Without the lock a new subscriber could have
//! pinned in between.
//!
//! # Orderings
//!
//! | label | pairs with | why |
//! |---|---|---|
//! | W1 acquire | R5 release, reclaim release | the last reader's reads happen before the slot is overwritten |
//! | W1 release | R2, C2 acquire | who finds the turn as before because the slot was taken twice sees at R3, C3 that its position has changed |
//! | W2 fence release | C1 fence acquire | who copied a byte of the new message sees at C2 that the slot was taken |
//! | W4 release | R1 acquire | the message is complete when its position is readable, and the claim has happened |
//! | W6 release | H1 acquire | position and `published` are at least as new as head |
//! | W7 acq-rel | S2 acq-rel | one of writer and sleeper sees the other; S1 is before S2, and W8 after W7 |
//! | E1 release | E2 acquire | who sees the end sees all messages and counts before it |
//! | E3 release | P1 acquire | who is told to look for the end finds it |
//!
//! Everything else is relaxed. One turn bit is enough because every claim of a slot but the last has been published there
//! (W4) before the next, so that the position has changed whenever the turns agree again.
//! The models in `tests/model.rs` run this very code; `tests/reference.rs` specifies what one thread observes.
//!
//! # Cache lines
//!
//! What a message costs is lines that move between two processors. Readers wait at the slot's header, so the writer
//! touches that in one go, when everything else is written. The state moves to the writer before it is needed
//! (by claiming ahead) and back to the reader while it waits (`expect_state`).

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
pub(crate) mod snapshot;
pub(crate) mod start;
#[cfg(test)]
mod tests;
pub(crate) mod window;
pub(crate) mod writer;
