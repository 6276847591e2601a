//! Attacks by clients of the registry.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::{Value, json};

use super::names::{link_and_unlink, locked, path_of};
use crate::machine::say_ready;

fn connect() -> std::io::Result<UnixStream> {
    UnixStream::connect(std::env::var("CONDUIT_SOCKET").unwrap())
}

fn message(method: &str, parameters: &Value) -> Vec<u8> {
    let call =
        json!({"method": format!("io.conduit.Registry.{method}"), "parameters": parameters, "more": method == "Watch"});
    format!("{call}\0").into_bytes()
}

/// Sends without waiting; the daemon may have hung up.
fn send(stream: &UnixStream, bytes: &[u8]) {
    let _ = stream.set_nonblocking(true);
    let _ = (&*stream).write(bytes);
}

/// Reads what is there.
fn drain(stream: &UnixStream) {
    let _ = stream.set_nonblocking(true);
    while matches!((&*stream).read(&mut [0; 65536]), Ok(1..)) {}
}

fn crowd(count: usize) -> Vec<UnixStream> {
    (0..count).map_while(|_| connect().ok()).collect()
}

pub fn connect_and_hang_up() {
    say_ready();
    loop {
        drop(connect());
    }
}

/// As many connections as one user may have, and a new one for each that the daemon ends.
pub fn take_every_connection() {
    let mut crowd = crowd(2000);
    say_ready();
    loop {
        crowd.retain(|stream| {
            let _ = stream.set_nonblocking(true);
            (&*stream).read(&mut [0; 512]).is_err()
        });
        while crowd.len() < 2000 {
            crowd.extend(connect());
        }
        sleep(Duration::from_millis(1));
    }
}

pub fn call_and_shut_down() {
    let list = message("List", &json!({}));
    let mut recent = VecDeque::new();
    say_ready();
    loop {
        if let Ok(stream) = connect() {
            send(&stream, &list);
            let _ = stream.shutdown(Shutdown::Write);
            recent.push_back(stream);
        }
        if recent.len() > 100 {
            recent.pop_front();
        }
    }
}

pub fn leave_unread() {
    let calls = message("List", &json!({})).repeat(100);
    let mut crowd = crowd(1000);
    say_ready();
    loop {
        for stream in &mut crowd {
            send(stream, &calls);
        }
        sleep(Duration::from_millis(50));
        crowd.retain(|stream| matches!(stream.take_error(), Ok(None)));
        while crowd.len() < 1000 {
            crowd.extend(connect());
        }
    }
}

/// Watchers that read, and events for them.
pub fn watch() {
    let pattern = "**/*a*/".repeat(142) + "*a";
    let call = message("Watch", &json!({"topic": pattern}));
    let crowd = crowd(1000);
    crowd.iter().for_each(|stream| send(stream, &call));
    spawn(move || {
        loop {
            crowd.iter().for_each(drain);
            sleep(Duration::from_millis(10));
        }
    });
    link_and_unlink();
}

/// `Release` of leases that do not exist, beside regions whose locks the daemon has to check.
pub fn release() {
    let _locked: Vec<_> = (0..9000).map(|number| locked(&format!("j{number}"))).collect();
    let calls = message("Release", &json!({})).repeat(100);
    let mut crowd = crowd(20);
    say_ready();
    loop {
        for stream in &mut crowd {
            send(stream, &calls);
            drain(stream);
        }
        sleep(Duration::from_millis(1));
        // The daemon may have been replaced.
        crowd.retain(|stream| (&*stream).write(b" ").is_ok_and(|len| len == 1));
        while crowd.len() < 20 {
            crowd.extend(connect());
        }
    }
}

/// Late leases of names that share one live region: each hang-up has the daemon look for its death.
pub fn register_late() {
    let file = locked("j");
    let names: Vec<String> = (0..500).map(|number| format!("j{number}")).collect();
    names.iter().for_each(|name| std::fs::hard_link(path_of("j"), path_of(name)).unwrap());
    let (dev, inode) = (file.metadata().unwrap().dev(), file.metadata().unwrap().ino());
    say_ready();
    loop {
        let announce = |name: &String| {
            let stream = connect().ok()?;
            send(&stream, &message("Register", &json!({"topic": name, "dev": dev, "inode": inode})));
            Some(stream)
        };
        let crowd: Vec<_> = names.iter().filter_map(announce).collect();
        sleep(Duration::from_millis(50));
        drop(crowd);
    }
}

/// Claims every record of a topic that this user may not open.
pub fn attach() {
    let metadata = path_of("honest.private").metadata().unwrap();
    let crowd = crowd(1000);
    let claim = |record: usize| {
        let (dev, inode) = (metadata.dev(), metadata.ino());
        message("Attach", &json!({"topic": "honest/private", "dev": dev, "inode": inode, "record": record}))
    };
    crowd.iter().enumerate().for_each(|(number, stream)| send(stream, &claim(number % 60)));
    say_ready();
    loop {
        crowd.iter().for_each(drain);
        sleep(Duration::from_millis(10));
    }
}
