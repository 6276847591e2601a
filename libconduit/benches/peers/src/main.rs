//! How fast Conduit is beside iceoryx2 and what the hardware takes: the table of README.
//!
//! `cargo run --release --manifest-path libconduit/benches/peers/Cargo.toml`, `-- --help` for options.

#[path = "../../speed/harness/mod.rs"]
mod harness;
mod iceoryx;

fn main() -> std::process::ExitCode {
    harness::main::<iceoryx::Iceoryx>()
}
