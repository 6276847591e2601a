//! Queries to the registry: which topics exist, who publishes and subscribes to them, what happens
//! to them, and how publishers died.
//!
//! The registry is the daemon `conduitd`. Any program may ask it:
//!
//! ```no_run
//! use conduit::Domain;
//! use conduit::registry::{Client, EventKind, Watch};
//!
//! let mut registry = Client::connect(&Domain::from_env())?;
//! println!("conduitd {}", registry.status()?.version);
//! for topic in registry.list()? {
//!     println!("{} is {}, {} subscribers", topic.name, topic.state, topic.subscribers.len());
//! }
//! for event in registry.deaths()? {
//!     println!("{} died: {:?}", event.topic, event.death);
//! }
//! // The topics that exist now, and then those that appear.
//! let kinds = vec![EventKind::Present, EventKind::Published];
//! for event in registry.watch_matching(&Watch::new(Some("camera/**".into()), Some(kinds)))? {
//!     println!("{} exists", event?.topic);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Topics work without a registry; then [`inspect`](crate::inspect) reads what the regions
//! themselves say:
//!
//! ```
//! # let directory = tempfile::tempdir_in("/dev/shm")?;
//! use conduit::registry::{Client, RegistryCallError};
//! use conduit::{Domain, inspect};
//!
//! let domain = Domain::new(directory.path()).with_socket(directory.path().join("registry.sock"));
//! let topics = match Client::connect(&domain) {
//!     Ok(mut registry) => registry.list()?,
//!     Err(RegistryCallError::Unreachable { .. }) => {
//!         inspect::list(&domain)?.into_iter().flatten().collect()
//!     }
//!     Err(error) => return Err(error.into()),
//! };
//! assert!(topics.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A registry may be newer than this library: fields that it adds are ignored, and values that it
//! adds to [`RegionState`], [`Liveness`] and [`EventKind`] are kept as `Unknown`.

mod client;
mod connection;
mod events;
mod lease;
pub mod protocol;
pub(crate) mod reply;
mod silence;

pub use client::Client;
pub use events::RegistryEvents;
pub(crate) use lease::Lease;
pub use protocol::{ErrorReply, RegistryError, Watch};
pub use reply::RegistryCallError;

pub use crate::model::{
    DeathCertificate, EventKind, Liveness, Process, RegionState, RegistryEvent, RegistryStatus, SubscriberInfo,
    TopicInfo,
};
