//! The ring: one writer and its readers share slots, and none of them ever waits for another.
//!
//! # The protocol
//!
//! *Positions.* The writer numbers its messages 0, 1, 2, ...: a message's position is its sequence
//! number. The *entry* of position h, h mod N, says which of N *slots* has the message. At rest
//! every slot belongs to one entry; the writer remembers to which.
//!
//! *Words.* An entry has a `position`: h + 1, and the flag [`TAKEN`](layout::TAKEN) if the slot of
//! the message was taken for a newer one before its turn. The number never decreases. A slot has a
//! `state`: bit i says that reader i holds it. The ring has `head` (the next position), for
//! sleepers `waiting` (bit i: reader i sleeps) and the futex word `wake`, whose lowest bits say how
//! the topic ended, and for each reader a record with its `cursor` (the next position that it will
//! receive).
//!
//! *Kept messages.* The message of position k is *kept* while its entry has the number k + 1
//! without the flag, and the entry of k + N - 1 has a number below k + N: position k + N - 1 is yet
//! to be published. So the ring keeps up to N - 1 messages. The second entry is that of k - 1, too,
//! and in the reader's cache: it reads no line that it would not read anyway.
//!
//! **Claim** a slot for position h. Publishing h - 1 has ended the message that the entry of h has
//! (W2). The writer executes a full fence (W3), and checks that no reader holds the slot (W1): then
//! none can hold or copy that message from then on. Any other slot can be claimed, too, after its
//! entry is flagged as taken (W2); if a reader turns out to hold it, the flag is removed. The slot
//! then belongs to the entry of h, whose previous slot takes its place at the other entry. If every
//! slot is held, nothing has changed. A claim outlives its loan: the next loan gets the same slot.
//! For a *run* of messages the slots of the entries of h to h + c - 1 are claimed together, before
//! any of them is written: all entries but the first are flagged (W2), one fence follows, then one
//! check each. A held slot ends the run, and the flags from there on are removed. Then the first
//! lines of the payloads are fetched, by stores that change nothing: the run may end early.
//!
//! *Which slot.* Small messages get the slot of the entry of h, so that as many messages are kept
//! as can be; if it is held, those of newer messages, from the oldest on. Large messages get the
//! slot of the newest message that every reader has received (W9), because its bytes are in the
//! caches still, while the last few messages are retained for readers to come; a reader whose
//! cursor is behind keeps all that it has yet to receive, unless it was overtaken by the whole
//! ring. Slots are claimed ahead of time, when the message before is published. Readers do not
//! depend on the choice.
//!
//! **Publish.** Write the message into the claimed slot, describe it in the entry, and make the
//! entry readable (W4). Count the bytes (W5), then move head (W6). Then claim the next slot. The
//! messages of a run become readable one by one, in order; the rest is done once, after the last.
//! The fence W3 also precedes the check for sleepers. If there are any (W7), take all bits of
//! `waiting`, change the wake word (W8) and wake them.
//!
//! **Receive position k.** Load the position of the entry of k (R1). If its number is k or less,
//! there is no message yet: a polling reader shares a single line with the writer. If it is k + 1
//! without the flag, read the entry, and then either *pin* the slot: set the reader's bit in its
//! state (R2) and check that the message is kept (R3); the bit is cleared later (R5). Or *copy* the
//! message: read everything, then (C1) check that it is kept (C2). If it is not, the message is
//! lost; the next position to try is `max(k + 1, number + 1 - N)`. The cursor is published after
//! the last read of a copy (R6).
//!
//! **Receive the newest message.** Load head. From there, or from the cursor, advance past
//! the positions that are readable already; then try from the newest message back to the cursor.
//! The messages between the expected position and the received one are *skipped*.
//!
//! **Loss** is the gap between the expected position and the received one, and at the end the gap
//! up to head.
//!
//! **Sleep.** Load the wake word (S1), set the reader's bit in `waiting` (S2), execute a full fence
//! (S3), check the entry again, and sleep unless the wake word has changed. Of S3 and W3 one comes
//! first: either the writer finds the bit and wakes the reader, or the reader finds the message.
//!
//! **Close** sets a bit of the wake word (E1), which keeps every reader from falling asleep, flags
//! the entry of the next position (E3), for readers that poll, and wakes all sleepers. A reader
//! that finds the bit (E2) checks for messages once more before it reports the end.
//!
//! **Attach.** A record has two lock bytes, which the kernel releases when their holder dies. A
//! reader locks the first (A1) and so has the record; clears the bits of its previous holder, signs
//! it, loads head, which becomes its cursor, executes a full fence (A3), and loads head again to
//! start there; then locks the second (A2). Of A3 and W3 one comes first: either the writer finds
//! the cursor, or the reader starts beyond whatever was reused without it. Whoever finds the second
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
//! | W2, W3 fence | R2, R3 seq-cst | the writer finds the pin, or the reader that it is not kept |
//! | W3 fence | C1 fence acquire | if a byte of a new message was read, C2 and R3 find out |
//! | W3 fence | S3 fence | the writer finds the sleeper, or the sleeper finds the message |
//! | W3 fence | A3 fence | the writer finds the cursor, or the reader finds head |
//! | W4 release | R1 acquire | a readable message is complete |
//! | W6 release | H1 acquire | the messages before head are readable |
//! | W7 acquire | S2 release | S1 comes before W8 |
//! | W9 acquire | R6 release | the last reads of a copy precede the overwriting |
//! | E1 release | E2 acquire | with the end, all messages before it are visible |
//! | E3 release | P1 acquire | a reader that finds the flag finds the end |
//! | A2 lock | a probe of it | a reader that is found attached has loaded head |
//!
//! Everything else is relaxed. The models in `tests/model` run this code; `tests/reference.rs`
//! specifies what a single thread observes.
//!
//! # Cache lines
//!
//! The cost of a message is the cache lines that move between two processors. A copied message
//! moves its entry and its payload, which are neighbours or the same line; a pinned one also the
//! state of its slot, which the writer only reads, and which a waiting reader fetches in advance.
//! Readers wait at the entry, so the writer touches it once, after everything else is written; a
//! reader that polls there also fetches the payload's first line, so that both lines come at once.
//! Publishing executes one instruction that locks, the fence. Of a run, the lines of all entries
//! and payloads are fetched before the first message is written, each by one store: a whole message
//! is eight or more, of which a processor has few in flight.

pub(crate) mod attached;
pub(crate) mod copy;
pub(crate) mod end;
pub(crate) mod geometry;
pub(crate) mod header;
pub(crate) mod layout;
pub(crate) mod memory;
pub(crate) mod reader;
pub(crate) mod reuse;
pub(crate) mod sleeper;
pub(crate) mod slot;
pub(crate) mod start;
#[cfg(test)]
mod tests;
pub(crate) mod vacant;
pub(crate) mod window;
pub(crate) mod writer;
