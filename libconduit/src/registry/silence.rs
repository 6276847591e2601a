//! Registries that did not answer: whoever has waited for one in vain does not wait again, until it
//! answers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::{Patience, RegistrySocket};
use super::protocol::{Call, INTERFACE, encode};
use crate::shm::fork;

/// The silent registries of this process. Only locked under a `ForkGuard`, so that a forked child
/// never finds it locked.
static SILENT: Mutex<Silences> = Mutex::new(Silences { generation: 0, list: Vec::new() });

struct Silences {
    /// The [`fork::generation`] of the list.
    generation: u32,
    list: Vec<Arc<Silence>>,
}

/// A registry that did not answer.
struct Silence {
    socket: PathBuf,
    /// A connection with a call that it has not answered either; `None` if it does not even accept
    /// connections.
    probe: Mutex<Option<RegistrySocket>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the list. Nothing is connected or closed meanwhile.
fn with_list<R>(action: impl FnOnce(&mut Vec<Arc<Silence>>) -> R) -> R {
    let _no_fork = fork::ForkGuard::new();
    let mut silences = lock(&SILENT);
    let generation = fork::watched_generation();
    if silences.generation != generation {
        silences.generation = generation;
        // The parent's, with locks in an unknown state.
        std::mem::forget(std::mem::take(&mut silences.list));
    }
    action(&mut silences.list)
}

fn find(socket: &Path) -> Option<Arc<Silence>> {
    with_list(|list| list.iter().find(|silence| silence.socket == socket).cloned())
}

/// Notes that the registry at a socket does not answer.
pub(super) fn note(socket: &Path) {
    if find(socket).is_none() {
        let silence = Arc::new(Silence { socket: socket.into(), probe: Mutex::new(probe(socket).ok()) });
        with_list(|list| list.push(silence));
    }
}

/// Whether the registry at a socket was noted as silent and still is, after `timeout` at most.
pub(super) fn is_noted(socket: &Path, timeout: Duration) -> bool {
    let Some(silence) = find(socket) else { return false };
    let mut current = lock(&silence.probe);
    let answers = match &*current {
        Some(connection) => connection.has_news(timeout),
        None => match probe(socket) {
            Ok(connection) => current.insert(connection).has_news(timeout),
            // Whether there are still too many clients, or nobody listens any more.
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        },
    };
    if answers {
        with_list(|list| list.retain(|other| !Arc::ptr_eq(other, &silence)));
    }
    !answers
}

/// Sends a question without waiting.
fn probe(socket: &Path) -> io::Result<RegistrySocket> {
    let connection = RegistrySocket::open(socket, Patience::NONE)?;
    let call =
        Call { method: format!("{INTERFACE}.Status"), parameters: serde_json::json!({}), oneway: false, more: false };
    if !connection.send_now(&encode(&call)) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // The registry need not keep a connection of a process that makes no more calls.
    connection.end_calls();
    Ok(connection)
}
