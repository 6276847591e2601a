//! The shared-memory directory: finding names, and opening what they refer to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::descriptor::Descriptor;
use super::open::{Access, OpenFileError, above_standard, open_for, reopen};
pub use super::reap_lock::ReapLock;
use crate::topic::FILE_PREFIX;
use crate::{Domain, TopicName};

/// The identity of a file, independent of its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Number of the file system.
    pub dev: u64,
    /// Number of the inode on it.
    pub ino: u64,
}

impl FileId {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// The meaning of a file name in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirEntry {
    /// A region.
    Region(TopicName),
    /// The private name of a region that is being removed; if it stays, the remover was killed.
    Removal {
        /// The region's name before.
        topic: TopicName,
        /// The private name.
        file_name: String,
    },
    /// A name with the prefix of regions that is not a valid region name.
    Foreign(String),
}

impl DirEntry {
    /// Parses a file name; `None` if it is not one of Conduit's.
    pub fn parse(file_name: &str) -> Option<Self> {
        if file_name.starts_with(FILE_PREFIX) {
            let region = TopicName::from_file_name(file_name).map(Self::Region);
            return Some(region.unwrap_or_else(|| Self::Foreign(file_name.into())));
        }
        let (region, _) = file_name.strip_prefix('.')?.rsplit_once(REMOVAL_SEPARATOR)?;
        Some(Self::Removal { topic: TopicName::from_file_name(region)?, file_name: file_name.into() })
    }
}

/// The result of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The name is gone.
    Removed,
    /// The name was gone already, or refers to another file.
    NotOurs,
    /// Another file had taken the name in the meantime, and a third took it before that one could
    /// be put back; the second file has this private name now.
    Stranded(String),
}

/// In private names, before the part that tells them apart.
pub(super) const REMOVAL_SEPARATOR: char = '~';

/// An open shared-memory directory.
#[derive(Debug)]
pub struct ShmDir {
    path: PathBuf,
    fd: OwnedFd,
    any_file_system: bool,
}

/// A shared-memory directory without an open descriptor, for occasional use.
#[derive(Clone, Debug)]
pub(crate) struct DirLocation {
    path: PathBuf,
    id: FileId,
    any_file_system: bool,
}

impl DirLocation {
    /// Opens the directory. Fails if its path refers to another directory now.
    pub(crate) fn open(&self) -> io::Result<ShmDir> {
        let directory = ShmDir::open_path(&self.path, self.any_file_system)?;
        if FileId::of(&fstat(&directory.fd)?) != self.id {
            return Err(io::Error::other(format!("another directory is {} now", self.path.display())));
        }
        Ok(directory)
    }

    /// Path of a topic's region.
    pub(crate) fn path_of(&self, topic: &TopicName) -> PathBuf {
        self.path.join(topic.file_name())
    }
}

impl ShmDir {
    /// Opens the directory of a domain.
    pub fn open(domain: &Domain) -> io::Result<Self> {
        Self::open_path(domain.shm_dir(), domain.any_file_system())
    }

    fn open_path(path: &Path, any_file_system: bool) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = above_standard(nix::fcntl::open(path, flags, Mode::empty())?)?;
        Ok(Self { path: path.into(), fd, any_file_system })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself, whatever its path stands for now.
    pub fn id(&self) -> io::Result<FileId> {
        Ok(FileId::of(&fstat(&self.fd)?))
    }

    /// Its location, to open it again.
    pub(crate) fn location(&self) -> io::Result<DirLocation> {
        // The process may change its working directory.
        let path = std::path::absolute(&self.path)?;
        Ok(DirLocation { path, id: FileId::of(&fstat(&self.fd)?), any_file_system: self.any_file_system })
    }

    /// Where the region of a topic is.
    pub fn path_of(&self, topic: &TopicName) -> PathBuf {
        self.path.join(topic.file_name())
    }

    /// Whether regions can be created here: in a tmpfs, or anywhere if the domain allows it.
    pub(crate) fn is_suitable(&self) -> io::Result<bool> {
        Ok(self.any_file_system || fstatfs(&self.fd)?.filesystem_type() == TMPFS_MAGIC)
    }

    /// All entries of the directory with names of Conduit's.
    pub fn entries(&self) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        self.visit(|entry| {
            entries.push(entry);
            true
        })?;
        Ok(entries)
    }

    /// Visits the entries of the directory with names of Conduit's, until one is not wanted.
    pub fn visit(&self, mut is_wanted: impl FnMut(DirEntry) -> bool) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory = Dir::from_fd(above_standard(openat(&self.fd, ".", flags, Mode::empty())?)?)?;
        for entry in directory.iter() {
            if let Some(entry) = entry?.file_name().to_str().ok().and_then(DirEntry::parse)
                && !is_wanted(entry)
            {
                break;
            }
        }
        Ok(())
    }

    /// Opens a file of the directory. Never follows a link, and never waits for a device or a
    /// lease.
    pub(crate) fn open_file(&self, file_name: &str, access: Access) -> Result<Descriptor, OpenFileError> {
        let flags = access.flag() | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_BENEATH);
        let opened = Descriptor::open(|| match open_for(access, || openat2(&self.fd, file_name, how)) {
            // systemd's RestrictSUIDSGID= blocks the call.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) => self.open_file_in_steps(file_name, access),
            other => other,
        });
        opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => OpenFileError::NotFound,
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => OpenFileError::NoPermission,
            Some(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO | Errno::EXDEV) => OpenFileError::NotRegular,
            Some(Errno::EAGAIN) => OpenFileError::Leased,
            _ => OpenFileError::Io(error),
        })
    }

    /// Opens a file for writing if this user may write it, else for reading.
    pub(crate) fn open_file_as_permitted(&self, file_name: &str) -> Result<(Descriptor, Access), OpenFileError> {
        match self.open_file(file_name, Access::ReadWrite) {
            Err(OpenFileError::NoPermission) => Ok((self.open_file(file_name, Access::Read)?, Access::Read)),
            file => Ok((file?, Access::ReadWrite)),
        }
    }

    /// Opens a file without openat2: checks what the name refers to before opening it.
    fn open_file_in_steps(&self, file_name: &str, access: Access) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let location = openat(&self.fd, file_name, flags, Mode::empty())?;
        let stat = fstat(&location)?;
        if stat.st_dev != fstat(&self.fd)?.st_dev {
            return Err(Errno::EXDEV.into());
        }
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => reopen(&location, access),
            SFlag::S_IFLNK => Err(Errno::ELOOP.into()),
            _ => Err(Errno::ENXIO.into()),
        }
    }

    /// The file that a name refers to now.
    pub fn id_of(&self, topic: &TopicName) -> io::Result<Option<FileId>> {
        Ok(self.stat(&topic.file_name())?.map(|stat| FileId::of(&stat)))
    }

    /// The file that a name refers to now, and the user id of its owner.
    pub fn owner_of(&self, topic: &TopicName) -> io::Result<Option<(FileId, u32)>> {
        Ok(self.stat(&topic.file_name())?.map(|stat| (FileId::of(&stat), stat.st_uid)))
    }

    pub(super) fn stat(&self, file_name: &str) -> nix::Result<Option<FileStat>> {
        match fstatat(&self.fd, file_name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> nix::Result<()> {
        renameat2(&self.fd, from, &self.fd, to, RenameFlags::RENAME_NOREPLACE)
    }

    pub(super) fn unlink(&self, file_name: &str) -> nix::Result<()> {
        unlinkat(&self.fd, file_name, UnlinkatFlags::NoRemoveDir)
    }
}

impl AsFd for ShmDir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// A directory of its own, and what removes it at the end of the test.
    pub(in crate::shm) fn directory() -> (tempfile::TempDir, ShmDir) {
        let temporary = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = ShmDir::open(&Domain::new(temporary.path())).unwrap();
        (temporary, directory)
    }

    pub(in crate::shm) fn topic() -> TopicName {
        "a/b".parse().unwrap()
    }

    /// Makes an empty file with the topic's name.
    pub(in crate::shm) fn make(directory: &ShmDir) -> FileId {
        let file = File::create_new(directory.path_of(&topic())).unwrap();
        let metadata = file.metadata().unwrap();
        FileId { dev: metadata.dev(), ino: metadata.ino() }
    }

    #[test]
    fn files_are_opened_in_steps_as_in_one() {
        let (temporary, directory) = directory();
        let path = |name: &str| temporary.path().join(name);
        fs::write(path("file"), "x").unwrap();
        fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        let access = Access::Read;
        let id = |file: &dyn AsFd| FileId::of(&fstat(file.as_fd()).unwrap());
        let in_one = directory.open_file("file", access).map(|file| id(&file));
        assert_eq!(directory.open_file_in_steps("file", access).map(|file| id(&file)).unwrap(), in_one.unwrap());
        let refused =
            |name| directory.open_file_in_steps(name, access).unwrap_err().raw_os_error().map(Errno::from_raw);
        assert_eq!(refused("none"), Some(Errno::ENOENT));
        assert_eq!(refused("link"), Some(Errno::ELOOP));
        assert_eq!(refused("fifo"), Some(Errno::ENXIO));
        assert_eq!(refused("directory"), Some(Errno::ENXIO));
    }

    #[test]
    fn file_names_are_understood() {
        assert_eq!(DirEntry::parse("conduit_a.b"), Some(DirEntry::Region(topic())));
        assert_eq!(DirEntry::parse("conduit_--force"), Some(DirEntry::Foreign("conduit_--force".into())));
        assert_eq!(DirEntry::parse("conduit_a..b"), Some(DirEntry::Foreign("conduit_a..b".into())));
        let private = ".conduit_a.b~1-2-3";
        assert_eq!(DirEntry::parse(private), Some(DirEntry::Removal { topic: topic(), file_name: private.into() }));
        assert_eq!(DirEntry::parse("sem.x"), None);
    }

    #[test]
    fn a_location_opens_only_the_same_directory() {
        let temporary = tempfile::tempdir_in("/dev/shm").unwrap();
        let here = temporary.path().join("here");
        fs::create_dir(&here).unwrap();
        let id = make(&ShmDir::open(&Domain::new(&here)).unwrap());
        let place = ShmDir::open(&Domain::new(&here)).unwrap().location().unwrap();
        assert_eq!(place.open().unwrap().id_of(&topic()).unwrap(), Some(id));
        fs::rename(&here, temporary.path().join("there")).unwrap();
        assert_eq!(place.open().unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&here).unwrap();
        assert!(place.open().unwrap_err().to_string().starts_with("another directory is "));
        fs::remove_dir(&here).unwrap();
        std::os::unix::fs::symlink("there", &here).unwrap();
        assert_eq!(place.open().unwrap().id_of(&topic()).unwrap(), Some(id), "the same, whatever the way to it");
    }
}
