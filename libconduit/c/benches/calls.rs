//! The cost of a call from C++ and from Rust: medians of alternating rounds.
//!
//!     cargo bench -p conduit-c --bench calls [-- --check]
//!
//! C++ is compiled against the library as `make` builds it to be installed. With `--check` the
//! program fails if C++ costs more than
//! 5 ns per call over Rust.
#![allow(missing_docs, reason = "nobody uses this crate")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{Domain, Message, Publisher, Subscriber};

const ROUNDS: usize = 7;
const ALLOWED_NS: f64 = 5.0;
const CASES: [(&str, &str); 3] = [
    ("send", "send to nobody"),
    ("loan", "loan and publish to nobody"),
    ("take", "take and release a waiting message"),
];

// As in `calls.cpp`.
const CALLS: u32 = 200_000;
const WAITING: u32 = 1_000;

#[derive(Clone, Copy, Default, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "bench/Imu")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Imu {
    gyro: [f64; 3],
    acceleration: [f64; 3],
}

fn main() -> ExitCode {
    // `cargo test` runs benches too, with an argument of its own.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let scratch = tempfile::Builder::new().prefix(".conduit-bench-").tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(scratch.path()).without_registry();
    let mut rust = Bench::new(&domain);
    let mut cpp = Cpp::start(scratch.path());
    let mut exit = ExitCode::SUCCESS;
    let mut out = std::io::stdout();
    writeln!(out, "{:<36} {:>9} {:>9} {:>9}", "ns per call, messages of 48 bytes", "Rust", "C++", "C++ more").unwrap();
    for (case, title) in CASES {
        let (mut rust_ns, mut cpp_ns) = (Vec::new(), Vec::new());
        // The first is not counted.
        for round in 0..=ROUNDS {
            let (one, other) = (rust.measure(case), cpp.measure(case));
            if round > 0 {
                rust_ns.push(one);
                cpp_ns.push(other);
            }
        }
        let (rust_ns, cpp_ns) = (median(rust_ns), median(cpp_ns));
        let more = cpp_ns - rust_ns;
        writeln!(out, "{title:<36} {rust_ns:>9.1} {cpp_ns:>9.1} {more:>9.1}").unwrap();
        if more > ALLOWED_NS && std::env::args().any(|argument| argument == "--check") {
            writeln!(out, "{title}: C++ costs more than {ALLOWED_NS} ns over Rust").unwrap();
            exit = ExitCode::FAILURE;
        }
    }
    exit
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

struct Bench {
    domain: Domain,
    publisher: Publisher<Imu>,
    imu: Imu,
}

impl Bench {
    fn new(domain: &Domain) -> Self {
        let builder = Publisher::<Imu>::builder().domain(domain).slots(1024).capacity(size_of::<Imu>());
        Self { domain: domain.clone(), publisher: builder.create("bench/rust").unwrap(), imu: Imu::default() }
    }

    fn measure(&mut self, case: &str) -> f64 {
        let time = match case {
            "send" => self.send(),
            "loan" => self.loan(),
            _ => self.take(),
        };
        time.as_nanos() as f64 / f64::from(CALLS)
    }

    fn send(&mut self) -> Duration {
        let start = Instant::now();
        for i in 0..CALLS {
            self.imu.gyro[0] = f64::from(i);
            self.publisher.send(&self.imu).unwrap();
        }
        start.elapsed()
    }

    fn loan(&mut self) -> Duration {
        let start = Instant::now();
        for i in 0..CALLS {
            self.imu.gyro[0] = f64::from(i);
            let mut loan = self.publisher.loan().unwrap();
            *loan = self.imu;
            loan.publish();
        }
        start.elapsed()
    }

    fn take(&mut self) -> Duration {
        let mut subscriber = Subscriber::<Imu>::builder().domain(&self.domain).open(self.publisher.topic()).unwrap();
        let mut time = Duration::ZERO;
        for _ in 0..CALLS / WAITING {
            for j in 0..WAITING {
                self.imu.gyro[0] = f64::from(j);
                self.publisher.send(&self.imu).unwrap();
            }
            let mut sum = 0.0;
            let start = Instant::now();
            for _ in 0..WAITING {
                sum += subscriber.try_recv().unwrap().unwrap().gyro[0];
            }
            time += start.elapsed();
            assert_eq!(sum, f64::from(WAITING * (WAITING - 1) / 2));
        }
        time
    }
}

/// The program in C++.
struct Cpp {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cpp {
    fn start(shm: &Path) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
        let mut make = Command::new("make");
        make.arg("-C").arg(package).arg("install").arg(format!("PREFIX={}", installed.display()));
        // Variables that cargo sets for this program would affect the cargo that `make` runs.
        make.env_remove("CARGO_TARGET_DIR").stdout(Stdio::null());
        if let Some(target) = installed.ancestors().nth(2) {
            make.env("CARGO_TARGET_DIR", target);
        }
        run(&mut make);
        let program = installed.join("calls");
        let mut compile = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()));
        compile.args(["-std=c++17", "-O2"]).arg(package.join("benches/calls.cpp")).arg("-o").arg(&program);
        compile.arg("-I").arg(installed.join("include")).arg("-L").arg(installed.join("lib")).arg("-lconduit");
        run(&mut compile);
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", installed.join("lib")).env("CONDUIT_SHM_DIR", shm);
        command.env("CONDUIT_SOCKET", shm.join("no-registry"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, questions, answers: BufReader::new(answers) }
    }

    fn measure(&mut self, case: &str) -> f64 {
        writeln!(self.questions, "{case}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().expect("the program in C++ measures")
    }
}

impl Drop for Cpp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
