//! Queries to the registry: which topics exist, who publishes and reads them, what happens to them, and how publishers died.

mod client;
mod lease;
pub mod protocol;

pub use client::{Client, RegistryCallError};
pub(crate) use lease::Lease;
pub use protocol::{ErrorReply, RegistryError, Watch};

pub use crate::model::{
    DeathCertificate, EventKind, Liveness, Process, RegionState, RegistryEvent, RegistryStatus, SubscriberInfo,
    TopicInfo,
};
