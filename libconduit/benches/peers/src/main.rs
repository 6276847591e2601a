//! The speed of Conduit beside other libraries and the limits of the machine: the tables of the
//! README.
//!
//! `cargo run --release --manifest-path libconduit/benches/peers/Cargo.toml`, `-- --help` for
//! options.

mod iceoryx;
mod photon;
mod ringfire;

use conduit_bench::table::Peer;

fn main() -> std::process::ExitCode {
    conduit_bench::table::main(&[
        Peer::of_all::<iceoryx::Iceoryx>(),
        Peer::of_small::<ringfire::Ringfire>(),
        Peer::of_threads::<photon::Photon>(),
    ])
}
