//! The sessions in the documents, each run in one shell: every command prints what the document
//! shows.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::harness::{DEADLINE, World};

const MAIN_README: &str = include_str!("../README.md");
const README: &str = include_str!("../conduitd/README.md");

/// A command, and the lines that the document shows below it.
struct Example<'a> {
    command: &'a str,
    output: Vec<&'a str>,
}

/// The examples in the `console` blocks of a document.
fn examples(document: &str) -> Vec<Example<'_>> {
    let mut examples: Vec<Example> = Vec::new();
    for block in document.split("\n```console\n").skip(1) {
        for line in block.lines().take_while(|line| *line != "```") {
            match line.strip_prefix("$ ") {
                Some(command) => examples.push(Example { command, output: Vec::new() }),
                None => examples.last_mut().expect("a command first").output.push(line),
            }
        }
    }
    examples
}

/// Removes what differs from run to run: numbers, units, and padding.
fn essence(line: &str) -> String {
    let mut essence = String::new();
    for word in line.split_whitespace() {
        let is_number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
        let unit = ["ns", "us", "ms", "s", "min", "B", "kB", "MB", "kB/s", "MB/s", "B/s", "GB/s"];
        if is_number(&essence.split(' ').next_back().unwrap_or_default().replace('N', "0"))
            && unit.contains(&word.trim_end_matches(','))
        {
            continue;
        }
        let mut was_digit = false;
        essence.push(' ');
        for char in word.chars() {
            let is_digit = char.is_ascii_digit() || was_digit && char == '.';
            if !is_digit {
                essence.push(char);
            } else if !was_digit {
                essence.push('N');
            }
            was_digit = is_digit;
        }
    }
    // Whether a subscriber is asleep at that moment varies as well.
    essence.trim().replace(" yes", " no")
}

/// Whether lines match the document, in which `...` stands for any number of lines, or for the rest
/// of a line at its end.
fn matches(shown: &[&str], said: &[String]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=said.len()).any(|skipped| matches(rest, &said[skipped..])),
        (Some((shown, rest)), Some((line, others))) => {
            let is_same = match shown.strip_suffix("...") {
                Some(start) => essence(line).starts_with(&essence(start)),
                None => essence(line) == essence(shown),
            };
            is_same && matches(rest, others)
        }
        _ => false,
    }
}

/// A shell that receives its commands one by one.
struct Shell {
    child: Child,
    lines: Receiver<String>,
    replacements: Vec<(String, &'static str)>,
}

impl Shell {
    fn new(world: &World) -> Self {
        let mut command = world.command("bash");
        let programs = std::path::Path::new(env!("CARGO_BIN_EXE_conduit")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        command.args(["--norc", "--noprofile"]).env("PATH", path).process_group(0).current_dir(world.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let socket = world.socket().display().to_string();
        let replacements =
            vec![(socket, "/run/conduit/registry.sock"), (world.path().display().to_string(), "/dev/shm")];
        let mut shell = Self { child, lines, replacements };
        shell.type_in("exec 2>&1");
        shell
    }

    fn type_in(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Runs an example until it has printed what the document shows.
    fn run(&mut self, example: &Example) {
        self.type_in(example.command);
        // The rest of the output comes from a background job.
        self.type_in("echo @done");
        // Measurements take long on a busy machine, where two processes seldom run at the same
        // time.
        let deadline = Instant::now() + 4 * DEADLINE;
        let (mut said, mut losses) = (Vec::new(), Vec::new());
        let mut is_done = false;
        while !is_done || !matches(&example.output, &said) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == "@done" => is_done = true,
                // An interactive shell words its messages about jobs differently.
                Ok(line) if line.starts_with("bash: line ") => {}
                // On a busy machine not every message is seen.
                Ok(line) if line.starts_with("\tmissed: ") || line.starts_with("\tlost: ") => {}
                Ok(line) if line.starts_with("conduit: ") && line.contains(" lost before #") => losses.push(line),
                Ok(line) => {
                    said.push(self.replacements.iter().fold(line, |line, (from, to)| line.replace(from, to)));
                }
                Err(_) => {
                    let (shown, said) = (example.output.join("\n"), said.join("\n"));
                    panic!("$ {}\nthe document shows:\n{shown}\nit prints:\n{said}", example.command);
                }
            }
        }
        for loss in losses {
            assert!(is_gap(&loss, &said), "$ {}\n{loss}\n{}", example.command, said.join("\n"));
        }
        if std::env::var_os("CONDUIT_SHOW").is_some() {
            println!("    $ {}", example.command);
            said.iter().for_each(|line| println!("    {line}"));
        }
    }
}

/// Whether rows of messages lack those that `echo` says were lost.
fn is_gap(loss: &str, rows: &[String]) -> bool {
    let mut numbers = loss.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    let (Some(lost), Some(next)) = (numbers.next(), numbers.next()) else { return false };
    let is_row = |row: &str, sequence: u64| row.starts_with(&format!("{sequence},"));
    rows.windows(2).any(|pair| is_row(&pair[0], next - lost - 1) && is_row(&pair[1], next))
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_prints_what_the_readme_of_conduitd_shows() {
    let world = World::with_daemon();
    let mut shell = Shell::new(&world);
    let examples = examples(README);
    let verbs = [
        "list", "info", "echo", "hz", "bw", "delay", "pub", "wait", "watch", "deaths", "type", "find", "rm", "gc",
        "top", "bench", "doctor",
    ];
    for verb in verbs {
        let verb = format!("conduit {verb}");
        assert!(examples.iter().any(|example| example.command.contains(&verb)), "no example of `{verb}`");
    }
    for example in &examples {
        shell.run(example);
    }
}

#[test]
fn the_command_prints_what_the_main_readme_shows() {
    let world = World::with_daemon();
    let mut shell = Shell::new(&world);
    let examples = examples(MAIN_README);
    assert!(!examples.is_empty());
    for example in &examples {
        shell.run(example);
    }
}

#[test]
fn only_what_differs_from_run_to_run_is_ignored() {
    assert_eq!(essence("Last message: 231 us ago"), essence("Last message: 1.02 ms ago"));
    assert_eq!(essence("a  12  b"), essence("a 3 b"));
    assert_ne!(essence("12 Hz"), essence("- Hz"));
    assert_ne!(essence("live"), essence("dead"));
    let said = ["one".to_owned(), "two 2".into(), "three".into()];
    assert!(matches(&["...", "two 7", "..."], &said) && matches(&["one", "two...", "three"], &said));
    assert!(!matches(&["one"], &said) && !matches(&["...", "four"], &said));
}
