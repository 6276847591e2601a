//! The speed of Conduit beside iceoryx2 and the limits of the machine: the table of the README.
//!
//! `cargo run --release --manifest-path libconduit/benches/peers/Cargo.toml`, `-- --help` for
//! options.

mod iceoryx;

fn main() -> std::process::ExitCode {
    conduit_bench::table::main::<iceoryx::Iceoryx>()
}
