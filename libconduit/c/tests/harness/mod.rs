//! Shared by the tests that compile programs: a shared-memory directory, the compilers, and
//! processes with a deadline.
#![allow(dead_code, unused_imports, unused_macros, reason = "no test uses all of it")]

#[path = "../../../../tests/harness/dispositions.rs"]
mod dispositions;

#[path = "../../../../tests/harness/skip.rs"]
#[allow(unreachable_pub, reason = "it is a module of the end-to-end tests")]
pub(crate) mod skip;

pub(crate) mod registry;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use conduit::{Domain, ShmRegion};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than any step takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"];

/// A shared-memory directory without a registry, and a directory of programs that find the library
/// beside them.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) programs: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        dispositions::default_dispositions();
        let directory = tempfile::Builder::new().prefix(".conduit-test-").tempdir_in("/dev/shm").unwrap();
        let programs = TempDir::new().unwrap();
        let library = library();
        for name in ["libconduit.so", "libconduit.so.0"] {
            symlink(&library, programs.path().join(name)).unwrap();
        }
        Self { directory, programs }
    }

    /// Compiles a source file of this package without a warning, as C11 or with the options given.
    pub(crate) fn compile(&self, compiler: &str, options: &[&str], source: impl AsRef<Path>) -> PathBuf {
        let source = Path::new(PACKAGE).join(source);
        let program = self.programs.path().join(source.file_stem().unwrap());
        let mut command = Command::new(compiler);
        if source.extension().unwrap() == "c" {
            command.args(["-std=c11", "-O1"]);
        }
        command.arg("-g").args(options).args(WARNINGS).arg(format!("-I{PACKAGE}/include")).arg(&source);
        command.arg("-o").arg(&program).arg("-L").arg(self.programs.path()).args(["-lconduit", "-pthread", "-lm"]);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{command:?}:\n{errors}");
        program
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_LIBRARY_PATH", self.programs.path())
            .env("CONDUIT_SHM_DIR", self.directory.path())
            .env("CONDUIT_SOCKET", self.socket())
            .env_remove("CONDUIT_ANY_FILE_SYSTEM");
        command
    }

    /// Where a registry would listen.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("registry.sock")
    }

    /// Starts a program with an argument, or with none if that is empty.
    pub(crate) fn start(&self, program: &Path, argument: &str) -> Running {
        let mut command = self.command(program);
        command.args((!argument.is_empty()).then_some(argument));
        Running::start(command)
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain::new(self.directory.path()).without_registry()
    }

    pub(crate) fn regions(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Waits until a subscriber of a topic has received something.
    pub(crate) fn wait_until_received(&self, topic: &str) {
        let deadline = Instant::now() + DEADLINE;
        let is_received = || {
            let region = conduit::inspect::Region::open(&self.domain(), topic).unwrap();
            let counters = region.counters();
            counters.is_some_and(|counters| counters.subscribers.iter().any(|(_, one)| one.received > 0))
        };
        while !is_received() {
            assert!(Instant::now() < deadline, "nobody has received a message of {topic}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn wait_until_exists(&self, name: &str) {
        assert!(ShmRegion::wait_until_exists_in(&self.domain(), name, || true, Some(DEADLINE)).unwrap(), "{name}");
    }
}

/// The shared library that cargo built with this test.
pub(crate) fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name("libconduit_c.so");
    assert!(library.exists(), "cargo builds {}", library.display());
    library
}

/// gcc and clang; outside the gate whichever of them is installed.
pub(crate) fn compilers_of_c() -> Vec<&'static str> {
    installed(["gcc", "clang"])
}

/// g++ and clang++; outside the gate whichever of them is installed.
pub(crate) fn compilers_of_cpp() -> Vec<&'static str> {
    installed(["g++", "clang++"])
}

fn installed(compilers: [&'static str; 2]) -> Vec<&'static str> {
    let works = |compiler: &&str| Command::new(compiler).arg("--version").output().is_ok();
    let (found, missing): (Vec<_>, Vec<_>) = compilers.into_iter().partition(works);
    assert!(!found.is_empty(), "these tests need one of {compilers:?}");
    for compiler in missing {
        skip::report(&skip::Lack::Software(compiler), compiler);
    }
    found
}

/// A process whose output is read line by line; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// The next line of its output; `None` at the end of it.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no output within {DEADLINE:?}"),
        }
    }

    pub(crate) fn line(&mut self) -> String {
        self.try_line().unwrap_or_else(|| panic!("it has ended: {}", self.errors()))
    }

    /// Skips to the next line that contains `words`.
    pub(crate) fn line_with(&mut self, words: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = self.line();
            if line.contains(words) {
                return line;
            }
            assert!(Instant::now() < deadline, "no line with {words:?}, the last one is {line:?}");
        }
    }

    pub(crate) fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    /// Waits until it ends; returns its exit status, the rest of its output, and its errors.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        drop(self.child.stdin.take());
        let mut output = String::new();
        while let Some(line) = self.try_line() {
            output += &line;
            output += "\n";
        }
        let errors = self.errors();
        (self.child.wait().unwrap().code(), output, errors)
    }

    /// Waits until it ends without an error; returns the rest of its output.
    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        let (code, output, errors) = self.end();
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
        output
    }

    /// Waits until it fails with an error that contains `words`; returns the rest of its output.
    #[track_caller]
    pub(crate) fn fails_with(self, words: &str) -> String {
        let (code, output, errors) = self.end();
        assert!(code == Some(1) && errors.contains(words), "{code:?} {errors}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn is_success(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
}
