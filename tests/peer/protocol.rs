//! The protocol between a test and its peer: a line of JSON for each order and each answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// An order to a peer. Fields are in this order: topic, slots, number of messages, length in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order<'a> {
    /// Creates a topic: name, slots, capacity.
    Publish(&'a str, u32, usize),
    /// Creates a topic whose publisher has a deadline, in milliseconds.
    PublishOften(&'a str, u64),
    /// Creates a topic unless another process owns it: name, time-out for taking it over in
    /// milliseconds: `Won` or `Lost`.
    Race(&'a str, u64),
    /// Sends messages: count, length.
    Send(u64, usize),
    /// Sends messages of this length until `Stop`: `Began`, then the `Number` of published
    /// messages.
    Stream(usize),
    /// Loans a slot, fills it half and drops it.
    Loan(usize),
    /// Sends until `Stop` and ignores errors: `Began`, then `Endured`.
    EndureSending(usize),
    Unpublish,
    /// Creates and drops a topic repeatedly: name, count.
    Churn(&'a str, u64),
    /// The same; every second one lives until another process has opened it, at most 5 ms.
    ChurnUntilOpened(&'a str, u64),
    /// Repeatedly opens a topic that is created and removed, until `Stop`: `Began`, then the
    /// `Number` of successful opens.
    OpenInALoop(&'a str),
    /// Repeatedly opens and receives until `Stop`: `Began`, then `Received`.
    EndureReceiving(&'a str),
    Subscribe(&'a str),
    SubscribeOldest(&'a str),
    /// Subscribes with `Spin::Adaptive`.
    SubscribeAdaptive(&'a str),
    /// Subscribes to a topic and all its publishers.
    Follow(&'a str),
    /// Follows a topic until SIGTERM or SIGINT stops it.
    FollowUntilTerminated(&'a str),
    /// Receives until it is stopped. Answered by `Began`, and a `Flag`: whether it was stopped.
    ReceiveUntilStopped,
    /// Receives until so many publishers were lost, which have sent so many messages each:
    /// `Followed`.
    FollowThrough(u64, u64),
    /// Subscribes to all topics that match a pattern.
    FollowAll(&'a str),
    /// Receives until so many publishers of any topics were lost, which have sent so many messages
    /// each: `Followed`.
    FollowAllThrough(u64, u64),
    /// Subscribes without a type check.
    SubscribeAny(&'a str),
    /// Receives one message: `Sample` or `Gone`.
    Recv,
    /// Receives one message with a time-out in milliseconds: `Sample`, `Gone` or `Nothing`.
    RecvFor(u64),
    /// Receives until the publisher is gone: `Drained`.
    Drain,
    /// Like `Drain`, with another way to wait.
    WaitBy(Way),
    /// Waits for a message by the descriptor and leaves it unread for a while: `Began`, then
    /// `LeftUnread`.
    LeaveUnread,
    /// Forks while it waits: `Began` from the child, then `Forked` from the parent.
    ForkWaiting(&'a str),
    /// Receives this number of messages and holds the samples.
    Hold(u64),
    /// Whether all held samples are unchanged: `Flag`.
    HeldAreWhole,
    LetGo,
    /// Subscribes whenever there is a publisher, until `Stop`: `Began`, a `Session` for each, then
    /// `Done`. Name, length.
    Sessions(&'a str, usize),
    /// `Counts`
    Counts,
    /// `Flag`
    ZeroCopy,
    Unsubscribe,
    /// Creates topics: slots, capacity, names.
    PublishFleet(u32, usize, #[serde(borrow)] Vec<&'a str>),
    /// Sends a message on every topic once per interval in milliseconds, until `Stop`: `Began`,
    /// then `Published`.
    StreamFleet(u64, usize),
    UnpublishFleet,
    SubscribeFleet(#[serde(borrow)] Vec<&'a str>),
    UnsubscribeFleet,
    /// Receives on every topic until its publisher is gone, in a thread each: `Began`, then
    /// `Fleet`.
    DrainFleet,
    /// The same in one thread, with this number of parkers.
    DrainFleetBy(Way, usize),
    /// Creates a raw region: name, length.
    CreateRegion(&'a str, usize),
    DropRegion,
    UnlinkRegion(&'a str),
    /// Announces files of other processes: name, device, first inode, count.
    Claim(&'a str, u64, u64, u64),
    /// Begins a message to the registry on each of this number of connections and completes none:
    /// the `Number` of connections.
    HalfOpen(usize),
    UnlinkByRegistry(&'a str),
    /// Forks a child that inherits everything and lives on for a while.
    Fork,
    /// Forks a child that uses nothing and lives until it is killed: its pid, a `Number`.
    ForkIdle(ForkBy),
    /// Closes all descriptors but the standard ones, and opens files that get their numbers.
    CloseFrom,
    /// Whether those files are what they were.
    OwnFilesAreIntact,
    /// Loses the descriptors of handles of every kind, uses them and drops them.
    UseAllAfterCloseFrom(&'a str),
    /// Kills itself at this step (see `conduit::fault`) of the orders that follow.
    DieAt(&'a str),
    /// Simulates a kernel without `futex_waitv` from now on.
    DenyWaitv,
    /// From now on reading a directory kills it.
    DenyListing,
    /// No thread can be started from now on.
    DenyThreads,
    /// This user has no inotify instances left from now on.
    DenyInotify,
    /// May have no more open files than now from now on.
    LimitDescriptors,
    /// A signal interrupts its main thread every millisecond from now on.
    Interrupt,
    /// Sleeps until the topic exists, for 30 s at most: `Flag`.
    AwaitTopic(&'a str),
    /// Does something while any system call kills it: `Done`, then the process exits.
    WithoutCalls(Deed),
    /// The `Number` of open descriptors.
    Descriptors,
    /// The processor time that the process has used, in nanoseconds: `Number`.
    ProcessorTime,
    /// The `Number` of the library's parker threads.
    Parkers,
    /// The `Number` of messages published.
    Published,
    /// Its pid in its own namespace: `Number`.
    Pid,
    /// Changes the working directory.
    GoTo(&'a str),
    /// May make files of so many bytes from now on, and no larger ones.
    LimitFiles(u64),
    /// Locks all memory that it maps from now on, and may lock so many bytes.
    LockMemory(u64),
    /// May have so many bytes of address space more than now.
    LimitMappings(u64),
    /// Renames its process.
    Rename(#[serde(borrow)] Cow<'a, str>),
    Abort,
    /// Aborts, and leaves a core dump of some megabytes in this folder.
    DumpCore(&'a str),
    /// Ends the main thread; another one continues.
    EndMainThread,
    Exit,
    /// Ends a continuing activity.
    Stop,
}

/// How to fork.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum ForkBy {
    Fork,
    /// `clone` without a C library: no handler runs in the child.
    Clone,
}

/// How to wait for messages.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Way {
    Set,
    Future,
    Descriptor,
}

/// Actions that may not make system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Makes one, for comparison.
    Sleep,
    ReadClocks,
    PublishStamped,
    PublishUnstamped,
    ReceiveStamped,
    ReceiveUnstamped,
    /// Reads the latest messages of ten topics, new or not.
    Latest,
    /// Polls while no message is available.
    Look,
}

/// An answer of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The peer has started.
    Ready,
    Done,
    /// It has started an activity that continues until `Stop`.
    Began,
    /// Between the functions of the peer: never sent.
    MainThreadEnds,
    /// The text of an error.
    Failed(String),
    Won,
    /// What the error says.
    Lost(String),
    Sample {
        sequence: u64,
        lost: u64,
        is_whole: bool,
    },
    Nothing,
    Gone(End),
    Drained(Drained),
    Number(u64),
    Flag(bool),
    Counts {
        received: u64,
        lost: u64,
    },
    Endured {
        sent: u64,
        refused: u64,
        longest_ms: u64,
    },
    Received {
        opened: u64,
        received: u64,
    },
    LeftUnread {
        /// Whether the descriptor was readable before and after the message was taken.
        was_readable: [bool; 2],
        is_at_rest: bool,
    },
    Forked {
        child_exit: i32,
        /// Of the message that the parent received.
        sequence: u64,
    },
    Session(Session),
    Followed(Followed),
    /// The number of messages published, by topic.
    Published(Vec<(String, u64)>),
    Fleet(Vec<(String, Account)>),
}

/// How a topic ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Died,
    Closed,
}

/// The result of one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    pub received: u64,
    pub lost: u64,
    /// Messages that contain bytes of another one.
    pub torn: u64,
    pub end: End,
}

/// The result of following a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    pub received: u64,
    pub lost: u64,
    /// Messages, epochs and events that were not expected there.
    pub wrong: u64,
    /// Publishers that have died.
    pub died: u64,
    /// Those of which the registry knew that SIGKILL has killed them.
    pub certified: u64,
}

/// The result of a subscription to one of several consecutive publishers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The inode of the publisher's file.
    pub file: u64,
    pub end: End,
    /// When the end was noticed.
    pub seen_ns: u64,
    /// The first message that counts.
    pub first: u64,
    pub received: u64,
    pub lost: u64,
    pub wrong: u64,
    pub published: u64,
}

/// The result for one topic of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The first message that counts.
    pub first: u64,
    pub received: u64,
    pub lost: u64,
    pub wrong: u64,
    /// How it ended, or the error.
    pub end: Result<End, String>,
}
