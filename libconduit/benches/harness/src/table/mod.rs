//! The table of the library's benchmarks: Conduit beside the limits of the machine, and beside
//! other libraries if there are any.

mod behind;
mod costs;
mod entrant;
mod fan_out;
mod goals;
mod measured;
mod options;
mod peer;
mod plan;
mod report;
mod result;
mod rows;
mod topic_costs;
mod waiting;
mod works;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::Duration;

use crate::partner::{self, Partner};
use crate::{Result, cores, directory};
use measured::MeasuredRow;
use options::TableOptions;
pub use peer::Peer;
use plan::Plan;
use result::RowResult;
use rows::TableRow;

/// First of the hidden arguments of the second process.
const SECOND: &str = "second";

/// The whole program, with the libraries to measure beside Conduit.
pub fn main(peers: &[Peer]) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    let done = match texts[..] {
        [SECOND, parent, core, site, plan] => second(parent, core, site, plan, peers),
        [costs::START, entrant, site] => costs::start(entrant, site, peers),
        _ => first(arguments, peers),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn first(arguments: Vec<OsString>, peers: &[Peer]) -> Result<()> {
    let Some(options) = TableOptions::parse(arguments)? else {
        return say(options::HELP);
    };
    let is_wanted = |row: &TableRow| options.wants(&row.id) && (!options.goals || row.has_goals());
    let rows: Vec<TableRow> = rows::all().into_iter().filter(is_wanted).collect();
    if options.list {
        return say(&rows.iter().map(|row| format!("{:48} {}\n", row.id, row.title)).collect::<String>());
    }
    if rows.is_empty() {
        return Err("no row has such a name: --list shows all".into());
    }
    let cores = cores::choose(options.cores)?;
    if cores.is_one() {
        return Err("two cores are needed, and this process may use only one".into());
    }
    directory::handle_signals()?;
    cores::pin(cores.first)?;
    let measured = measure_all(&rows, cores.second, &options, peers)?;
    if options.json {
        say(&format!("{}\n", report::json(&measured)?))
    } else {
        say(&report::markdown(&measured, &cores, &options))
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

fn measure_all<'a>(
    rows: &'a [TableRow],
    core: usize,
    options: &TableOptions,
    peers: &[Peer],
) -> Result<Vec<MeasuredRow<'a>>> {
    let is_watched = std::io::stderr().is_terminal();
    let mut measured: Vec<_> = rows.iter().map(|row| MeasuredRow { row, repeats: Vec::new(), near_ns: None }).collect();
    for repeat in 1..=options.repeats {
        for MeasuredRow { row, repeats, .. } in &mut measured {
            if is_watched {
                let _ = write!(io::stderr(), "\x1b[2K{repeat}/{}  {}\r", options.repeats, row.id);
            }
            let time = Duration::from_secs_f64(row.seconds * options.time);
            let result = measure(row, core, time, repeat % 2 == 1, peers);
            repeats.push(result.map_err(|error| format!("{}: {error}", row.id))?);
        }
    }
    if is_watched {
        let _ = write!(io::stderr(), "\x1b[2K");
    }
    measured::find_near(&mut measured);
    Ok(measured)
}

/// One row in one repeat: with new processes and new topics.
fn measure(row: &TableRow, core: usize, time: Duration, limits_first: bool, peers: &[Peer]) -> Result<RowResult> {
    let clean_ups = peers.iter().map(|peer| peer.clean).collect();
    directory::with_site(limits_first, core, clean_ups, |site| {
        match row.plan {
            Plan::Start => return costs::time_to_first(site, time, peers),
            Plan::Behind { bytes } => return behind::fall_behind(site, bytes),
            _ => {}
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args([SECOND, &std::process::id().to_string(), &core.to_string()]);
        command.args([serde_json::to_string(site)?, serde_json::to_string(&row.plan)?]);
        let mut partner = Partner::start(command, mpsc::channel())?;
        row.plan.measure(site, &mut partner, time, peers).map_err(|error| partner.reason(error))
    })
}

fn second(parent: &str, core: &str, site: &str, plan: &str, peers: &[Peer]) -> Result<()> {
    let (site, plan): (_, Plan) = (serde_json::from_str(site)?, serde_json::from_str(plan)?);
    partner::run_second(parent.parse()?, core.parse()?, || plan.answer(&site, peers))
}
