//! The files in the directory, and those left by dead processes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, ShmDir};
use conduit::registry::{RegionState, TopicInfo};
use conduit::{Domain, OpenError, TopicName};
use nix::unistd::geteuid;

use super::finding::Finding;
use super::quoting::quoted;
use super::remedy::how_to_start;
use crate::output::{count, memory_size};

pub(super) const IDS: [&str; 6] = [REGIONS, ACCESS, ORPHANS, FOREIGN, UNLINKED, REMOVALS];
const REGIONS: &str = "regions";
const ACCESS: &str = "access";
const ORPHANS: &str = "orphans";
const FOREIGN: &str = "foreign-files";
const UNLINKED: &str = "unlinked-regions";
const REMOVALS: &str = "stale-removals";

/// How long a daemon may take to clean up: it checks locks twice a second, and private names after
/// 1.5 s.
const REAPED_WITHIN: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(50);
/// A removal takes microseconds; a private name this old was left.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);
/// How many names are printed.
const MANY: usize = 5;

/// The contents of the directory.
#[derive(Debug, Default)]
struct DirectorySurvey {
    alive: u64,
    kept: u64,
    bytes: u64,
    /// With the users that own them.
    orphans: Vec<(PathBuf, u32)>,
    foreign: Vec<PathBuf>,
    removals: Vec<PathBuf>,
    /// Not readable for this user.
    hidden: u64,
    damaged: Vec<String>,
    /// Of live and kept regions: those that every local user may read, and those that they may
    /// write.
    readable: u64,
    writable: Vec<PathBuf>,
}

pub(super) fn check(domain: &Domain, topics: Option<&[TopicInfo]>) -> Vec<Finding> {
    let here = domain.shm_dir().display();
    let seen = ShmDir::open(domain).and_then(|directory| {
        let deadline = Instant::now() + REAPED_WITHIN;
        loop {
            let survey = look(&directory)?;
            let is_clean = survey.orphans.is_empty() && survey.removals.is_empty();
            if is_clean || topics.is_none() || Instant::now() >= deadline {
                return Ok(survey);
            }
            // The daemon is probably about to clean up.
            std::thread::sleep(PAUSE);
        }
    });
    match seen {
        Ok(survey) => vec![
            check_all(&survey),
            check_access(&survey, is_open(domain)),
            check_orphans(&survey, topics.is_some()),
            check_foreign(&survey),
            check_unlinked(topics),
            check_removals(&survey, topics.is_some()),
        ],
        Err(error) => IDS.map(|id| Finding::skipped(id, format!("cannot read {here}: {error}"))).into(),
    }
}

fn look(directory: &ShmDir) -> std::io::Result<DirectorySurvey> {
    let mut survey = DirectorySurvey::default();
    let mut entries = directory.entries()?;
    entries.sort_by_key(|entry| match entry {
        DirEntry::Region(topic) => topic.file_name(),
        DirEntry::Removal { file_name, .. } | DirEntry::Foreign(file_name) => file_name.clone(),
    });
    for entry in entries {
        match entry {
            DirEntry::Region(topic) => look_at(directory, &topic, &mut survey),
            DirEntry::Foreign(name) => survey.foreign.push(directory.path().join(name)),
            DirEntry::Removal { file_name, .. } => {
                let path = directory.path().join(file_name);
                if age_of_change(&path).is_some_and(|age| age >= ABANDONED_AFTER) {
                    survey.removals.push(path);
                }
            }
        }
    }
    Ok(survey)
}

fn look_at(directory: &ShmDir, topic: &TopicName, survey: &mut DirectorySurvey) {
    let region = match Region::open_even_damaged(directory, topic) {
        Ok(region) => region,
        Err(OpenError::NotFound { .. }) => return,
        Err(OpenError::Permission { .. }) => {
            survey.hidden += 1;
            return;
        }
        Err(OpenError::Kind { path, .. }) => {
            survey.foreign.push(path);
            return;
        }
        Err(error) => {
            survey.damaged.push(error.to_string());
            return;
        }
    };
    let path = directory.path_of(topic);
    survey.bytes += fs::symlink_metadata(&path).map_or(0, |metadata| metadata.blocks() * 512);
    let mode = region.access().map_or(0, |(_, mode)| mode);
    survey.readable += u64::from(mode & 0o004 != 0);
    if mode & 0o002 != 0 {
        survey.writable.push(path.clone());
    }
    if region.is_kept() {
        survey.kept += 1;
    } else if region.owner_lives().unwrap_or(true) {
        survey.alive += 1;
        if let Err(reason) = region.is_intact() {
            survey.damaged.push(format!("topic \"{topic}\": {reason}"));
        }
    } else {
        survey.orphans.push((path, region.uid()));
    }
}

/// How long ago the name or anything else about the file changed.
fn age_of_change(path: &Path) -> Option<Duration> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let changed = UNIX_EPOCH + Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    // If the clock was set back meanwhile it counts as old.
    Some(SystemTime::now().duration_since(changed).unwrap_or(Duration::MAX))
}

fn check_all(survey: &DirectorySurvey) -> Finding {
    let DirectorySurvey { alive, kept, bytes, hidden, damaged, .. } = survey;
    let mut message = format!("{alive} live, {kept} kept, {}", memory_size(*bytes));
    if *hidden > 0 {
        message += &format!("; {} that uid {} may not read", count(*hidden, "other"), geteuid());
    }
    if damaged.is_empty() {
        return Finding::ok(REGIONS, message);
    }
    let message = format!("{message}; {}", some(damaged.iter().cloned()));
    Finding::problem(
        REGIONS,
        message,
        "stop the publisher and start it again, with the same version of Conduit as the others",
    )
}

/// Whether every local user may look for regions in the directory.
fn is_open(domain: &Domain) -> bool {
    fs::metadata(domain.shm_dir()).is_ok_and(|directory| directory.mode() & 0o001 != 0)
}

fn check_access(survey: &DirectorySurvey, is_open: bool) -> Finding {
    if !is_open {
        return Finding::ok(ACCESS, "the directory is not open to every local user");
    }
    let DirectorySurvey { readable, writable, .. } = survey;
    let remedy = "`mode(0o640)` and a group for the publisher, or `umask 027`";
    if !writable.is_empty() {
        let names = some(writable.iter().map(|path| path.display().to_string()));
        let regions = count(writable.len() as u64, "region");
        let message = format!("{regions} that every local user may write, and so corrupt or truncate: {names}");
        return Finding::warning(ACCESS, message, remedy);
    }
    if *readable == 0 {
        return Finding::ok(ACCESS, "no region is open to every local user");
    }
    let regions = count(*readable, "region");
    Finding::ok(ACCESS, format!("{regions} that every local user may read; {remedy} keeps others out"))
}

fn check_orphans(survey: &DirectorySurvey, is_served: bool) -> Finding {
    let orphans = &survey.orphans;
    if orphans.is_empty() {
        return Finding::ok(ORPHANS, "none");
    }
    let names = some(orphans.iter().map(|(path, _)| path.display().to_string()));
    let message = format!("{}, whose owners are dead: {names}", count(orphans.len() as u64, "region"));
    let removal = remove(orphans.iter().map(|(path, _)| path.as_path()));
    let own = geteuid().as_raw();
    let other = orphans.iter().find(|(_, uid)| own != 0 && *uid != own);
    let who = other.map_or_else(String::new, |(_, uid)| format!(" as root or uid {uid}"));
    if is_served {
        let message = format!(
            "{message}; the daemon has not removed them (of another user it may not, unless it is the system's)"
        );
        return Finding::problem(ORPHANS, message, format!("{removal}{who}; the daemon's log says what prevents it"));
    }
    let remedy = format!("start the daemon ({}), or the publishers again, or {removal}{who}", how_to_start());
    Finding::warning(ORPHANS, message, remedy)
}

fn check_foreign(survey: &DirectorySurvey) -> Finding {
    let foreign = &survey.foreign;
    if foreign.is_empty() {
        return Finding::ok(FOREIGN, "none");
    }
    let names = some(foreign.iter().map(|path| path.display().to_string()));
    let files = count(foreign.len() as u64, "file");
    Finding::warning(
        FOREIGN,
        format!("{files} that Conduit did not make, and never removes, in the place of regions: {names}"),
        format!("if they are not needed, {}", remove(foreign.iter().map(PathBuf::as_path))),
    )
}

fn check_unlinked(topics: Option<&[TopicInfo]>) -> Finding {
    let Some(topics) = topics else { return Finding::skipped(UNLINKED, "only the daemon knows") };
    let unlinked: Vec<_> = topics.iter().filter(|topic| topic.state == RegionState::Unlinked).collect();
    if unlinked.is_empty() {
        return Finding::ok(UNLINKED, "none");
    }
    let name = |topic: &&TopicInfo| match &topic.publisher {
        Some(publisher) => format!("{} of {publisher}", topic.name),
        None => topic.name.clone(),
    };
    let message =
        format!("{} without a name: {}", count(unlinked.len() as u64, "live region"), some(unlinked.iter().map(name)));
    let mut remedies: Vec<_> = unlinked.iter().filter_map(|topic| topic.unlinked.clone()).collect();
    remedies.dedup();
    let remedy = if remedies.is_empty() { "start the publisher again".into() } else { some(remedies.into_iter()) };
    Finding::problem(UNLINKED, message, remedy)
}

fn check_removals(survey: &DirectorySurvey, is_served: bool) -> Finding {
    let removals = &survey.removals;
    if removals.is_empty() {
        return Finding::ok(REMOVALS, "none");
    }
    let names = some(removals.iter().map(|path| path.display().to_string()));
    let message =
        format!("{} left by removers that were killed: {names}", count(removals.len() as u64, "private name"));
    // Not `rm`: a living topic may be behind it, which gets its name back.
    let remedy = if is_served {
        "the daemon's log says what prevents it; files that Conduit did not make can be removed".into()
    } else {
        format!("start the daemon ({}), or the publisher of that topic again", how_to_start())
    };
    Finding::warning(REMOVALS, message, remedy)
}

/// The first few, and how many more.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MANY);
    let mut text = names.take(MANY).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// The command that removes the first few files.
fn remove<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let paths: Vec<_> = paths.take(MANY).collect();
    let are_directories = paths.iter().any(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()));
    let paths: Vec<_> = paths.into_iter().map(quoted).collect();
    format!("`rm {}{}`", if are_directories { "-r " } else { "" }, paths.join(" "))
}
