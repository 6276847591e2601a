//! How fast Conduit is beside what the hardware takes: `cargo bench -p libconduit --bench speed`, `-- --help` for options.
//!
//! `libconduit/benches/peers` is the same with iceoryx2 in the same turns.
#![allow(missing_docs, reason = "nobody uses this crate")]
#![allow(dead_code, unused_imports, reason = "tests that nobody runs here, and what only a peer needs")]

mod harness;

fn main() -> std::process::ExitCode {
    // Without a peer the type that would be it is never asked for anything.
    harness::main::<harness::ours::Conduit>()
}
