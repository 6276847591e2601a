//! The registry daemon of Conduit.
//!
//! The daemon knows which process owns which topic, reaps the regions of dead owners, wakes their
//! subscribers, and answers queries; it is never on the data path. The crate's interface is
//! [`run`], the program `conduitd`, and [`Embedded`], a registry inside another program.
#![forbid(unsafe_code)]

mod changes;
mod clients;
mod core_dumps;
mod deadlines;
mod descriptors;
mod directory;
mod event_log;
#[cfg(fuzzing)]
pub mod fuzzing;
mod holding;
mod hub;
mod limits;
mod logging;
mod pace;
mod path_watch;
mod peer;
mod policy;
mod process_watch;
mod processes;
mod reaping;
mod registry;
mod server;
mod shared_answer;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "shared with the end-to-end tests")]
#[path = "../../tests/harness/skip.rs"]
mod skip;
mod sockets;
mod surplus;
mod systemd;
mod tasks;
mod topics;
mod watchers;

use std::io;
use std::pin::{Pin, pin};
use std::thread::JoinHandle;
use std::time::Duration;

pub use limits::Limits;
pub use logging::{RunningLog, start_logging};
use path_watch::PathWatch;
pub use policy::Config;
pub use server::{DaemonOptions, StartError};
use server::{Ending, Server};
use systemd::Supervisor;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// How often to try to start anew if nothing tells that it could succeed now.
const RETRY: Duration = Duration::from_secs(5);

/// Runs the daemon until SIGTERM or SIGINT. On SIGHUP it reloads the policy.
///
/// # Errors
/// If the daemon cannot start, or a part of it fails.
pub fn run(options: &DaemonOptions) -> Result<(), StartError> {
    let failed = |doing| {
        let path = options.shm_dir.clone();
        move |source| StartError::Io { doing, path, source }
    };
    // First: their numbers are fixed.
    let inherited = systemd::inherited::inherited();
    let supervisor = Supervisor::from_environment().map_err(failed("start the daemon for"))?;
    // What the service manager has passed cannot be taken twice.
    let is_supervised = supervisor.is_present() || !inherited.is_empty();
    let server = Server::start(options, inherited, supervisor)?;
    let runtime = runtime().map_err(failed("start the daemon for"))?;
    runtime.block_on(async {
        let mut stop = pin!(stop_signal().map_err(failed("serve"))?);
        let mut server = Some(server);
        while let Some(serving) = server.take() {
            let hangups = signal(SignalKind::hangup()).map_err(failed("serve"))?;
            match serving.run(stop.as_mut(), Some(hangups)).await.map_err(failed("serve"))? {
                Ending::Stopped => {}
                Ending::DirectoryReplaced if is_supervised => {
                    return Err(StartError::DirectoryReplaced { path: options.shm_dir.clone() });
                }
                Ending::DirectoryReplaced => server = start_anew(options, stop.as_mut()).await?,
            }
        }
        Ok(())
    })?;
    tracing::info!("stopped");
    // Does not wait for a reaper that is stuck in the kernel.
    runtime.shutdown_background();
    Ok(())
}

/// Resolves when the daemon shall stop.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Starts the daemon anew, as soon as its directory exists again; `None` if it shall stop.
async fn start_anew(
    options: &DaemonOptions,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Server>, StartError> {
    let path = options.shm_dir.display();
    tracing::warn!(conduit.shm_dir = %path, "{path} was removed or replaced; the daemon starts anew");
    let mut has_warned = false;
    loop {
        let watch = std::path::absolute(&options.shm_dir).and_then(|path| PathWatch::new(&path));
        let of_thread = options.clone();
        let started = spawn_blocking(move || Server::start(&of_thread, Vec::new(), Supervisor::none())).await;
        match started.map_err(io::Error::other).map_err(|source| StartError::Io {
            doing: "start the daemon for",
            path: options.shm_dir.clone(),
            source,
        })? {
            Ok(server) => return Ok(Some(server)),
            // Another daemon was faster; the rest may pass.
            Err(error @ (StartError::DirectoryInUse { .. } | StartError::SocketInUse { .. })) => return Err(error),
            Err(error) if !has_warned => tracing::error!("{error}; the daemon will try again"),
            Err(_) => {}
        }
        has_warned = true;
        let changed = async {
            match &watch {
                Ok(watch) => watch.changed().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut stop => return Ok(None),
            _ = tokio::time::timeout(RETRY, changed) => {}
        }
    }
}

/// Threads for work that may stall, at most; of one user fewer may be busy at a time.
const WORK_THREADS: usize = 32;

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().thread_name("conduitd-work").max_blocking_threads(WORK_THREADS).build()
}

/// A registry in a thread of this process, for demonstrations and tests. It stops when dropped.
#[derive(Debug)]
pub struct Embedded {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a registry, which accepts connections when this returns.
    ///
    /// # Errors
    /// If it cannot start.
    pub fn start(options: &DaemonOptions) -> Result<Self, StartError> {
        let server = Server::start(options, Vec::new(), Supervisor::none())?;
        let failed = |source| StartError::Io { doing: "serve", path: options.shm_dir.clone(), source };
        let runtime = runtime().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let stop = async {
                let _ = stopped.await;
            };
            match runtime.block_on(server.run(stop, None)) {
                Ok(Ending::Stopped) => {}
                Ok(Ending::DirectoryReplaced) => tracing::error!("the directory of the embedded registry was removed"),
                Err(error) => tracing::error!("the embedded registry failed: {error}"),
            }
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("registry".into()).spawn(serve).map_err(failed)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
