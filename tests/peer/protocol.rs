//! What a test and its peer say to each other: a line of JSON each, orders one way and answers the other.

use serde::{Deserialize, Serialize};

/// What a peer is to do. Topics are named first; then come slots, numbers of messages, and lengths in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order<'a> {
    /// Creates a topic: name, slots, capacity.
    Publish(&'a str, u32, usize),
    /// Creates a topic unless somebody has it: `Won` or `Lost`.
    Race(&'a str),
    /// Sends messages: how many, of which length.
    Send(u64, usize),
    /// Sends messages of this length until `Stop`: `Began`, then the `Number` of all that were published.
    Stream(usize),
    /// Begins a message and drops it half-written.
    Loan(usize),
    /// Sends until `Stop`, whatever comes of it: `Began`, then `Endured`.
    EndureSending(usize),
    Unpublish,
    /// Publishes and drops a topic again and again: name, how often.
    Churn(&'a str, u64),
    /// Opens a topic that comes and goes until `Stop`: `Began`, then the `Number` of times it was there.
    OpenInALoop(&'a str),
    /// Opens and receives again and again until `Stop`: `Began`, then `Received`.
    EndureReceiving(&'a str),
    Subscribe(&'a str),
    SubscribeOldest(&'a str),
    /// Subscribes without a check of the type.
    SubscribeAny(&'a str),
    /// Receives one message: `Sample` or `Gone`.
    Recv,
    /// Receives one message within so many milliseconds: `Sample`, `Gone` or `Nothing`.
    RecvFor(u64),
    /// Receives until the publisher is gone: `Drained`.
    Drain,
    /// Like `Drain`, with another way to wait.
    WaitBy(Way),
    /// Waits for a message by the descriptor, and leaves it unread for a while: `Began`, then `LeftUnread`.
    LeaveUnread,
    /// Forks while it waits: `Began` from the child, then `Forked` from the parent.
    ForkWaiting(&'a str),
    /// Receives messages and keeps them: how many.
    Hold(u64),
    /// Whether all that are kept are what they were: `Flag`.
    HeldAreWhole,
    LetGo,
    /// Subscribes whenever there is a publisher, until `Stop`: `Began`, a `Session` each, `Done`. Name, length.
    Sessions(&'a str, usize),
    /// `Counts`
    Counts,
    /// `Flag`
    ZeroCopy,
    Unsubscribe,
    /// Creates topics: slots, capacity, names.
    PublishFleet(u32, usize, #[serde(borrow)] Vec<&'a str>),
    /// Sends a message on every topic once per so many milliseconds, until `Stop`: `Began`, then `Published`.
    StreamFleet(u64, usize),
    UnpublishFleet,
    SubscribeFleet(#[serde(borrow)] Vec<&'a str>),
    /// Receives on every topic until its publisher is gone, in a thread each: `Began`, then `Fleet`.
    DrainFleet,
    /// The same in one thread, with so many parkers.
    DrainFleetBy(Way, usize),
    /// Creates a raw region: name, length.
    CreateRegion(&'a str, usize),
    DropRegion,
    UnlinkRegion(&'a str),
    /// Announces files that are somebody else's: name, device, first inode, how many.
    Claim(&'a str, u64, u64, u64),
    /// Begins messages to the registry on so many connections and ends none: `Number` of them.
    HalfOpen(usize),
    UnlinkByRegistry(&'a str),
    /// Leaves a child behind that has inherited all it can and lives on for a while.
    Fork,
    /// Kills itself at a step (see `conduit::fault`) of what comes next.
    DieAt(&'a str),
    /// Acts on a kernel without `futex_waitv` from now on.
    DenyWaitv,
    /// Does something while any system call kills it: `Done`, and ends.
    WithoutCalls(Deed),
    /// The `Number` of open descriptors.
    Descriptors,
    /// The `Number` of threads of the library that wait for others.
    Parkers,
    /// The `Number` of messages published.
    Published,
    /// The `Number` that it has in its own namespace.
    Pid,
    /// Goes to another working directory.
    GoTo(&'a str),
    /// Takes another name for its process.
    Rename(&'a str),
    Abort,
    Exit,
    /// Ends what was begun.
    Stop,
}

/// How to wait for messages.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Way {
    Set,
    Future,
    Descriptor,
}

/// What may be done without system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Not this, for comparison.
    Sleep,
    ReadClocks,
    PublishStamped,
    PublishUnstamped,
    ReceiveStamped,
    ReceiveUnstamped,
    /// Looks for messages that are not there.
    Look,
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It has started.
    Ready,
    Done,
    /// It has begun what it will end when it is told to.
    Began,
    /// The sentence of an error.
    Failed(String),
    Won,
    Lost,
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
        /// Whether the descriptor was readable before the message was taken, and after.
        was_readable: [bool; 2],
        is_at_rest: bool,
    },
    Forked {
        child_exit: i32,
        /// Of the message that the parent received.
        sequence: u64,
    },
    Session(Session),
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

/// What came of one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    pub received: u64,
    pub lost: u64,
    /// Messages with bytes of another one.
    pub torn: u64,
    pub end: End,
}

/// What came of a subscription to one publisher of several that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The inode of the publisher's file.
    pub file: u64,
    pub end: End,
    /// When the end was noticed.
    pub seen_ns: u64,
    /// The first message that counted.
    pub first: u64,
    pub received: u64,
    pub lost: u64,
    pub wrong: u64,
    pub published: u64,
}

/// What came of one topic of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The first message that counted.
    pub first: u64,
    pub received: u64,
    pub lost: u64,
    pub wrong: u64,
    /// How it ended, or the error.
    pub end: Result<End, String>,
}
