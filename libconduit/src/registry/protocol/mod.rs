//! The messages on the registry's socket: [Varlink](https://varlink.org), interface
//! `io.conduit.Registry`.
//!
//! Every message is a JSON object followed by NUL. The connection is the lease: what a client
//! registers or attaches ends with it. Every method but `Watch` has one reply, and no method
//! depends on an earlier call, so a client may repeat any of them.
//!
//! [`envelope`] frames calls and replies, [`calls`] has the parameters and replies of each method,
//! [`errors`] the errors. The regions, processes and events in them are the types of
//! [`registry`](crate::registry).

pub mod calls;
pub mod envelope;
pub mod errors;

pub use calls::*;
pub use envelope::*;
pub use errors::*;

#[cfg(test)]
mod tests;
