use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::*;
use crate::registry::protocol::END;

/// Late enough for another check.
fn later(lease: &Lease) -> Duration {
    lease.last_check + CHECK_INTERVAL
}

fn domain(directory: &Path) -> Domain {
    Domain::new(directory).with_socket(directory.join("registry.sock"))
}

fn attach(domain: &Domain) -> Lease {
    Lease::attach(domain, &"scan".parse().unwrap(), FileId { dev: 1, ino: 2 }, Some(3))
}

/// The one call that came over a connection.
fn call(mut stream: &UnixStream) -> Call {
    let mut bytes = [0; 1024];
    let len = stream.read(&mut bytes).unwrap();
    assert_eq!(bytes[len - 1], END);
    serde_json::from_slice(&bytes[..len - 1]).unwrap()
}

#[test]
fn a_lease_is_taken_whenever_there_is_a_registry_again() {
    let directory = tempfile::tempdir().unwrap();
    let domain = domain(directory.path());
    let mut lease = attach(&domain);
    lease.renew_if_due(later(&lease));
    assert!(lease.client.is_none(), "no registry listens");
    for _ in 0..3 {
        let listener = std::os::unix::net::UnixListener::bind(&domain.sockets()[0]).unwrap();
        lease.renew_if_due(lease.last_check);
        assert!(lease.client.as_ref().is_none_or(|client| client.stream.get_ref().is_over()), "not at every call");
        lease.renew_if_due(later(&lease));
        let (stream, _) = listener.accept().unwrap();
        let call = call(&stream);
        assert_eq!((call.method.as_str(), call.oneway), ("io.conduit.Registry.Attach", true));
        assert_eq!(call.parameters, serde_json::json!({"topic": "scan", "dev": 1, "inode": 2, "record": 3}));
        listener.set_nonblocking(true).unwrap();
        lease.renew_if_due(later(&lease));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "a lease that lives is kept");
        std::fs::remove_file(&domain.sockets()[0]).unwrap();
    }
    lease.release();
    assert!(lease.client.is_none());
}

#[test]
fn a_registry_with_a_full_backlog_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let domain = domain(directory.path());
    let mut lease = attach(&domain);
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&domain.sockets()[0]).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let crowd: Vec<_> =
        std::iter::from_fn(|| RegistrySocket::open(&domain.sockets()[0], Patience::NONE).ok()).take(100).collect();
    assert!(crowd.len() < 100, "it never was full");
    let started = Instant::now();
    lease.renew_if_due(later(&lease));
    assert!(lease.client.is_none() && started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_domain_without_registry_is_never_asked() {
    let directory = tempfile::tempdir().unwrap();
    let listening = domain(directory.path());
    let listener = std::os::unix::net::UnixListener::bind(&listening.sockets()[0]).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut lease = attach(&listening.without_registry());
    lease.renew_if_due(later(&lease));
    assert!(lease.client.is_none() && listener.accept().is_err());
}
