//! Clients: accepts their connections within the limits, reads their calls, answers them.

mod arrivals;
pub(crate) mod call;
mod connection;
pub(crate) mod frames;
mod keeper;
mod methods;
mod reader;
pub(crate) mod request;
mod writer;

pub(crate) use arrivals::{Listener, accept};
pub(crate) use connection::resume;
