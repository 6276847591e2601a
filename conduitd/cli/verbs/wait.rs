//! `conduit wait`: for scripts, and for services that depend on topics of others.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::RegionState;
use conduit::{Domain, OpenError, TopicName};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::arguments::{duration, topic_names};
use crate::completion::topics;
use crate::failure::Failure;

/// How often to check what inotify does not report: the liveness of owners, and subscribers.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const SUBSCRIBERS_INTERVAL: Duration = Duration::from_millis(20);
const ERROR: u8 = 2;

/// Wait until topics exist, or are gone, or have subscribers.
///
/// A topic exists while its publisher is alive, a raw region while it has a name. Works without the
/// daemon.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit wait camera/front imu --timeout 5s && start_fusion
  conduit wait map --gone
  ExecStartPre=/usr/bin/conduit wait camera/front    (in a systemd unit)

Exit codes:
  0  condition met
  1  condition not met within --timeout
  2  error, reported on standard error, or wrong usage")]
pub(crate) struct Args {
    /// Names of topics or raw regions
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// Wait until none of them exists
    #[arg(long, conflicts_with = "subscribers")]
    gone: bool,
    /// Wait until each has at least this many subscribers
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=60))]
    subscribers: Option<u64>,
    /// Give up after this time: 5s, 500ms, 2m, or a number of seconds; by default never
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topics = topic_names(&args.topics).map_err(failed)?;
    let domain = Domain::from_env();
    let unwatchable =
        |reason: std::io::Error| failed(format_args!("cannot watch {}: {reason}", domain.shm_dir().display()));
    let directory = ShmDir::open(&domain).map_err(unwatchable)?;
    // Before the first check, so that no later change is missed.
    let inotify = watch_directory(&domain).map_err(|errno| unwatchable(errno.into()))?;
    let interval = if args.subscribers.is_some() { SUBSCRIBERS_INTERVAL } else { POLL_INTERVAL };
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let mut unmet = Vec::new();
        for topic in &topics {
            unmet.extend(unmet_condition(args, &directory, topic).map_err(failed)?);
        }
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        match (unmet.is_empty(), left.is_zero()) {
            (true, _) => return Ok(()),
            (false, true) => return Err(Failure::new(format_args!("time is up: {}", unmet.join("; ")))),
            (false, false) => {}
        }
        // Rounded up, so that a fraction of a millisecond is not spent polling.
        let pause = interval.min(left) + Duration::from_millis(1);
        let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], pause);
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::with_code(error, ERROR)
}

/// Becomes readable when a name appears in the directory or disappears.
fn watch_directory(domain: &Domain) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let changes =
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(domain.shm_dir(), changes)?;
    Ok(inotify)
}

/// The condition that a topic does not meet yet, in words.
fn unmet_condition(args: &Args, directory: &ShmDir, topic: &TopicName) -> Result<Option<String>, OpenError> {
    let region = match Region::open_in(directory, topic) {
        Ok(region) => region,
        Err(OpenError::NotFound { .. }) if args.gone => return Ok(None),
        Err(OpenError::NotFound { .. }) => return Ok(Some(format!("there is no topic \"{topic}\""))),
        Err(error) => return Err(error),
    };
    let described = region.describe();
    let is_present = matches!(described.state, RegionState::Live | RegionState::Kept);
    let unmet = match (args.gone, args.subscribers) {
        (true, _) => is_present.then(|| format!("topic \"{topic}\" is {}", described.state)),
        (false, _) if !is_present => Some(format!("topic \"{topic}\" is {}", described.state)),
        (false, Some(wanted)) => {
            let found = described.subscribers.len() as u64;
            (found < wanted).then(|| format!("topic \"{topic}\" has {found} of {wanted} subscribers"))
        }
        (false, None) => None,
    };
    Ok(unmet)
}
