//! The registry daemon of Conduit.
//!
//! The daemon knows which process owns which topic, reaps the regions of dead owners, wakes their
//! subscribers, and answers queries; it is never on the data path. The crate's interface is
//! [`run`], the program `conduitd`, and [`Embedded`], a registry inside another program.
#![forbid(unsafe_code)]

mod changes;
mod clients;
mod core_dumps;
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
use std::thread::JoinHandle;

pub use limits::Limits;
pub use logging::{RunningLog, start_logging};
pub use policy::Config;
use server::Server;
pub use server::{DaemonOptions, StartError};
use systemd::Supervisor;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

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
    let server = Server::start(options, inherited, supervisor)?;
    let runtime = runtime().map_err(failed("start the daemon for"))?;
    runtime
        .block_on(async {
            let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let hangups = signal(SignalKind::hangup())?;
            let stop = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            server.run(stop, Some(hangups)).await
        })
        .map_err(failed("serve"))?;
    tracing::info!("stopped");
    // Does not wait for a reaper that is stuck in the kernel.
    runtime.shutdown_background();
    Ok(())
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
            if let Err(error) = runtime.block_on(server.run(stop, None)) {
                tracing::error!("the embedded registry failed: {error}");
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
