//! Where regions live, and which registry watches over them.

use std::path::{Path, PathBuf};

/// A shared-memory directory and the sockets where its registry may listen.
///
/// Processes share topics if their domains have the same directory. The default,
/// [`Domain::from_env`], suits all programs except tests and tools that work with several
/// directories.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Domain {
    shm_dir: PathBuf,
    sockets: Vec<PathBuf>,
    any_file_system: bool,
}

/// Socket of the system's registry.
const SYSTEM_SOCKET: &str = "/run/conduit/registry.sock";

impl Domain {
    /// The domain the environment names.
    ///
    /// The directory is `$CONDUIT_SHM_DIR`, else `/dev/shm`. The registry is expected at
    /// `$CONDUIT_SOCKET` alone if it is set; else root tries `/run/conduit/registry.sock`, other
    /// users at `$XDG_RUNTIME_DIR/conduit/registry.sock` first. `CONDUIT_ANY_FILE_SYSTEM=1` is
    /// [`allow_any_file_system`](Self::allow_any_file_system).
    pub fn from_env() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let sockets = match variable("CONDUIT_SOCKET") {
            Some(socket) => vec![socket.into()],
            None => {
                let of_user = variable("XDG_RUNTIME_DIR")
                    .filter(|_| !nix::unistd::geteuid().is_root())
                    .map(|directory| Path::new(&directory).join("conduit/registry.sock"));
                of_user.into_iter().chain([SYSTEM_SOCKET.into()]).collect()
            }
        };
        Self {
            shm_dir: variable("CONDUIT_SHM_DIR").map_or_else(|| "/dev/shm".into(), PathBuf::from),
            sockets,
            any_file_system: variable("CONDUIT_ANY_FILE_SYSTEM").is_some_and(|value| value == "1"),
        }
    }

    /// A domain in this directory, without a registry. It takes nothing from the environment: use
    /// [`from_env`](Self::from_env) and [`with_shm_dir`](Self::with_shm_dir) to change only the
    /// directory.
    pub fn new(shm_dir: impl Into<PathBuf>) -> Self {
        Self { shm_dir: shm_dir.into(), sockets: Vec::new(), any_file_system: false }
    }

    /// Uses this shared-memory directory.
    pub fn with_shm_dir(mut self, shm_dir: impl Into<PathBuf>) -> Self {
        self.shm_dir = shm_dir.into();
        self
    }

    /// Uses the registry at this socket only.
    pub fn with_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.sockets = vec![socket.into()];
        self
    }

    /// Uses no registry.
    pub fn without_registry(mut self) -> Self {
        self.sockets.clear();
        self
    }

    /// Whether to accept a directory that is not on a tmpfs. Off by default.
    ///
    /// Creation still checks that locks outlive their descriptors there, which overlayfs, for one,
    /// does not provide; the memory is then as fast as that file system's page cache.
    pub fn allow_any_file_system(mut self, enabled: bool) -> Self {
        self.any_file_system = enabled;
        self
    }

    /// The shared-memory directory.
    pub fn shm_dir(&self) -> &Path {
        &self.shm_dir
    }

    /// The sockets of the registry, in the order in which clients try them.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// The socket on which a registry of this user listens by default; `None` if the environment
    /// names none.
    pub fn own_socket(&self) -> Option<&Path> {
        let is_own = |socket: &&Path| nix::unistd::geteuid().is_root() || *socket != Path::new(SYSTEM_SOCKET);
        self.sockets.first().map(PathBuf::as_path).filter(is_own)
    }

    /// Whether a directory that is not on a tmpfs is accepted.
    pub fn any_file_system(&self) -> bool {
        self.any_file_system
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::from_env()
    }
}
