//! `conduit gc`: removes the regions of dead owners.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::foreign_text::clean;
use conduit::internal::shm::dir::{DirEntry, ReapLock, ShmDir};
use conduit::registry::{Client, RegionState};
use conduit::{Domain, TopicName};
use serde::Serialize;

use crate::failure::{Failure, with_remedy};
use crate::output;
use crate::removal::take_name;
use crate::source::open_directory;

/// How long the registry may take to remove what it was asked to remove.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Remove the regions of dead owners, and private names left by killed removers.
///
/// The daemon does this by itself; this is for machines without one, and to check that there is
/// nothing to do. An owner is dead if the kernel says that its lock is free.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit gc --dry-run
  conduit gc --json | jq '[.[].size_bytes] | add'

Exit codes:
  0  everything was removed, or there was nothing to remove
  1  something could not be removed")]
pub(crate) struct Args {
    /// Print what would be removed and why, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON array: name, path, size_bytes, reason, removed, error
    #[arg(long)]
    json: bool,
}

/// A file to be removed.
#[derive(Debug, Serialize)]
struct Leftover {
    name: String,
    path: String,
    size_bytes: u64,
    reason: String,
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let domain = Domain::from_env();
    let directory = open_directory(&domain)?;
    let entries = directory.entries().map_err(Failure::io("read", directory.path()))?;
    let mut leftovers: Vec<Leftover> = entries.into_iter().filter_map(|entry| leftover(&directory, entry)).collect();
    leftovers.sort_by(|one, other| one.name.cmp(&other.name));
    if !args.dry_run {
        remove_all(&domain, &directory, &mut leftovers);
    }
    output::print(|out| if args.json { output::json(out, &leftovers) } else { print(out, &leftovers, args.dry_run) })?;
    match leftovers.iter().find_map(|leftover| leftover.error.as_ref().map(|error| (&leftover.path, error))) {
        Some((path, error)) => Err(Failure::new(format_args!("cannot remove {path}: {error}"))),
        None => Ok(()),
    }
}

fn remove_all(domain: &Domain, directory: &ShmDir, leftovers: &mut [Leftover]) {
    // All requests are sent before any removal is waited for.
    let mut registry = Client::connect(domain).ok();
    for leftover in &mut *leftovers {
        leftover.error = remove(directory, registry.as_mut(), &leftover.name).err();
    }
    let _ = directory.finish_removals(ReapLock::Write);
    let deadline = Instant::now() + PATIENCE;
    for leftover in leftovers {
        let path = Path::new(&leftover.path);
        while leftover.error.is_none() && exists(path) && Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
        }
        leftover.removed = !exists(path);
        if leftover.removed {
            leftover.error = None;
        } else if leftover.error.is_none() {
            let reason = "it still exists: its owner is back, or the registry may not remove it";
            leftover.error = Some(reason.into());
        }
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn leftover(directory: &ShmDir, entry: DirEntry) -> Option<Leftover> {
    let (name, path, reason) = match entry {
        DirEntry::Region(topic) => {
            let region = Region::open_even_damaged(directory, &topic).ok()?;
            let described = region.describe();
            if described.state != RegionState::Orphaned {
                return None;
            }
            let owner = described.publisher.map_or("its owner".into(), |owner| format!("its owner {owner}"));
            (topic.to_string(), directory.path_of(&topic), format!("{owner} is dead: its lock is free"))
        }
        DirEntry::Removal { topic, file_name } => {
            let reason = "its remover was killed before it finished".into();
            (topic.to_string(), directory.path().join(file_name), reason)
        }
        DirEntry::Foreign(_) => return None,
    };
    let size_bytes = path.symlink_metadata().map_or(0, |metadata| metadata.len());
    Some(Leftover { name, path: path.display().to_string(), size_bytes, reason, removed: false, error: None })
}

fn remove(directory: &ShmDir, registry: Option<&mut Client>, name: &str) -> Result<(), String> {
    let topic: TopicName = name.parse().map_err(|error: conduit::TopicNameError| error.to_string())?;
    if let Some(registry) = registry {
        return registry.reap(&topic).map(drop).map_err(|error| with_remedy(&error));
    }
    let Ok(region) = Region::open_even_damaged(directory, &topic) else { return Ok(()) };
    let guard = region.reap_lock(ReapLock::Write).map_err(|error| error.to_string())?;
    if guard.is_some() {
        region.mark_orphaned().and_then(|()| take_name(directory, &region)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn print(out: &mut impl Write, leftovers: &[Leftover], dry_run: bool) -> io::Result<()> {
    for Leftover { path, size_bytes, reason, removed, .. } in leftovers {
        let path = clean(path);
        let done = match (dry_run, removed) {
            (true, _) => "would remove",
            (false, true) => "removed",
            (false, false) => "left",
        };
        writeln!(out, "{done}  {path}  {}  {reason}", output::memory_size(*size_bytes))?;
    }
    if leftovers.is_empty() {
        writeln!(out, "nothing to remove")?;
    }
    Ok(())
}
