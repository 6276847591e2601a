//! Which test finds each mutation of the ring, of the wait sets and of the parkers.
//!
//! `.ci/deep mutations [BEGINNING ...]` builds this with `--cfg conduit_mutations`. See
//! `libconduit/src/mutation.rs` for what a mutation is. Every test below is a process of its own.
//! First each runs without a mutation, which tells how long it takes and which mutations it
//! reaches. Then, for each mutation, those that reach it run, the quickest first, until one finds
//! it: it fails with the mutation, passes without, and fails again with it. Mutations run in
//! parallel, one on each processor. What is known of the same programs from an earlier run is not
//! repeated. After two hours (`CONDUIT_MUTATIONS_SECONDS`) no more are begun.
#![allow(missing_docs, unreachable_pub, reason = "not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report for whoever runs it")]

mod known;
mod names;
mod suite;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use names::Mutation;
use suite::{Outcome, Suite, Test, in_parallel};

/// What the tests say about a mutation.
enum Verdict<'a> {
    /// The first test that fails, and how.
    Found(&'a Test, Outcome),
    /// One fails, but not each time, or not only with the mutation; no other does.
    Unsteady(&'a Test),
    Survived,
    /// No test reaches it.
    Unreached,
    /// The time was up before.
    Untried,
}

fn main() -> ExitCode {
    let beginnings: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    if !cfg!(conduit_mutations) {
        eprintln!("Built without mutations: run `.ci/deep mutations`.");
        return ExitCode::from(2);
    }
    let mut mutations = match names::of_library() {
        Ok(mutations) => mutations,
        Err(faults) => {
            eprint!("{faults}");
            return ExitCode::FAILURE;
        }
    };
    mutations.retain(|it| beginnings.is_empty() || beginnings.iter().any(|begin| it.name.starts_with(begin)));
    if mutations.is_empty() {
        eprintln!("no mutation begins with {}", beginnings.join(" or "));
        return ExitCode::from(2);
    }
    let begun = Instant::now();
    let suite = match Suite::measure() {
        Ok(suite) => suite,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::FAILURE;
        }
    };
    println!("{} tests take {:.0} s without a mutation\n", suite.tests.len(), suite.seconds());
    let faults = run(&mutations, &suite, begun + whole());
    println!(
        "\n{} mutations, {faults} of them unaccounted for, in {:.0} s",
        mutations.len(),
        begun.elapsed().as_secs_f64()
    );
    let file = suite.file.lock().expect("the file");
    println!("The rest is not repeated for the same programs, unless {} is removed.", file.path().display());
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// After this time no mutation is begun.
fn whole() -> Duration {
    let seconds = std::env::var("CONDUIT_MUTATIONS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2 * 60 * 60))
}

/// Prints a row for each mutation. Returns how many are a fault.
fn run(mutations: &[Mutation], suite: &Suite, deadline: Instant) -> usize {
    println!("{:<42} {:>7}  {:<9} first test that fails", "mutation", "seconds", "how");
    let queue = Mutex::new(mutations.iter());
    let faults = Mutex::new(0);
    in_parallel(|| {
        while let Some(mutation) = { queue.lock().expect("the queue").next() } {
            let known = { suite.file.lock().expect("the file").known.rows.get(&mutation.name).cloned() };
            if let Some((seconds, how, what)) = known {
                println!("{:<42} {seconds:>7.1}  {how:<9} {what}", mutation.name);
                continue;
            }
            let begun = Instant::now();
            let verdict = if begun < deadline { judge(mutation, suite) } else { Verdict::Untried };
            let (how, what, is_fault) = row(mutation, &verdict);
            let seconds = begun.elapsed().as_secs_f64();
            println!("{:<42} {seconds:>7.1}  {how:<9} {what}", mutation.name);
            if is_fault {
                *faults.lock().expect("the number of faults") += 1;
            } else {
                let mut file = suite.file.lock().expect("the file");
                file.known.rows.insert(mutation.name.clone(), (seconds, how.to_owned(), what));
                file.save();
            }
        }
    });
    faults.into_inner().expect("the number of faults")
}

fn judge<'a>(mutation: &Mutation, suite: &'a Suite) -> Verdict<'a> {
    let mut tests: Vec<_> = suite.tests.iter().filter(|test| test.reached.contains(&mutation.name)).collect();
    if tests.is_empty() {
        return Verdict::Unreached;
    }
    // To other tests this processor and compiler may show it, or may not.
    if weakens_ordering(&mutation.name) && tests.iter().any(|test| test.is_model()) {
        tests.retain(|test| test.is_model());
    }
    let mut unsteady = None;
    for test in tests {
        let outcome = test.run(Some(&mutation.name));
        if !finds(test, outcome) {
            continue;
        }
        if test.run(None) == Outcome::Passed && finds(test, test.run(Some(&mutation.name))) {
            return Verdict::Found(test, outcome);
        }
        unsteady = Some(test);
    }
    unsteady.map_or(Verdict::Survived, Verdict::Unsteady)
}

fn weakens_ordering(mutation: &str) -> bool {
    ["_relaxed", "_acquire", "_release", "_acqrel"].iter().any(|suffix| mutation.ends_with(suffix))
}

/// A mutation can also give a model more schedules than there is time for.
fn finds(test: &Test, outcome: Outcome) -> bool {
    outcome == Outcome::Failed || outcome == Outcome::Late && !test.is_model()
}

/// How, what, and whether it is a fault.
fn row(mutation: &Mutation, verdict: &Verdict<'_>) -> (&'static str, String, bool) {
    match (verdict, &mutation.reason) {
        (Verdict::Found(test, how), None) => {
            (if *how == Outcome::Late { "late" } else { "fails" }, test.name.clone(), false)
        }
        (Verdict::Found(test, _), Some(reason)) => {
            ("FOUND", format!("{}, although it may survive: {reason} ({})", test.name, mutation.place), true)
        }
        (Verdict::Survived, Some(reason)) => ("survives", reason.clone(), false),
        (Verdict::Survived, None) => ("SURVIVES", mutation.place.clone(), true),
        (Verdict::Unsteady(test), _) => ("UNSTEADY", format!("{} fails now and then", test.name), true),
        (Verdict::Untried, _) => ("UNTRIED", "the time is up; the next run continues here".to_owned(), true),
        (Verdict::Unreached, _) => ("UNREACHED", mutation.place.clone(), true),
    }
}
