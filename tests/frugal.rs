//! What publishers and subscribers do without: system calls while nobody sleeps, and descriptors.

use std::path::Path;
use std::time::Instant;

use conduit::internal::shm::clock::now_ns;
use conduit::{Publisher, Start, Subscriber};

use crate::harness::skip::{Lack, skip};
use crate::harness::{Peer, World};
use crate::seccomp;

const MESSAGES: u64 = 10_000;

/// Does something in a process that any system call kills; whether it lived.
fn lives_without_calls(what: &str) -> bool {
    let (answer, status) = World::new().peer().end_by(&format!("without-calls {what}"));
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(nix::libc::SIGSYS);
    assert!(killed || (status.success() && answer.as_deref() == Some("done")), "{what}: {answer:?}, {status}");
    !killed
}

#[test]
fn what_makes_a_system_call_does_not_live() {
    // Or the others would mean nothing.
    assert!(!lives_without_calls("sleep"));
}

#[test]
fn publishing_to_nobody_makes_no_system_call() {
    assert!(lives_without_calls("publish-unstamped"));
}

#[test]
fn receiving_what_is_there_makes_no_system_call() {
    assert!(lives_without_calls("receive-unstamped"));
}

#[test]
fn time_stamps_make_no_system_call() {
    if !lives_without_calls("read-clocks") {
        skip!(Lack::FastClock, "the cost of time stamps");
    }
    assert!(lives_without_calls("publish-stamped"));
    assert!(lives_without_calls("receive-stamped"));
}

#[test]
fn looking_for_what_is_not_there_makes_no_system_call() {
    if !lives_without_calls("read-clocks") {
        skip!(Lack::FastClock, "the cost of time stamps");
    }
    // Twice a second it asks for the publisher's health, which is more often than not outside of the few looks of this test.
    assert!((0..5).any(|_| lives_without_calls("look")));
}

/// In the peer, which it ends: does what may make no system call.
pub fn without_calls(what: &str, say: fn(&str)) -> Result<String, Box<dyn std::error::Error>> {
    let create = |topic| Publisher::<[u64; 16]>::builder().time_stamps(!what.ends_with("-unstamped")).create(topic);
    let (mut lonely, mut publisher) = (create("lonely")?, create("scan")?);
    let mut subscriber = Subscriber::<[u64; 16]>::open("scan")?;
    let mut copier = Subscriber::<[u64; 16]>::builder().start(Start::Oldest).open("scan")?;
    // What happens once, like looking for the clock, happens now.
    lonely.send(&[0; 16])?;
    publisher.send(&[0; 16])?;
    assert_eq!((*subscriber.recv()?, *copier.recv_copy()?), ([0; 16], [0; 16]));
    assert!(subscriber.try_recv()?.is_none() && copier.try_recv_copy()?.is_none());
    let _ = (now_ns(), Instant::now());

    seccomp::deny_all_but_the_end()?;
    match what {
        "sleep" => std::thread::sleep(std::time::Duration::from_nanos(1)),
        "read-clocks" => (0..MESSAGES).for_each(|_| _ = std::hint::black_box((now_ns(), Instant::now()))),
        // To nobody; and to subscribers that are awake, and behind.
        "publish-stamped" | "publish-unstamped" => {
            for publisher in [&mut lonely, &mut publisher] {
                for number in 0..MESSAGES {
                    publisher.send(&[number; 16])?;
                    publisher.loan()?[0] = number;
                    let mut loan = publisher.loan()?;
                    loan.fill(number);
                    loan.publish();
                }
            }
        }
        "receive-stamped" | "receive-unstamped" => {
            for number in 0..MESSAGES / 4 {
                for _ in 0..4 {
                    publisher.send(&[number; 16])?;
                }
                let held = [subscriber.recv()?, subscriber.try_recv()?.ok_or("nothing")?];
                let mut right = held.iter().all(|sample| **sample == [number; 16]);
                let mut count = 0;
                count += subscriber.recv_batch(1, |sample| right &= *sample == [number; 16])?;
                count += subscriber.try_recv_batch(9, |sample| right &= *sample == [number; 16])?;
                for _ in 0..4 {
                    right &= *copier.recv_copy()? == [number; 16];
                }
                if !right || count != 2 {
                    return Err("wrong".into());
                }
            }
        }
        "look" => {
            for _ in 0..1000 {
                if subscriber.try_recv()?.is_some() || copier.try_recv_copy()?.is_some() {
                    return Err("wrong".into());
                }
            }
        }
        other => return Err(format!("what is {other}?").into()),
    }
    say("done");
    seccomp::end(0)
}

/// How many descriptors publishing and subscribing take, and give back.
fn descriptors_of(world: &World, with_lease: u64) {
    let descriptors = |peer: &mut Peer| peer.ask("descriptors").parse::<u64>().unwrap();
    let (mut publisher, mut subscriber) = (world.peer(), world.peer());
    let before = (descriptors(&mut publisher), descriptors(&mut subscriber));
    publisher.order("publish scan 16 100");
    subscriber.order("subscribe scan");
    // Neither does what comes later take any.
    publisher.order("send 3 100");
    assert_eq!(subscriber.ask("recv"), "sample 0 0 whole");
    subscriber.tell("drain");
    world.wait_until_asleep("scan", 1);
    publisher.order("send 3 100");
    assert_eq!(descriptors(&mut publisher), before.0 + with_lease);
    world.wait_until_asleep("scan", 1);
    publisher.order("unpublish");
    assert_eq!(subscriber.answer(), "6 received 0 lost 0 torn, publisher closed the topic");
    assert_eq!(descriptors(&mut subscriber), before.1 + with_lease);
    subscriber.order("unsubscribe");
    assert_eq!((descriptors(&mut publisher), descriptors(&mut subscriber)), before);
}

#[test]
fn publisher_and_subscriber_keep_one_descriptor_each() {
    descriptors_of(&World::new(), 1);
}

#[test]
fn with_a_lease_they_keep_two() {
    descriptors_of(&World::with_daemon(), 2);
}

#[test]
fn a_publisher_finds_its_name_again_wherever_its_process_has_gone() {
    let world = World::new();
    let mut command = world.command(std::env::current_exe().unwrap());
    command.current_dir(world.path().parent().unwrap());
    command.env("CONDUIT_SHM_DIR", Path::new(world.path().file_name().unwrap()));
    let mut publisher = Peer::run(command, None);
    publisher.order("publish scan 16 100");
    publisher.order("go-to /");
    assert!(world.exists("scan"));
    publisher.order("send 1 100");
    publisher.order("unpublish");
    assert_eq!(world.leftovers(), []);
}
