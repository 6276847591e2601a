//! Background work whose panics are logged: tokio catches a task's panic, and these tasks are never
//! joined.

use tokio::task::spawn_local;

/// Starts a task on this thread.
pub(crate) fn spawn(name: &'static str, task: impl Future<Output = ()> + 'static) {
    // Boxed: the future of a connection would be in the block twice, as captured and as awaited.
    let task = Box::pin(task);
    spawn_local(async move {
        let _report = PanicReport(name);
        task.await;
    });
}

/// Starts work that may block.
pub(crate) fn spawn_blocking(name: &'static str, work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(move || {
        let _report = PanicReport(name);
        work();
    });
}

/// Logs that its task panicked, if it is dropped by a panic.
struct PanicReport(&'static str);

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the task \"{}\" panicked; this is a bug in conduitd, please report it", self.0);
        }
    }
}
