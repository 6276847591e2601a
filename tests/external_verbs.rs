//! `conduit NAME` runs the program `conduit-NAME` from PATH or from the directory of `conduit`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::wait_for;

/// Two directories of programs: one on PATH, and one that holds `conduit` itself.
struct Programs {
    root: TempDir,
}

impl Programs {
    fn new() -> Self {
        // Preferably beside `conduit`, where files can be executed; another user may not write
        // there.
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| TempDir::new()).unwrap();
        let programs = Self { root };
        for directory in [programs.on_path(), programs.beside()] {
            fs::create_dir(directory).unwrap();
        }
        let (conduit, copy) = (env!("CARGO_BIN_EXE_conduit"), programs.beside().join("conduit"));
        // Users may not link the files of others (`fs.protected_hardlinks`).
        fs::hard_link(conduit, &copy).or_else(|_| fs::copy(conduit, &copy).map(drop)).unwrap();
        programs
    }

    fn on_path(&self) -> PathBuf {
        self.root.path().join("path")
    }

    fn beside(&self) -> PathBuf {
        self.root.path().join("beside")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.beside().join("conduit"));
        // Variables that ask for completion or colours are not inherited.
        command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", self.on_path().display())).args(arguments);
        command
    }

    /// Returns the exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code(), stdout, stderr)
    }
}

/// Written by a separate process: a program that another test starts at the same time may inherit a
/// descriptor of this process, and a file that is open for writing cannot be executed.
fn write_script(directory: &Path, name: &str, body: &str) {
    let script = format!("#!/bin/sh\n{body}\n");
    let write = r#"printf %s "$2" > "$1" && chmod 755 "$1""#;
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(directory.join(name)).arg(script).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_program_on_path_gets_its_arguments_unchanged() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-plot", r#"printf '<%s>\n' "$@""#);
    let (code, stdout, stderr) = programs.run(&["plot", "--help", "a b", "", "--no-color", "--", "-x"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, "<--help>\n<a b>\n<>\n<--no-color>\n<-->\n<-x>\n");
}

#[test]
fn a_program_beside_conduit_is_found_after_those_on_path() {
    let programs = Programs::new();
    write_script(&programs.beside(), "conduit-plot", "echo beside");
    assert_eq!(programs.run(&["plot"]), (Some(0), "beside\n".into(), String::new()));
    write_script(&programs.on_path(), "conduit-plot", "echo path");
    assert_eq!(programs.run(&["plot"]).1, "path\n");
    fs::set_permissions(programs.on_path().join("conduit-plot"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(programs.on_path().join("conduit-bag")).unwrap();
    write_script(&programs.beside(), "conduit-bag", "echo bag");
    assert_eq!(programs.run(&["plot"]).1, "beside\n", "what cannot be executed is no program");
    assert_eq!(programs.run(&["bag"]).1, "bag\n", "nor is a directory");
}

#[test]
fn a_built_in_verb_takes_precedence() {
    let programs = Programs::new();
    for verb in ["completions", "demo-publisher"] {
        write_script(&programs.on_path(), &format!("conduit-{verb}"), "echo external");
    }
    assert!(programs.run(&["completions", "bash"]).1.contains("complete"));
    assert_eq!(programs.run(&["demo-publisher"]).0, Some(2), "a hidden one, too");
    let (_, help, _) = programs.run(&["--help"]);
    assert!(!help.contains(programs.on_path().to_str().unwrap()), "{help}");
}

#[test]
fn an_unknown_verb_is_an_error_with_a_suggestion() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-plot", "");
    let path = "no program conduit-";
    for (name, hint) in [
        ("lst", "did you mean \"list\"?"),
        ("plt", "did you mean \"plot\"?"),
        ("frobnicate", "`conduit --help` lists the verbs"),
        ("../path/conduit-plot", "conduit"),
        ("", "there is no verb \"\""),
    ] {
        let (code, stdout, stderr) = programs.run(&[name]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{name}");
        assert!(stderr.starts_with("conduit: there is no verb ") && stderr.lines().count() == 1, "{stderr}");
        assert!(stderr.contains(path) && stderr.contains(hint), "{stderr}");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_an_error() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-plot", "");
    fs::write(programs.on_path().join("conduit-plot"), "#!/does/not/exist\n").unwrap();
    let (code, _, stderr) = programs.run(&["plot"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("conduit: cannot run ") && stderr.contains("conduit-plot: "), "{stderr}");
}

#[test]
fn exit_status_and_signals_are_the_programs_own() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-fail", "exit 42");
    assert_eq!(programs.run(&["fail"]).0, Some(42));
    write_script(&programs.on_path(), "conduit-die", "kill -TERM $$");
    assert_eq!(programs.command(&["die"]).status().unwrap().signal(), Some(Signal::SIGTERM as i32));
    // A signal sent to `conduit` reaches the program, because it is the same process.
    write_script(&programs.on_path(), "conduit-trap", "trap 'exit 7' INT; echo $$; while :; do sleep 0.01; done");
    let mut child = programs.command(&["trap"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), child.id().to_string());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(wait_for("its end", || child.try_wait().unwrap()).code(), Some(7));
    // Rust programs ignore SIGPIPE, but the program that `conduit` runs does not.
    write_script(&programs.on_path(), "conduit-pipe", "grep SigIgn /proc/self/status");
    let ignored = programs.run(&["pipe"]).1;
    let ignored = u64::from_str_radix(ignored.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 << (Signal::SIGPIPE as u32 - 1)), 0);
}

#[test]
fn no_color_is_passed_on_by_the_environment() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-env", r#"echo "$NO_COLOR""#);
    assert_eq!(programs.run(&["env"]).1, "\n");
    assert_eq!(programs.run(&["--no-color", "env"]).1, "1\n");
}

#[test]
fn help_lists_the_programs_found() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-plot", "");
    write_script(&programs.beside(), "conduit-bag", "");
    write_script(&programs.beside(), "conduit-evil\u{1b}[2J", "");
    fs::write(programs.on_path().join("conduit-notes"), "").unwrap();
    for arguments in [&["--help"][..], &["-h"], &[]] {
        let (_, stdout, stderr) = programs.run(arguments);
        let help = stdout + &stderr;
        let lines =
            [("bag ", programs.beside().join("conduit-bag")), ("plot", programs.on_path().join("conduit-plot"))]
                .map(|(name, path)| format!("\n  {name}  {}", path.display()));
        assert!(help.contains(&lines.concat()), "{help}");
        assert!(!help.contains("notes") && !help.contains("evil"), "{help}");
    }
    assert!(!programs.run(&["list", "--help"]).1.contains("conduit-plot"));
}

#[test]
fn completion_knows_the_programs() {
    let programs = Programs::new();
    write_script(&programs.on_path(), "conduit-plot", "echo never run");
    let complete = |words: &[&str]| {
        let mut command = programs.command(&["--", "conduit"]);
        command.args(words).env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_SPACE", "false");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(complete(&["pl"]).trim(), "plot");
    assert_eq!(complete(&["--no-color", "pl"]).trim(), "plot");
    assert_eq!(complete(&["plot", "li"]), "", "its arguments are not those of conduit");
    assert_eq!(complete(&["inf"]).trim(), "info");
    let all = complete(&[""]);
    assert!(all.lines().any(|line| line.trim() == "plot") && all.lines().any(|line| line.trim() == "list"), "{all}");
}
