//! Queries to the registry: which topics exist, who publishes and reads them, what happens to them, and how publishers died.

mod client;
pub mod protocol;

pub use client::{Client, RegistryCallError};
pub(crate) use client::{LOOK_INTERVAL, Lease};
pub use protocol::{
    DeathCertificate, ErrorReply, EventKind, Liveness, Process, RegionState, RegistryError, RegistryEvent,
    RegistryStatus, SubscriberInfo, TopicInfo, Watch,
};
