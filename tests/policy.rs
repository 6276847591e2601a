//! The administrator's rules for names.

use std::process::Command;

use conduit::registry::RegionState;
use conduit::{CreateError, Domain, Publisher};
use nix::sys::signal::Signal;

use crate::harness::{NOBODY, World, need_root, wait_until};
use crate::protocol::Order::{CreateRegion, Publish};

fn world(rules: &str) -> World {
    let mut world = World::new();
    std::fs::write(world.config(), rules).unwrap();
    world.start_daemon();
    world
}

fn own_uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

#[test]
fn a_registration_against_the_rules_is_refused_and_names_the_rule() {
    let rules = format!(
        "[[rule]]\nname = 'secrets'\ntopics = ['secret/**']\nusers = []\n[[rule]]\ntopics = ['ours']\nusers = [{}]",
        own_uid()
    );
    let world = world(&rules);
    let mut peer = world.peer();
    let expected = "topic \"secret/a\" may not be published, rule \"secrets\" of the registry: nobody may publish it";
    assert_eq!(peer.ask(Publish("secret/a", 16, 100)).failure(), expected);
    assert!(peer.ask(CreateRegion("secret/b", 100)).failure().contains("rule \"secrets\""));
    assert!(world.list().is_empty() && !world.exists("secret/a"));
    peer.order(Publish("ours", 16, 100));
    peer.order(CreateRegion("secrets", 100));
    assert_eq!(world.list().len(), 2);
}

#[test]
fn rules_apply_to_users_and_groups() {
    need_root!("rules for other users");
    let world =
        world(&format!("[[rule]]\ntopics = ['a']\nusers = ['root']\n[[rule]]\ntopics = ['b']\ngroups = [{NOBODY}]"));
    let (mut root, mut nobody) = (world.peer(), world.peer_of(NOBODY));
    assert!(
        nobody.ask(Publish("a", 16, 100)).failure().contains("rule 1 of the registry: only user root may publish it")
    );
    assert!(
        root.ask(Publish("b", 16, 100)).failure().contains("rule 2 of the registry: only group 65534 may publish it")
    );
    root.order(Publish("a", 16, 100));
    nobody.order(Publish("b", 16, 100));
}

#[test]
fn a_wrong_mode_is_refused_before_the_name_appears() {
    let world = world("[[rule]]\ntopics = ['a']\nmode = '0600'");
    let builder = |mode| Publisher::<[u8]>::builder().domain(&world.domain()).mode(mode);
    let error = builder(0o644).create("a").unwrap_err();
    assert!(matches!(&error, CreateError::NotAllowed { rule, .. } if rule == "1"), "{error}");
    assert!(error.to_string().ends_with("its file must have mode 0600, not 0644"), "{error}");
    let publisher = builder(0o600).create("a").unwrap();
    assert_eq!(world.list()[0].state, RegionState::Live);
    drop(publisher);
}

#[test]
fn unauthorised_topics_are_reported_and_rules_are_reloaded() {
    let mut world = world("[[rule]]\nname = 'no'\ntopics = ['a', 'b']\nusers = []");
    let without = Domain::new(world.path()).without_registry();
    let publish = |name: &str| Publisher::<[u8]>::builder().domain(&without).create(name).unwrap();
    let _publishers = [publish("a"), publish("c")];
    let states = |world: &World| world.list().into_iter().map(|topic| topic.state).collect::<Vec<_>>();
    assert_eq!(states(&world), [RegionState::Unauthorised, RegionState::Live]);
    assert_eq!(world.list()[0].refusal.as_deref(), Some("rule \"no\": nobody may publish it"));
    world.wait_until_logged("unauthorised: nobody may publish it");

    std::fs::write(world.config(), "[[rule]]\nname = 'c'\ntopics = ['c']\nusers = []").unwrap();
    world.daemon().signal(Signal::SIGHUP);
    wait_until("the new rules", || states(&world) == [RegionState::Live, RegionState::Unauthorised]);

    std::fs::write(world.config(), "[[rule]]\ntopics = ['a']\nuser = 1").unwrap();
    world.daemon().signal(Signal::SIGHUP);
    let place = format!("{}:3:1: unknown field", world.config().display());
    wait_until("the bad rules to be refused", || world.log().contains(&place));
    world.wait_until_logged("the old rules stay");
    assert_eq!(states(&world), [RegionState::Live, RegionState::Unauthorised]);
}

#[test]
fn an_invalid_rules_file_is_reported_before_the_start() {
    let world = World::new();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_conduitd")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let path = world.config();
    let config = path.to_str().unwrap();
    let (code, said) = run(&["--check-config", "--config", config]);
    assert!(code == Some(1) && said.contains("cannot read the rules for names"), "{said}");
    std::fs::write(&path, "[[rule]]\ntopics = ['a']\n").unwrap();
    assert_eq!(run(&["--check-config", "--config", config]), (Some(0), "ok, 1 rule\n".into()));
    std::fs::write(&path, "[[rule]]\ntopics = 'a'\n").unwrap();
    let (code, said) = run(&["--check-config", "--config", config]);
    assert_eq!(
        (code, said.as_str()),
        (Some(1), format!("conduitd: {config}:2:10: invalid type: string \"a\", expected a sequence\n").as_str())
    );
    let socket = world.socket();
    let (code, said) = run(&["--config", config, "--socket", socket.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains(":2:10: "), "{said}");
}
