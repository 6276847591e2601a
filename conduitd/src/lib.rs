//! The registry daemon of Conduit.
//!
//! The daemon knows who owns which topic, removes what dead owners leave behind, wakes whoever sleeps on them, and answers
//! questions; it is never on the data path. This crate's only doors are [`run`], which is the program `conduitd`, and
//! [`Embedded`], a registry inside another program.
#![forbid(unsafe_code)]

mod connection;
mod event_log;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod hub;
mod limits;
mod logging;
mod owner;
mod policy;
mod reaper;
mod registry;
mod restore;
mod server;
mod shared_answer;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "shared with the end-to-end tests")]
#[path = "../../tests/harness/skip.rs"]
mod skip;
mod systemd;
mod watchers;

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::task::Poll;
use std::thread::JoinHandle;

pub use limits::Limits;
pub use logging::start_logging;
pub use policy::Config;
use server::Server;
pub use server::StartError;
use systemd::Supervisor;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Where a daemon works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket to listen on. None: the one that the service manager has passed, else where clients of this user look first.
    pub socket: Option<PathBuf>,
    /// The directory whose regions it looks after.
    pub shm_dir: PathBuf,
    /// What clients may have of it.
    pub limits: Limits,
    /// Where the rules for names are.
    pub config: Config,
}

/// Runs the daemon until SIGTERM or SIGINT. On SIGHUP it reads the rules for names again.
pub fn run(options: &Options) -> Result<(), StartError> {
    let failed = |doing| {
        let path = options.shm_dir.clone();
        move |source| StartError::Io { doing, path, source }
    };
    // First of all: these are its first descriptors.
    let inherited = systemd::inherited();
    let supervisor = Supervisor::of_environment().map_err(failed("start the daemon for"))?;
    let server = Server::start(options, inherited, supervisor)?;
    let runtime = runtime().map_err(failed("start the daemon for"))?;
    runtime
        .block_on(async {
            let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let hangups = signal(SignalKind::hangup())?;
            let stop = poll_fn(|context| {
                let stopped = terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready();
                if stopped { Poll::Ready(()) } else { Poll::Pending }
            });
            server.run(stop, Some(hangups)).await
        })
        .map_err(failed("serve"))?;
    tracing::info!("stopped");
    // A reaper that is stuck in the kernel must not keep the daemon from ending.
    runtime.shutdown_background();
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().thread_name("conduitd-work").build()
}

/// A registry in a thread of this process, for demonstrations and tests. It ends when dropped.
#[derive(Debug)]
pub struct Embedded {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a registry; when this returns it accepts connections.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let server = Server::start(options, Vec::new(), Supervisor::none())?;
        let failed = |source| StartError::Io { doing: "serve", path: options.shm_dir.clone(), source };
        let runtime = runtime().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let stop = async {
                let _ = stopped.await;
            };
            if let Err(error) = runtime.block_on(server.run(stop, None)) {
                tracing::error!("the embedded registry has ended: {error}");
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
