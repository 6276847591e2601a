//! Has the service manager keep a connection over a restart, under a name that says what the
//! connection holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::net::UnixStream;

use crate::holding::Holding;
use crate::registry::ConnectionId;
use crate::systemd::Supervisor;
use crate::systemd::store::StoreEntry;

/// Keeps one connection.
pub(super) struct Keeper {
    supervisor: Rc<Supervisor>,
    id: ConnectionId,
    /// The name under which the connection is kept now.
    name: RefCell<Option<String>>,
    /// The name of what the connection holds is too long; nothing less may be kept.
    is_barred: Cell<bool>,
}

impl Keeper {
    pub(super) fn new(supervisor: &Rc<Supervisor>, id: ConnectionId) -> Self {
        Self { supervisor: Rc::clone(supervisor), id, name: RefCell::default(), is_barred: Cell::default() }
    }

    /// For a connection that is kept already.
    pub(super) fn resume(supervisor: &Rc<Supervisor>, id: ConnectionId, holding: Holding) -> Self {
        let name = RefCell::new(StoreEntry::Client { id, holding }.name());
        Self { name, ..Self::new(supervisor, id) }
    }

    /// Whether nothing needs to be kept or changed now.
    pub(super) fn is_settled(&self) -> bool {
        !self.supervisor.keeps() || self.is_barred.get() || self.name.borrow().is_some()
    }

    pub(super) fn keep(&self, stream: &UnixStream, holding: Holding) {
        let name = StoreEntry::Client { id: self.id, holding }.name();
        if *self.name.borrow() == name {
            return;
        }
        self.forget();
        match &name {
            Some(name) => self.supervisor.keep(name.clone(), stream),
            None => self.is_barred.set(true),
        }
        self.name.replace(name);
    }

    pub(super) fn forget(&self) {
        self.is_barred.set(false);
        if let Some(name) = self.name.take() {
            self.supervisor.forget(name);
        }
    }

    /// Does work during which the connection is not kept: in the middle of a message it could not
    /// be resumed.
    pub(super) async fn without<T>(&self, stream: &UnixStream, work: impl Future<Output = T>) -> T {
        let name = self.name.borrow().clone();
        if let Some(name) = &name {
            self.supervisor.forget(name.clone());
        }
        let done = work.await;
        if let Some(name) = name {
            self.supervisor.keep(name, stream);
        }
        done
    }
}
