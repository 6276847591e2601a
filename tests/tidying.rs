//! `conduit rm` and `conduit gc`, with and without a daemon.

use std::process::{Command, Output};

use conduit::ShmRegion;
use serde_json::Value;

use crate::harness::{NOBODY, World, stderr_of, wait_until};
use crate::protocol::Order::{Send, Unpublish};
use crate::protocol::{Answer, End};

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.code(), stdout, stderr)
}

fn worlds() -> [World; 2] {
    [World::new(), World::with_daemon()]
}

#[test]
fn rm_removes_regions_without_owner_and_refuses_live_ones() {
    for world in worlds() {
        drop(ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap());
        let mut publisher = world.publisher("scan", 16, 100);
        let (code, _, said) = run(&mut world.conduit(&["rm", "scna", "map", "scan"]));
        assert_eq!(code, Some(1));
        assert!(said.contains("\"scna\"") && said.contains("did you mean \"scan\"?"), "{said}");
        let live = format!("({}) publishes it; stop that process, or use", publisher.pid());
        assert!(said.contains("topic \"scan\" is live: ") && said.contains(&live) && said.contains("force"), "{said}");
        assert!(said.matches("no registry").count() <= 1, "{said}");
        assert!(!world.exists("map") && world.exists("scan"), "one failure keeps none of the others");
        publisher.order(Send(1, 10));
        publisher.kill();
        let (code, _, said) = run(&mut world.conduit(&["rm", "scan"]));
        assert!(code == Some(0) || said.contains("there is no topic"), "{said}");
        assert!(!world.exists("scan"));
    }
}

#[test]
fn rm_force_ends_a_live_topic_for_all_clients() {
    for world in worlds() {
        let mut publisher = world.publisher("scan", 16, 100);
        let subscriber = world.sleeper("scan");
        let region = ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap();
        let (code, _, said) = run(&mut world.conduit(&["rm", "--force", "scan", "map"]));
        assert_eq!(code, Some(0), "{said}");
        assert!(!world.exists("scan") && !world.exists("map"));
        subscriber.expect(Answer::Gone(End::Closed));
        assert!(publisher.ask(Send(1, 10)).failure().starts_with("the topic was removed from outside"));
        drop(region);
    }
}

#[test]
fn gc_lists_and_removes_orphans_and_interrupted_removals() {
    let world = World::new();
    let mut lives = world.publisher("lives", 16, 100);
    drop(ShmRegion::builder().domain(&world.domain()).create("kept", 100).unwrap());
    let publisher = world.publisher("scan", 16, 100);
    let owner = format!("({})", publisher.pid());
    publisher.kill();
    let remover = world.publisher("half/way", 16, 100);
    remover.die_at("RemoveRenamed", Unpublish);
    std::fs::write(world.path_of("foreign"), "not ours").unwrap();

    let (code, shown, _) = run(&mut world.conduit(&["gc", "--dry-run"]));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 2), "{shown}");
    assert!(lines.iter().all(|line| line.starts_with("would remove")), "{shown}");
    assert!(lines[0].contains(".conduit_half.way") && lines[0].contains("its remover was killed"), "{shown}");
    assert!(lines[1].contains("conduit_scan") && lines[1].contains(&owner) && lines[1].contains("its lock is free"));
    assert!(world.exists("scan"), "nothing is done");

    let (code, printed, said) = run(&mut world.conduit(&["gc", "--json"]));
    assert_eq!(code, Some(0), "{said}");
    let removed: Value = serde_json::from_str(&printed).unwrap();
    let names: Vec<_> = removed.as_array().unwrap().iter().map(|it| (&it["name"], &it["removed"])).collect();
    assert_eq!(names, [(&Value::from("half/way"), &Value::from(true)), (&Value::from("scan"), &Value::from(true))]);
    assert_eq!(removed[1]["size_bytes"], 16 * 384 + 4096);
    assert!(world.exists("lives") && world.exists("kept") && world.path_of("foreign").exists());
    lives.order(Send(1, 10));
    assert_eq!(run(&mut world.conduit(&["gc"])), (Some(0), "nothing to remove\n".into(), String::new()));
}

/// As an earlier state of the library made them, or another program.
#[test]
fn a_name_like_an_option_is_foreign() {
    for world in worlds() {
        let mut publisher = world.publisher("scan", 16, 100);
        let orphan = world.publisher("map", 16, 100);
        orphan.kill();
        wait_until("the daemon to notice", || !world.has_daemon() || !world.exists("map"));
        let hyphenated = world.path().join("conduit_--force");
        let _ = std::fs::rename(world.path_of("map"), &hyphenated);
        std::fs::hard_link(world.path_of("scan"), world.path().join("conduit_arm.-r")).unwrap();
        if !hyphenated.exists() {
            std::fs::write(&hyphenated, "").unwrap();
        }

        let (code, listed, _) = run(&mut world.conduit(&["list", "--json"]));
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let names: Vec<_> = listed.as_array().unwrap().iter().map(|topic| &topic["name"]).collect();
        assert_eq!((code, names), (Some(0), vec![&Value::from("scan")]));
        assert_eq!(run(&mut world.conduit(&["gc"])), (Some(0), "nothing to remove\n".into(), String::new()));
        let (code, _, said) = run(&mut world.conduit(&["rm", "--", "--force", "scan"]));
        assert_eq!(code, Some(1));
        let remedy = format!("Conduit leaves that file alone, `rm {}` removes it", hyphenated.display());
        assert!(said.contains("\"--force\"") && said.contains("like an option") && said.contains(&remedy), "{said}");
        assert!(hyphenated.exists() && world.exists("scan"), "one invalid name, and nothing is removed");
        let (_, _, said) = run(&mut world.conduit(&["rm", "arm/-l"]));
        assert!(said.contains("at byte 4") && !said.contains("leaves"), "there is no such file: {said}");
        let (_, told, _) = run(&mut world.conduit(&["doctor", "--json"]));
        assert!(told.contains("conduit_--force") && told.contains("conduit_arm.-r"), "{told}");
        publisher.order(Send(1, 10));
    }
}

#[test]
fn gc_succeeds_beside_a_daemon() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    publisher.kill();
    let (code, _, said) = run(&mut world.conduit(&["gc"]));
    assert_eq!(code, Some(0), "{said}");
    wait_until("it to be gone", || !world.exists("scan"));
}

#[test]
fn rm_force_removes_whatever_has_a_topics_name() {
    for has_daemon in [false, true] {
        let mut world = World::new();
        let victim = world.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        std::fs::write(victim.join("file"), "mine").unwrap();
        std::fs::create_dir(world.path_of("directory")).unwrap();
        std::fs::write(world.path_of("directory").join("file"), "").unwrap();
        std::os::unix::fs::symlink(&victim, world.path_of("directory").join("link")).unwrap();
        std::os::unix::fs::symlink(&victim, world.path_of("symlink")).unwrap();
        nix::unistd::mkfifo(&world.path_of("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(world.path_of("socket")).unwrap());
        std::fs::write(world.path_of("file"), "not ours").unwrap();
        if nix::unistd::geteuid().is_root() {
            // Another user has taken these names.
            for name in ["directory", "symlink", "fifo", "socket", "file"] {
                std::os::unix::fs::lchown(world.path_of(name), Some(NOBODY), None).unwrap();
            }
        }
        if has_daemon {
            world.start_daemon();
        }
        let kinds = [
            ("directory", "a directory"),
            ("symlink", "a symbolic link"),
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("file", "a file"),
        ];
        for (name, kind) in kinds {
            let error = stderr_of(&mut world.conduit(&["rm", name]), 1);
            assert!(error.contains(&format!("is {kind}, which Conduit did not make; --force removes it")), "{error}");
            assert!(world.path_of(name).symlink_metadata().is_ok());
            let output = world.conduit(&["rm", "--force", name]).output().unwrap();
            let notice = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.success() && notice.contains(&format!("{kind} that Conduit did not make")),
                "{notice}"
            );
            assert!(world.path_of(name).symlink_metadata().is_err(), "{kind}");
            let _publisher = world.publisher(name, 16, 100);
        }
        assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "mine", "no link is followed");
    }
}
