//! A service manager in a thread: it listens for the daemon, receives its notifications, stores its
//! descriptors, and restarts it. Tests with systemd itself are in `tests/systemd`.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::harness::{Daemon, World, wait_for};

#[derive(Default)]
struct Heard {
    lines: VecDeque<String>,
    store: Vec<(String, OwnedFd)>,
    /// Barriers that are not answered yet.
    held_back: Option<Vec<OwnedFd>>,
}

/// The service manager of one daemon.
pub struct Manager {
    listener: UnixListener,
    heard: Arc<Mutex<Heard>>,
    notify_path: std::path::PathBuf,
    /// Additional environment variables for the daemon.
    pub environment: Vec<(&'static str, String)>,
    pub arguments: Vec<String>,
}

impl Manager {
    pub fn new(world: &World) -> Self {
        let listener = UnixListener::bind(world.socket()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(world.socket(), mode).unwrap();
        let notify_path = world.path().join("notify");
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let weak = Arc::downgrade(&heard);
        std::thread::spawn(move || {
            while let Some(heard) = weak.upgrade() {
                if let Some((text, descriptors)) = receive(&notify) {
                    heard.lock().unwrap().hear(&text, descriptors);
                }
            }
        });
        Self { listener, heard, notify_path, environment: Vec::new(), arguments: Vec::new() }
    }

    pub fn listener(&self) -> OwnedFd {
        self.listener.try_clone().unwrap().into()
    }

    /// Starts the daemon and passes it all stored descriptors.
    pub fn start(&self, world: &World) -> Daemon {
        let kept: Vec<(String, OwnedFd)> = std::mem::take(&mut self.heard.lock().unwrap().store);
        let mut names = vec!["registry".to_owned()];
        let mut descriptors = vec![self.listener()];
        // Like systemd: last in, first out, and they stay in the store.
        for (name, descriptor) in kept.iter().rev() {
            names.push(name.clone());
            descriptors.push(descriptor.try_clone().unwrap());
        }
        self.heard.lock().unwrap().store = kept;
        self.spawn(world, names, descriptors)
    }

    /// Starts the daemon with these descriptors.
    pub fn spawn(&self, world: &World, names: Vec<String>, descriptors: Vec<OwnedFd>) -> Daemon {
        // LISTEN_PID is only known after the fork.
        let mut command: Command = world.command("sh");
        command.args(["-c", "LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_conduitd")]);
        command.args(["--config", "/dev/null"]).args(&self.arguments).env_remove("CONDUIT_SOCKET");
        command.env("NOTIFY_SOCKET", &self.notify_path).env("FDSTORE", "1000");
        command.env("LISTEN_FDS", descriptors.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mappings = descriptors.into_iter().zip(3..);
        let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).unwrap();
        let log = std::fs::File::options().append(true).create(true).open(world.path().join("daemon.log")).unwrap();
        command.stdin(Stdio::null()).stderr(log).spawn().unwrap().into()
    }

    /// Returns the next notification that starts with `prefix`; drops those before it.
    pub fn hear(&self, begin: &str) -> String {
        wait_for(begin, || {
            let mut heard = self.heard.lock().unwrap();
            let at = heard.lines.iter().position(|line| line.starts_with(begin))?;
            heard.lines.drain(..=at).next_back()
        })
    }

    /// The names of all stored descriptors.
    pub fn kept(&self) -> Vec<String> {
        self.heard.lock().unwrap().store.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Waits until a descriptor is stored whose name contains `part`.
    pub fn wait_until_kept(&self, part: &str) -> String {
        wait_for(part, || self.kept().into_iter().find(|name| name.contains(part)))
    }

    /// Stores a descriptor that the daemon did not send.
    pub fn put(&self, name: &str, descriptor: OwnedFd) {
        self.heard.lock().unwrap().store.push((name.into(), descriptor));
    }

    /// Answers no more barriers until [`answer_barriers`](Self::answer_barriers).
    pub fn hold_barriers_back(&self) {
        self.heard.lock().unwrap().held_back = Some(Vec::new());
    }

    pub fn barriers_held_back(&self) -> usize {
        self.heard.lock().unwrap().held_back.as_ref().map_or(0, Vec::len)
    }

    pub fn answer_barriers(&self) {
        self.heard.lock().unwrap().held_back = None;
    }
}

impl Heard {
    fn hear(&mut self, text: &str, descriptors: Vec<OwnedFd>) {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let name = value("FDNAME=").unwrap_or_default();
        if value("FDSTOREREMOVE=1").is_some() {
            self.store.retain(|(kept, _)| *kept != name);
        } else if value("FDSTORE=1").is_some() {
            assert!(name.len() <= 255 && !name.contains(':'), "{name}");
            self.store.extend(descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)));
        } else if value("BARRIER=1").is_some() {
            if let Some(held_back) = &mut self.held_back {
                held_back.extend(descriptors);
            }
        } else {
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut text = [0; 4096];
    let mut space = nix::cmsg_space!([i32; 8]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just created these descriptors for this process, and nothing
            // else owns them.
            #[expect(unsafe_code, reason = "nix gives numbers")]
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let len = message.bytes;
    Some((String::from_utf8_lossy(&text[..len]).into_owned(), descriptors))
}
