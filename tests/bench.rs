//! `conduit bench`: its output has the documented shape and is consistent, and it leaves nothing
//! behind.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::skip::{Lack, skip};
use crate::harness::{World, stderr_of, wait_for, wait_until};

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    String::from_utf8(stdout).unwrap()
}

fn files(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Whether this process may use two cores.
fn has_two_cores() -> bool {
    std::thread::available_parallelism().unwrap().get() > 1
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

const PERCENTILES: [&str; 6] = ["count", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "max_ns"];

fn check_percentiles(row: &Value) {
    let numbers = PERCENTILES.map(|key| row[key].as_u64().unwrap());
    assert!(numbers[0] > 0 && numbers[1..].is_sorted(), "{row}");
}

fn names<'a>(results: &'a Value, list: &str, key: &str) -> Vec<&'a str> {
    results[list].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap()).collect()
}

/// Compares the results with what the help of `--json` documents.
fn check(results: &Value, help: &str) {
    let expected = ["duration_s", "latency", "left_out", "limits", "machine", "throughput"];
    assert_eq!(keys(results), expected);
    assert_eq!(keys(&results["machine"]), ["cores", "cpu", "kernel", "placement"]);
    let mut documented: Vec<&str> = [keys(results), keys(&results["machine"])].concat();
    for row in results["latency"].as_array().unwrap() {
        let mut expected = vec!["work", "message_bytes", "touched_bytes", "limit", "limit_p50_ns", "ratio"];
        expected.extend(PERCENTILES);
        expected.sort_unstable();
        assert_eq!(keys(row), expected);
        check_percentiles(row);
        assert!(row["ratio"].as_f64().unwrap() > 0.0 && row["limit_p50_ns"].as_u64().unwrap() > 0, "{row}");
        assert!(row["touched_bytes"].as_u64() <= row["message_bytes"].as_u64(), "{row}");
        documented.extend(keys(row));
    }
    for row in results["limits"].as_array().unwrap() {
        check_percentiles(row);
        assert_eq!(keys(row).len(), PERCENTILES.len() + 1, "{row}");
    }
    for row in results["throughput"].as_array().unwrap() {
        let number = |key: &str| row[key].as_f64().unwrap();
        let bytes_per_second = number("messages_per_second") * number("message_bytes");
        assert!((bytes_per_second / number("bytes_per_second") - 1.0).abs() < 1e-9, "{row}");
        let ratio = number("limit_messages_per_second") / number("messages_per_second");
        assert!((ratio / number("ratio") - 1.0).abs() < 1e-9 && number("messages") > 0.0, "{row}");
        assert_eq!(keys(row).len(), 8, "{row}");
        documented.extend(keys(row));
    }
    documented.push(results["machine"]["placement"].as_str().unwrap());
    for row in results["left_out"].as_array().unwrap() {
        assert_eq!(keys(row), ["reason", "work"]);
    }
    let words: Vec<&str> = help.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    for key in documented {
        assert!(words.contains(&key), "{key} is not documented");
    }
}

#[test]
fn json_has_the_documented_shape_and_is_consistent() {
    let world = World::new();
    let results: Value = serde_json::from_str(&run(&mut world.conduit(&["bench", "--time", "1s", "--json"]))).unwrap();
    check(&results, &run(&mut world.conduit(&["bench", "--help"])));
    assert_eq!(files(&world), [""; 0]);
    if !has_two_cores() {
        skip!(Lack::Processors(2), "most of the bench");
    }
    let expected =
        ["64 B polling", "64 B blocking", "12 MB polling", "12 MB blocking", "12 MB, all bytes", "64 B to nobody"];
    assert_eq!(names(&results, "latency", "work"), expected);
    assert_eq!(names(&results, "throughput", "work"), ["64 B in a row", "12 MB in a row, all bytes"]);
    let expected = ["cache line", "futex", "fill 12 MB", "read 12 MB", "clock read"];
    assert_eq!(names(&results, "limits", "limit"), expected);
    assert_eq!(results["left_out"], serde_json::json!([]));
    let cores = results["machine"]["cores"].as_array().unwrap();
    assert!(cores.len() == 2 && cores[0] != cores[1], "{cores:?}");
}

#[test]
fn on_one_core_polling_is_left_out() {
    let world = World::new();
    let allowed = first_core();
    let mut command = world.command("taskset");
    command.args(["-c", &allowed, env!("CARGO_BIN_EXE_conduit"), "bench", "--time", "1s", "--json"]);
    let results: Value = serde_json::from_str(&run(&mut command)).unwrap();
    assert_eq!(names(&results, "latency", "work"), ["64 B blocking", "12 MB blocking", "64 B to nobody"]);
    assert_eq!(names(&results, "limits", "limit"), ["futex", "clock read"]);
    let expected = ["64 B polling", "12 MB polling", "12 MB, all bytes", "64 B in a row", "12 MB in a row, all bytes"];
    assert_eq!(names(&results, "left_out", "work"), expected);
    assert!(results["left_out"][0]["reason"].as_str().unwrap().contains("single core"), "{results}");
    assert_eq!(results["machine"]["placement"], "one_core");
    assert_eq!(results["machine"]["cores"].as_array().unwrap().len(), 1);
    check(&results, &run(&mut world.conduit(&["bench", "--help"])));
}

/// The first core that this process may use.
fn first_core() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim().split(['-', ',']).next().unwrap().to_owned()
}

#[test]
fn without_room_for_large_messages_they_are_left_out() {
    let world = World::new();
    let unshare = ["--user", "--map-root-user", "--mount"];
    if !world.command("unshare").args(unshare).arg("true").output().unwrap().status.success() {
        skip!(Lack::Namespaces(&["--user", "--map-root-user", "--mount"]), "a full /dev/shm");
    }
    // A private file system, which disappears with the namespace.
    let script = "mount -t tmpfs -o size=20m tmpfs \"$CONDUIT_SHM_DIR\" && exec \"$0\" bench --time 1s";
    let mut command = world.command("unshare");
    command.args(unshare).args(["sh", "-c", script, env!("CARGO_BIN_EXE_conduit")]);
    let said = run(&mut command);
    let line = said.lines().find(|line| line.starts_with("not measured: 12 MB blocking: ")).unwrap();
    assert!(line.contains("has 20.0 MiB free, 93.") && line.ends_with("MiB are needed"), "{line}");
    assert!(said.contains("64 B blocking ") && said.contains("|--------|"), "{said}");
    assert!(!said.contains("fill 12 MB"), "{said}");
}

#[test]
fn invalid_cores_and_times_are_refused() {
    let world = World::new();
    for (arguments, code, expected) in [
        (["--cores", "0,1023"], 1, "this process may not use core 1023, only "),
        (["--cores", "1,1"], 2, "two different cores"),
        (["--time", "0.5"], 2, "1s at least"),
    ] {
        let said = stderr_of(world.conduit(&["bench"]).args(arguments), code);
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(files(&world), [""; 0]);
}

/// Starts a long bench; returns it and its second process.
fn start(world: &World) -> (Child, Pid) {
    let mut command = world.conduit(&["bench", "--time", "10m"]);
    let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", bench.id());
    let second = wait_for("the second process", || {
        std::fs::read_to_string(&children).ok()?.trim().parse().ok().map(Pid::from_raw)
    });
    // The measurement has begun when both large topics exist.
    wait_until("the topics", || {
        let directory = std::fs::read_dir(world.path()).unwrap().next().map(|entry| entry.unwrap().path());
        let files = directory.and_then(|it| std::fs::read_dir(it).ok());
        files.is_some_and(|files| files.filter(|file| file.as_ref().is_ok_and(|it| is_large(&it.path()))).count() == 2)
    });
    (bench, second)
}

fn is_large(path: &std::path::Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 12_000_000)
}

/// Waits until the bench ends; returns its standard output and standard error.
fn end(bench: &mut Child) -> [String; 2] {
    wait_until("the bench to end", || bench.try_wait().unwrap().is_some());
    let mut said = [String::new(), String::new()];
    bench.stdout.take().unwrap().read_to_string(&mut said[0]).unwrap();
    bench.stderr.take().unwrap().read_to_string(&mut said[1]).unwrap();
    said
}

#[test]
fn signals_end_it_silently_and_leave_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let world = World::new();
        let (mut bench, second) = start(&world);
        kill(Pid::from_raw(bench.id() as i32), signal).unwrap();
        assert_eq!(end(&mut bench), ["", ""]);
        assert_eq!(bench.wait().unwrap().signal(), Some(signal as i32));
        assert_eq!(kill(second, None), Err(nix::errno::Errno::ESRCH), "the second process is reaped");
        assert_eq!(files(&world), [""; 0]);
    }
}

#[test]
fn the_death_of_the_second_process_is_an_error_and_leaves_nothing() {
    let world = World::new();
    let (mut bench, second) = start(&world);
    kill(second, Signal::SIGKILL).unwrap();
    let [output, error] = end(&mut bench);
    assert_eq!(bench.wait().unwrap().code(), Some(1));
    assert_eq!(
        (output.as_str(), error.as_str()),
        ("", "conduit: the second process ended too early: signal: 9 (SIGKILL)\n")
    );
    assert_eq!(files(&world), [""; 0]);
}

#[test]
fn the_second_process_dies_with_the_first() {
    let world = World::new();
    let (mut bench, second) = start(&world);
    // A stopped process cannot end by itself.
    kill(second, Signal::SIGSTOP).unwrap();
    bench.kill().unwrap();
    bench.wait().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{second}/stat")).unwrap_or_default();
    wait_until("the second process to die", || state().is_empty() || state().contains(") Z "));
}
