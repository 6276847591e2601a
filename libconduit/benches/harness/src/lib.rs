//! The measuring harness of `conduit bench` and of the library's benchmarks.
//!
//! Two processes, each pinned to a core, exchange messages over Conduit, over another transport,
//! and over what the hardware offers without either. All of them take turns of a few milliseconds:
//! the host of a virtual machine moves its cores at will, and latencies with them, so only figures
//! from the same moments are comparable.
//!
//! - [`turns`]: whoever is measured is a [`turns::Contestant`]; the first process measures, the
//!   second answers;
//! - [`contestants`]: round trips, streams and publications over any [`transport`], and the
//!   [`limits`] of the machine;
//! - [`partner`], [`site`], [`directory`], [`cores`]: the second process, the files of both, and
//!   where they run;
//! - `table` (a feature): the table of `cargo bench -p conduit-bench`, with its rows, goals and
//!   options.

mod common;
pub mod conduit_transport;
pub mod contestants;
pub mod cores;
pub mod directory;
pub mod limits;
pub mod machine;
pub mod partner;
pub mod pattern;
pub mod site;
pub mod statistics;
#[cfg(feature = "table")]
pub mod table;
pub mod transport;
pub mod turns;
pub mod until;

pub use common::{BenchError, BenchSide, Result, Wait};
