//! Two processes on two cores, messages there and back, and beside them what the hardware takes and what a peer takes,
//! in turns of some milliseconds: the host moves virtual cores nearer to each other and farther away as it likes, so only
//! what was measured in the same moments can be compared.

#![allow(missing_docs, reason = "their callers are benchmarks")]

pub mod cores;
#[cfg(feature = "table")]
pub mod costs;
pub mod duel;
#[cfg(feature = "table")]
pub mod fan_out;
#[cfg(feature = "table")]
pub mod latency;
pub mod limit_players;
pub mod limits;
#[cfg(feature = "table")]
pub mod options;
pub mod ours;
pub mod pattern;
#[cfg(feature = "table")]
pub mod plan;
pub mod processes;
#[cfg(feature = "table")]
pub mod publish;
#[cfg(feature = "table")]
pub mod report;
#[cfg(feature = "table")]
pub mod spin;
pub mod statistics;
#[cfg(feature = "table")]
pub mod throughput;
pub mod transport;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use duel::Measured;
use options::Options;
use plan::{Plan, Row};
use processes::Second;
use report::Line;
use transport::{All, Place, Result};

/// The whole program, with a peer or without.
pub fn main<P: All>() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match arguments.first().and_then(|argument| argument.to_str()) {
        Some(processes::SECOND) => second::<P>(&arguments[1..]),
        Some(costs::START) => match arguments[1..].iter().map(|argument| argument.to_str()).collect::<Vec<_>>()[..] {
            [Some(column), Some(place)] => costs::start::<P>(column, place),
            _ => Err("this is no part for people".into()),
        },
        _ => first::<P>(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn first<P: All>(arguments: Vec<OsString>) -> Result<()> {
    let rows = plan::rows();
    let Some(options) = Options::parse(arguments)? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    let chosen: Vec<&Row> = rows.iter().filter(|row| options.wants(&row.id)).collect();
    if options.list {
        chosen.iter().for_each(|row| println!("{:40} {}", row.id, row.title));
        return Ok(());
    }
    if chosen.is_empty() {
        return Err("no row has such a name: --list shows all".into());
    }
    let cores = cores::choose(options.cores)?;
    processes::handle_signals()?;
    cores::pin(cores.0)?;
    let is_watched = std::io::stderr().is_terminal();
    let mut lines: Vec<Line<'_>> = chosen.iter().map(|row| Line { row, repeats: Vec::new() }).collect();
    for repeat in 1..=options.repeats {
        for line in &mut lines {
            if is_watched {
                eprint!("\x1b[2K{repeat}/{}  {}\r", options.repeats, line.row.id);
            }
            let time = Duration::from_secs_f64(line.row.seconds * options.time);
            let measured = measure::<P>(line.row, cores.1, time, repeat % 2 == 1);
            line.repeats.push(measured.map_err(|failure| format!("{}: {failure}", line.row.id))?);
        }
    }
    if is_watched {
        eprint!("\x1b[2K");
    }
    if options.json {
        println!("{}", report::json(&lines)?);
    } else {
        print!("{}", report::markdown(&lines, P::PEER, cores, options.percentiles));
    }
    Ok(())
}

/// A row in one repeat: with new processes and new topics.
fn measure<P: All>(row: &Row, core: usize, time: Duration, limits_first: bool) -> Result<Measured> {
    processes::at_home::<P, _>(limits_first, |place| {
        if let Plan::Start = row.plan {
            return costs::time_to_first::<P>(place, time);
        }
        let mut second = Second::start(place, core, &serde_json::to_string(&row.plan)?)?;
        row.plan.measure::<P>(place, &mut second, time).map_err(|failure| second.reason(failure))
    })
}

/// Arguments: the first process's pid, the core, the place, the plan.
fn second<P: All>(arguments: &[OsString]) -> Result<()> {
    let [parent, core, place, plan] = arguments else { return Err("this is no part for people".into()) };
    fn text(argument: &OsString) -> Result<&str> {
        Ok(argument.to_str().ok_or("an argument is not text")?)
    }
    let place: Place = serde_json::from_str(text(place)?)?;
    let plan: Plan = serde_json::from_str(text(plan)?)?;
    processes::run_second(text(parent)?.parse()?, text(core)?.parse()?, || plan.follow::<P>(&place))
}
