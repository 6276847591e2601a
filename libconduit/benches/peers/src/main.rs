//! How fast Conduit is beside iceoryx2 and what the hardware takes: the table of README.
//!
//! `cargo run --release --manifest-path libconduit/benches/peers/Cargo.toml`, `-- --help` for options.

mod iceoryx;

fn main() -> std::process::ExitCode {
    conduit_bench::main::<iceoryx::Iceoryx>()
}
