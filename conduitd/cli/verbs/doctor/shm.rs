//! The shared-memory directory: what it is, and what it can hold.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use conduit::Domain;
use conduit::internal::shm::process::kernel_text;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::unistd::{AccessFlags, eaccess, geteuid};

use super::finding::Finding;
use super::logind::is_system_user;
use super::quoting::quoted;
use crate::output::memory_size;

pub(super) const IDS: [&str; 5] = [DIRECTORY, SIZE, SPACE, INODES, SHARING];
const DIRECTORY: &str = "shm-directory";
const SIZE: &str = "shm-size";
const SPACE: &str = "shm-space";
const INODES: &str = "shm-inodes";
const SHARING: &str = "shm-sharing";

const DEV_SHM: &str = "/dev/shm";
/// What Docker gives a container that asks for nothing.
const SMALL: u64 = 64 << 20;
/// A topic of 16 slots of 4 KiB.
const DEFAULT_TOPIC: u64 = 69_632;
const FEW_INODES: u64 = 100;

/// An amount of bytes or inodes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    /// None: no limit.
    total: Option<u64>,
    free: u64,
}

pub(super) fn check(domain: &Domain) -> Vec<Finding> {
    let given = domain.shm_dir();
    let path = match fs::canonicalize(given) {
        Ok(path) if path.is_dir() => path,
        Ok(_) => return unusable(given, "it is no directory", "set CONDUIT_SHM_DIR to a directory in a tmpfs"),
        Err(error) => {
            let remedy = if given == Path::new(DEV_SHM) {
                "`mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm`".into()
            } else {
                format!("`mkdir -m 1777 {}`, or set CONDUIT_SHM_DIR to a directory in a tmpfs", quoted(given))
            };
            return unusable(given, &error.to_string(), &remedy);
        }
    };
    let mount = Mount::of(&path);
    let container = container(Path::new("/"));
    let mut findings = vec![check_directory(domain, &path, mount.as_ref())];
    match statvfs(&path) {
        Ok(stat) => {
            let (bytes, inodes) = amounts(&stat);
            findings.extend([
                judge_size(&path, bytes, container.as_deref()),
                judge_space(&path, bytes),
                judge_inodes(&path, inodes),
            ]);
        }
        Err(errno) => findings.extend([SIZE, SPACE, INODES].map(|id| Finding::skipped(id, errno.to_string()))),
    }
    findings.push(judge_sharing(container.as_deref(), mount.as_ref()));
    findings
}

fn unusable(path: &Path, reason: &str, remedy: &str) -> Vec<Finding> {
    let problem = Finding::problem(DIRECTORY, format!("cannot use {}: {reason}", path.display()), remedy);
    let rest = IDS[1..].iter().map(|id| Finding::skipped(id, "there is no directory"));
    std::iter::once(problem).chain(rest).collect()
}

fn amounts(stat: &Statvfs) -> (Amount, Amount) {
    let amount = |total: u64, free: u64| Amount { total: (total > 0).then_some(total), free };
    let unit = stat.fragment_size();
    let bytes = amount(stat.blocks().saturating_mul(unit), stat.blocks_available().saturating_mul(unit));
    (bytes, amount(stat.files(), stat.files_available()))
}

fn check_directory(domain: &Domain, path: &Path, mount: Option<&Mount>) -> Finding {
    let here = path.display();
    let mut found = Vec::new();
    let kind = mount.map_or("unknown", |mount| mount.kind.as_str());
    match statfs(path) {
        Ok(stat) if stat.filesystem_type() == TMPFS_MAGIC => {}
        Ok(_) if domain.any_file_system() => found.push(Finding::warning(
            DIRECTORY,
            format!(
                "{here} is no tmpfs ({kind}): messages are as slow as that file system, and may be written to a disk"
            ),
            "set CONDUIT_SHM_DIR to a directory in a tmpfs",
        )),
        Ok(_) => found.push(Finding::problem(
            DIRECTORY,
            format!("{here} is no tmpfs ({kind}): nothing can be published there"),
            "set CONDUIT_SHM_DIR to a directory in a tmpfs, or CONDUIT_ANY_FILE_SYSTEM=1",
        )),
        Err(errno) => found.push(Finding::problem(
            DIRECTORY,
            format!("cannot examine the file system of {here}: {errno}"),
            "set CONDUIT_SHM_DIR to a directory in a tmpfs",
        )),
    }
    if statvfs(path).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY)) {
        let remedy =
            format!("`mount -o remount,rw {}`", quoted(&mount.map_or_else(|| path.into(), |it| it.at.clone())));
        found.push(Finding::problem(DIRECTORY, format!("{here} is mounted read-only"), remedy));
    } else if let Err(errno) = eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        let message = format!("uid {} may not make files in {here}: {errno}", geteuid());
        found.push(Finding::problem(DIRECTORY, message, format!("`chmod 1777 {}`", quoted(path))));
    }
    let (mode, uid) = match fs::metadata(path) {
        Ok(metadata) => (metadata.mode() & 0o7777, metadata.uid()),
        Err(error) => return Finding::skipped(DIRECTORY, format!("cannot examine {here}: {error}")),
    };
    found.extend(judge_mode(path, mode, uid, geteuid().as_raw()));
    Finding::of_all(DIRECTORY, found, || Finding::ok(DIRECTORY, format!("{here}: {kind}, mode {mode:04o}, uid {uid}")))
}

fn judge_mode(path: &Path, mode: u32, uid: u32, own: u32) -> Vec<Finding> {
    let here = path.display();
    let mut found = Vec::new();
    let remedy = || format!("`chmod 1777 {}`", quoted(path));
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        found.push(Finding::problem(
            DIRECTORY,
            format!("{here} has mode {mode:04o}, without the sticky bit: others can remove anybody's regions"),
            remedy(),
        ));
    } else if path == Path::new(DEV_SHM) && mode != 0o1777 {
        found.push(Finding::warning(
            DIRECTORY,
            format!("{here} has mode {mode:04o}, not 1777: not everybody can publish"),
            remedy(),
        ));
    }
    if uid != own && !is_system_user(uid) {
        found.push(Finding::warning(
            DIRECTORY,
            format!("{here} belongs to uid {uid}, who can remove anybody's regions"),
            format!("as root: `chown root: {}`", quoted(path)),
        ));
    }
    found
}

fn judge_size(path: &Path, bytes: Amount, container: Option<&str>) -> Finding {
    let here = path.display();
    match bytes.total {
        None => Finding::ok(SIZE, format!("{here} has no limit of its own")),
        Some(total) if total <= SMALL => {
            let message = format!("{here} holds {} only: room for few regions of large messages", memory_size(total));
            let remedy = match container {
                Some(_) => "start the container with `--shm-size=1g` (or `--ipc=host`)".into(),
                None => format!("`mount -o remount,size=1G {}`", quoted(path)),
            };
            Finding::warning(SIZE, message, remedy)
        }
        Some(total) => Finding::ok(SIZE, memory_size(total)),
    }
}

fn judge_space(path: &Path, bytes: Amount) -> Finding {
    let Some(total) = bytes.total else { return Finding::ok(SPACE, "as much as there is memory") };
    let free = format!("{} of {} are free", memory_size(bytes.free), memory_size(total));
    let remedy = format!(
        "remove unused regions (`conduit list`, `ls -lS {here}`), or `mount -o remount,size=... {here}`",
        here = quoted(path)
    );
    if bytes.free < DEFAULT_TOPIC {
        Finding::problem(SPACE, format!("{free}: nothing can be published"), remedy)
    } else if bytes.free < total / 10 {
        Finding::warning(SPACE, free, remedy)
    } else {
        Finding::ok(SPACE, free)
    }
}

fn judge_inodes(path: &Path, inodes: Amount) -> Finding {
    let Some(total) = inodes.total else { return Finding::ok(INODES, "no limit") };
    let free = format!("{} of {total} files are free", inodes.free);
    let remedy = format!("remove unused files, or `mount -o remount,nr_inodes=... {}`", quoted(path));
    match inodes.free {
        0 => Finding::problem(INODES, format!("{free}: nothing can be published"), remedy),
        few if few < FEW_INODES => Finding::warning(INODES, free, remedy),
        _ => Finding::ok(INODES, free),
    }
}

/// Container engines mount what they make for a container under the name `shm`; what they share
/// keeps the host's.
fn judge_sharing(container: Option<&str>, mount: Option<&Mount>) -> Finding {
    let Some(container) = container else { return Finding::ok(SHARING, "not in a container") };
    match mount {
        None => Finding::skipped(SHARING, format!("in a container ({container}), mount unknown")),
        Some(mount) if mount.source == "shm" || container == "systemd-nspawn" => Finding::warning(
            SHARING,
            format!(
                "the container ({container}) has {} for itself: topics are not shared with programs outside",
                mount.at.display()
            ),
            "to share topics, start it with `--ipc=host`, or with `-v /dev/shm:/dev/shm`, and with `-v /run/conduit:/run/conduit`",
        ),
        Some(mount) => {
            Finding::ok(SHARING, format!("in a container ({container}); {} seems to be shared", mount.at.display()))
        }
    }
}

/// The container of this process, according to its engine.
fn container(root: &Path) -> Option<String> {
    // https://systemd.io/CONTAINER_INTERFACE
    let name = fs::read_to_string(root.join("run/systemd/container")).ok().map(|name| name.trim().to_owned());
    let name = name.or_else(|| std::env::var("container").ok()).filter(|name| !name.is_empty());
    let exists = |file: &str| root.join(file).exists();
    name.or_else(|| exists("run/.containerenv").then(|| "podman".into()))
        .or_else(|| exists(".dockerenv").then(|| "docker".into()))
        .or_else(|| std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "kubernetes".into()))
}

/// A line of `/proc/self/mountinfo`: see proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) at: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
    /// Of the file system, not of the mount.
    pub(super) options: String,
}

impl Mount {
    /// The mount that a canonical path is on.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Self::find(&kernel_text("/proc/self/mountinfo").ok()?, path)
    }

    fn find(mounts: &str, path: &Path) -> Option<Self> {
        let covering = mounts.lines().filter_map(Self::parse).filter(|mount| path.starts_with(&mount.at));
        // Of several on the same point the last hides the others.
        covering.max_by_key(|mount| mount.at.components().count())
    }

    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let at = mount.split(' ').nth(4)?;
        let mut file_system = file_system.split(' ');
        let (kind, source) = (file_system.next()?, file_system.next()?);
        let options = file_system.next().unwrap_or_default().into();
        Some(Self { at: unescaped(at).into(), kind: kind.into(), source: unescaped(source), options })
    }
}

/// Blanks and the like are written as three octal digits.
fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{self, Ok, Problem, Warning};
    use super::*;

    const MOUNTS: &str = "\
22 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b
25 22 0:23 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw,size=1024k
30 25 0:27 / /dev/shm rw,nosuid,nodev - tmpfs shm rw,size=65536k,huge=always
31 22 0:28 / /mnt/two\\040words rw master:1 - tmpfs a\\134b rw
a line that says nothing
";

    #[test]
    fn a_path_is_on_the_deepest_and_last_mount() {
        let find = |path: &str| Mount::find(MOUNTS, Path::new(path)).unwrap();
        let shm = find("/dev/shm/x");
        assert_eq!((shm.source.as_str(), shm.options.as_str()), ("shm", "rw,size=65536k,huge=always"));
        assert_eq!(find("/dev/shmx").kind, "overlay");
        let words = find("/mnt/two words");
        assert_eq!((words.at.as_path(), words.source.as_str()), (Path::new("/mnt/two words"), "a\\b"));
        assert_eq!(Mount::find("", Path::new("/")), None);
        assert_eq!(unescaped("a\\9"), "a\\9");
    }

    #[test]
    fn small_and_full_file_systems_are_reported() {
        let path = Path::new(DEV_SHM);
        let amount = |total: u64, free| Amount { total: (total > 0).then_some(total), free };
        let states = |bytes| [judge_size(path, bytes, None).state, judge_space(path, bytes).state];
        assert_eq!(states(amount(1 << 30, 1 << 29)), [Ok, Ok]);
        assert_eq!(states(amount(0, 0)), [Ok, Ok]);
        assert_eq!(states(amount(64 << 20, 64 << 20)), [Warning, Ok]);
        assert_eq!(states(amount(1 << 30, 1 << 26)), [Ok, Warning]);
        assert_eq!(states(amount(1 << 30, 65_536)), [Ok, Problem]);
        let inodes = |total, free| judge_inodes(path, amount(total, free)).state;
        assert_eq!([inodes(1000, 500), inodes(1000, 99), inodes(1000, 0), inodes(0, 0)], [Ok, Warning, Problem, Ok]);
        let remedy = |container| judge_size(path, amount(1 << 20, 1 << 20), container).remedy.unwrap();
        assert!(remedy(Some("docker")).contains("--shm-size") && remedy(None).contains("remount,size="));
    }

    #[test]
    fn a_container_with_a_directory_of_its_own_is_reported() {
        let mount = |source: &str| Mount { source: source.into(), ..Mount::find(MOUNTS, Path::new(DEV_SHM)).unwrap() };
        let judge = |container, source| judge_sharing(container, Some(&mount(source))).state;
        assert_eq!(judge(None, "shm"), Ok);
        assert_eq!(judge(Some("docker"), "tmpfs"), Ok);
        assert_eq!(judge(Some("docker"), "shm"), Warning);
        assert_eq!(judge(Some("systemd-nspawn"), "tmpfs"), Warning);
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/systemd")).unwrap();
        fs::write(root.path().join("run/systemd/container"), "systemd-nspawn\n").unwrap();
        assert_eq!(container(root.path()).as_deref(), Some("systemd-nspawn"));
    }

    #[test]
    fn modes_that_let_others_remove_regions_are_problems() {
        let judge = |path: &str, mode, uid| -> Vec<Severity> {
            judge_mode(Path::new(path), mode, uid, 4321).iter().map(|finding| finding.state).collect()
        };
        assert_eq!(judge(DEV_SHM, 0o1777, 0), []);
        assert_eq!(judge(DEV_SHM, 0o777, 0), [Problem]);
        assert_eq!(judge(DEV_SHM, 0o755, 0), [Warning]);
        assert_eq!(judge("/dev/shm/mine", 0o700, 4321), []);
        assert_eq!(judge("/dev/shm/mine", 0o1777, 5000), [Warning]);
        assert_eq!(judge("/dev/shm/mine", 0o777, 5000), [Problem, Warning]);
    }
}
