//! How fast Conduit is beside what the hardware takes: `cargo bench -p conduit-bench --features table --bench speed`,
//! `-- --help` for options.
//!
//! `libconduit/benches/peers` is the same with iceoryx2 in the same turns.
#![allow(missing_docs, reason = "nobody uses this crate")]

fn main() -> std::process::ExitCode {
    // Without a peer the type that would be it is never asked for anything.
    conduit_bench::main::<conduit_bench::ours::Conduit>()
}
