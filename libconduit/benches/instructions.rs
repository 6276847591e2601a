//! Instructions per message on each side. Unlike times, these are the same on every run of the same
//! program, so that a regression shows on the noisiest machine. `cargo bench -p libconduit --bench
//! instructions` counts them under
//! [callgrind](https://valgrind.org/docs/manual/cl-manual.html) and fails if one exceeds its limit.
//!
//! Each case has a function of its own, in which alone callgrind counts. Time stamps are off, since
//! valgrind turns reading the clock into a system call.

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use conduit::{Domain, Publisher, Subscriber};

type Message = [u64; 8];

/// Messages of a run.
const COUNT: u64 = 1000;
/// More than the messages of a run, so that none is lost.
const SLOTS: u64 = 2048;

struct Case {
    name: &'static str,
    /// The function that callgrind counts in.
    function: &'static str,
    run: fn(&mut Publisher<Message>, &mut Subscriber<Message>),
    /// Messages that are sent before.
    sent: u64,
    /// Instructions per message at most: a little more than counted when it was last set. Raise it
    /// only with a reason: to move one cache line fewer, region layout 3 checks two entries in the
    /// reader's cache, and fetches the payload's line while it waits; a batch fetches its payloads'
    /// lines before it writes them, which doubles its rate.
    limit: u64,
}

const CASES: [Case; 7] = [
    Case { name: "send to nobody", function: "count_send", run: count_send, sent: 0, limit: 148 },
    Case { name: "loan and publish", function: "count_loan", run: count_loan, sent: 0, limit: 148 },
    Case { name: "send in batches", function: "count_run", run: count_run, sent: 0, limit: 158 },
    Case { name: "receive in place", function: "count_try_recv", run: count_try_recv, sent: COUNT, limit: 224 },
    Case { name: "receive a copy", function: "count_copy", run: count_copy, sent: COUNT, limit: 184 },
    Case { name: "receive in batches", function: "count_batch", run: count_batch, sent: COUNT, limit: 148 },
    Case { name: "find nothing", function: "count_nothing", run: count_nothing, sent: 0, limit: 240 },
];

#[inline(never)]
fn count_send(publisher: &mut Publisher<Message>, _: &mut Subscriber<Message>) {
    for number in 0..COUNT {
        publisher.send(black_box(&[number; 8])).expect("no slot is held");
    }
}

#[inline(never)]
fn count_loan(publisher: &mut Publisher<Message>, _: &mut Subscriber<Message>) {
    for number in 0..COUNT {
        let mut loan = publisher.loan().expect("no slot is held");
        *loan = black_box([number; 8]);
        loan.publish();
    }
}

#[inline(never)]
fn count_run(publisher: &mut Publisher<Message>, _: &mut Subscriber<Message>) {
    let messages = black_box([[7; 8]; 50]);
    for _ in 0..COUNT / 50 {
        assert_eq!(publisher.send_batch(&messages).expect("no slot is held"), 50);
    }
}

#[inline(never)]
fn count_try_recv(_: &mut Publisher<Message>, subscriber: &mut Subscriber<Message>) {
    for number in 0..COUNT {
        let sample = subscriber.try_recv().expect("the publisher is alive").expect("it was sent");
        assert_eq!(sample[7], number);
    }
}

#[inline(never)]
fn count_copy(_: &mut Publisher<Message>, subscriber: &mut Subscriber<Message>) {
    for number in 0..COUNT {
        let copied = subscriber.try_recv_copy().expect("the publisher is alive").expect("it was sent");
        assert_eq!(copied[7], number);
    }
}

#[inline(never)]
fn count_batch(_: &mut Publisher<Message>, subscriber: &mut Subscriber<Message>) {
    let mut number = 0;
    while number < COUNT {
        let each = |message: conduit::Borrowed<'_, Message>| {
            assert_eq!(message[7], number);
            number += 1;
        };
        assert!(subscriber.try_recv_batch(64, each).expect("the publisher is alive") > 0);
    }
}

#[inline(never)]
fn count_nothing(_: &mut Publisher<Message>, subscriber: &mut Subscriber<Message>) {
    for _ in 0..COUNT {
        assert!(black_box(subscriber.try_recv()).expect("the publisher is alive").is_none());
    }
}

/// What callgrind runs.
fn run(case: &Case) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let domain = Domain::new(directory.path()).without_registry();
    let builder = Publisher::<Message>::builder().domain(&domain).slots(SLOTS as u32).slot_size(256);
    let mut publisher = builder.time_stamps(false).create("counted")?;
    let mut subscriber = Subscriber::<Message>::builder().domain(&domain).open("counted")?;
    for number in 0..case.sent {
        publisher.send(&[number; 8])?;
    }
    (case.run)(&mut publisher, &mut subscriber);
    Ok(())
}

/// Instructions per message.
fn count(case: &Case) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    // Rust's mangled names end with a hash, hence the stars.
    valgrind.arg(format!("--toggle-collect=*{}*", case.function));
    let output = valgrind.arg(std::env::current_exe()?).args(["--run", case.name]).output();
    let output = output.map_err(|error| format!("cannot run valgrind (Debian package valgrind): {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    match collected {
        Some(collected) if output.status.success() && collected > 0 => Ok(collected.div_ceil(COUNT)),
        _ => Err(format!("{}: valgrind did not count:\n{report}", case.name).into()),
    }
}

fn check() -> Result<bool, Box<dyn Error>> {
    let mut is_within_limits = true;
    let mut out = io::stdout();
    writeln!(out, "{:20} {:>12} {:>6}", "", "INSTRUCTIONS", "LIMIT")?;
    for case in &CASES {
        let counted = count(case)?;
        let verdict = if counted > case.limit { "  EXCEEDED" } else { "" };
        writeln!(out, "{:20} {counted:12} {:6}{verdict}", case.name, case.limit)?;
        is_within_limits &= counted <= case.limit;
    }
    Ok(is_within_limits)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let asked = arguments.find(|argument| argument == "--run").and_then(|_| arguments.next());
    let result = match asked {
        None => check(),
        Some(name) => match CASES.iter().find(|case| case.name == name) {
            Some(case) => run(case).map(|()| true),
            None => Err(format!("there is no case \"{name}\"").into()),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "instructions: {error}");
            ExitCode::FAILURE
        }
    }
}
