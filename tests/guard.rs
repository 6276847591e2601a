//! One daemon per directory, whatever other users put there.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use conduit::registry::Client;
use nix::unistd::geteuid;

use crate::harness::skip::{Lack, skip};
use crate::harness::{Daemon, NOBODY, World, need_root, wait_until};
use crate::protocol::Order::Send;

/// The daemons' files in the directory.
fn guards(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".conduitd.")).collect()
}

/// Names that a daemon of this user could use, or could have used once.
fn guessable(world: &World, kind: &str) -> Vec<PathBuf> {
    let uid = geteuid();
    let names = ["system", "user"].map(|scope| format!(".conduitd.{scope}.{uid}"));
    let names = names.iter().flat_map(|name| [format!("{name}.lock"), format!("{name}.{kind}.lock")]);
    names.map(|name| world.path().join(name)).collect()
}

#[test]
fn nothing_in_the_directory_keeps_a_daemon_from_starting() {
    for kind in ["directory", "file", "locked", "socket", "fifo", "symlink", "dangling", "hardlink"] {
        let mut world = World::new();
        let mut publisher = world.publisher("scan", 16, 100);
        let size = world.path_of("scan").metadata().unwrap().size();
        let mut keeper = None;
        for path in guessable(&world, kind) {
            let script = match kind {
                "directory" => "mkdir \"$0\"",
                "file" => "echo mine > \"$0\"",
                "locked" => "echo mine > \"$0\"; chmod 666 \"$0\"",
                "fifo" => "mkfifo \"$0\"",
                "symlink" => "ln -s conduit_scan \"$0\"",
                "dangling" => "ln -s nothing \"$0\"",
                _ => "true",
            };
            let mut command = Command::new("sh");
            if geteuid().is_root() {
                command = Command::new("setpriv");
                command.args([&format!("--reuid={NOBODY}"), "--clear-groups", "sh"]);
            }
            assert!(command.args(["-c", script]).arg(&path).current_dir("/").status().unwrap().success());
            match kind {
                "socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
                "hardlink" => std::fs::hard_link(world.path_of("scan"), &path).unwrap(),
                "locked" => keeper = Some(lock_all(&path)),
                _ => {}
            }
        }
        world.start_daemon();
        for path in guessable(&world, kind) {
            let file = path.symlink_metadata().unwrap_or_else(|error| panic!("{kind}: {error}"));
            let type_of = file.file_type();
            match kind {
                "directory" => assert!(type_of.is_dir()),
                "file" | "locked" => assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n"),
                "fifo" => assert!(type_of.is_fifo()),
                "socket" => assert!(type_of.is_socket()),
                "symlink" | "dangling" => assert!(type_of.is_symlink()),
                _ => assert_eq!((file.size(), file.nlink()), (size, 5)),
            }
        }
        assert_eq!(guards(&world).len(), 5, "{kind}: its own file is another one");
        publisher.order(Send(3, 100));
        assert_eq!(world.list().len(), 1, "{kind}");
        drop(keeper);
    }
}

/// Holds a write lock on every byte of a file.
fn lock_all(path: &std::path::Path) -> std::fs::File {
    use nix::fcntl::{FcntlArg, fcntl};
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let all = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&all)).unwrap();
    file
}

#[test]
fn the_file_of_a_killed_daemon_is_removed_by_the_next() {
    let mut world = World::with_daemon();
    let first = guards(&world);
    assert_eq!(first.len(), 1);
    world.kill_daemon();
    assert_eq!(guards(&world), first, "SIGKILL leaves it");
    world.start_daemon();
    let second = guards(&world);
    assert!(second.len() == 1 && second != first, "{second:?}");
    world.daemon().signal(nix::sys::signal::Signal::SIGTERM);
    world.daemon().wait();
    assert_eq!(guards(&world), [] as [PathBuf; 0]);
}

#[test]
fn of_daemons_that_start_at_once_exactly_one_serves() {
    let world = World::new();
    for round in 0..10 {
        let mut daemons: Vec<Daemon> = (0..3)
            .map(|number| {
                let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
                let socket = world.path().join(format!("socket-{number}"));
                command.args(["--config", "/dev/null", "--socket"]).arg(socket);
                command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap().into()
            })
            .collect();
        let mut ended = Vec::new();
        wait_until("all but one to give up", || {
            daemons.retain_mut(|daemon| {
                let is_running = daemon.is_running();
                if !is_running {
                    ended.push(daemon.wait());
                }
                is_running
            });
            daemons.len() <= 1
        });
        assert_eq!(ended, [Some(4), Some(4)], "round {round}");
        assert!(daemons[0].is_running(), "round {round}");
        daemons.remove(0).kill();
    }
}

#[test]
fn a_full_directory_does_not_keep_a_daemon_from_starting() {
    need_root!("a file system of its own");
    if !Command::new("unshare").args(["--mount", "true"]).status().unwrap().success() {
        skip!(Lack::Namespaces(&["--mount"]), "a full directory");
    }
    for (limit, fill) in [("size=64k", "cat /dev/zero > \"$0/all\""), ("nr_inodes=6", "touch \"$0\"/{1,2,3,4,5,6,7}")] {
        let world = World::new();
        let full = world.path().join("full");
        std::fs::create_dir(&full).unwrap();
        let script = format!("mount -t tmpfs -o {limit} none \"$0\" && {{ {fill}; exec \"$@\"; }} 2>/dev/null");
        let mut command = world.command("unshare");
        command.args(["--mount", "bash", "-c", &script]).arg(&full).arg(env!("CARGO_BIN_EXE_conduitd"));
        command.args(["--config", "/dev/null", "--shm-dir"]).arg(&full).stdin(Stdio::null());
        let mut daemon = Daemon::from(command.spawn().unwrap());
        wait_until("the daemon to answer", || {
            assert!(daemon.is_running(), "{limit}");
            Client::connect(&world.domain()).is_ok_and(|mut client| client.list().is_ok())
        });
    }
}
