//! What the processes that the benchmark starts do.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;
use conduit::{Publisher, RecvError, Subscriber};

use crate::{say, topic};

/// Publishes topics until standard input ends.
pub(crate) fn publish(first: usize, end: usize) {
    let started = Instant::now();
    let _publishers: Vec<_> = (first..end).map(|number| Publisher::<[u8]>::create(topic(number)).unwrap()).collect();
    say(&format!("ready {}", started.elapsed().as_nanos()));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Subscribes to all topics; waits on those from `first` to `end`, in a thread each, and prints
/// when it is woken by their ends.
pub(crate) fn subscribe(first: usize, end: usize, all: usize) {
    let mut idle = Vec::new();
    for number in 0..all {
        let mut subscriber = Subscriber::<[u8]>::open(topic(number)).unwrap();
        if !(first..end).contains(&number) {
            idle.push(subscriber);
            continue;
        }
        let sleep = move || {
            let Err(RecvError::PublisherGone { .. }) = subscriber.recv() else { panic!("an unexpected message") };
            let woken = now_ns();
            say(&format!("woken {number} {woken}"));
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(sleep).unwrap();
    }
    say("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Attacks the daemon until standard input ends.
pub(crate) fn hostile(how: &str) {
    let socket = std::env::var("CONDUIT_SOCKET").unwrap();
    let list = b"{\"method\":\"io.conduit.Registry.List\"}\0";
    let watch = b"{\"method\":\"io.conduit.Registry.Watch\",\"more\":true}\0";
    let mut crowd = Vec::new();
    let connect = |crowd: &mut Vec<UnixStream>| {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_nonblocking(true).unwrap();
        crowd.push(stream);
    };
    let count = if how == "half-open" { 10_000 } else { 1000 };
    for _ in 0..count {
        connect(&mut crowd);
    }
    if how == "half-open" {
        // Most connections are refused.
        crowd.retain(|stream| (&*stream).read(&mut [0; 512]).is_err());
    }
    say("ready");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        for stream in &mut crowd {
            // Errors are expected.
            let _ = match how {
                "slow" => stream.write(b"{"),
                "floods" => stream.write(list).and_then(|_| stream.read(&mut [0; 65536])),
                "never-reads" => stream.write(list),
                "watches" => stream.write(watch),
                _ => Ok(0),
            };
        }
        // Rarely enough that the processors are not the bottleneck.
        let pause = match how {
            "slow" => 1000,
            "floods" => 1,
            _ => 50,
        };
        std::thread::sleep(Duration::from_millis(pause));
    }
}
