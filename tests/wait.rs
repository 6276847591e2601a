//! `conduit wait`, as scripts and units use it.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use conduit::{Domain, ShmRegion};

use crate::harness::skip::{Lack, skip};
use crate::harness::{DEADLINE, World, stderr_of, wait_for};
use crate::protocol::Order::{Publish, Subscribe, Unpublish, Unsubscribe};

fn start(world: &World, arguments: &[&str]) -> Child {
    let mut command: Command = world.conduit(&["wait"]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end; returns the exit code and all output.
fn finish(mut child: Child) -> (Option<i32>, String) {
    wait_for("conduit wait to end", || child.try_wait().unwrap());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

/// Long enough for the command to check once more and find the condition unmet.
fn is_still_waiting(child: &mut Child) -> bool {
    std::thread::sleep(Duration::from_millis(300));
    child.try_wait().unwrap().is_none()
}

const REACHED: (Option<i32>, String) = (Some(0), String::new());

#[test]
fn wait_ends_when_all_topics_exist() {
    for world in [World::new(), World::with_daemon()] {
        let mut waiting = start(&world, &["scan", "imu", "map"]);
        let _publisher = world.publisher("scan", 16, 100);
        drop(ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap());
        assert!(is_still_waiting(&mut waiting));
        let _other = world.publisher("imu", 16, 100);
        assert_eq!(finish(waiting), REACHED);
        assert_eq!(finish(start(&world, &["scan"])), REACHED, "at once");
    }
}

#[test]
fn a_time_limit_beyond_the_range_of_the_clock_is_none() {
    let world = World::new();
    let mut waiting = start(&world, &["map", "--timeout", "1e19"]);
    assert!(is_still_waiting(&mut waiting));
    drop(ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap());
    assert_eq!(finish(waiting), REACHED);
}

#[test]
fn wait_gone_ends_when_publishers_have_died_or_closed() {
    for world in [World::new(), World::with_daemon()] {
        let mut publishers = [world.peer(), world.peer()];
        publishers[0].order(Publish("scan", 16, 100));
        publishers[1].order(Publish("imu", 16, 100));
        let mut waiting = start(&world, &["scan", "imu", "--gone"]);
        let [killed, mut closing] = publishers;
        killed.kill();
        assert!(is_still_waiting(&mut waiting));
        closing.order(Unpublish);
        assert_eq!(finish(waiting), REACHED);
        assert_eq!(finish(start(&world, &["never/was", "--gone"])), REACHED);
    }
}

#[test]
fn wait_subscribers_counts_only_live_ones() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    let mut waiting = start(&world, &["scan", "--subscribers", "2"]);
    let mut subscribers = [world.peer(), world.peer(), world.peer()];
    subscribers[0].order(Subscribe("scan"));
    let [dead, first, second] = &mut subscribers;
    dead.order(Unsubscribe);
    first.order(Subscribe("scan"));
    assert!(is_still_waiting(&mut waiting));
    second.order(Subscribe("scan"));
    assert_eq!(finish(waiting), REACHED);
}

#[test]
fn a_timeout_names_the_unmet_condition() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 100);
    let begun = Instant::now();
    let (code, said) = finish(start(&world, &["scan", "imu", "--timeout", "200ms"]));
    assert_eq!((code, said.as_str()), (Some(1), "conduit: time is up: there is no topic \"imu\"\n"));
    assert!((Duration::from_millis(200)..DEADLINE).contains(&begun.elapsed()));
    let (code, said) = finish(start(&world, &["scan", "--gone", "--timeout", "0"]));
    assert_eq!((code, said.as_str()), (Some(1), "conduit: time is up: topic \"scan\" is live\n"));
    let (code, said) = finish(start(&world, &["scan", "--subscribers", "3", "--timeout", "0.01"]));
    assert_eq!((code, said.as_str()), (Some(1), "conduit: time is up: topic \"scan\" has 0 of 3 subscribers\n"));
    publisher.kill();
    let (code, said) = finish(start(&world, &["scan", "--timeout", "0"]));
    assert_eq!((code, said.as_str()), (Some(1), "conduit: time is up: topic \"scan\" is orphaned\n"));
}

#[test]
fn a_directory_that_was_made_again_is_the_one_that_counts() {
    let world = World::new();
    let directory = world.path().join("shm");
    std::fs::create_dir(&directory).unwrap();
    let mut command = world.conduit(&["wait", "map", "--timeout", "1m"]);
    command.env("CONDUIT_SHM_DIR", &directory).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiting = command.spawn().unwrap();
    assert!(is_still_waiting(&mut waiting));
    std::fs::rename(&directory, world.path().join("old")).unwrap();
    std::fs::create_dir(&directory).unwrap();
    drop(ShmRegion::builder().domain(&Domain::new(&directory)).create("map", 100).unwrap());
    assert_eq!(finish(waiting), REACHED);

    let mut command = world.conduit(&["wait", "never", "--timeout", "1m"]);
    command.env("CONDUIT_SHM_DIR", &directory).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiting = command.spawn().unwrap();
    assert!(is_still_waiting(&mut waiting));
    std::fs::remove_dir_all(&directory).unwrap();
    let (code, said) = finish(waiting);
    assert!(code == Some(2) && said.contains("cannot watch") && said.contains("No such file"), "{code:?} {said}");
}

#[test]
fn without_inotify_the_directory_is_checked() {
    let world = World::new();
    let namespace = ["--user", "--map-root-user"];
    let without = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let start = |program: &str, arguments: &[&str]| {
        let mut command = world.command("unshare");
        command.args(namespace).args(["sh", "-c", without, program]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    if finish(start("true", &[])).0 != Some(0) {
        skip!(Lack::Namespaces(&["--user", "--map-root-user"]), "a user without inotify instances");
    }
    let mut waiting = start(env!("CARGO_BIN_EXE_conduit"), &["wait", "map", "--timeout", "1m"]);
    assert!(is_still_waiting(&mut waiting));
    drop(ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap());
    let (code, said) = finish(waiting);
    let directory = world.path().display();
    let expected = format!("conduit: {directory} is checked every 50.0 ms, for it cannot be watched: ");
    assert!(code == Some(0) && said.starts_with(&expected) && said.contains("fs.inotify"), "{code:?} {said}");
}

#[test]
fn invalid_arguments_of_wait_are_errors() {
    let world = World::new();
    std::fs::write(world.path_of("foreign"), "no region").unwrap();
    let missing = world.path().join("missing");
    for (arguments, shm_dir, expected) in [
        (&["a//b"][..], world.path(), "topic"),
        (&["foreign"], world.path(), "is not a region that Conduit made"),
        (&["scan"], &missing, "cannot watch"),
        (&[], world.path(), "required"),
        (&["scan", "--timeout", "soon"], world.path(), "a duration such as"),
        (&["scan", "--gone", "--subscribers", "1"], world.path(), "cannot be used with"),
    ] {
        let mut command = world.conduit(&["wait"]);
        let said = stderr_of(command.args(arguments).env("CONDUIT_SHM_DIR", shm_dir), 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
