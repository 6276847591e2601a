//! `conduit wait`: for scripts, and for services that depend on topics of others.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::RegionState;
use conduit::{Domain, OpenError, TopicName};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::arguments::{duration, topic_names};
use crate::completion::topics;
use crate::failure::Failure;
use crate::output;

/// How often to check what inotify does not report: the liveness of owners, and subscribers.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const SUBSCRIBERS_INTERVAL: Duration = Duration::from_millis(20);
/// How often to check everything where inotify is not to be had.
const UNWATCHED_INTERVAL: Duration = Duration::from_millis(50);
/// Between two checks of a directory that changes all the time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// Reads of queued events between two checks.
const MOST_READS: usize = 16;
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
    let unwatchable = |reason: io::Error| failed(format_args!("cannot watch {}: {reason}", domain.shm_dir().display()));
    let mut directory = WatchedDirectory::open(&domain).map_err(unwatchable)?;
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        if !directory.is_current(&domain) {
            directory = WatchedDirectory::open(&domain).map_err(unwatchable)?;
        }
        let mut unmet = Vec::new();
        for topic in &topics {
            unmet.extend(unmet_condition(args, &directory.directory, topic).map_err(failed)?);
        }
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        match (unmet.is_empty(), left.is_zero()) {
            (true, _) => return Ok(()),
            (false, true) => return Err(Failure::new(format_args!("time is up: {}", unmet.join("; ")))),
            (false, false) => {}
        }
        let interval = if args.subscribers.is_some() { SUBSCRIBERS_INTERVAL } else { POLL_INTERVAL };
        directory.wait(interval.min(left));
    }
}

/// The directory of the regions, and what reports its changes.
struct WatchedDirectory {
    directory: ShmDir,
    /// `None` if this user has no inotify instances left.
    inotify: Option<Inotify>,
    /// Device and inode.
    id: (u64, u64),
}

impl WatchedDirectory {
    /// To be opened before the first check, so that no later change is missed.
    fn open(domain: &Domain) -> io::Result<Self> {
        let path = domain.shm_dir();
        let inotify = match watch_directory(domain) {
            Ok(inotify) => Some(inotify),
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOMEM)) => {
                let every = output::duration(UNWATCHED_INTERVAL);
                output::notice(format_args!(
                    "{} is checked every {every}, for it cannot be watched: {} (see the limits fs.inotify.* of sysctl)",
                    path.display(),
                    errno.desc()
                ));
                None
            }
            Err(errno) => return Err(errno.into()),
        };
        let metadata = fs::metadata(path)?;
        Ok(Self { directory: ShmDir::open(domain)?, inotify, id: (metadata.dev(), metadata.ino()) })
    }

    /// Whether the path still leads to this directory.
    fn is_current(&self, domain: &Domain) -> bool {
        fs::metadata(domain.shm_dir()).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id)
    }

    /// Waits until something changes, at most this long.
    fn wait(&self, longest: Duration) {
        let Some(inotify) = &self.inotify else { return thread::sleep(UNWATCHED_INTERVAL.min(longest)) };
        let began = Instant::now();
        // Rounded up, so that a fraction of a millisecond is not spent polling.
        let pause = PollTimeout::try_from(longest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], pause);
        thread::sleep(SHORTEST_INTERVAL.saturating_sub(began.elapsed()));
        let read = || inotify.read_events().is_ok_and(|events| !events.is_empty());
        let _ = (0..MOST_READS).take_while(|_| read()).count();
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
