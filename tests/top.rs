//! `conduit top` in a pseudo-terminal: the tests send keys and read the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Pid, tcgetpgrp};
use serde_json::Value;
use vt100::{Color, Parser};

use crate::harness::{Daemon, World, all_stamps, stderr_of, wait_for, wait_until};
use crate::protocol::Order::{Publish, Recv, Rename, Subscribe};

/// Acts like a user at a prompt: runs the command, and continues it when it was stopped.
const SHELL: &str =
    r#"trap : INT; "$@"; echo "ended with $?."; while read -r word; do "$word"; echo "ended with $?."; done"#;

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const ESCAPE: &str = "\x1b";

/// A terminal with a shell that runs `conduit top`.
struct Terminal {
    master: File,
    screen: Arc<Mutex<Parser>>,
    before: Termios,
    shell: u32,
    _shell: Daemon,
}

impl Terminal {
    fn start(world: &World, arguments: &[&str]) -> Self {
        Self::start_with(world, arguments, &[])
    }

    fn start_with(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.master).unwrap();
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = world.command("setsid");
        command.args(["--ctty", "sh", "-m", "-c", SHELL, "sh", env!("CARGO_BIN_EXE_conduit"), "top"]).args(arguments);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("CLICOLOR").env("LC_ALL", "C.UTF-8");
        command.envs(environment.iter().copied());
        let shell = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        drop(pty.slave);
        let screen = Arc::new(Mutex::new(parser(24, 80)));
        let master = File::from(pty.master);
        let (mut output, seen) = (master.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().process(&bytes[..len]);
            }
        });
        Self { master, screen, before, shell: shell.id(), _shell: shell.into() }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The cells of the first line that begins with this word.
    fn row(&self, name: &str) -> Option<Vec<String>> {
        let cells = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        self.lines().iter().map(cells).find(|cells| cells.first().is_some_and(|cell| cell == name))
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn see(&self, what: &str) {
        self.see_that(what, |text| text.contains(what));
    }

    #[track_caller]
    fn see_that(&self, what: &str, is_right: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + crate::harness::DEADLINE;
        while !is_right(&self.text()) {
            assert!(Instant::now() < deadline, "waited in vain for {what:?}:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// The process group in the foreground.
    fn foreground(&self) -> Pid {
        tcgetpgrp(&self.master).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let top = wait_for("top in the foreground", || {
            Some(self.foreground()).filter(|group| group.as_raw() as u32 != self.shell)
        });
        kill(top, signal).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(size(rows), size(columns));
        let terminal = OwnedFd::from(self.master.try_clone().unwrap());
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let status = Command::new("stty").args(["rows", &rows, "cols", &columns]).stdin(terminal).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the shell reports the exit code; the terminal must be restored.
    #[track_caller]
    fn expect_end(&self, code: u8) {
        self.see(&format!("ended with {code}."));
        let screen = self.screen.lock().unwrap();
        assert!(!screen.screen().alternate_screen() && !screen.screen().hide_cursor());
        drop(screen);
        self.expect_old_settings();
    }

    #[track_caller]
    fn expect_old_settings(&self) {
        let now = tcgetattr(self.master.as_fd()).unwrap();
        assert!(self.before.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG));
        let flags = |it: &Termios| (it.local_flags, it.input_flags, it.output_flags, it.control_flags);
        assert_eq!(flags(&now), flags(&self.before));
    }

    #[track_caller]
    fn expect_raw_mode(&self) {
        let has_echo = || tcgetattr(self.master.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO);
        wait_until("raw mode", || !has_echo());
        let screen = self.screen.lock().unwrap();
        assert!(screen.screen().alternate_screen() && screen.screen().hide_cursor());
    }
}

fn size(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap()
}

fn parser(rows: u16, columns: u16) -> Parser {
    Parser::new(size(rows), size(columns), 0)
}

fn subscribers(world: &World, topic: &str) -> usize {
    world.region(topic).counters().unwrap().subscribers.len()
}

#[test]
fn topics_are_shown_with_rates_and_the_documented_keys_work() {
    let world = World::with_daemon();
    let _publishers = [world.traffic("alpha", 20), world.traffic("zulu/scan", 200)];
    let mut terminal = Terminal::start(&world, &["--interval", "0.2"]);
    terminal.see("2 live topics");
    terminal.see("conduitd ");
    terminal.see("SUBS");
    terminal.expect_raw_mode();
    let order = |text: &str| [text.find("\nalpha ").unwrap_or(0), text.find("\nzulu/scan ").unwrap_or(0)];
    terminal.see_that("alpha first", |text| order(text)[0] > 0 && order(text)[0] < order(text)[1]);
    let region = world.region("zulu/scan");
    wait_until("the right rate", || {
        let truth = region.counters().unwrap().rate_hz.unwrap_or(0.0);
        let shown = terminal.row("zulu/scan").and_then(|cells| cells.get(2)?.parse::<f64>().ok()).unwrap_or(0.0);
        truth > 0.0 && (shown / truth - 1.0).abs() < 0.2
    });
    assert_eq!(terminal.row("alpha").unwrap()[1], "live");

    // Sorted by state, then by rate.
    terminal.press("ss");
    terminal.see("RATE▼");
    terminal.see_that("zulu first", |text| order(text)[1] > 0 && order(text)[1] < order(text)[0]);
    terminal.press("r");
    terminal.see("RATE▲");
    terminal.see_that("alpha first", |text| order(text)[0] > 0 && order(text)[0] < order(text)[1]);

    terminal.press("/zu");
    terminal.see("/zu");
    terminal.see_that("no alpha", |text| order(text)[0] == 0 && order(text)[1] > 0);
    terminal.press("\r");
    terminal.see("\"zu\": 1 of 2 topics");
    terminal.press(ESCAPE);
    terminal.see_that("alpha again", |text| order(text)[0] > 0);

    terminal.press("?");
    terminal.see("What this cannot know");
    terminal.press(ESCAPE);
    terminal.see("SUBS");

    terminal.resize(8, 40);
    terminal.see("terminal too small: 40x8");
    terminal.resize(40, 120);
    terminal.see("INTERVAL");
    terminal.resize(24, 80);
    terminal.see_that("80 columns", |text| text.contains("SUBS") && !text.contains("INTERVAL"));

    terminal.press("p");
    terminal.see("PAUSED");
    terminal.press("p");
    assert_eq!([subscribers(&world, "alpha"), subscribers(&world, "zulu/scan")], [0, 0]);
    terminal.press("q");
    terminal.expect_end(0);
}

#[test]
fn a_topic_shows_its_subscribers_and_the_death_of_its_publisher() {
    let world = World::with_daemon();
    let publisher = world.traffic("scan", 500);
    let pid = publisher.pid();
    let mut reader = world.subscriber("scan");
    let region = world.region("scan");
    // More than the topic retains.
    wait_until("the subscriber to lag", || region.counters().unwrap().subscribers[0].1.lag > 20);
    reader.ask(Recv);
    let lost = region.counters().unwrap().subscribers[0].1.lost;
    assert!(lost > 0);

    let mut terminal = Terminal::start(&world, &["--interval", "0.2"]);
    terminal.see("\nscan ");
    terminal.press("\r");
    terminal.see("SUBSCRIBER");
    terminal.see(&format!("conduit ({pid})"));
    let row = |terminal: &Terminal| {
        let pid = reader.pid().to_string();
        let lines = terminal.lines();
        let line = lines.iter().find(|line| line.split_whitespace().nth(1) == Some(&pid))?;
        Some(line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    // Program, pid, lost, lost per second, lag, and three percentiles of the lag.
    let cells = wait_for("the subscriber's row", || row(&terminal).filter(|cells| cells[5].ends_with("ms")));
    assert_eq!(cells[2], lost.to_string());
    assert_ne!(cells[4], "0", "{cells:?}");
    terminal.see("Interval     p50 ");
    assert_eq!(subscribers(&world, "scan"), 1, "the peer is the only subscriber");

    drop(publisher);
    terminal.see("gone; last seen state");
    let death = wait_for("the certificate", || world.client().deaths().unwrap().pop());
    let told = match death.death.unwrap().signal {
        Some(9) => "killed by SIGKILL",
        _ => "died",
    };
    terminal.see_that("the death in the pane", |text| {
        text.lines().any(|line| line.starts_with("Last death") && line.contains(told))
    });
    terminal.see_that("the event", |text| {
        text.lines().any(|line| line.contains("scan died conduit") && line.contains(told))
    });
    let _next = world.traffic("scan", 50);
    terminal.see_that("the next publisher", |text| !text.contains("gone;") && text.contains("scan published conduit"));
    terminal.press(ESCAPE);
    terminal.see("SUBS");
    terminal.press("e");
    terminal.see_that("only events", |text| !text.contains("SUBS") && text.contains("scan published"));
    terminal.press("qq");
    terminal.expect_end(0);
}

#[test]
fn names_of_other_programs_do_not_control_the_screen() {
    let world = World::with_daemon();
    let name = "\x1b[2J\x1b[H\u{202e}x\n";
    let shown = r"\x1b[2J\x1b[H\u{202e}x\x0a";
    let mut peers = [world.peer(), world.peer()];
    for peer in &mut peers {
        peer.order(Rename(name.into()));
    }
    peers[0].order(Publish("imu", 16, 100));
    peers[1].order(Subscribe("imu"));
    let mut terminal = Terminal::start(&world, &[]);
    terminal.see("imu");
    terminal.press("\r");
    terminal.see(&format!("Publisher    {shown} ({}), uid", peers[0].pid()));
    terminal.see_that("the subscriber", |text| text.lines().any(|line| line.starts_with(r"\x1b[2J")));
    assert!(!terminal.text().contains('\u{202e}'));
    // Among the events, too.
    let [publisher, _subscriber] = peers;
    publisher.kill();
    terminal.press("\x1b");
    terminal.press("e");
    terminal.see(&format!("imu died {shown}"));
    terminal.see(" imu ");
}

#[test]
fn it_works_without_a_daemon_and_shows_when_one_starts_or_ends() {
    let mut world = World::new();
    let _publisher = world.traffic("scan", 100);
    let mut terminal = Terminal::start(&world, &["--interval", "0.2"]);
    let is_shown = |text: &str| text.contains("\nscan ");
    terminal
        .see_that("topics and why so few", |text| text.contains(" no registry, reading /dev/shm/") && is_shown(text));
    world.start_daemon();
    let answers = format!("(pid {})", world.daemon().pid());
    terminal.see_that("the daemon", |text| text.contains(&answers) && is_shown(text));
    world.kill_daemon();
    terminal.see_that("no daemon", |text| {
        text.lines().next().is_some_and(|title| title.contains("no registry"))
            && text.matches("no registry, reading").count() == 2
            && is_shown(text)
    });
    world.start_daemon();
    let answers = format!("(pid {})", world.daemon().pid());
    terminal.see_that("the next daemon", |text| text.contains(&answers) && is_shown(text));
    terminal.press("q");
    terminal.expect_end(0);
}

#[test]
fn signals_end_it_and_restore_the_terminal() {
    let world = World::new();
    let start = || {
        let terminal = Terminal::start(&world, &[]);
        terminal.see("no topics");
        terminal.expect_raw_mode();
        terminal
    };
    let mut terminal = start();
    terminal.press(CTRL_C);
    terminal.expect_end(130);
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let terminal = start();
        terminal.signal(signal);
        terminal.expect_end(code);
    }
}

#[test]
fn stopping_restores_the_terminal_and_continuing_redraws() {
    let world = World::new();
    let mut terminal = Terminal::start(&world, &[]);
    terminal.see("no topics");
    terminal.press(CTRL_Z);
    terminal.expect_end(148);
    terminal.press("fg\n");
    terminal.see("no topics");
    terminal.expect_raw_mode();
    // Other processes can stop it as well.
    terminal.signal(Signal::SIGTSTP);
    terminal.see_that("the shell again", |text| text.matches("ended with 148.").count() == 2);
    terminal.expect_end(148);
    terminal.press("fg\n");
    terminal.see("no topics");
    // SIGSTOP: it cannot restore the terminal, and finds it changed when it continues.
    terminal.signal(Signal::SIGSTOP);
    wait_until("the shell in the foreground", || terminal.foreground().as_raw() as u32 == terminal.shell);
    let terminal_of_shell = OwnedFd::from(terminal.master.try_clone().unwrap());
    assert!(Command::new("stty").arg("sane").stdin(terminal_of_shell).status().unwrap().success());
    terminal.press("fg\n");
    terminal.expect_raw_mode();
    terminal.press("q");
    terminal.see("ended with 0.");
    assert!(!terminal.screen.lock().unwrap().screen().alternate_screen());
}

#[test]
fn colours_can_be_disabled() {
    let world = World::new();
    let _publisher = world.traffic("scan", 100);
    let coloured = |terminal: &Terminal| {
        terminal.see("\nscan ");
        terminal.see("no registry, reading");
        let parser = terminal.screen.lock().unwrap();
        let cells = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
        let is_coloured = |(row, column): &(u16, u16)| {
            parser.screen().cell(*row, *column).is_some_and(|it| it.fgcolor() != Color::Default)
        };
        cells.filter(is_coloured).count() > 0
    };
    assert!(coloured(&Terminal::start(&world, &[])));
    assert!(!coloured(&Terminal::start(&world, &["--no-color"])));
    assert!(!coloured(&Terminal::start_with(&world, &[], &[("NO_COLOR", "1")])));
}

#[test]
fn without_a_terminal_it_suggests_alternatives() {
    let world = World::new();
    let Output { status, stderr, stdout } = world.conduit(&["top"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(1) && stdout.is_empty(), "{said}");
    assert!(said.starts_with("conduit: ") && said.lines().count() == 1 && said.contains("--once"), "{said}");
    for (arguments, expected) in [
        (&["top", "--json"][..], "--once"),
        (&["top", "--interval", "0.05", "--once"], "0.1"),
        (&["top", "--sort", "colour", "--once"], "bandwidth"),
        (&["top", "a//b", "--once"], "segment"),
    ] {
        let said = stderr_of(&mut world.conduit(arguments), 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

fn top_once(world: &World) -> Value {
    let mut top = world.conduit(&["top", "--once", "--json", "--interval", "3", "--sort", "rate"]);
    let Output { status, stdout, stderr } = top.output().unwrap();
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

#[test]
fn once_measures_rates_by_the_time_stamps() {
    let world = World::with_daemon();
    let _publisher = world.traffic_in("scan", 200, 4096);
    let region = world.region("scan");
    let published = || region.counters().unwrap().published as usize;
    wait_until("a message", || published() > 0);
    let begun = published();
    let report = top_once(&world);
    let ended = published();
    wait_until("another message", || published() > ended);
    let topic = &report["topics"][0];
    let rate = topic["rate_hz"].as_f64().unwrap();
    let counted = topic["published"].as_u64().unwrap() as usize;
    assert!((begun..=ended).contains(&counted), "{begun} to {ended}: {report}");
    // From the last message before the interval to the last one in it.
    let all = all_stamps(&region);
    let stamps = &all[begun - 1..counted];
    let last = stamps.len() - 1;
    let rate_from = |first: usize| (last - first) as f64 * 1e9 / (stamps[last] - stamps[first]) as f64;
    let first = (0..last).find(|&first| (rate / rate_from(first) - 1.0).abs() < 1e-9);
    let first = first.unwrap_or_else(|| panic!("{stamps:?}: {report}"));
    assert!(last - first > 100 && all[counted] - stamps[first] >= 3_000_000_000, "{report}");
    let mut intervals: Vec<_> = stamps[first..].windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    intervals.sort_by(f64::total_cmp);
    let (median, truth) = (topic["interval_ns"]["p50"].as_f64().unwrap(), intervals[intervals.len() / 2]);
    assert!((median / truth - 1.0).abs() < 0.2, "{truth}: {report}");
}

#[test]
fn once_prints_correct_rates_for_scripts() {
    let world = World::with_daemon();
    let _publishers = [world.traffic("camera/front", 30), world.traffic("scan", 200)];
    let reader = world.subscriber("scan");
    let report = top_once(&world);
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"));
    assert_eq!([&report["topics"][0]["name"], &report["topics"][1]["name"]], ["scan", "camera/front"]);
    let bytes = number("/topics/0/bytes_per_second") / number("/topics/0/rate_hz");
    assert!((bytes - 500.0).abs() < 0.1, "{report}");
    let sum = number("/topics/0/rate_hz") + number("/topics/1/rate_hz");
    assert!((number("/totals/rate_hz") - sum).abs() < 1e-6);
    assert_eq!([number("/totals/topics"), number("/totals/live"), number("/totals/subscribers")], [2.0, 2.0, 1.0]);
    let intervals = ["p50", "p99", "max"].map(|it| number(&format!("/topics/0/interval_ns/{it}")));
    assert!(intervals.is_sorted() && intervals[0] > 0.0, "{intervals:?}");
    assert_eq!(report["topics"][0]["subscribers"].as_array().unwrap().len(), 1, "the peer is the only subscriber");
    assert_eq!(number("/topics/0/subscribers/0/pid"), f64::from(reader.pid()));
    // It receives nothing: it falls back to the oldest of the 16 messages that are retained.
    assert!(number("/topics/0/subscribers/0/behind_ns/max") > 50e6, "{report}");
    assert!(number("/topics/0/subscribers/0/lag") > 500.0, "{report}");
    assert!(number("/interval_s") >= 3.0 && number("/registry/pid") > 0.0);

    let once = |arguments: &[&str]| {
        let output = world.conduit(&[&["top", "--once", "-d", "0.1"], arguments].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let first =
        |text: &str| text.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(first(&once(&["--sort", "lag"])), ["TOPIC", "scan", "camera/front"]);
    assert_eq!(first(&once(&["--sort", "lag", "--reverse"])), ["TOPIC", "camera/front", "scan"]);
    assert_eq!(first(&once(&["camera/*"])), ["TOPIC", "camera/front"]);
    assert_eq!(once(&["x"]), "");
    assert_eq!(once(&["x", "--json"]).parse::<Value>().unwrap()["topics"], serde_json::json!([]));
}
