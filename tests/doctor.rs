//! `conduit doctor`: its findings, its remedies, and that it ends in bounded time.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::skip::{Lack, skip};
use crate::harness::{World, need_root, stderr_of, wait_until};
use crate::manager::Manager;
use crate::protocol::Order::{CreateRegion, DropRegion, Unpublish};

/// An upper bound for one run, longer than the command's own time-out for a silent daemon.
const BOUND: Duration = Duration::from_secs(20);

struct Checkup {
    code: i32,
    report: Value,
}

impl Checkup {
    fn of(command: &mut Command) -> Self {
        let start = Instant::now();
        let output = command.output().unwrap();
        assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let report = serde_json::from_slice(&output.stdout).unwrap();
        Self { code: output.status.code().unwrap(), report }
    }

    fn worst(&self) -> (i32, &str) {
        (self.code, self.report["worst"].as_str().unwrap())
    }

    fn check(&self, id: &str) -> &Value {
        let mut checks = self.report["checks"].as_array().unwrap().iter().filter(|check| check["id"] == id);
        let check = checks.next().unwrap_or_else(|| panic!("no {id}: {}", self.report));
        assert!(checks.next().is_none(), "{id} twice: {}", self.report);
        check
    }

    fn state(&self, id: &str) -> &str {
        self.check(id)["state"].as_str().unwrap()
    }

    fn message(&self, id: &str) -> &str {
        self.check(id)["message"].as_str().unwrap()
    }

    fn remedy(&self, id: &str) -> &str {
        self.check(id)["remedy"].as_str().unwrap_or_else(|| panic!("no remedy: {}", self.check(id)))
    }

    /// Asserts that no check reports a problem except these. Warnings are allowed: they depend on
    /// the machine.
    fn assert_healthy_but(&self, ids: &[&str]) {
        for check in self.report["checks"].as_array().unwrap() {
            let is_expected = ids.contains(&check["id"].as_str().unwrap());
            assert_eq!(check["state"] == "problem", is_expected, "{check}");
        }
    }
}

fn doctor(world: &World) -> Checkup {
    Checkup::of(&mut world.conduit(&["doctor", "--json"]))
}

#[test]
fn a_healthy_world_has_no_problems() {
    let world = World::with_daemon();
    let _publisher = world.publisher("imu", 16, 100);
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&[]);
    for id in
        ["daemon", "daemon-directory", "shm-directory", "ofd-locks", "orphans", "foreign-files", "unlinked-regions"]
    {
        assert_eq!(checkup.state(id), "ok", "{}", checkup.check(id));
    }
    assert!(checkup.message("daemon").starts_with(concat!("conduitd ", env!("CARGO_PKG_VERSION"), ", pid ")));
    assert!(checkup.message("regions").starts_with("1 live, 0 kept"), "{}", checkup.message("regions"));
    // The test's directory is world-writable, which is unsafe for the directory of a socket.
    assert_eq!(checkup.state("socket"), "warning");
    assert!(checkup.remedy("socket").contains("chmod go-w"));
    assert_eq!(checkup.worst(), (1, "warning"));
    assert_eq!(world.list().len(), 1, "it has left the registry alone");
}

#[test]
fn the_exit_code_is_that_of_the_worst_finding() {
    let mut world = World::with_daemon();
    std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let checkup = doctor(&world);
    let worst = checkup.report["checks"].as_array().unwrap().iter().any(|check| check["state"] == "warning");
    // This machine may cause other warnings.
    assert_eq!(checkup.worst(), if worst { (1, "warning") } else { (0, "ok") });
    assert_eq!(checkup.state("socket"), "ok");
    world.kill_daemon();
    let checkup = doctor(&world);
    assert_eq!(checkup.worst(), (1, "warning"));
    std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let checkup = doctor(&world);
    assert_eq!(checkup.worst(), (2, "problem"));
    checkup.assert_healthy_but(&["shm-directory", "socket"]);
    assert!(checkup.remedy("shm-directory").contains("chmod 1777"));
}

#[test]
fn without_daemon_it_warns_and_reads_the_directory() {
    let mut world = World::with_daemon();
    let checkup = doctor(&World::new());
    checkup.assert_healthy_but(&[]);
    assert_eq!([checkup.state("daemon"), checkup.state("socket")], ["warning", "skipped"]);
    assert_eq!(checkup.remedy("daemon"), "`conduitd &`");
    world.kill_daemon();
    let checkup = doctor(&world);
    assert_eq!([checkup.state("daemon"), checkup.state("socket")], ["warning", "warning"]);
    assert!(checkup.message("socket").contains("no process listens at"));
    assert_eq!(checkup.code, 1);
}

#[test]
fn a_stopped_daemon_is_a_problem_found_in_bounded_time() {
    let mut world = World::with_daemon();
    world.daemon().signal(Signal::SIGSTOP);
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&["daemon"]);
    assert_eq!(checkup.code, 2);
    assert_eq!(checkup.remedy("daemon"), format!("`kill -CONT {}`", world.daemon().pid()));
    assert_eq!([checkup.state("daemon-directory"), checkup.state("unlinked-regions")], ["skipped", "skipped"]);
    world.daemon().signal(Signal::SIGCONT);
    wait_until("the daemon to answer", || doctor(&world).state("daemon") == "ok");
}

#[test]
fn a_listener_that_is_not_a_daemon_is_a_problem() {
    let world = World::new();
    let silent = UnixListener::bind(world.socket()).unwrap();
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&["daemon"]);
    assert!(checkup.message("daemon").contains("has not answered"), "{}", checkup.message("daemon"));
    drop(silent);
    std::fs::remove_file(world.socket()).unwrap();
    std::fs::write(world.socket(), "").unwrap();
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&["socket"]);
    assert!(checkup.message("socket").contains("no socket"), "{}", checkup.message("socket"));
    assert_eq!(checkup.state("daemon"), "warning");
}

#[test]
fn a_socket_without_access_is_a_problem() {
    use std::os::unix::process::CommandExt;
    need_root!("another user's socket");
    let world = World::with_daemon();
    std::fs::set_permissions(world.socket(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = world.conduit(&["doctor", "--json"]);
    let checkup = Checkup::of(command.uid(crate::harness::NOBODY).gid(crate::harness::NOBODY));
    checkup.assert_healthy_but(&["socket"]);
    assert!(checkup.message("socket").contains("may not connect"), "{}", checkup.message("socket"));
    assert_eq!(checkup.state("daemon"), "warning");
}

#[test]
fn the_daemon_of_another_directory_is_a_problem() {
    let world = World::with_daemon();
    let other = World::new();
    let mut command = world.conduit(&["doctor", "--json"]);
    let checkup = Checkup::of(command.env("CONDUIT_SHM_DIR", other.path()));
    checkup.assert_healthy_but(&["daemon-directory"]);
    assert!(checkup.message("daemon-directory").contains(other.path().to_str().unwrap()));
    assert_eq!(checkup.state("unlinked-regions"), "skipped", "that daemon knows nothing of this directory");
}

#[test]
fn orphans_interrupted_removals_and_foreign_files_have_remedies() {
    let mut world = World::new();
    let publisher = world.publisher("front/scan", 16, 100);
    publisher.kill();
    let removed = world.publisher("half", 16, 100);
    removed.die_at("RemoveRenamed", Unpublish);
    let mut keeper = world.peer();
    keeper.order(CreateRegion("kept", 4096));
    keeper.order(DropRegion);
    std::fs::write(world.path().join("conduit_mine"), "hands off").unwrap();
    std::fs::write(world.path().join("conduit_a b\u{7}"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.path_of("link")).unwrap();

    wait_until("the private name to be old", || doctor(&world).state("stale-removals") == "warning");
    let checkup = doctor(&world);
    assert_eq!(checkup.code, 1);
    checkup.assert_healthy_but(&[]);
    let orphan = world.path_of("front/scan");
    assert!(checkup.message("orphans").contains(orphan.to_str().unwrap()), "{}", checkup.message("orphans"));
    let remedy = checkup.remedy("orphans");
    assert!(remedy.contains(&format!("`rm {}`", orphan.display())) && remedy.contains("conduitd &"), "{remedy}");
    assert!(checkup.message("stale-removals").contains(".conduit_half~"));
    assert!(checkup.message("regions").starts_with("0 live, 1 kept"), "{}", checkup.message("regions"));
    let remedy = checkup.remedy("foreign-files");
    let mine = world.path().join("conduit_mine");
    let link = world.path_of("link");
    assert!(remedy.contains(mine.to_str().unwrap()) && remedy.contains(link.to_str().unwrap()), "{remedy}");
    assert!(remedy.contains(&format!(r"$'{}/conduit_a b\x07'", world.path().display())), "{remedy}");
    assert!(checkup.message("foreign-files").starts_with("3 files"));
    // Text for people contains no control characters, such as BEL.
    let output = world.conduit(&["doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("conduit_a b\\x07") && !text.contains(['\u{7}', '\u{1b}']), "{text}");
    assert!(
        text.lines().any(|line| line.trim_start().starts_with("remedy: ") && line.contains("conduit_mine")),
        "{text}"
    );
    assert!(text.lines().last().unwrap().contains(" 0 problems"), "{text}");

    // `doctor` changes nothing; the daemon cleans up, and files that it ignores are still reported.
    assert!(orphan.exists());
    world.start_daemon();
    let checkup = doctor(&world);
    assert_eq!([checkup.state("orphans"), checkup.state("stale-removals")], ["ok", "ok"], "{}", checkup.report);
    assert_eq!(checkup.state("foreign-files"), "warning");
}

#[test]
fn orphans_that_the_daemon_is_removing_are_not_reported() {
    let world = World::with_daemon();
    let publisher = world.publisher("half", 16, 100);
    publisher.die_at("RemoveRenamed", Unpublish);
    let mut checkups = 0;
    while !world.leftovers().is_empty() {
        assert_eq!(doctor(&world).state("stale-removals"), "ok");
        checkups += 1;
    }
    assert!(checkups > 0, "the daemon gives a remover time");
}

#[test]
fn unlinked_topics_are_reported_by_the_daemon() {
    let world = World::with_daemon();
    let _publisher = world.publisher("imu", 16, 100);
    wait_until("the daemon to know", || world.list().len() == 1);
    std::fs::remove_file(world.path_of("imu")).unwrap();
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&["unlinked-regions"]);
    assert!(checkup.message("unlinked-regions").contains("imu"), "{}", checkup.report);
    assert!(checkup.remedy("unlinked-regions").contains("start the publisher again"));
}

#[test]
fn a_daemon_whose_socket_is_gone_has_a_remedy_that_works() {
    let world = World::new();
    let manager = Manager::new(&world);
    let daemon = manager.start(&world);
    wait_until("the daemon to answer", || doctor(&world).state("daemon") == "ok");
    assert!(doctor(&world).message("lock-files").starts_with("held by pid "));
    std::fs::remove_file(world.socket()).unwrap();
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&["daemon"]);
    let message = checkup.message("daemon");
    assert!(message.contains(&format!("its socket {} is gone", world.socket().display())), "{message}");
    // Not just `conduitd &`, which would be the second daemon of the directory.
    assert_eq!(checkup.remedy("daemon"), format!("`kill {}`, then `conduitd &`", daemon.pid()));
}

#[test]
fn a_daemon_at_another_socket_is_found() {
    let world = World::new();
    let other = world.path().join("other");
    let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
    command.args(["--config", "/dev/null", "--socket"]).arg(&other).stderr(std::process::Stdio::null());
    let _daemon = crate::harness::Daemon::from(command.spawn().unwrap());
    wait_until("the daemon to be found", || doctor(&world).state("daemon") == "problem");
    let checkup = doctor(&world);
    assert_eq!(checkup.remedy("daemon"), format!("set CONDUIT_SOCKET={}", other.display()));
}

#[test]
fn files_that_pose_as_daemons_are_told() {
    let mut world = World::with_daemon();
    let uid = nix::unistd::geteuid();
    let path = world.path().join(format!(".conduitd.system.{uid}.0123456789abcdef.lock"));
    std::fs::create_dir(&path).unwrap();
    let checkup = doctor(&world);
    assert_eq!(checkup.state("lock-files"), "warning", "{}", checkup.report);
    assert!(checkup.remedy("lock-files").ends_with(&format!("`rm -r {}`", path.display())));
    std::fs::remove_dir(&path).unwrap();
    world.kill_daemon();
    let checkup = doctor(&world);
    assert_eq!(checkup.state("lock-files"), "ok");
    assert_eq!(checkup.message("lock-files"), "1 file of dead daemons, which the next one removes");
}

#[test]
fn topics_that_every_local_user_may_read_or_write_are_told() {
    let world = World::with_daemon();
    let _publisher = world.publisher("imu", 16, 100);
    let set_mode = |mode| {
        std::fs::set_permissions(world.path_of("imu"), std::fs::Permissions::from_mode(mode)).unwrap();
        doctor(&world)
    };
    let checkup = set_mode(0o644);
    assert_eq!(checkup.state("access"), "ok");
    assert!(checkup.message("access").starts_with("1 region that every local user may read; `mode(0o640)`"));
    let checkup = set_mode(0o666);
    assert_eq!(checkup.state("access"), "warning");
    assert!(checkup.remedy("access").contains("mode(0o640)"));
    assert_eq!(set_mode(0o640).message("access"), "no region is open to every local user");
}

#[test]
fn a_damaged_topic_is_reported() {
    let world = World::new();
    let _publisher = world.publisher("imu", 16, 100);
    std::fs::File::options().write(true).open(world.path_of("imu")).unwrap().set_len(4096).unwrap();
    let checkup = doctor(&world);
    checkup.assert_healthy_but(&["regions"]);
    assert!(checkup.message("regions").contains("\"imu\""), "{}", checkup.message("regions"));
}

#[test]
fn a_non_tmpfs_directory_is_a_problem_unless_allowed() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let kind = nix::sys::statfs::statfs(directory.path()).unwrap().filesystem_type();
    if kind == nix::sys::statfs::TMPFS_MAGIC {
        skip!(Lack::Disk, "a directory that is no tmpfs");
    }
    let world = World::new();
    let mut command = world.conduit(&["doctor", "--json"]);
    let checkup = Checkup::of(command.env("CONDUIT_SHM_DIR", directory.path()));
    assert_eq!((checkup.code, checkup.state("shm-directory")), (2, "problem"), "{}", checkup.report);
    assert!(checkup.remedy("shm-directory").contains("CONDUIT_ANY_FILE_SYSTEM=1"));
    let checkup = Checkup::of(command.env("CONDUIT_ANY_FILE_SYSTEM", "1"));
    assert_eq!(checkup.state("shm-directory"), "warning");
}

#[test]
fn json_has_every_check_with_all_its_fields() {
    let world = World::new();
    let checkup = doctor(&world);
    let report = checkup.report.as_object().unwrap();
    assert_eq!(report.keys().collect::<Vec<_>>(), ["checks", "worst"]);
    let help = world.conduit(&["doctor", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for check in report["checks"].as_array().unwrap() {
        let mut keys: Vec<_> = check.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["id", "message", "remedy", "state"]);
        let state = check["state"].as_str().unwrap();
        assert!(["ok", "warning", "problem", "skipped"].contains(&state), "{check}");
        assert_eq!(check["remedy"].is_string(), ["warning", "problem"].contains(&state), "{check}");
        assert!(!check["message"].as_str().unwrap().is_empty(), "{check}");
        let id = check["id"].as_str().unwrap();
        assert!(help.lines().any(|line| line.starts_with(&format!("  {id} "))), "{id} is not documented");
    }
    stderr_of(&mut world.conduit(&["doctor", "--frobnicate"]), 2);
}
