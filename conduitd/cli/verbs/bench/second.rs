//! The second process of `conduit bench`, which answers.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use conduit_bench::site::BenchSite;
use conduit_bench::{BenchSide, partner, turns};

use super::works;
use crate::failure::Failure;

/// Answers `conduit bench`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Process id of the bench
    #[arg(long)]
    parent: i32,
    /// Directory of the regions
    #[arg(long)]
    directory: PathBuf,
    /// Core to run on
    #[arg(long)]
    core: usize,
    /// Whether there are large messages
    #[arg(long)]
    large: bool,
}

/// The directory of the bench as the harness sees it.
pub(super) fn site(directory: &Path, second_core: usize) -> BenchSite {
    BenchSite { directory: directory.into(), limits_first: true, second_core }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let answer =
        || turns::answer_turns(works::contestants(&site(&args.directory, args.core), BenchSide::Second, args.large)?);
    partner::run_second(args.parent, args.core, answer).map_err(Failure::new)
}
