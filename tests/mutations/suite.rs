//! The tests that look for mutations.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::known::{File, Measured};

/// Where the tests are: the folder of the package, the name of the target, and the beginnings of
/// their names.
const WHERE: [(&str, &str, &[&str]); 2] = [
    (
        "libconduit",
        "conduit",
        &["ring::", "parker::", "ready_fd::", "wait_set::", "async_subscriber::", "subscriber::", "publisher::"],
    ),
    (
        "conduitd",
        "e2e",
        &[
            "subscriber_dies::",
            "publisher_dies::",
            "killed_at_every_step::",
            "waiting::",
            "messages::",
            "guest::",
            "malice::",
            "users::",
            "lease::",
            "dying::",
        ],
    ),
];

/// Seconds after which the work that is done is reported.
const REPORT_SECONDS: u64 = 20;

/// All tests, the quickest first.
pub struct Suite {
    pub tests: Vec<Test>,
    pub file: Mutex<File>,
}

/// A test, as it is without a mutation.
pub struct Test {
    pub name: String,
    program: PathBuf,
    folder: PathBuf,
    seconds: f64,
    /// The mutations whose places it reaches.
    pub reached: BTreeSet<String>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// It was killed after its time.
    Late,
}

impl Suite {
    /// Builds all tests and runs each that is not known. Fails if one does twice.
    pub fn measure() -> Result<Self, String> {
        let mut tests = Vec::new();
        let built = build()?;
        let mut programs = Vec::new();
        for (package, target, beginnings) in WHERE {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package);
            let program = program(&built, target)?;
            let names = list(&program)?;
            programs.push(program.clone());
            for beginning in beginnings {
                for name in names.iter().filter(|name| name.starts_with(beginning)) {
                    let (program, folder) = (program.clone(), folder.clone());
                    tests.push(Test { name: name.clone(), program, folder, seconds: 0.0, reached: BTreeSet::new() });
                }
            }
        }
        let file = Mutex::new(File::of(&programs));
        measure(&mut tests, &file)?;
        tests.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Ok(Self { tests, file })
    }

    /// What all of them take, one after the other.
    pub fn seconds(&self) -> f64 {
        self.tests.iter().map(|test| test.seconds).sum()
    }
}

/// Runs each test that is not known without a mutation. One that fails beside others is repeated
/// alone, when all have ended.
fn measure(tests: &mut [Test], file: &Mutex<File>) -> Result<(), String> {
    let lock = || file.lock().expect("the file");
    for test in tests.iter_mut() {
        if let Some(known) = lock().known.tests.iter().find(|known| known.name == test.name) {
            (test.seconds, test.reached) = (known.seconds, known.reached.clone());
        }
    }
    let mut unknown: Vec<_> = tests.iter_mut().filter(|test| test.seconds == 0.0).collect();
    let (count, begun) = (unknown.len(), Instant::now());
    let report = |left: usize| {
        println!(
            "{:5.0} s  {} of {count} tests have run without a mutation",
            begun.elapsed().as_secs_f64(),
            count - left
        );
    };
    let failed = Mutex::new(Vec::new());
    let reported = Mutex::new(Instant::now());
    let queue = Mutex::new(unknown.drain(..));
    let work = || {
        while let Some(test) = { queue.lock().expect("the queue").next() } {
            match test.measure() {
                Ok(measured) => lock().known.tests.push(measured),
                Err(_) => failed.lock().expect("the faults").push(test),
            }
            let mut reported = reported.lock().expect("the time");
            if reported.elapsed().as_secs() >= REPORT_SECONDS {
                *reported = Instant::now();
                lock().save();
                report(queue.lock().expect("the queue").len());
            }
        }
    };
    in_parallel(work);
    report(0);
    let mut faults = String::new();
    for test in failed.into_inner().expect("the faults") {
        println!("{} fails without a mutation, and is repeated", test.name);
        match test.measure() {
            Ok(measured) => lock().known.tests.push(measured),
            Err(fault) => faults += &fault,
        }
    }
    lock().save();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Does the same on each processor.
pub fn in_parallel(work: impl Fn() + Sync) {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..processors).for_each(|_| _ = scope.spawn(&work)));
}

/// Builds the test programs. Returns what cargo says about them.
fn build() -> Result<Vec<serde_json::Value>, String> {
    // The whole workspace, as all other commands: then the dependencies have the same features.
    let output = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--no-run", "--message-format=json-render-diagnostics"])
        .args(["--workspace", "--lib", "--test", "e2e"])
        // Cargo runs this program in the package's folder, where CARGO_TARGET_DIR would be another
        // folder, if it is relative.
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The path of a test program.
fn program(built: &[serde_json::Value], target: &str) -> Result<PathBuf, String> {
    let is_it = |it: &&serde_json::Value| it["profile"]["test"] == true && it["target"]["name"] == target;
    let executable = built.iter().filter(is_it).find_map(|it| it["executable"].as_str());
    executable.map(PathBuf::from).ok_or_else(|| format!("the tests of {target} were not built"))
}

fn list(program: &Path) -> Result<Vec<String>, String> {
    let output = Command::new(program)
        .args(["--list", "--format", "terse"])
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    Ok(lines.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

impl Test {
    /// Whether the test runs until it has tried every schedule, and so has no deadline.
    pub fn is_model(&self) -> bool {
        self.name.contains("::model::")
    }

    fn measure(&mut self) -> Result<Measured, String> {
        let reached = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let mut command = self.command();
        command.env("CONDUIT_MUTATIONS_REACHED", reached.path());
        let begun = Instant::now();
        // Nobody knows how long it takes, but no test takes minutes.
        let outcome = finish(command, Duration::from_secs(600));
        self.seconds = begun.elapsed().as_secs_f64();
        if outcome != Outcome::Passed {
            return Err(format!("{} fails without a mutation ({outcome:?})\n", self.name));
        }
        let entries =
            std::fs::read_dir(reached.path()).map_err(|error| format!("{}: {error}", reached.path().display()))?;
        self.reached = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        let (name, program) = (self.name.clone(), self.program.clone());
        Ok(Measured { name, program, seconds: self.seconds, reached: self.reached.clone() })
    }

    /// Runs the test with a mutation or without.
    pub fn run(&self, mutation: Option<&str>) -> Outcome {
        let mut command = self.command();
        if let Some(mutation) = mutation {
            command.env("CONDUIT_MUTATION", mutation);
        }
        finish(command, limit(self.seconds))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.name, "--test-threads=1", "--quiet"]).current_dir(&self.folder);
        command.env("CARGO_MANIFEST_DIR", &self.folder).env("RUST_BACKTRACE", "0");
        // The same cases each time, and what fails with a mutation is no regression to remember.
        command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command
    }
}

/// How long a test may take that takes `seconds` without a mutation.
fn limit(seconds: f64) -> Duration {
    Duration::from_secs_f64(20.0 + 10.0 * seconds)
}

/// Runs a program, and kills it and its children after its time.
fn finish(mut command: Command, limit: Duration) -> Outcome {
    let Ok(mut child) = command.spawn() else { return Outcome::Failed };
    let outcome = wait(&mut child, limit);
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let _ = child.wait();
    outcome
}

fn wait(child: &mut Child, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Outcome::Passed,
            Ok(Some(_)) | Err(_) => return Outcome::Failed,
            Ok(None) if Instant::now() >= deadline => return Outcome::Late,
            Ok(None) => thread::sleep(Duration::from_millis(5)),
        }
    }
}
