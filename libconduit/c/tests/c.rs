//! The C interface: programs in C, compiled with gcc and clang, that run alone and against each
//! other.
//!
//! They use the library that cargo built with this test. `tests/run` tests the installed one, with
//! sanitizers and valgrind.
#![allow(missing_docs, reason = "a test")]

mod harness;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use harness::{DEADLINE, PACKAGE, Running, World, compilers_of_c, is_success, library, registry};

fn passes(name: &str) {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], format!("tests/{name}.c"));
        is_success(&world.command(&program).output().unwrap());
        assert_eq!(world.regions(), [""; 0], "something was left");
    }
}

#[test]
fn misuse_is_reported() {
    passes("misuse");
}

#[test]
fn topics_work() {
    passes("topics");
}

#[test]
fn messages_travel_in_batches_and_are_lent() {
    passes("batches");
}

#[test]
fn a_thread_waits_for_many_topics_and_for_timers() {
    passes("waiting");
}

#[test]
fn all_topics_of_a_pattern_are_received_from() {
    passes("patterns");
}

#[test]
fn calls_that_wait_are_stopped() {
    passes("stopping");
}

#[test]
fn messages_and_changes_are_received_in_order() {
    passes("following");
}

#[test]
fn regions_work() {
    passes("regions");
}

#[test]
fn handles_fail_in_forked_children() {
    passes("forked");
}

#[test]
fn topics_and_regions_are_listed() {
    passes("listing");
}

#[test]
fn a_program_without_standard_descriptors_prints_nothing_into_a_region() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], "tests/closed.c");
        let listener = UnixListener::bind(world.socket()).unwrap();
        std::thread::spawn(move || registry::serve(listener, Arc::default()));
        let mut closed = world.command("sh");
        closed.args(["-c", "exec \"$0\" <&- >&- 2>&-"]).arg(&program);
        assert_eq!(closed.status().unwrap().code(), Some(0), "closed.c says where if it is started with them open");
    }
}

#[test]
fn the_library_works_when_the_main_thread_has_ended() {
    passes("main_ended");
}

#[test]
fn threads_are_cancelled_outside_of_the_library_only() {
    passes("cancelled");
    // Again with a registry, to which it sends and for which it waits.
    let world = World::new();
    let program = world.compile(compilers_of_c()[0], &[], "tests/cancelled.c");
    let listener = UnixListener::bind(world.socket()).unwrap();
    std::thread::spawn(move || registry::serve(listener, Arc::default()));
    is_success(&world.command(&program).output().unwrap());
}

#[test]
fn regions_are_inspected_from_outside() {
    passes("inspecting");
}

#[test]
fn a_registry_is_asked_and_watched() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], "tests/reporting.c");
        let listener = UnixListener::bind(world.socket()).unwrap();
        std::thread::spawn(move || registry::serve(listener, Arc::default()));
        is_success(&world.command(&program).output().unwrap());
    }
}

#[test]
fn a_registry_that_disappears_does_not_kill_its_clients() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], "tests/registry.c");
        let clients = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(world.socket()).unwrap();
        std::thread::spawn({
            let clients = Arc::clone(&clients);
            move || registry::serve(listener, clients)
        });
        let mut program = world.start(&program, "");
        assert_eq!(program.line(), "ready");
        // The registry is gone.
        std::fs::remove_file(world.socket()).unwrap();
        for client in clients.lock().unwrap().drain(..) {
            client.shutdown(std::net::Shutdown::Both).unwrap();
        }
        program.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        program.succeeds();
        assert_eq!(world.regions(), [""; 0]);
    }
}

#[test]
fn the_library_exports_what_is_listed_and_nothing_else() {
    let listed = std::fs::read_to_string(Path::new(PACKAGE).join("symbols")).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    assert!(listed.is_sorted() && listed.iter().all(|name| name.starts_with("conduit_")));
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<_> = output.lines().filter_map(|line| line.split(' ').next_back()).collect();
    let update = "nm -D --defined-only libconduit_c.so | cut -d' ' -f3 | LC_ALL=C sort";
    assert_eq!(exported.iter().copied().collect::<Vec<_>>(), listed, "if that is meant, update `symbols`: {update}");

    let header = std::fs::read_to_string(Path::new(PACKAGE).join("include/conduit.h")).unwrap();
    let declared: BTreeSet<_> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#', '}']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .collect();
    assert_eq!(declared, exported, "the header declares something else");
}

#[test]
fn example_counter() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], "examples/counter.c");
        let mut watching = world.start(&program, "watch");
        let counting = world.start(&program, "count");
        watching.line();
        watching.line();
        counting.kill();
        assert!(watching.succeeds().contains("no process counts any more"));
        assert_eq!(world.regions(), ["conduit_counter"], "what the dead left, for the next or the daemon");
        world.start(&program, "unlink").succeeds();
        world.start(&program, "unlink").fails_with("does not exist");
        assert_eq!(world.start(&program, "").end().0, Some(2));
    }
}

#[test]
fn example_imu() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let publishing = world.compile(compiler, &[], "examples/imu_publisher.c");
        let subscribing = world.compile(compiler, &[], "examples/imu_subscriber.c");
        let mut subscriber = world.start(&subscribing, "");
        let mut publisher = world.start(&publishing, "");
        assert!(subscriber.line_with("rad/s").contains("lost 0"));
        // One second at 100 Hz.
        let begun = Instant::now();
        for _ in 0..100 {
            subscriber.line();
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");

        // The subscriber is killed: its publisher notices and continues.
        publisher.line_with("1 subscribers");
        subscriber.kill();
        publisher.line_with("0 subscribers");
        // The publisher is killed: its subscriber reports that.
        let mut subscriber = world.start(&subscribing, "");
        subscriber.line_with("rad/s");
        publisher.kill();
        assert!(subscriber.fails_with("died").contains("received "));
        // The publisher closes the topic: its subscriber reports that, too.
        let mut publisher = world.start(&publishing, "");
        let mut subscriber = open_when_it_is_back(&world, &subscribing);
        subscriber.line_with("rad/s");
        publisher.line_with("1 subscribers");
        publisher.signal(Signal::SIGINT);
        assert!(publisher.succeeds().contains("published "));
        subscriber.succeeds();
        assert_eq!(world.regions(), [""; 0]);
    }
}

/// Starts a subscriber until it finds the topic's next publisher and not the dead one's region.
fn open_when_it_is_back(world: &World, program: &Path) -> Running {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut subscriber = world.start(program, "");
        if subscriber.try_line().is_some() {
            return subscriber;
        }
        assert!(Instant::now() < deadline, "{}", subscriber.errors());
    }
}

#[test]
fn a_c_publisher_and_a_rust_subscriber_and_the_reverse() {
    use conduit::{Domain, Kind, Publisher, RecvError, Subscriber, TypeInfo};

    let world = World::new();
    let domain = Domain::new(world.directory.path()).without_registry();
    let imu = TypeInfo::new("example/Imu", Kind::Value, 48, 8).unwrap();
    let publishing = world.compile(compilers_of_c()[0], &[], "examples/imu_publisher.c");
    let publisher = world.start(&publishing, "");
    conduit::ShmRegion::wait_until_exists_in(&domain, "imu", || true, Some(DEADLINE)).unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).message_type(imu).open("imu").unwrap();
    let sample = subscriber.recv().unwrap();
    let up = f64::from_ne_bytes(sample[40..].try_into().unwrap());
    assert_eq!((sample.len(), up), (48, 9.81));
    publisher.kill();
    let error = loop {
        if let Err(error) = subscriber.recv() {
            break error;
        }
    };
    assert!(matches!(error, RecvError::PublisherGone { how: conduit::Gone::Died, .. }), "{error}");

    let subscribing = world.compile(compilers_of_c()[0], &[], "examples/imu_subscriber.c");
    let mut publisher = Publisher::<[u8]>::builder().domain(&domain).message_type(imu).create("imu").unwrap();
    let mut subscriber = world.start(&subscribing, "");
    let deadline = Instant::now() + DEADLINE;
    while publisher.subscribers().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    let values: Vec<u8> = [1.0, 2.0, 3.0, 4.0, 5.0, 6.5_f64].into_iter().flat_map(f64::to_ne_bytes).collect();
    publisher.send(&values).unwrap();
    assert!(subscriber.line().contains("gyro  1.000  2.000  3.000 rad/s  acceleration  4.000  5.000  6.500"));
    drop(publisher);
    subscriber.succeeds();
}

#[test]
fn example_point_cloud() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], "examples/point_cloud.c");
        let mut subscriber = world.start(&program, "subscribe");
        let publisher = world.start(&program, "publish");
        assert!(subscriber.line_with("scan").contains("12000000 bytes, farthest point 32.50 m"));
        subscriber.line();
        publisher.kill();
        subscriber.fails_with("died");
    }
}

#[test]
fn example_image_pipeline() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let program = world.compile(compiler, &[], "examples/image_pipeline.c");
        let mut show = world.start(&program, "show");
        let filter = world.start(&program, "filter");
        let camera = world.start(&program, "camera");
        assert!(show.line().contains("pixels on edges"));
        camera.kill();
        // The filter ends with an error; the program that shows its images reports a closed topic.
        filter.fails_with("died");
        assert!(show.succeeds().contains("the filter has ended"));

        let mut show = world.start(&program, "show");
        let _camera = world.start(&program, "camera");
        let filter = world.start(&program, "filter");
        show.line();
        filter.kill();
        assert!(show.fails_with("died").contains("the filter is gone"));
    }
}

#[test]
fn example_follow() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let publishing = world.compile(compiler, &[], "examples/imu_publisher.c");
        let mut follower = world.start(&world.compile(compiler, &[], "examples/follow.c"), "");
        follower.line_with("nothing for ");
        for epoch in 1..=2 {
            let publisher = world.start(&publishing, "");
            follower.line_with("connected to imu_publisher");
            follower.line_with("resumed after");
            follower.line_with("rad/s");
            if epoch == 1 {
                publisher.kill();
                follower.line_with("the publisher died; waiting for the next one");
            } else {
                follower.signal(Signal::SIGTERM);
                follower.line_with("from 2 publishers");
            }
        }
        follower.succeeds();
    }
}

#[test]
fn examples_of_wait_sets() {
    for compiler in compilers_of_c() {
        let world = World::new();
        let publisher = world.start(&world.compile(compiler, &[], "examples/imu_publisher.c"), "");
        let mut rate = world.start(&world.compile(compiler, &[], "examples/rate.c"), "");
        let measures = |rate: &mut harness::Running| !rate.line_with("periods missed").starts_with("0 ");
        assert!((0..100).any(|_| measures(&mut rate)), "it receives nothing");
        rate.signal(Signal::SIGTERM);
        rate.succeeds();
        let control = world.start(&world.compile(compiler, &[], "examples/control_loop.c"), "");
        world.wait_until_received("imu");
        control.signal(Signal::SIGINT);
        let said = control.succeeds();
        assert!(said.contains("commanded ") && !said.contains("used 0 "), "{said}");
        publisher.kill();
    }
}
