//! Zero-copy publish/subscribe between the processes of one Linux machine.
//!
//! A [`Publisher`] creates the region `/dev/shm/conduit_<topic>`; every [`Subscriber`] maps the same memory. A message
//! is written once, in place, and read where it lies. Nobody waits for anybody: a publisher never blocks, a slow
//! subscriber learns exactly how many messages it missed, and a sample that is held is never overwritten.
//!
//! ```
//! # let directory = tempfile::tempdir_in("/dev/shm")?;
//! # let domain = conduit::Domain::new(directory.path()).without_registry();
//! use conduit::{Message, Publisher, Subscriber, zerocopy};
//!
//! #[derive(Message, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
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
//! [`ShmRegion`] is the raw form: named memory without a header. The daemon `conduitd` is optional. With it, the
//! regions of dead processes disappear within milliseconds; without it, the library itself notices within a second.
//!
//! Every region lives in a [`Domain`]: a shared-memory directory and the socket of its registry, taken from
//! `CONDUIT_SHM_DIR` and `CONDUIT_SOCKET` unless a builder says otherwise.

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
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod inspect;
mod intervals;
mod message;
mod model;
mod parker;
mod pattern;
mod publisher;
mod ready_fd;
mod region;
pub mod registry;
mod ring;
pub mod shape;
mod shm;
mod subscriber;
mod topic;
mod wait_set;
mod watched;

#[cfg(feature = "async")]
pub use async_subscriber::{AsyncSubscriber, Ready, Recv};
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

pub use subscriber::{Borrowed, Copied, Sample, Subscriber, SubscriberBuilder};
pub use topic::{IntoTopicName, TopicName, TopicNameError};
pub use wait_set::{Event, Events, Token, WaitSet, WaitSetWaker};
pub use zerocopy;

/// What `conduitd` and the `conduit` command share with this library, and nobody else may use: it changes with every
/// release, without a change of the version that semantic versioning asks for.
#[doc(hidden)]
pub mod internal {
    pub use crate::inspect::reaping::{ReapGuard, ReapRegion};
    pub use crate::registry::protocol;

    /// Files, locks and processes.
    pub mod shm {
        pub use crate::shm::{clock, dir, fork, inherited, lock, new_file, process, socket};
    }
}

// Lets the derive macro, which writes `::conduit`, be used inside this crate and its tests.
extern crate self as conduit;

/// The programs in the main README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
