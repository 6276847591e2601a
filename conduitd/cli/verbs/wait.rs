//! `conduit wait`: for scripts, and for services that must not start before others are there.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::RegionState;
use conduit::{Domain, OpenError, TopicName};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::duration;
use crate::failure::Failure;
use crate::verbs::completions::topics;

/// What the directory does not tell is looked at so often: whether an owner that is not registered lives, and who subscribes.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const SUBSCRIBERS_INTERVAL: Duration = Duration::from_millis(20);
const ERROR: u8 = 2;

/// Wait until topics are there, or gone, or have subscribers.
///
/// A topic is there while its publisher lives, a raw region while it has its name. Works without the daemon.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit wait camera/front imu --timeout 5s && start_fusion
  conduit wait map --gone
  ExecStartPre=/usr/bin/conduit wait camera/front    (in a systemd unit)

Exit codes:
  0  it is so
  1  not within --timeout
  2  error, told on standard error, or wrong usage")]
pub(crate) struct Args {
    /// Names of topics or raw regions
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// Wait until none of them is there any more
    #[arg(long, conflicts_with = "subscribers")]
    gone: bool,
    /// Wait until each has at least this many subscribers
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=60))]
    subscribers: Option<u64>,
    /// Give up after this time: 5s, 500ms, 2m, or a number of seconds. Without it, never
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let error = |error: &dyn std::fmt::Display| Failure::with_code(error, ERROR);
    let topics: Result<Vec<TopicName>, _> = args.topics.iter().map(|topic| topic.parse()).collect();
    let topics = topics.map_err(|bad: conduit::TopicNameError| error(&bad))?;
    let domain = Domain::from_env();
    let path = domain.shm_dir();
    let in_directory =
        |reason: &dyn std::fmt::Display| error(&format_args!("can not watch {}: {reason}", path.display()));
    let directory = ShmDir::open(&domain).map_err(|reason| in_directory(&reason))?;
    // Before the first look, so that nothing is missed after it.
    let inotify =
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|reason| in_directory(&reason))?;
    let changes =
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(path, changes).map_err(|reason| in_directory(&reason))?;
    let interval = if args.subscribers.is_some() { SUBSCRIBERS_INTERVAL } else { LOOK_INTERVAL };
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let mut missing = Vec::new();
        for topic in &topics {
            missing.extend(lacks(args, &directory, topic).map_err(|reason| error(&reason))?);
        }
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        match (missing.is_empty(), left.is_zero()) {
            (true, _) => return Ok(()),
            (false, true) => return Err(Failure::new(format_args!("time is up: {}", missing.join("; ")))),
            (false, false) => {}
        }
        // Rounded up: what is left of a millisecond must not be spent in a hurry.
        let pause = interval.min(left) + Duration::from_millis(1);
        let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], pause);
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

/// What keeps a topic from being as it is waited for.
fn lacks(args: &Args, directory: &ShmDir, topic: &TopicName) -> Result<Option<String>, OpenError> {
    let region = match Region::open(directory, topic) {
        Ok(region) => region,
        Err(OpenError::NotFound { .. }) if args.gone => return Ok(None),
        Err(OpenError::NotFound { .. }) => return Ok(Some(format!("there is no topic \"{topic}\""))),
        Err(error) => return Err(error),
    };
    let described = region.describe();
    let is_there = matches!(described.state, RegionState::Live | RegionState::Kept);
    let lack = match (args.gone, args.subscribers) {
        (true, _) => is_there.then(|| format!("topic \"{topic}\" is {}", described.state)),
        (false, _) if !is_there => Some(format!("topic \"{topic}\" is {}", described.state)),
        (false, Some(wanted)) => {
            let found = described.subscribers.len() as u64;
            (found < wanted).then(|| format!("topic \"{topic}\" has {found} of {wanted} subscribers"))
        }
        (false, None) => None,
    };
    Ok(lack)
}
