//! Attacks by clients of the registry.

use std::os::unix::net::UnixStream;

use crate::machine::say_ready;

pub fn connect_and_hang_up() {
    let socket = std::env::var("CONDUIT_SOCKET").unwrap();
    say_ready();
    loop {
        drop(UnixStream::connect(&socket));
    }
}
