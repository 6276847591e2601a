//! Errors: one enum per operation. Every message says what happened, to what, and what to do.

mod hint;
mod owner;
mod region;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::hint::hint;
pub use self::owner::OwnerClaim;
use self::owner::of_user;
pub use self::region::{UnlinkError, WaitError};
use crate::ring::end::Gone;
use crate::ring::geometry::GeometryError;
use crate::ring::header::LayoutError;
use crate::shm::dir::ShmDir;
use crate::shm::open::OpenFileError;
use crate::{TopicName, TopicNameError, TopicPatternError, TypeInfo};

/// Why a topic or raw region could not be created.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// The registry's policy does not let this process publish the topic.
    #[error("topic \"{topic}\" may not be published, rule {rule} of the registry: {reason}")]
    NotAllowed {
        /// The topic.
        topic: TopicName,
        /// The rule's name in quotes, or its number.
        rule: String,
        /// What it asks for.
        reason: String,
    },
    /// The slots asked for are not possible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The builder was given a slot size and a capacity, which each determine the size of the
    /// slots.
    #[error(
        "slot_size({slot_size}) and capacity({capacity}) were both given; give one: capacity computes the slot size"
    )]
    SlotSizeAndCapacity {
        /// The slot size asked for in bytes.
        slot_size: usize,
        /// The capacity asked for in bytes.
        capacity: usize,
    },
    /// The deadline was to be no time at all.
    #[error("deadline(0) would make the topic overdue at every moment; use more, or no deadline")]
    ZeroDeadline,
    /// A region of no bytes, or of more than a file can have.
    #[error("a region cannot have {size} bytes; use 1 to {}", i64::MAX)]
    Size {
        /// The size asked for in bytes.
        size: u64,
    },
    /// The shared-memory directory is too full.
    #[error("{} has no room: need {need} bytes, have {have}; remove unused regions (`conduit list`) or enlarge it (mount -o remount,size=...)", path.display())]
    NoSpace {
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        have: u64,
        /// The shared-memory directory.
        path: PathBuf,
    },
    /// The memory limit of this process's cgroup leaves too little.
    #[error(
        "the memory limit of this process's cgroup leaves no room: need {need} bytes, have {have}; raise MemoryMax= or the container's limit"
    )]
    NoMemory {
        /// Bytes needed.
        need: u64,
        /// Bytes left below the limit.
        have: u64,
    },
    /// The shared-memory directory is not a tmpfs.
    #[error("{} is not a tmpfs; set CONDUIT_SHM_DIR to a directory in one, or CONDUIT_ANY_FILE_SYSTEM=1 to use it anyway", path.display())]
    NotShared {
        /// The shared-memory directory.
        path: PathBuf,
    },
    /// Locks of this file system do not outlive their descriptors (overlayfs).
    #[error("the file system of {} drops locks when a descriptor is closed, so that no process can tell which owners are alive; use a tmpfs", path.display())]
    LocksDoNotLast {
        /// The shared-memory directory.
        path: PathBuf,
    },
    /// The name has a living owner.
    #[error("topic \"{topic}\" is already published by {owner}; stop that process or choose another name")]
    AlreadyPublished {
        /// The topic.
        topic: TopicName,
        /// Its publisher.
        owner: OwnerClaim,
    },
    /// The name is a raw region that its creator released and kept.
    #[error("region \"{topic}\" exists: its creator released it and kept it; open it, or unlink it first")]
    Kept {
        /// The region.
        topic: TopicName,
    },
    /// A file that Conduit did not make has the name.
    #[error(
        "{} is in the way of topic \"{topic}\" and was not made by Conduit{}; remove or rename it, or `conduit rm --force {topic}`",
        path.display(),
        of_user(*uid)
    )]
    Foreign {
        /// The topic.
        topic: TopicName,
        /// The file.
        path: PathBuf,
        /// The file's user, if it is known.
        uid: Option<u32>,
    },
    /// The owner is dead, but this process may not remove its region.
    #[error(
        "topic \"{topic}\" is an orphan of a dead publisher of uid {uid}, which this user may not remove; start conduitd, or run a publisher of the name as that user or root"
    )]
    NotRemovable {
        /// The topic.
        topic: TopicName,
        /// User id of the dead owner.
        uid: u32,
    },
    /// Messages of the type do not fit the slots asked for.
    #[error("messages of type {} need {need} bytes, the slots hold {capacity}; use capacity({need}), or neither capacity() nor slot_size()",
        message.with_len())]
    SlotTooSmall {
        /// The type of the messages.
        message: Box<TypeInfo>,
        /// Size of one message in bytes.
        need: u64,
        /// What a slot holds in bytes.
        capacity: u64,
    },
    /// A system call failed.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(doing, source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CreateError {
    pub(crate) fn io(doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path, source }
    }
}

/// Why a topic or raw region could not be opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// The pattern of names is not valid.
    #[error(transparent)]
    Pattern(#[from] TopicPatternError),
    /// The topic has no publisher.
    #[error("topic \"{topic}\" does not exist in {}; start its publisher, or wait for it", path.display())]
    NotFound {
        /// The topic.
        topic: TopicName,
        /// The shared-memory directory.
        path: PathBuf,
    },
    /// The file's permissions do not let this user read it.
    #[error("no permission to read {}; have its publisher set a mode() or group() that includes this user", path.display())]
    Permission {
        /// The region's file.
        path: PathBuf,
    },
    /// The file is not a topic or raw region this library can read.
    #[error("cannot open {}: {reason}", path.display())]
    Layout {
        /// The region's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: LayoutError,
    },
    /// The topic is a raw region, or the raw region is a topic, or the file is neither.
    #[error("{} is not {expected}", path.display())]
    Kind {
        /// The region's file.
        path: PathBuf,
        /// What was asked for.
        expected: &'static str,
    },
    /// Publisher and subscriber disagree on the messages' type.
    #[error("topic \"{topic}\" has messages of type {} ({} bytes, align {}), this subscriber expects {} ({} bytes, align {})",
        found.with_len(), found.size(), found.align(), expected.with_len(), expected.size(), expected.align())]
    TypeMismatch {
        /// The topic.
        topic: TopicName,
        /// The publisher's type.
        found: Box<TypeInfo>,
        /// The subscriber's type.
        expected: Box<TypeInfo>,
    },
    /// The fields of the messages are not those that the messages of earlier publishers had, while
    /// their type has the same name and size.
    #[error("messages of topic \"{topic}\", of type {}, have other fields than those of the publisher before; build both programs from the same definition",
        message.with_len())]
    ShapeMismatch {
        /// The topic.
        topic: TopicName,
        /// The type.
        message: Box<TypeInfo>,
    },
    /// The publisher has died; its region is an orphan.
    #[error("the publisher of topic \"{topic}\" is dead; wait for a new one")]
    Orphaned {
        /// The topic.
        topic: TopicName,
    },
    /// All subscriber records are taken by living processes.
    #[error("topic \"{topic}\" has no room for another subscriber: {limit} are attached")]
    TooManySubscribers {
        /// The topic.
        topic: TopicName,
        /// How many there can be.
        limit: usize,
    },
    /// The subscriber receives from as many topics as one can.
    #[error("this subscriber receives from {limit} topics, which is the most; use a pattern that matches fewer")]
    TooManyTopics {
        /// How many there can be.
        limit: usize,
    },
    /// The subscriber was to hold no samples.
    #[error("max_held(0) would let the subscriber receive nothing in place; use 1 or more, or copy_samples(true)")]
    NoneHeld,
    /// The deadline was to be no time at all.
    #[error("deadline(0) would make the topic overdue at every moment; use more, or no deadline")]
    ZeroDeadline,
    /// A system call failed.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(doing, source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn from_file(
        error: OpenFileError,
        directory: &ShmDir,
        topic: &TopicName,
        expected: &'static str,
    ) -> Self {
        let path = directory.path_of(topic);
        match error {
            OpenFileError::NotFound => Self::NotFound { topic: topic.clone(), path: directory.path().into() },
            OpenFileError::NoPermission => Self::Permission { path },
            OpenFileError::NotRegular => Self::Kind { path, expected },
            error => Self::io("open", path)(error.into()),
        }
    }

    pub(crate) fn io(doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path, source }
    }
}

/// Why a message could not be sent, or no slot was loaned.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// Subscribers hold a sample in every slot.
    #[error("all {slots} slots are held by subscribers; publish again later, or create the topic with more slots()")]
    AllSlotsHeld {
        /// Number of slots.
        slots: u32,
    },
    /// The message does not fit a slot.
    #[error(
        "a message of {len} bytes does not fit a slot, which holds {capacity}; create the topic with capacity({len})"
    )]
    MessageTooLarge {
        /// Length of the message in bytes.
        len: usize,
        /// What a slot holds in bytes.
        capacity: usize,
    },
    /// The topic's type, given at run time, has no messages of this length.
    #[error("a message of {len} bytes is not of the topic's type, whose length is {}{size} bytes", if *exact {""} else {"a multiple of "})]
    WrongLength {
        /// Length of the message in bytes.
        len: usize,
        /// Size of the type, or of an element of it, in bytes.
        size: u64,
        /// Whether messages have that size, or any multiple of it.
        exact: bool,
    },
    /// The topic was ended from outside while this publisher lived.
    #[error(
        "the topic was removed from outside (the registry's Unlink); drop this publisher, and create the topic again"
    )]
    Removed,
    /// The topic's name was removed, and not by this publisher. Returned once: later messages reach
    /// the subscribers that have the topic open, and no other process can find it.
    ///
    /// The registry reports it at once. Without one it is noticed within a second if subscribers
    /// sleep, else never.
    #[error(
        "the topic's name was removed, by logind when its user's last session ended (RemoveIPC=), or by rm; no other \
         process can find the topic: drop this publisher, and create the topic again"
    )]
    Unlinked,
    /// This process was forked from the publisher's.
    #[error("the publisher belongs to the process this one was forked from; create one here")]
    Forked,
}

/// Why a message was not sent: for the same reasons as a loan.
pub type SendError = LoanError;

/// Why no message was received.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Every remaining message has been received, and no more will follow.
    #[error("the publisher of topic \"{topic}\" {how}; open the topic again when it is back")]
    PublisherGone {
        /// The topic.
        topic: TopicName,
        /// Whether it closed the topic or died.
        how: Gone,
    },
    /// No message arrived in time.
    #[error("no message on topic \"{topic}\" within {timeout:?}")]
    TimedOut {
        /// The topic, or the pattern of topics as if it were a name.
        topic: TopicName,
        /// How long the call waited.
        timeout: Duration,
    },
    /// No message has come within the subscriber's
    /// [deadline](crate::SubscriberBuilder::deadline). Reported once per silence; the subscriber
    /// waits on, and the next call may receive a message.
    #[error(
        "no message on topic \"{topic}\" for {silence:?}, which is longer than the deadline; waiting for the next one"
    )]
    Overdue {
        /// The topic.
        topic: TopicName,
        /// How long there has been no message.
        silence: Duration,
    },
    /// The subscriber was [stopped](crate::Stop).
    #[error("receiving from topic \"{topic}\" was stopped; what has arrived can still be received without waiting")]
    Stopped {
        /// The topic.
        topic: TopicName,
    },
    /// The message's bytes are not a valid value of the type (a `bool` of 2, for example). It
    /// counts as received.
    #[error("message {sequence} on topic \"{topic}\" is not a valid {}", expected.with_len())]
    Invalid {
        /// The topic.
        topic: TopicName,
        /// The message's sequence number.
        sequence: u64,
        /// The type that was expected.
        expected: Box<TypeInfo>,
    },
    /// The publisher that has appeared sends messages of another type, or with other fields. Only
    /// of subscribers that [follow](crate::SubscriberBuilder::follow), which wait for the next one.
    #[error("the new publisher cannot be followed: {reason}. Waiting for the next one")]
    TypeChanged {
        /// The topic.
        topic: TopicName,
        /// What is different.
        reason: String,
    },
    /// The publisher that has appeared cannot be subscribed to. Only of subscribers that
    /// [follow](crate::SubscriberBuilder::follow); they try again, or wait for the next one.
    #[error("the new publisher cannot be followed: {reason}. Trying again")]
    NotFollowed {
        /// The topic.
        topic: TopicName,
        /// Why not.
        reason: String,
    },
    /// The message does not fit into the buffer that it was to be copied to. It counts as received.
    #[error(
        "message {sequence} on topic \"{topic}\" has {len} bytes, the buffer {capacity}; it was received all the same: use a larger buffer"
    )]
    TooLong {
        /// The topic.
        topic: TopicName,
        /// The message's sequence number.
        sequence: u64,
        /// Length of the message in bytes.
        len: usize,
        /// Length of the buffer in bytes.
        capacity: usize,
    },
    /// The subscriber holds as many samples as it may. The message was not received, and can be
    /// once a sample was dropped.
    #[error(
        "this subscriber holds {max_held} samples of topic \"{topic}\", which is its share of the slots; drop some, \
         receive copies, or open it with a larger max_held()"
    )]
    TooManyHeld {
        /// The topic.
        topic: TopicName,
        /// How many it may hold.
        max_held: u32,
    },
    /// This process was forked from the subscriber's.
    #[error("the subscriber belongs to the process this one was forked from; open one here")]
    Forked,
}

/// Why a [`WaitSet`](crate::WaitSet) cannot wait.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitSetError {
    /// Nothing can end the wait.
    #[error("the wait set has no subscribers, no timers and no wakers; add one, or stop waiting")]
    Empty,
    /// A thread that waits for some of the topics could not be started.
    #[error(
        "cannot start a thread to wait for many topics: {source}; raise the limit of threads (ulimit -u, TasksMax=)"
    )]
    Thread {
        /// Why it failed.
        source: io::Error,
    },
    /// The set was [stopped](crate::Stop).
    #[error("the wait set was stopped; what is ready can still be received")]
    Stopped,
    /// This process was forked from the wait set's, or from the subscriber's.
    #[error("the wait set or its subscriber belongs to the process this one was forked from; create them here")]
    Forked,
}

/// An error of the system with what was being done, and what to do about it.
pub(crate) fn explained(doing: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {doing}: {error}{}", hint(doing, error)))
}

/// A thread that waits for a topic could not be started.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn no_thread(error: io::Error) -> io::Error {
    let remedy = "raise the limit of threads (ulimit -u, TasksMax=)";
    io::Error::new(error.kind(), format!("cannot start a thread to wait for the topic: {error}; {remedy}"))
}

crate::error_text::debug_as_display!(
    CreateError,
    OpenError,
    LoanError,
    RecvError,
    UnlinkError,
    WaitError,
    WaitSetError
);

#[cfg(test)]
mod tests;
