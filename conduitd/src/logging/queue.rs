//! The queue between the daemon and whoever reads its log.
//!
//! A reader may stop to read: a full pipe, a terminal that is stopped, a journal that hangs. Only
//! the thread here waits for it. What does not fit into the queue meanwhile is dropped and counted,
//! and the count is logged in its place.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Entries that wait to be written, in bytes: about 2000 lines, or 500 entries of the journal.
const MAX_QUEUED_BYTES: usize = 256 << 10;

/// Writes entries, and may block for as long as it wants.
pub(super) trait LogSink: Send + 'static {
    fn write(&mut self, entry: &[u8]) -> io::Result<()>;
}

/// The queue of entries, and the thread that writes them.
#[derive(Debug)]
pub(super) struct LogQueue {
    pending: Mutex<PendingEntries>,
    changed: Condvar,
    /// Makes the entry that reports a number of dropped entries.
    report_dropped: fn(u64) -> Vec<u8>,
}

#[derive(Debug, Default)]
struct PendingEntries {
    entries: VecDeque<QueuedEntry>,
    bytes: usize,
    is_writing: bool,
    /// Dropped since the last report.
    dropped: u64,
    dropped_in_all: u64,
}

#[derive(Debug)]
enum QueuedEntry {
    Logged(Vec<u8>),
    /// Here this number of entries is missing.
    Missing(u64),
}

impl LogQueue {
    /// Starts the thread.
    pub(super) fn start(sink: impl LogSink, report_dropped: fn(u64) -> Vec<u8>) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { pending: Mutex::default(), changed: Condvar::new(), report_dropped });
        let of_thread = Arc::clone(&queue);
        std::thread::Builder::new().name("log".into()).spawn(move || of_thread.run(sink))?;
        Ok(queue)
    }

    /// Queues an entry, or drops it. Never waits.
    pub(super) fn push(&self, entry: Vec<u8>) {
        let mut pending = self.pending();
        if pending.bytes + entry.len() > MAX_QUEUED_BYTES {
            pending.count_dropped();
            return;
        }
        let dropped = std::mem::take(&mut pending.dropped);
        if dropped > 0 {
            pending.entries.push_back(QueuedEntry::Missing(dropped));
        }
        pending.bytes += entry.len();
        pending.entries.push_back(QueuedEntry::Logged(entry));
        drop(pending);
        self.changed.notify_all();
    }

    /// How many entries were dropped so far.
    pub(super) fn dropped_in_all(&self) -> u64 {
        self.pending().dropped_in_all
    }

    /// Waits until everything is written, or for this long.
    pub(super) fn flush(&self, limit: Duration) {
        let is_busy = |pending: &mut PendingEntries| pending.is_writing || !pending.entries.is_empty();
        let _ = self.changed.wait_timeout_while(self.pending(), limit, is_busy);
    }

    fn pending(&self) -> MutexGuard<'_, PendingEntries> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut sink: impl LogSink) {
        loop {
            let entry = self.next();
            let written = match &entry {
                QueuedEntry::Logged(entry) => sink.write(entry),
                QueuedEntry::Missing(count) => sink.write(&(self.report_dropped)(*count)),
            };
            self.done(&entry, written.is_ok());
        }
    }

    fn next(&self) -> QueuedEntry {
        let mut pending = self.pending();
        loop {
            if let Some(entry) = pending.entries.pop_front() {
                pending.is_writing = true;
                return entry;
            }
            pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, entry: &QueuedEntry, is_written: bool) {
        let mut pending = self.pending();
        pending.is_writing = false;
        if let QueuedEntry::Logged(entry) = entry {
            pending.bytes -= entry.len();
        }
        match entry {
            // Else the report would wait for the next entry. After a failure it does: trying again
            // at once could continue for ever.
            _ if is_written && pending.entries.is_empty() && pending.dropped > 0 => {
                let dropped = std::mem::take(&mut pending.dropped);
                pending.entries.push_back(QueuedEntry::Missing(dropped));
            }
            _ if is_written => {}
            QueuedEntry::Logged(_) => pending.count_dropped(),
            QueuedEntry::Missing(count) => pending.dropped += count,
        }
        drop(pending);
        self.changed.notify_all();
    }
}

impl PendingEntries {
    fn count_dropped(&mut self) {
        self.dropped += 1;
        self.dropped_in_all += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A sink that blocks until its entry is received.
    struct Channel(SyncSender<String>);

    impl LogSink for Channel {
        fn write(&mut self, entry: &[u8]) -> io::Result<()> {
            if entry == b"fails" {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.send(String::from_utf8_lossy(entry).into_owned()).map_err(io::Error::other)
        }
    }

    fn queue() -> (Arc<LogQueue>, Receiver<String>) {
        let (sender, written) = sync_channel(0);
        (LogQueue::start(Channel(sender), |count| format!("{count} missing").into_bytes()).unwrap(), written)
    }

    #[test]
    fn entries_that_do_not_fit_are_dropped_and_reported_in_their_place() {
        let (queue, written) = queue();
        let entry = "x".repeat(MAX_QUEUED_BYTES / 4);
        for _ in 0..7 {
            queue.push(entry.clone().into());
        }
        assert_eq!(queue.dropped_in_all(), 3);
        for _ in 0..4 {
            assert_eq!(written.recv_timeout(LONG).unwrap(), entry);
        }
        assert_eq!(written.recv_timeout(LONG).unwrap(), "3 missing", "although nothing else is logged");
        queue.push(b"later".into());
        assert_eq!(written.recv_timeout(LONG).unwrap(), "later");
        assert_eq!(queue.dropped_in_all(), 3);
    }

    #[test]
    fn a_flush_ends_when_all_is_written_or_its_time_is_over() {
        let (queue, written) = queue();
        queue.flush(LONG);
        queue.push(b"one".into());
        queue.flush(Duration::from_millis(5));
        let reader = std::thread::spawn(move || written.recv_timeout(LONG).unwrap());
        queue.flush(LONG);
        assert_eq!(reader.join().unwrap(), "one");
        assert!(!queue.pending().is_writing);
    }

    #[test]
    fn failures_are_counted_once_and_not_repeated_for_ever() {
        let (queue, written) = queue();
        // Keeps the thread busy until both are queued: else the second could be queued behind a
        // report of the first.
        queue.push(b"first".into());
        queue.push(b"fails".into());
        queue.push(b"fails".into());
        assert_eq!(written.recv_timeout(LONG).unwrap(), "first");
        queue.flush(LONG);
        assert_eq!((queue.dropped_in_all(), written.try_recv().ok()), (2, None));
        queue.push(b"works".into());
        assert_eq!(written.recv_timeout(LONG).unwrap(), "2 missing");
        assert_eq!(written.recv_timeout(LONG).unwrap(), "works");
    }
}
