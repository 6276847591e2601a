//! `conduit doctor`: whether this machine is fit for Conduit, and how to fix it if not.

mod daemon;
mod finding;
mod guards;
mod kernel;
mod logind;
mod machine;
mod quoting;
mod regions;
mod remedy;
mod shm;
mod socket;
mod time_limit;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args as ClapArgs;
use conduit::Domain;

use crate::failure::Failure;
use crate::output;
use finding::{DoctorReport, Finding, Severity};
use quoting::printable;
use time_limit::{PATIENCE, guarded, within};

const HELP: &str = "\
Checks:
  daemon            it answers in time and has this command's version
  daemon-directory  it serves the directory that programs use here
  daemon-log        it is read
  socket            this user may connect, and no other user can replace it
  shm-directory     a tmpfs, with the right mode
  shm-size          what it can hold
  shm-space         what is free
  shm-inodes        how many files are free
  shm-sharing       whether a container shares it with the machine
  remove-ipc        whether logind removes this user's regions at logout
  ofd-locks         locks that live as long as a mapping
  unnamed-files     files that appear complete or not at all
  pidfd             deaths of processes that started before the daemon
  peer-pidfd        deaths of clients
  pidfd-info        how a process ended
  futex-waitv       waiting for several words at once
  regions           all can be read
  access            topics that every local user may read or write
  orphans           regions whose owner is dead
  foreign-files     files in the place of regions
  unlinked-regions  regions whose owner is alive, without a name
  stale-removals    private names left by killed removers
  lock-files        the files by which daemons know each other
  open-files        limit of open files
  locked-memory     limit of locked memory
  clock             what a time stamp costs
  huge-pages        what pages regions have

States: ok, warning (something works less well), problem (something does not work), skipped (unknown).
--json prints {\"checks\": [{\"id\", \"state\", \"message\", \"remedy\"}, ...], \"worst\"}: each check once, in this order;
\"remedy\" is null unless the state is warning or problem; \"worst\" is ok, warning or problem.

Exit codes:
  0  no findings
  1  warnings, or the result cannot be written
  2  problems, or wrong usage

Example:
  conduit doctor --json | jq -r '.checks[] | select(.state == \"problem\") | .id'";

/// Check this machine for Conduit: the daemon, the shared memory, the kernel, and leftover files.
///
/// Asks the daemon, if one is running. Changes nothing.
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let report = DoctorReport::new(examine(&Domain::from_env()));
    output::print(|out| if args.json { output::json(out, &report) } else { print(out, &report) })?;
    Ok(report.exit_code())
}

fn examine(domain: &Domain) -> Vec<Finding> {
    let (mut findings, topics) = daemon::check(domain);
    findings.extend(group(domain, &shm::IDS, shm::check));
    findings.extend(group(domain, &[logind::ID], logind::check));
    findings.extend(group(domain, &kernel::FILE_SYSTEM_IDS, kernel::check_file_system));
    findings.extend(group(domain, &kernel::PROCESS_IDS, |_| kernel::check_processes()));
    findings.extend(group(domain, &regions::IDS, move |domain| regions::check(domain, topics.as_deref())));
    findings.extend(group(domain, &[guards::ID], guards::check));
    findings.extend(group(domain, &machine::IDS, machine::check));
    findings
}

/// Checks that share their fate if one of them hangs.
fn group(
    domain: &Domain,
    ids: &[&'static str],
    check: impl FnOnce(&Domain) -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    let domain = domain.clone();
    guarded(ids, within(PATIENCE, move || check(&domain)))
}

fn print(out: &mut impl Write, report: &DoctorReport) -> io::Result<()> {
    let width = report.checks.iter().map(|finding| finding.id.len()).max().unwrap_or(0);
    for Finding { id, state, message, remedy } in &report.checks {
        let style = state.style();
        writeln!(out, "{style}{:<7}{style:#}  {id:<width$}  {}", state.name(), printable(message))?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:<7}  {:<width$}  remedy: {}", "", "", printable(remedy))?;
        }
    }
    let count = |state| report.checks.iter().filter(|finding| finding.state == state).count() as u64;
    let mut summary = format!("{} ok", count(Severity::Ok));
    for state in [Severity::Warning, Severity::Problem] {
        let _ = write!(summary, ", {}", output::count(count(state), state.name()));
    }
    if count(Severity::Skipped) > 0 {
        let _ = write!(summary, ", {} skipped", count(Severity::Skipped));
    }
    writeln!(out, "\n{summary}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_done_once_and_documented_in_its_place() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).with_socket(directory.path().join("none"));
        let ids: Vec<_> = examine(&domain).iter().map(|finding| finding.id).collect();
        let documented = HELP.lines().skip(1).take_while(|line| !line.is_empty());
        let documented: Vec<_> = documented.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(ids, documented);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_missing_directory_is_a_finding_not_a_failure() {
        let domain = Domain::new("/does/not/exist").with_socket("/does/not/exist/either");
        let report = DoctorReport::new(examine(&domain));
        assert_eq!(report.worst, Severity::Problem);
        let directory = report.checks.iter().find(|finding| finding.id == "shm-directory").unwrap();
        assert_eq!(directory.state, Severity::Problem, "{directory:?}");
        for finding in &report.checks {
            assert_eq!(finding.remedy.is_some(), finding.state >= Severity::Warning, "{finding:?}");
        }
    }

    #[test]
    fn a_report_is_a_table_with_remedies_and_a_sum() {
        let checks = vec![
            Finding::ok("daemon", "conduitd 0.1.0, pid 812"),
            Finding::warning("orphans", "1 orphan: \x1b[31mx", "rm x"),
            Finding::skipped("clock", "unknown"),
        ];
        let report = DoctorReport::new(checks);
        let mut out = Vec::new();
        print(&mut out, &report).unwrap();
        let expected = "\
ok       daemon   conduitd 0.1.0, pid 812
warning  orphans  1 orphan: \\x1b[31mx
                  remedy: rm x
skipped  clock    unknown

1 ok, 1 warning, 0 problems, 1 skipped
";
        assert_eq!(output::plain(&out), expected);
        assert!(String::from_utf8(out).unwrap().contains("\x1b[33mwarning\x1b[0m  orphans"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["worst"], "warning");
        assert_eq!(json["checks"][2]["remedy"], serde_json::Value::Null);
    }
}
