//! The command in a shell: completion, manual pages, signals, and readers that end early or stop.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{Message, Publisher};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::skip::{Lack, skip};
use crate::harness::{World, wait_for, wait_until};

/// A shell that finds `conduit`, or `None` if the shell is not installed.
fn shell(world: &World, name: &str, script: &str) -> Option<String> {
    let programs = Path::new(env!("CARGO_BIN_EXE_conduit")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let options: &[&str] = match name {
        "zsh" => &["-f"],
        "fish" => &["--no-config"],
        _ => &["--norc"],
    };
    let mut command = world.command(name);
    command.env("PATH", path).env("HOME", world.path()).args(options).args(["-c", script]);
    match command.output() {
        Ok(Output { status, stdout, stderr }) => {
            let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
            assert!(status.success() && err.is_empty(), "{name}: {status}: {err}");
            Some(out)
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}");
            None
        }
    }
}

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Point {
    x: u32,
    y: u32,
}

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Pose {
    at: Point,
    gyro: [f32; 2],
}

fn world_with_topics() -> (World, Publisher<Pose>, Vec<Publisher<[u8]>>) {
    let world = World::new();
    let pose = Publisher::<Pose>::builder().domain(&world.domain()).create("pose").unwrap();
    let create = |name| Publisher::<[u8]>::builder().domain(&world.domain()).create(name).unwrap();
    let publishers = ["camera/rear", "camera/front", "imu"].map(create).into();
    (world, pose, publishers)
}

/// Typed text, and what the shell must offer for it.
const COMPLETIONS: [(&str, &[&str]); 12] = [
    ("conduit inf", &["info"]),
    ("conduit info cam", &["camera/front", "camera/rear"]),
    ("conduit hz imu camera/f", &["camera/front"]),
    ("conduit rm --force i", &["imu"]),
    ("conduit echo imu --no-lost", &["--no-lost-messages"]),
    ("conduit echo imu --from l", &["latest"]),
    ("conduit watch --kind di", &["died"]),
    ("conduit info nothing", &[]),
    ("conduit echo pose --field a", &["at", "at.x", "at.y"]),
    ("conduit echo imu --field a", &[]),
    ("conduit echo pose --field gyro", &["gyro", "gyro[0]", "gyro[1]"]),
    ("conduit pub imu/copy --type-of po", &["pose"]),
];

#[test]
fn bash_completes_verbs_options_and_topics() {
    let (world, _pose, _publishers) = world_with_topics();
    for (line, expected) in COMPLETIONS {
        let script = format!(
            "source <(conduit completions bash)
             COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9
             _clap_complete_conduit conduit \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"
             [ ${{#COMPREPLY[@]}} = 0 ] || printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let said = shell(&world, "bash", &script).expect("bash");
        assert_eq!(said.lines().map(str::trim).collect::<Vec<_>>(), expected, "{line}");
    }
}

#[test]
fn zsh_completes_verbs_options_and_topics() {
    let (world, _pose, _publishers) = world_with_topics();
    for (line, expected) in COMPLETIONS {
        // The arguments that the line editor would receive.
        let script = format!(
            "compdef() {{ :; }}; _describe() {{ print -rl -- ${{(P)3}} }}
             source <(conduit completions zsh)
             words=({line}); CURRENT=$#words; _clap_dynamic_completer_conduit || true"
        );
        let Some(said) = shell(&world, "zsh", &script) else { skip!(Lack::Software("zsh"), "completion") };
        let offered: Vec<&str> = said.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(offered, expected, "{line}");
    }
}

#[test]
fn fish_completes_verbs_options_and_topics() {
    let (world, _pose, _publishers) = world_with_topics();
    for (line, expected) in COMPLETIONS {
        let script = format!("conduit completions fish | source; complete -C '{line}'");
        let Some(said) = shell(&world, "fish", &script) else { skip!(Lack::Software("fish"), "completion") };
        let offered: Vec<&str> = said.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(offered, expected, "{line}");
    }
}

#[test]
fn manual_pages_have_no_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages: Vec<_> = std::fs::read_dir(folder).unwrap().map(|page| page.unwrap().path()).collect();
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        // -ww: all warnings; -z: no other output.
        let groff = Command::new("groff").args(["-man", "-Tutf8", "-Kutf8", "-ww", "-z"]).arg(&page).output();
        let Ok(Output { status, stderr, .. }) = groff else { skip!(Lack::Software("groff"), "the manual pages") };
        assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    }
}

#[test]
fn stopped_or_killed_subscribers_do_not_block_the_publisher() {
    let world = World::with_daemon();
    let domain = world.domain();
    // So few slots that each one matters.
    let mut publisher = Publisher::<[u8]>::builder().slots(2).domain(&domain).create("scan").unwrap();
    let region = world.region("scan");
    let verbs = [&["echo", "scan", "--raw"][..], &["echo", "scan"], &["hz", "scan"], &["bw", "scan"]];
    let start =
        |arguments: &[&str]| world.conduit(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut children: Vec<_> = verbs.into_iter().map(start).collect();
    world.wait_until_asleep("scan", 2);
    for round in 0..20 {
        // They are stopped at a random point of their work.
        for _ in 0..round {
            publisher.send(&[7; 3900]).unwrap();
        }
        for child in &children {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP).unwrap();
        }
        for _ in 0..50 {
            publisher.send(&[7; 3900]).expect("no slot is kept from the publisher");
        }
        for child in &children {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGCONT).unwrap();
        }
    }
    for child in &children {
        kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP).unwrap();
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    publisher.send(b"free").unwrap();
    wait_until("their records to be free", || region.counters().unwrap().subscribers.is_empty());
}

#[test]
fn sigpipe_and_sigint_end_streaming_verbs_silently() {
    let world = World::with_daemon();
    let _publisher = world.traffic("scan", 500);
    let streams = [&["echo", "scan"][..], &["hz", "scan"], &["delay", "scan"], &["watch"]];
    for arguments in streams {
        let start = || {
            let mut child = world.conduit(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            out.read_line(&mut String::new()).unwrap();
            (child, out)
        };
        let (mut child, out) = start();
        drop(out);
        // An event that makes `watch` write.
        drop(Publisher::<[u8]>::builder().domain(&world.domain()).create("other").unwrap());
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(128 + Signal::SIGPIPE as i32), "{arguments:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{arguments:?}");

        let (mut child, _out) = start();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{arguments:?}");
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{arguments:?}");
    }
    let region = world.region("scan");
    wait_until("no subscriber", || region.counters().unwrap().subscribers.is_empty());
}
