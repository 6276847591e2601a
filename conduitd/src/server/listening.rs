//! Accepts clients, and sees to it that they find the socket: whoever removes its file, as logind
//! does with `/run/user/UID`, makes the daemon unreachable.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conduit::internal::shm::dir::FileId;
use conduit::internal::shm::socket::refuse_descriptors;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::socket;
use crate::clients::{self, Listener};
use crate::hub::Hub;
use crate::path_watch::{PathWatch, file_at};

/// How often to try to listen again if nothing tells that it could succeed now.
const RETRY: Duration = Duration::from_secs(5);
/// How long to wait between two looks at the socket: others may change its directory without end.
const PAUSE: Duration = Duration::from_millis(20);

/// Who has made the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketOrigin {
    /// The daemon. `is_default`: at the place where this user's clients look, whose directory it
    /// makes.
    Own { is_default: bool },
    /// The service manager, which alone can make another one.
    Passed,
}

/// Where clients find the socket.
#[derive(Debug)]
pub(super) struct SocketPlace {
    pub(super) path: PathBuf,
    origin: SocketOrigin,
    /// The socket's file.
    file: Mutex<Option<FileId>>,
}

impl SocketPlace {
    pub(super) fn new(path: PathBuf, origin: SocketOrigin) -> Arc<Self> {
        let file = Mutex::new(file_at(&path));
        Arc::new(Self { path, origin, file })
    }

    fn is_intact(&self) -> bool {
        let file = *self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.is_some() && file_at(&self.path) == file
    }

    /// Removes the socket if it is this daemon's own.
    pub(super) fn remove(&self) {
        // While this process listens: afterwards the name may be another daemon's.
        if self.origin != SocketOrigin::Passed && self.is_intact() {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Waits until the socket has lost its file, and listens again, which may never be possible.
    async fn listen_again(&self) -> Listener {
        let mut reported = None;
        loop {
            let watch = PathWatch::new(&self.path);
            let mut is_lost = false;
            if self.is_intact() {
                reported = None;
            } else {
                is_lost = true;
                let problem = match self.origin {
                    SocketOrigin::Passed => self.explain_loss(),
                    SocketOrigin::Own { is_default } => match self.replace(is_default).await {
                        Ok(listener) => return listener,
                        Err(reason) => format!("clients cannot reach the daemon: {reason}; it will try again"),
                    },
                };
                if reported.as_ref() != Some(&problem) {
                    tracing::error!(conduit.socket = %self.path.display(), "{problem}");
                    reported = Some(problem);
                }
            }
            match watch {
                Ok(watch) if !is_lost => watch.changed().await,
                Ok(watch) => drop(timeout(RETRY, watch.changed()).await),
                Err(_) if is_lost => sleep(RETRY).await,
                Err(error) => {
                    tracing::warn!("cannot watch {}: {error}; a removal is not noticed", self.path.display());
                    std::future::pending::<()>().await;
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn replace(&self, is_default: bool) -> Result<Listener, String> {
        let path = self.path.clone();
        // It may wait for another process that listens there.
        let listener = spawn_blocking(move || socket::listen(&path, is_default)).await;
        let listener = listener.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        refuse_descriptors(&listener);
        let listener = Listener::new(listener).map_err(|error| error.to_string())?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file_at(&self.path);
        tracing::warn!(conduit.socket = %self.path.display(), "the socket had lost its file; the daemon listens again");
        Ok(listener)
    }

    /// Nobody but the service manager can listen again where it listens.
    fn explain_loss(&self) -> String {
        let systemctl = if socket::serves_everybody() { "systemctl" } else { "systemctl --user" };
        let what = if file_at(&self.path).is_some() { "replaced" } else { "removed" };
        format!(
            "the socket {}, which the service manager has passed, was {what}: clients cannot reach the daemon; \
             run `{systemctl} restart conduitd.socket`",
            self.path.display()
        )
    }
}

/// Accepts clients until the task is dropped.
pub(super) async fn serve_socket(hub: Rc<Hub>, mut listener: Listener, place: Arc<SocketPlace>) {
    loop {
        tokio::select! {
            () = clients::accept(Rc::clone(&hub), &listener) => return,
            again = place.listen_again() => listener = again,
        }
    }
}
