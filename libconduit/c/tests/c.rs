//! The C ABI as C sees it: programs in C, compiled with every compiler there is, alone and against each other.
//!
//! They use the library that Cargo has built beside this test. The installed one, sanitizers and valgrind: `tests/run`.
#![allow(missing_docs, reason = "nobody uses this crate")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A test that waits for so long has failed.
const DEADLINE: Duration = Duration::from_secs(30);
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// Programs of a test, and the shared-memory directory they use.
struct World {
    directory: TempDir,
    programs: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix(".conduit-test-").tempdir_in("/dev/shm").unwrap();
        let programs = TempDir::new().unwrap();
        let library = library();
        for name in ["libconduit.so", "libconduit.so.0"] {
            symlink(&library, programs.path().join(name)).unwrap();
        }
        Self { directory, programs }
    }

    /// Compiles a program without a single warning.
    fn compile(&self, compiler: &str, source: &str) -> PathBuf {
        let source = Path::new(PACKAGE).join(source);
        let program = self.programs.path().join(source.file_stem().unwrap());
        let output = Command::new(compiler)
            .args(["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"])
            .arg(format!("-I{PACKAGE}/include"))
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg(format!("-L{}", self.programs.path().display()))
            .args(["-lconduit", "-lpthread", "-lm"])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{compiler} {}:\n{errors}", source.display());
        program
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_LIBRARY_PATH", self.programs.path())
            .env("CONDUIT_SHM_DIR", self.directory.path())
            .env("CONDUIT_SOCKET", self.socket())
            .env_remove("CONDUIT_ANY_FILE_SYSTEM")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("registry.sock")
    }

    fn start(&self, program: &Path, argument: Option<&str>) -> Running {
        let mut child = self.command(program).args(argument).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    fn regions(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The shared library that belongs to this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().join("libconduit_c.so")
}

/// gcc and clang, or what there is.
fn compilers() -> Vec<&'static str> {
    let works = |compiler: &&str| Command::new(compiler).arg("--version").output().is_ok();
    let found: Vec<_> = ["gcc", "clang"].into_iter().filter(works).collect();
    if found.is_empty() { vec!["cc"] } else { found }
}

struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// The next line of its output; the test's own time limit is that of whatever runs it.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it has ended: {}", self.errors());
        line
    }

    fn line_with(&mut self, words: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = self.line();
            if line.contains(words) {
                return line;
            }
            assert!(Instant::now() < deadline, "waited in vain for {words:?}, last {line:?}");
        }
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    /// Waits for its end.
    fn end(mut self) -> Output {
        let mut stdout = Vec::new();
        drop(self.child.stdin.take());
        self.lines.read_to_end(&mut stdout).unwrap();
        let stderr = self.errors().into_bytes();
        Output { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn passes(name: &str) {
    for compiler in compilers() {
        let world = World::new();
        let program = world.compile(compiler, &format!("tests/{name}.c"));
        let output = world.command(&program).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{compiler}: {}: {errors}", output.status);
        assert_eq!(world.regions(), [""; 0], "something was left");
    }
}

#[test]
fn misuse_is_told() {
    passes("misuse");
}

#[test]
fn topics_work() {
    passes("topics");
}

#[test]
fn regions_work() {
    passes("regions");
}

#[test]
fn forked_children_are_told() {
    passes("forked");
}

#[test]
fn what_there_is_is_listed() {
    passes("listing");
}

/// A registry that says yes to everything.
fn registry(listener: UnixListener, clients: Arc<Mutex<Vec<UnixStream>>>) {
    for client in listener.incoming() {
        let client = client.unwrap();
        clients.lock().unwrap().push(client.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut calls = BufReader::new(client.try_clone().unwrap());
            let mut call = Vec::new();
            while calls.read_until(0, &mut call).is_ok_and(|len| len > 0) {
                let text = String::from_utf8_lossy(&call);
                let parameters = if text.contains(".List") {
                    include_str!("topics.json")
                } else if text.contains(".Status") {
                    r#"{"version":"1","pid":1,"uid":0,"shm_dir":"/","dev":1,"inode":1,"supervised":false,
                        "topics":0,"clients":0,"reaped":0}"#
                } else {
                    "{}"
                };
                let _ = (&client).write_all(format!("{{\"parameters\":{parameters}}}\0").as_bytes());
                call.clear();
            }
        });
    }
}

#[test]
fn a_registry_that_goes_away_kills_nobody() {
    for compiler in compilers() {
        let world = World::new();
        let program = world.compile(compiler, "tests/registry.c");
        let clients = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(world.socket()).unwrap();
        std::thread::spawn({
            let clients = Arc::clone(&clients);
            move || registry(listener, clients)
        });
        let mut program = world.start(&program, None);
        assert_eq!(program.line(), "ready\n");
        // Nobody listens there any more.
        std::fs::remove_file(world.socket()).unwrap();
        for client in clients.lock().unwrap().drain(..) {
            client.shutdown(std::net::Shutdown::Both).unwrap();
        }
        program.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let output = program.end();
        assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        assert_eq!(world.regions(), [""; 0]);
    }
}

#[test]
fn the_library_exports_what_is_listed_and_nothing_else() {
    let listed = std::fs::read_to_string(Path::new(PACKAGE).join("symbols")).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    assert!(listed.is_sorted() && listed.iter().all(|name| name.starts_with("conduit_")));
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<_> = output.lines().filter_map(|line| line.split(' ').next_back()).collect();
    let update = "nm -D --defined-only libconduit_c.so | cut -d' ' -f3 | LC_ALL=C sort";
    assert_eq!(exported.iter().copied().collect::<Vec<_>>(), listed, "if that is meant, update `symbols`: {update}");

    let header = std::fs::read_to_string(Path::new(PACKAGE).join("include/conduit.h")).unwrap();
    let declared: BTreeSet<_> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#', '}']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .collect();
    assert_eq!(declared, exported, "the header declares something else");
}

#[test]
fn example_counter() {
    for compiler in compilers() {
        let world = World::new();
        let program = world.compile(compiler, "examples/counter.c");
        let mut watching = world.start(&program, Some("watch"));
        let counting = world.start(&program, Some("count"));
        watching.line();
        watching.line();
        counting.kill();
        let output = watching.end();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("nobody counts any more"));
        assert_eq!(world.regions(), ["conduit_counter"], "what the dead left, for the next or the daemon");
        assert!(world.start(&program, Some("unlink")).end().status.success());
        let output = world.start(&program, Some("unlink")).end();
        assert!(!output.status.success());
        assert!(String::from_utf8(output.stderr).unwrap().contains("does not exist"));
        assert_eq!(world.start(&program, None).end().status.code(), Some(2));
    }
}

/// A subscriber that was told that its publisher has died.
fn is_told(subscriber: Running) -> String {
    let output = subscriber.end();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("died"), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn example_imu() {
    for compiler in compilers() {
        let world = World::new();
        let publishing = world.compile(compiler, "examples/imu_publisher.c");
        let subscribing = world.compile(compiler, "examples/imu_subscriber.c");
        let mut subscriber = world.start(&subscribing, None);
        let mut publisher = world.start(&publishing, None);
        assert!(subscriber.line_with("rad/s").contains("lost 0"));
        // A second of it: 100 Hz.
        let begun = Instant::now();
        for _ in 0..100 {
            subscriber.line();
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");

        // The subscriber is killed: its publisher is told, and goes on.
        publisher.line_with("1 subscribers");
        subscriber.kill();
        publisher.line_with("0 subscribers");
        // The publisher is killed: its subscriber is told.
        let mut subscriber = world.start(&subscribing, None);
        subscriber.line_with("rad/s");
        publisher.kill();
        assert!(is_told(subscriber).contains("received "));
        // It ends: its subscriber is told that as well.
        let mut publisher = world.start(&publishing, None);
        let mut subscriber = open_when_it_is_back(&world, &subscribing);
        subscriber.line_with("rad/s");
        publisher.line_with("1 subscribers");
        publisher.signal(Signal::SIGINT);
        let output = publisher.end();
        assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("published "));
        let output = subscriber.end();
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(world.regions(), [""; 0]);
    }
}

/// Starts a subscriber until it finds the topic's next publisher and not the dead one's region.
fn open_when_it_is_back(world: &World, program: &Path) -> Running {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut subscriber = world.start(program, None);
        let mut line = String::new();
        subscriber.lines.read_line(&mut line).unwrap();
        if !line.is_empty() {
            return subscriber;
        }
        assert!(Instant::now() < deadline, "{}", subscriber.errors());
    }
}

#[test]
fn a_c_publisher_and_a_rust_subscriber_and_the_reverse() {
    use conduit::{Domain, Kind, Publisher, RecvError, Subscriber, TypeInfo};

    let world = World::new();
    let domain = Domain::new(world.directory.path()).without_registry();
    let imu = TypeInfo::new("example/Imu", Kind::Value, 48, 8).unwrap();
    let publishing = world.compile(compilers()[0], "examples/imu_publisher.c");
    let publisher = world.start(&publishing, None);
    conduit::ShmRegion::builder().domain(&domain).wait_until_exists("imu", &true.into(), Some(DEADLINE)).unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).message_type(imu).open("imu").unwrap();
    let sample = subscriber.recv().unwrap();
    let up = f64::from_ne_bytes(sample[40..].try_into().unwrap());
    assert_eq!((sample.len(), up), (48, 9.81));
    publisher.kill();
    let error = loop {
        if let Err(error) = subscriber.recv() {
            break error;
        }
    };
    assert!(matches!(error, RecvError::PublisherGone { how: conduit::Gone::Died, .. }), "{error}");

    let subscribing = world.compile(compilers()[0], "examples/imu_subscriber.c");
    let mut publisher = Publisher::<[u8]>::builder().domain(&domain).message_type(imu).create("imu").unwrap();
    let mut subscriber = world.start(&subscribing, None);
    let deadline = Instant::now() + DEADLINE;
    while publisher.subscribers().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    let values: Vec<u8> = [1.0, 2.0, 3.0, 4.0, 5.0, 6.5_f64].into_iter().flat_map(f64::to_ne_bytes).collect();
    publisher.send(&values).unwrap();
    assert!(subscriber.line().contains("gyro  1.000  2.000  3.000 rad/s  acceleration  4.000  5.000  6.500"));
    drop(publisher);
    assert!(subscriber.end().status.success());
}

#[test]
fn example_point_cloud() {
    for compiler in compilers() {
        let world = World::new();
        let program = world.compile(compiler, "examples/point_cloud.c");
        let mut subscriber = world.start(&program, Some("subscribe"));
        let publisher = world.start(&program, Some("publish"));
        assert!(subscriber.line_with("scan").contains("12000000 bytes, farthest point 32.50 m"));
        subscriber.line();
        publisher.kill();
        is_told(subscriber);
    }
}

#[test]
fn example_image_pipeline() {
    for compiler in compilers() {
        let world = World::new();
        let program = world.compile(compiler, "examples/image_pipeline.c");
        let mut show = world.start(&program, Some("show"));
        let filter = world.start(&program, Some("filter"));
        let camera = world.start(&program, Some("camera"));
        assert!(show.line().contains("pixels on edges"));
        camera.kill();
        // The filter is told and ends; who shows its images is told that it ended.
        is_told(filter);
        let output = show.end();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("the filter has ended"));

        let mut show = world.start(&program, Some("show"));
        let _camera = world.start(&program, Some("camera"));
        let filter = world.start(&program, Some("filter"));
        show.line();
        filter.kill();
        assert!(is_told(show).contains("the filter is gone"));
    }
}
