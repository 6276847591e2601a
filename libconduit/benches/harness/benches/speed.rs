//! The speed of Conduit beside the limits of the machine:
//! `cargo bench -p conduit-bench --bench speed`, `-- --help` for options.
//!
//! `libconduit/benches/peers` is the same with other libraries, in the same turns.
#![allow(missing_docs, reason = "nobody uses this crate")]

fn main() -> std::process::ExitCode {
    conduit_bench::table::main(&[])
}
