//! `conduit.hpp`: the tests and examples in C++, programs of C++ and Rust that talk to each other,
//! and the installed package.
#![allow(missing_docs, reason = "a test")]

mod harness;
mod readme;

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{Gone, Message, Publisher, RecvError, ShmRegion, Subscriber};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use harness::skip::{Lack, skip};
use harness::{DEADLINE, PACKAGE, World, compilers_of_cpp, is_success, library, registry};

const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

#[track_caller]
fn passes(name: &str) {
    for compiler in compilers_of_cpp() {
        // With optimisation the compilers report more warnings.
        passes_with(name, compiler, &["-std=c++17", "-O1"]);
        passes_with(name, compiler, &[&["-std=c++20"], &SANITIZERS[..]].concat());
    }
}

#[track_caller]
fn passes_with(name: &str, compiler: &str, options: &[&str]) {
    let world = World::new();
    let program = world.compile(compiler, options, format!("tests/{name}.cpp"));
    is_success(&world.command(&program).output().unwrap());
    assert_eq!(world.regions(), [""; 0], "something was left");
}

#[test]
fn topics_work() {
    passes("topics");
}

#[test]
fn messages_travel_in_batches_and_are_lent() {
    passes("batches");
}

#[test]
fn a_thread_waits_for_many_topics_and_for_timers() {
    passes("waiting");
}

#[test]
fn all_topics_of_a_pattern_are_received_from() {
    passes("patterns");
}

#[test]
fn calls_that_wait_are_stopped() {
    passes("stopping");
}

#[test]
fn messages_and_changes_are_received_in_order() {
    passes("following");
}

#[test]
fn regions_work() {
    passes("regions");
}

#[test]
fn misuse_is_reported() {
    passes("misuse");
}

#[test]
fn regions_are_inspected_from_outside() {
    passes("inspecting");
}

#[test]
fn a_registry_is_asked_and_watched() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let program = world.compile(compiler, &["-std=c++17"], "tests/reporting.cpp");
        let listener = UnixListener::bind(world.socket()).unwrap();
        std::thread::spawn(move || registry::serve(listener, Arc::default()));
        is_success(&world.command(&program).output().unwrap());
    }
}

/// Compiles a program with this body; returns the compiler's output.
fn compile_text(compiler: &str, options: &[&str], body: &str) -> Output {
    let mut command = Command::new(compiler);
    command.args(options).args(["-fsyntax-only", "-x", "c++", "-I"]).arg(Path::new(PACKAGE).join("include")).arg("-");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut source = child.stdin.take().unwrap();
    writeln!(source, "#include <conduit.hpp>\n#include <string_view>\n{body}").unwrap();
    drop(source);
    child.wait_with_output().unwrap()
}

#[test]
fn invalid_types_and_calls_do_not_compile_and_the_error_says_why() {
    let cases = [
        ("conduit::Publisher<std::string>::create(\"x\");", "trivially copyable"),
        ("struct S { int x; }; conduit::Publisher<S>::create(\"x\");", "write CONDUIT_TYPE(Imu"),
        ("conduit::Subscriber<long double>::open(\"x\");", "write CONDUIT_TYPE(Imu"),
        ("conduit::Publisher<int*>::create(\"x\");", "a pointer means nothing to another process"),
        ("conduit::Publisher<const int>::create(\"x\");", "without const"),
        ("struct alignas(128) S { int x; }; conduit::Publisher<S>::create(\"x\");", "at most 64"),
        ("conduit::Publisher<std::byte>().send(\"text\");", "make a std::string_view of it"),
        ("conduit::Publisher<float[]>().send(std::array<double, 2>{});", "not those of the topic"),
        ("conduit::Publisher<int[]>().loan();", "how many elements"),
        ("conduit::Publisher<int>().loan(3);", "a value has no count"),
        ("*conduit::Loan<int[]>();", "a slice has elements"),
    ];
    // All in one program, to save time.
    let bodies: Vec<_> = cases.iter().enumerate().map(|(i, (body, _))| format!("void f{i}() {{ {body} }}\n")).collect();
    for compiler in compilers_of_cpp() {
        let no_limit = if compiler == "clang++" { "-ferror-limit=0" } else { "-fmax-errors=0" };
        let output = compile_text(compiler, &["-std=c++17", no_limit], &bodies.concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        for (body, words) in cases {
            let alike = cases.iter().filter(|(_, others)| *others == words).count();
            let told = errors.lines().filter(|line| line.contains("error") && line.contains(words)).count();
            assert!(told >= alike, "{compiler} {body}: {errors}");
        }
        let output = compile_text(compiler, &["-std=c++17"], "struct S { int x; };\nCONDUIT_TYPE(S, \"\");");
        assert!(String::from_utf8_lossy(&output.stderr).contains("1 to 64 bytes"));
        let output = compile_text(compiler, &["-std=c++14"], "");
        assert!(String::from_utf8_lossy(&output.stderr).contains("needs C++17"));
    }
}

#[test]
fn without_exceptions_an_error_ends_the_program_and_the_other_form_does_not() {
    let world = World::new();
    let source = world.programs.path().join("aborts.cpp");
    let body = "int main() {\n\
        if (conduit::Subscriber<int>::open(\"nothing\", std::nothrow)) return 1;\n\
        conduit::ShmRegion::wait_until_exists_while(\"nothing\", [] { return false; });\n\
        static_cast<void>(conduit::Subscriber<int>::open(\"nothing\"));\n}";
    std::fs::write(&source, format!("#include <conduit.hpp>\n{body}\n")).unwrap();
    for compiler in compilers_of_cpp() {
        let options = ["-std=c++17", "-fno-exceptions", "-fno-rtti"];
        let program = world.compile(compiler, &options, source.to_str().unwrap());
        let output = world.command(&program).output().unwrap();
        assert_eq!(output.status.signal(), Some(Signal::SIGABRT as i32));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("conduit: topic \"nothing\" does not exist"));
    }
}

#[test]
fn two_files_with_the_header_make_one_program() {
    let world = World::new();
    let text = |main| format!("#include <conduit.hpp>\nstruct S {{ int x; }};\nCONDUIT_TYPE(S, \"S\");\n{main}\n");
    let one = world.programs.path().join("one.cpp");
    let other = world.programs.path().join("other.cpp");
    std::fs::write(
        &one,
        text("int other(); int main() { auto s = conduit::Publisher<S>::create(\"s\"); return other(); }"),
    )
    .unwrap();
    std::fs::write(&other, text("int other() { return conduit::Subscriber<S>::open(\"s\").is_open() ? 0 : 1; }"))
        .unwrap();
    for compiler in compilers_of_cpp() {
        let program = world.compile(compiler, &["-std=c++17", other.to_str().unwrap()], one.to_str().unwrap());
        is_success(&world.command(&program).output().unwrap());
    }
}

// --------------------------------------------------------------------------- C++ and Rust together

const MESSAGES: i32 = 100;

#[derive(Clone, Copy, PartialEq, Debug, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "robot/Imu")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Imu {
    stamp: u64,
    gyro: [f64; 3],
    temperature: f32,
    status: u32,
}

impl Imu {
    fn new(i: i32) -> Self {
        let at = f64::from(i);
        let gyro = [at + 0.25, at + 0.5, -at + 0.75];
        Self { stamp: i as u64 * 1_000_000_007, gyro, temperature: 20.5, status: i as u32 }
    }
}

#[derive(Clone, Copy, PartialEq, Debug, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "lidar/Point")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Point {
    x: f32,
    y: f32,
    z: f32,
}

fn points(i: i32) -> Vec<Point> {
    (0..i % 10).map(|at| Point { x: at as f32, y: i as f32, z: -1.0 }).collect()
}

/// The program of the C++ side.
fn peer(world: &World) -> PathBuf {
    world.compile(compilers_of_cpp()[0], &["-std=c++17"], "tests/peer.cpp")
}

/// From C++ to Rust: the program publishes, `check` sees each message and its number.
fn from_cpp<T: Message + ?Sized>(what: &str, check: impl Fn(&T, i32)) {
    let world = World::new();
    let mut publisher = world.start(&peer(&world), &format!("publish {what}"));
    assert_eq!(publisher.line(), "ready");
    let mut subscriber = Subscriber::<T>::builder().domain(&world.domain()).open("interop").unwrap();
    for i in 0..MESSAGES {
        let sample = subscriber.recv_timeout(DEADLINE).unwrap();
        assert_eq!((sample.sequence(), sample.lost()), (i as u64, 0));
        check(&sample, i);
    }
    let end = subscriber.recv_timeout(DEADLINE).err().unwrap();
    assert!(matches!(end, RecvError::PublisherGone { how: Gone::Closed, .. }), "{end}");
    publisher.succeeds();
    assert_eq!(world.regions(), [""; 0]);
}

/// From Rust to C++: `send` publishes a message of a number, the program checks what it receives.
fn to_cpp<T: Message + ?Sized>(what: &str, mut send: impl FnMut(&mut Publisher<T>, i32)) {
    let world = World::new();
    let builder = Publisher::<T>::builder().domain(&world.domain()).slots(256);
    let mut publisher = builder.create("interop").unwrap();
    let mut subscriber = world.start(&peer(&world), &format!("subscribe {what}"));
    assert_eq!(subscriber.line(), "ready");
    for i in 0..MESSAGES {
        send(&mut publisher, i);
    }
    drop(publisher);
    assert_eq!(subscriber.line(), format!("received {MESSAGES}"));
    subscriber.succeeds();
}

#[test]
fn values_cross_both_ways() {
    from_cpp::<Imu>("values", |imu, i| assert_eq!(*imu, Imu::new(i)));
    to_cpp::<Imu>("values", |publisher, i| publisher.send(&Imu::new(i)).unwrap());
}

#[test]
fn slices_cross_both_ways() {
    from_cpp::<[Point]>("slices", |slice, i| assert_eq!(slice, points(i)));
    to_cpp::<[Point]>("slices", |publisher, i| publisher.send(&points(i)).unwrap());
}

#[test]
fn bytes_cross_both_ways() {
    from_cpp::<[u8]>("bytes", |bytes, i| assert_eq!(bytes, format!("message {i}").as_bytes()));
    to_cpp::<[u8]>("bytes", |publisher, i| publisher.send(format!("message {i}").as_bytes()).unwrap());
}

#[test]
fn arrays_cross_both_ways() {
    from_cpp::<[f64; 3]>("arrays", |array, i| assert_eq!(*array, [f64::from(i) + 0.5, 1.5, -2.5]));
    to_cpp::<[f64; 3]>("arrays", |publisher, i| publisher.send(&[f64::from(i) + 0.5, 1.5, -2.5]).unwrap());
}

#[test]
fn regions_cross_both_ways() {
    let world = World::new();
    world.start(&peer(&world), "write region").succeeds();
    let region = ShmRegion::open_in(&world.domain(), "interop").unwrap();
    assert_eq!(region.size(), 5000);
    // SAFETY: the region has that size, and the program that wrote it has ended.
    #[allow(unsafe_code, reason = "shared memory is read")]
    let bytes = unsafe { std::slice::from_raw_parts(region.data(), region.size()) };
    assert!(bytes.iter().all(|&byte| byte == 7));
    ShmRegion::unlink_in(&world.domain(), "interop").unwrap();
    let world = World::new();
    let counter = world.compile(compilers_of_cpp()[0], &["-std=c++17"], "examples/counter.cpp");
    let region = ShmRegion::builder().domain(&world.domain()).create("counter", 4096).unwrap();
    // SAFETY: the region has 4096 bytes, is aligned to a page, and no other process has it open
    // yet.
    #[allow(unsafe_code, reason = "shared memory is written")]
    unsafe {
        region.data().cast::<i32>().write(42);
    }
    assert_eq!(world.start(&counter, "watch").line(), "42");
}

#[test]
fn a_type_mismatch_is_reported_on_both_sides() {
    #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
    #[message(name = "robot/Imu")]
    #[zerocopy(crate = "conduit::zerocopy")]
    #[repr(C)]
    struct OldImu {
        gyro: [f64; 3],
    }

    let world = World::new();
    let program = peer(&world);
    let publisher = Publisher::<OldImu>::builder().domain(&world.domain()).create("interop").unwrap();
    let mut told = world.start(&program, "mismatch");
    let line = told.line();
    assert!(line.contains("robot/Imu (24 bytes, align 8)") && line.contains("robot/Imu (40 bytes, align 8)"), "{line}");
    drop(publisher);

    let mut publisher = world.start(&program, "publish values");
    assert_eq!(publisher.line(), "ready");
    let Err(error) = Subscriber::<OldImu>::builder().domain(&world.domain()).open("interop") else {
        panic!("it opens");
    };
    assert!(error.to_string().contains("robot/Imu (40 bytes, align 8)"), "{error}");
}

// ------------------------------------------------------------------------------------------- death

#[test]
fn without_a_registry_a_subscriber_notices_that_its_publisher_aborted() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let program = world.compile(compiler, &["-std=c++20"], "tests/peer.cpp");
        let mut doomed = world.start(&program, "doomed");
        assert_eq!(doomed.line(), "ready");
        let mut mourner = world.start(&program, "mourner");
        assert_eq!(mourner.line(), "waiting");
        assert!(mourner.child.try_wait().unwrap().is_none(), "it sleeps while its publisher lives");
        writeln!(doomed.child.stdin.as_mut().unwrap()).unwrap();
        assert_eq!(doomed.child.wait().unwrap().signal(), Some(Signal::SIGABRT as i32));
        let words = "PublisherDied: the publisher of topic \"doomed\" died; open the topic again when it is back";
        assert_eq!(mourner.line(), words);
        mourner.succeeds();
        // The next publisher takes over the orphan.
        let mut next = world.start(&program, "doomed");
        assert_eq!(next.line(), "ready");
    }
}

// ---------------------------------------------------------------------------------------- examples

fn example(world: &World, compiler: &str, name: &str) -> PathBuf {
    world.compile(compiler, &["-std=c++17"], format!("examples/{name}.cpp"))
}

#[test]
fn example_counter() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let program = example(&world, compiler, "counter");
        let mut watching = world.start(&program, "watch");
        let counting = world.start(&program, "count");
        watching.line();
        watching.line();
        world.start(&program, "count").fails_with("\"counter\" is already published by");
        counting.kill();
        watching.line_with("no process counts any more");
        watching.succeeds();
        // The orphan is taken over.
        let mut counting = world.start(&program, "count");
        counting.line_with("counting");
        counting.kill();
        world.start(&program, "unlink").succeeds();
        world.start(&program, "unlink").fails_with("does not exist");
        assert_eq!(world.start(&program, "").end().0, Some(2));
        assert_eq!(world.regions(), [""; 0]);
    }
}

#[test]
fn example_point_cloud() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let program = example(&world, compiler, "point_cloud");
        let reader = world.start(&program, "read");
        let mut writer = world.start(&program, "write");
        let sum = writer.line_with("wrote 1000000 points").split_once("sum").unwrap().1.to_owned();
        assert!(reader.succeeds().contains(&format!("read 1000000 points of region \"lidar\", sum{sum}")));
        writer.kill();
        // The next process takes over the orphan and cleans up.
        let mut writer = world.start(&program, "write");
        writer.line_with("wrote");
        assert!(world.start(&program, "read").succeeds().contains(&sum));
        writer.signal(Signal::SIGTERM);
        writer.succeeds();
        assert_eq!(world.regions(), [""; 0]);
    }
}

#[test]
fn example_follow() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let publishing = example(&world, compiler, "imu_publisher");
        let mut follower = world.start(&example(&world, compiler, "follow"), "");
        follower.line_with("nothing for ");
        for epoch in 1..=2 {
            let publisher = world.start(&publishing, "");
            follower.line_with("connected to imu_publisher");
            follower.line_with("resumed after");
            follower.line_with("rad/s");
            if epoch == 1 {
                publisher.kill();
                follower.line_with("the publisher died; waiting for the next one");
            } else {
                follower.signal(Signal::SIGTERM);
                follower.line_with("from 2 publishers");
            }
        }
        follower.succeeds();
    }
}

#[test]
fn examples_of_wait_sets() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let publisher = world.start(&example(&world, compiler, "imu_publisher"), "");
        let mut rate = world.start(&example(&world, compiler, "rate"), "");
        let measures = |rate: &mut harness::Running| !rate.line_with("periods missed").starts_with("0 ");
        assert!((0..100).any(|_| measures(&mut rate)), "it receives nothing");
        rate.signal(Signal::SIGTERM);
        rate.succeeds();
        let control = world.start(&example(&world, compiler, "control_loop"), "");
        world.wait_until_received("imu");
        control.signal(Signal::SIGINT);
        let said = control.succeeds();
        assert!(said.contains("commanded ") && !said.contains("used 0 "), "{said}");
        publisher.kill();
    }
}

#[test]
fn example_imu() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let (publishing, subscribing) =
            (example(&world, compiler, "imu_publisher"), example(&world, compiler, "imu_subscriber"));
        let mut subscriber = world.start(&subscribing, "");
        let mut publisher = world.start(&publishing, "");
        assert_eq!(publisher.line(), "publishing imu");
        assert!(subscriber.line().contains("lost 0"));
        // One second at 100 Hz.
        let begun = Instant::now();
        for _ in 0..100 {
            subscriber.line();
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&took), "{took:?}");
        // A killed subscriber does not disturb the others.
        subscriber.kill();
        let mut subscriber = world.start(&subscribing, "");
        assert!(subscriber.line().contains("rad/s"));
        // A subscriber notices that its publisher was killed.
        publisher.kill();
        subscriber.fails_with("the publisher of topic \"imu\" died");
        // It notices that its publisher closed the topic, too.
        let mut publisher = world.start(&publishing, "");
        publisher.line();
        let mut subscriber = world.start(&subscribing, "");
        subscriber.line();
        publisher.signal(Signal::SIGINT);
        assert!(publisher.succeeds().contains("published "));
        assert!(subscriber.succeeds().contains("received "));
        assert_eq!(world.regions(), [""; 0]);
    }
}

#[test]
fn the_imu_examples_of_cpp_and_rust_have_one_type() {
    #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
    #[message(name = "example/Imu")]
    #[zerocopy(crate = "conduit::zerocopy")]
    #[repr(C)]
    struct ExampleImu {
        gyro: [f64; 3],
        acceleration: [f64; 3],
    }

    let world = World::new();
    let publisher = world.start(&example(&world, compilers_of_cpp()[0], "imu_publisher"), "");
    world.wait_until_exists("imu");
    let mut subscriber = Subscriber::<ExampleImu>::builder().domain(&world.domain()).open("imu").unwrap();
    let up = subscriber.recv_timeout(DEADLINE).unwrap().acceleration[2];
    assert!((9.0..9.9).contains(&up), "{up}");
    publisher.kill();
    let gone = loop {
        if let Err(error) = subscriber.recv_timeout(DEADLINE) {
            break error;
        }
    };
    assert!(matches!(gone, RecvError::PublisherGone { how: Gone::Died, .. }), "{gone}");
}

#[test]
fn example_image_pipeline() {
    for compiler in compilers_of_cpp() {
        let world = World::new();
        let program = example(&world, compiler, "image_pipeline");
        let mut display = world.start(&program, "display");
        let filter = world.start(&program, "filter");
        let camera = world.start(&program, "camera");
        assert!(display.line().contains("pixels on edges"));
        camera.kill();
        // The filter ends and closes its own topic, which the display reports.
        filter.fails_with("the publisher of topic \"camera/image\" died");
        display.line_with("the publisher of topic \"camera/edges\" closed the topic");
        display.succeeds();

        let mut display = world.start(&program, "display");
        let camera = world.start(&program, "camera");
        let filter = world.start(&program, "filter");
        display.line();
        filter.kill();
        display.fails_with("the publisher of topic \"camera/edges\" died");
        // A new filter takes over the topic of the killed one.
        let mut display = world.start(&program, "display");
        let filter = world.start(&program, "filter");
        display.line();
        for it in [display, filter, camera] {
            it.signal(Signal::SIGTERM);
            assert_eq!(it.end().0, Some(0));
        }
        assert_eq!(world.regions(), [""; 0]);
    }
}

// ------------------------------------------------------------------------------ as it is installed

/// Runs a shell command with the installed library; returns its output.
fn shell(world: &World, installed: &Path, directory: &Path, line: &str) -> String {
    let mut command = world.command("sh");
    command.arg("-ec").arg(line).current_dir(directory).env("LD_LIBRARY_PATH", installed.join("lib"));
    command.env("PKG_CONFIG_PATH", installed.join("lib/pkgconfig")).env("CMAKE_PREFIX_PATH", installed);
    // Variables by which this `make` would affect the `make` of a sample.
    command.env_remove("MAKEFLAGS").env_remove("CXXFLAGS").env_remove("LDFLAGS");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn copy_sample(name: &str, to: &Path) -> PathBuf {
    let sample = to.join(name);
    std::fs::create_dir(&sample).unwrap();
    for entry in std::fs::read_dir(Path::new(PACKAGE).join("examples").join(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), sample.join(entry.file_name())).unwrap();
        }
    }
    sample
}

#[test]
fn the_installed_package_is_found_by_hand_and_by_pkg_config_and_by_cmake() {
    let world = World::new();
    let scratch = TempDir::new().unwrap();
    let installed = scratch.path().join("opt/conduit");
    let mut make = Command::new("make");
    make.args(["--silent", "-C", PACKAGE, "install", "PREFIX=/opt/conduit"]);
    make.arg(format!("DESTDIR={}", scratch.path().display()));
    // The libraries that cargo built with this test: `tests/run --shipped` tests those that are
    // shipped.
    make.arg(format!("BUILT={}", library().parent().unwrap().display()));
    make.arg(format!("BUILD={}", scratch.path().join("build").display())).env_remove("MAKEFLAGS");
    let output = make.output().unwrap();
    assert!(output.status.success(), "{make:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(installed.join("include/conduit.hpp").exists());
    // The prefix in its .pc file is not valid yet.
    let pc = installed.join("lib/pkgconfig/conduit.pc");
    let moved = std::fs::read_to_string(&pc).unwrap().replace("/opt/conduit", installed.to_str().unwrap());
    std::fs::write(&pc, moved).unwrap();

    // The program of the manual page, in two files.
    let hand = scratch.path().join("by-hand");
    std::fs::create_dir(&hand).unwrap();
    let file = |name: &str, lines: &[&str]| {
        let mut text =
            String::from("#include <conduit.hpp>\n#include <iostream>\nusing namespace conduit;\nint main() {\n");
        text.extend(lines.iter().map(|line| format!("    {line}\n")));
        std::fs::write(hand.join(name), text + "}\n").unwrap();
    };
    file(
        "write.cpp",
        &[
            "ShmRegion region = ShmRegion::create(\"counter\", 4096);",
            "int* ptr = static_cast<int*>(region.data());",
            "*ptr = 42;",
        ],
    );
    file(
        "read.cpp",
        &[
            "ShmRegion region = ShmRegion::open(\"counter\");",
            "int value = *static_cast<int*>(region.data());",
            "std::cout << value << '\\n';",
        ],
    );
    file(
        "rest.cpp",
        &[
            "std::atomic<bool> flag{true};",
            "bool there = ShmRegion::exists(\"counter\") && ShmRegion::wait_until_exists(\"counter\", flag);",
            "std::cout << there << ' ' << ShmRegion::open(\"counter\").size() << '\\n';",
            "ShmRegion::unlink(\"counter\");",
        ],
    );
    for program in ["write", "read", "rest"] {
        let line = format!("g++ -std=c++17 {program}.cpp -o {program} $(pkg-config --cflags --libs conduit)");
        shell(&world, &installed, &hand, &line);
    }
    assert_eq!(shell(&world, &installed, &hand, "./write; ./read; ./rest"), "42\n1 4096\n");
    assert_eq!(world.regions(), [""; 0]);

    let heard = "hello 1\nhello 2\nhello 3\nthe publisher of topic \"greeting\" closed the topic";
    let sample = copy_sample("with-pkg-config", scratch.path());
    shell(&world, &installed, &sample, "make");
    assert!(shell(&world, &installed, &sample, "./listener & ./talker; wait").starts_with(heard));

    if Command::new("cmake").arg("--version").output().is_err() {
        skip!(Lack::Software("cmake"), "examples/with-cmake");
    }
    let sample = copy_sample("with-cmake", scratch.path());
    shell(&world, &installed, &sample, "cmake -B build && cmake --build build");
    assert!(shell(&world, &installed, &sample, "build/listener & build/talker; wait").starts_with(heard));
}
