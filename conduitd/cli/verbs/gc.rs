//! `conduit gc`: removes what the dead have left.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use conduit::inspect::Region;
use conduit::internal::shm::dir::{DirEntry, ReapLock, ShmDir};
use conduit::registry::Client;
use conduit::registry::RegionState;
use conduit::{Domain, TopicName};
use serde::Serialize;

use crate::failure::Failure;
use crate::output;
use crate::verbs::list::open_directory;
use crate::verbs::rm::take_name;

/// How long the registry may take to remove what it has been told of.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Remove the regions of dead owners, and what killed removers left.
///
/// The daemon does so by itself; this is for machines without one, and to see that there is nothing to do. Whether an owner
/// is dead, the kernel says: its lock is free.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit gc --dry-run
  conduit gc --json | jq '[.[].size_bytes] | add'

Exit codes:
  0  everything is removed, or nothing was there
  1  something could not be removed")]
pub(crate) struct Args {
    /// Say what would be removed, and why it may; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON array: name, path, size_bytes, reason, removed, error
    #[arg(long)]
    json: bool,
}

/// Something to be removed.
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
        // Each is asked for before any is waited for.
        let mut registry = Client::connect(&domain).ok();
        for leftover in &mut leftovers {
            leftover.error = remove(&directory, registry.as_mut(), &leftover.name).err();
        }
        let _ = directory.finish_removals(None, ReapLock::Write);
        let deadline = Instant::now() + PATIENCE;
        for leftover in &mut leftovers {
            let path = directory.path().join(&leftover.path);
            while leftover.error.is_none() && is_there(&path) && Instant::now() < deadline {
                std::thread::sleep(LOOK_INTERVAL);
            }
            leftover.removed = !is_there(&path);
            if leftover.removed {
                leftover.error = None;
            } else if leftover.error.is_none() {
                leftover.error =
                    Some("it is still there; its owner has come back, or the registry may not remove it".into());
            }
        }
    }
    let mut out = output::stdout();
    let written =
        if args.json { output::json(&mut out, &leftovers) } else { print(&mut out, &leftovers, args.dry_run) };
    written.and_then(|()| out.flush()).map_err(Failure::Output)?;
    match leftovers.iter().find_map(|leftover| leftover.error.as_ref().map(|error| (&leftover.path, error))) {
        Some((path, error)) => Err(Failure::new(format_args!("can not remove {path}: {error}"))),
        None => Ok(()),
    }
}

fn is_there(path: &std::path::Path) -> bool {
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
            let reason = "its remover was killed in the middle".into();
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
        return registry.reap(&topic).map(drop).map_err(|error| error.to_string());
    }
    let Ok(region) = Region::open_even_damaged(directory, &topic) else { return Ok(()) };
    let guard = region.try_reap_lock(ReapLock::Write).map_err(|error| error.to_string())?;
    if guard.is_some() {
        region.mark_orphaned().and_then(|()| take_name(directory, &region)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn print(out: &mut impl Write, leftovers: &[Leftover], dry_run: bool) -> io::Result<()> {
    for Leftover { path, size_bytes, reason, removed, .. } in leftovers {
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
