//! Zero-copy publish/subscribe between the processes of one Linux machine.
//!
//! A [`Publisher`] creates the region `/dev/shm/conduit_<topic>`; every [`Subscriber`] maps the
//! same memory. A message is written once, in place, and read in place. A publisher never blocks, a
//! slow subscriber learns exactly how many messages it lost, and a sample that is held is never
//! overwritten.
//!
//! ```
//! # let directory = tempfile::tempdir_in("/dev/shm")?;
//! # let domain = conduit::Domain::new(directory.path());
//! use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
//! use conduit::{Message, Publisher, Subscriber};
//!
//! #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
//! #[message(name = "robot/Imu")]
//! #[zerocopy(crate = "conduit::zerocopy")]
//! #[repr(C)]
//! struct Imu {
//!     gyro: [f64; 3],
//!     acceleration: [f64; 3],
//! }
//!
//! # /*
//! let mut publisher = Publisher::<Imu>::create("imu")?;
//! let mut subscriber = Subscriber::<Imu>::open("imu")?;
//! # */
//! # let mut publisher = Publisher::<Imu>::builder().domain(&domain).create("imu")?;
//! # let mut subscriber = Subscriber::<Imu>::builder().domain(&domain).open("imu")?;
//! publisher.send(&Imu { gyro: [0.0; 3], acceleration: [0.0, 0.0, 9.81] })?;
//! let sample = subscriber.recv()?;
//! assert_eq!(sample.acceleration[2], 9.81);
//! assert_eq!(sample.lost(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The [`guide`] answers "How do I ...?" with whole programs.
//!
//! [`ShmRegion`] is the raw form: named memory without a header. The daemon `conduitd` is optional.
//! With it, the regions of dead processes disappear within milliseconds; without it, the library
//! itself notices a death within a second. [`registry`] queries the daemon, [`inspect`] reads
//! regions without it.
//!
//! Every region lives in a [`Domain`]: a shared-memory directory and the socket of its registry,
//! taken from `CONDUIT_SHM_DIR` and `CONDUIT_SOCKET` unless a builder is given another one.
//!
//! The traits of [zerocopy](https://docs.rs/zerocopy/0.8) are part of this API: they prove that a
//! type's bytes may be shared. The crate is re-exported, so that programs need no dependency of
//! their own; a new major version of zerocopy is a new major version of this crate.
//!
//! # Trust model
//!
//! Processes that share a topic share memory, so what one of them can do to another is decided by
//! file permissions ([`mode`](PublisherBuilder::mode), [`group`](PublisherBuilder::group)) first.
//!
//! | a peer that | can cause | cannot cause |
//! |---|---|---|
//! | is honest: uses this library or the C interface, and may die at any instruction | loss, counted exactly; a slot that is unavailable while it holds a sample | torn messages; a blocked publisher; a subscriber that sleeps forever |
//! | may only read the region (mode 0o640, say), and is honest | nothing that the publisher or another subscriber notices: it reads through a read-only mapping and receives validated copies | |
//! | may only read the region and is hostile | wake-ups that are late by up to half a second: it can move sleepers off the futex word, or sleep on it with many threads; subscribers that get copies and poll, and a restart that takes 100 ms longer: it can hold read locks on free records and on the owner's byte | changed messages or counters; lost messages other than by being woken late |
//! | may write the region and is hostile | any contents of messages, also while they are read; wrong counters and lengths, lost messages and wake-ups, slots that are never free | accesses outside the mapping, a crash of the daemon, access to any other topic |
//!
//! In types: [`Subscriber::recv`] checks each message once ([`RecvError::Invalid`]) and then hands
//! out a `&T` into the region. Rust requires that the bytes behind it do not change, which every
//! honest publisher guarantees while a sample is held, and a hostile one can break: values may then
//! change while they are read, and a type for which some bytes are invalid (`bool`, enums) may hold
//! one of those. On topics that a hostile process may write, turn on
//! [`copy_samples`](SubscriberBuilder::copy_samples) or use
//! [`recv_copy`](Subscriber::recv_copy): both check a private copy.
//!
//! At run time: lengths, positions and records that come from a region are checked against its
//! mapping before they are used; a region that is truncated raises SIGBUS in processes that have it
//! mapped, and nowhere else. Names and programs that a region or the registry reports are claims of
//! other processes; their text is cleaned and can be printed: `\x1b` stands for the control
//! character. The daemon takes the identity of its clients from the kernel, and never maps a
//! region for reading.

#[cfg(test)]
mod api_tests;
#[cfg(feature = "async")]
mod async_subscriber;
mod create;
#[doc(hidden)]
pub mod derive_support;
mod domain;
mod error;
mod error_text;
#[cfg(feature = "fault-injection")]
pub mod fault;
#[cfg(not(feature = "fault-injection"))]
mod fault;
mod foreign_text;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod guide;
pub mod inspect;
mod intervals;
mod lookout;
mod message;
mod model;
mod mutation;
mod parker;
mod pattern;
mod publisher;
mod ready_fd;
mod region;
pub mod registry;
mod ring;
pub mod shape;
mod shm;
mod silence;
mod stop;
mod subscriber;
mod topic;
mod wait_set;
mod watched;

pub use crate::shm::dying::Dying;
#[cfg(feature = "async")]
pub use async_subscriber::{AsyncSubscriber, Ready, Recv, RecvEvent};
pub use conduit_derive::Message;
pub use domain::Domain;
pub use error::{
    CreateError, LoanError, OpenError, OwnerClaim, RecvError, SendError, UnlinkError, WaitError, WaitSetError,
};
pub use message::{Kind, Message, TypeInfo, TypeInfoError};
pub use pattern::{TopicPattern, TopicPatternError};
pub use publisher::{Loan, Publisher, PublisherBuilder};
pub use ready_fd::ReadyFd;
pub use region::{RegionBuilder, ShmRegion};
pub use ring::end::Gone;
pub use ring::geometry::GeometryError;
pub use ring::header::LayoutError;
pub use ring::start::Start;
pub use shape::Shape;

pub use stop::Stop;
#[cfg(feature = "async")]
pub use subscriber::AsyncPatternSubscriber;
pub use subscriber::{
    Borrowed, Copied, Iter, MatchedTopic, PatternEvent, PatternIter, PatternSubscriber, Sample, Spin, Subscriber,
    SubscriberBuilder, TopicEvent, TopicSample,
};
pub use topic::{IntoTopicName, TopicName, TopicNameError};
pub use wait_set::{Event, Events, Token, WaitSet, WaitSetWaker};
pub use zerocopy;

/// Internal: what `conduitd` and the `conduit` command share with this library, among it the wire
/// protocol. It is no part of the API, and changes with every release.
#[doc(hidden)]
pub mod internal {
    pub use crate::inspect::reaping::{ReapGuard, ReapRegion};
    pub use crate::registry::protocol;

    /// Text that another process has chosen.
    pub mod foreign_text {
        pub use crate::foreign_text::{clean, clean_json, clean_lines, clean_name, is_clean, is_shown};
    }

    /// Files, locks and processes.
    pub mod shm {
        pub use crate::shm::{
            cancellation, clock, dir, dying, fork, guard, heap, inherited, lock, new_file, process, socket,
        };
    }
}

// The derive macro expands to `::conduit`, which must resolve inside this crate too.
extern crate self as conduit;

/// The programs in the main README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
