//! The log: to the journal with fields, else as lines to standard error.
//!
//! Fields for the journal are named `conduit.…` in the code, which the journal stores as
//! `CONDUIT_…`; lines omit the prefix. Messages that systemd's catalogue explains (`journalctl -x`)
//! carry a [`message_id`]; see `systemd/conduit.catalog`.

mod journal;
mod queue;
mod rate_limit;
mod sink;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use conduit::internal::foreign_text::{clean, clean_lines};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatFields, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::journal::{JournalLayer, cut};
use self::queue::LogQueue;
use self::rate_limit::RateLimit;
use self::sink::{JournalSocket, StandardError};

/// `MESSAGE_ID=` of messages in the journal.
pub(crate) mod message_id {
    /// An owner died, and its region was removed.
    pub(crate) const OWNER_DIED: &str = "585179dfe22b4b299713e96a23acbe80";
    /// A subscriber died.
    pub(crate) const SUBSCRIBER_DIED: &str = "70e965302e9247f5bde30388c5d5f4fc";
    /// The name of a live topic was removed.
    pub(crate) const UNLINKED: &str = "46a9a874bcfc4370964c20d8c4747b05";
    /// A topic is published against the policy.
    pub(crate) const UNAUTHORISED: &str = "ca73b8de6e554be7a31cdfaf416cd668";
    /// Clients of the previous daemon were resumed.
    pub(crate) const RESUMED: &str = "5cdad31b1f49459185828f6924ef9ab8";
}

const FIELD_PREFIX: &str = "conduit.";
/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// How long the end of the program waits for whoever reads the log.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest line in bytes.
const MAX_LINE_BYTES: usize = 16 << 10;

/// The log of this process, once there is one.
static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Debug)]
struct Log {
    queue: Arc<LogQueue>,
    /// Makes an entry of a sentence.
    entry: fn(Level, &str) -> Vec<u8>,
}

impl Log {
    fn push(&self, level: Level, sentence: &str) {
        self.queue.push((self.entry)(level, sentence));
    }
}

/// The log of the program: when it is dropped, at the end, what is logged is written. Whoever reads
/// it delays that by half a second at most.
#[derive(Debug)]
#[must_use = "what was logged last may be lost without it"]
pub struct RunningLog(());

impl RunningLog {
    /// Logs why the program ends.
    pub fn failure(&self, sentence: &str) {
        if let Some(log) = LOG.get() {
            log.push(Level::ERROR, sentence);
        }
    }
}

impl Drop for RunningLog {
    fn drop(&mut self) {
        if let Some(log) = LOG.get() {
            log.queue.flush(FLUSH_TIMEOUT);
        }
    }
}

/// How many lines were dropped because nobody read them; `None` if this process has another log.
pub(crate) fn dropped_lines() -> Option<u64> {
    LOG.get().map(|log| log.queue.dropped_in_all())
}

/// Starts logging for the program `conduitd`: to the journal if standard error is connected to it,
/// else to standard error. `RUST_LOG` sets the level (default: info).
///
/// A thread writes the log, so that no reader can stop the program.
///
/// # Errors
/// If the thread cannot be started.
///
/// # Panics
/// If the program has a logger already.
pub fn start_logging() -> io::Result<RunningLog> {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // Whoever looks for a fault wants every line.
    let is_limited =
        filter.iter().map(|(_, level)| level).chain(filter.default_level()).all(|it| it <= LevelFilter::INFO);
    let limit = is_limited.then(|| RateLimit::new(notice));
    let registry = tracing_subscriber::registry().with(filter).with(limit);
    match journal() {
        Some(journal) => {
            let queue = LogQueue::start(journal, |count| journal::plain_entry(Level::WARN, &missing(count)))?;
            let _ = LOG.set(Log { queue: Arc::clone(&queue), entry: journal::plain_entry });
            registry.with(JournalLayer(queue)).init();
        }
        None => {
            let queue = LogQueue::start(StandardError, |count| line(&missing(count)))?;
            let _ = LOG.set(Log { queue: Arc::clone(&queue), entry: |_, sentence| line(sentence) });
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(move || LineWriter(Arc::clone(&queue)))
                // It would report them on standard error, and wait for it.
                .log_internal_errors(false)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .fmt_fields(lines());
            registry.with(lines).init();
        }
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(RunningLog(()))
}

fn line(sentence: &str) -> Vec<u8> {
    format!("conduitd: {}\n", clean_lines(sentence)).into()
}

fn missing(count: u64) -> String {
    format!("{count} {} of the log were dropped here: nobody read them", if count == 1 { "line" } else { "lines" })
}

fn notice(sentence: &str) {
    if let Some(log) = LOG.get() {
        log.push(Level::WARN, sentence);
    }
}

/// Logs a panic, as the standard library does, but waits for no reader.
fn log_panic(panic: &PanicHookInfo) {
    if let Some(log) = LOG.get() {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let backtrace = Some(&backtrace).filter(|it| it.status() == BacktraceStatus::Captured);
        let backtrace = backtrace.map_or_else(String::new, |it| format!("\n{it}"));
        let sentence = format!("thread {} {panic}{backtrace}", thread.name().unwrap_or("without a name"));
        log.push(Level::ERROR, cut(&sentence, MAX_LINE_BYTES));
    }
}

/// The journal, if standard error is connected to it: see `$JOURNAL_STREAM` in
/// [`systemd.exec(5)`](https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html).
fn journal() -> Option<JournalSocket> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = std::fs::metadata("/proc/thread-self/fd/2").ok()?;
    if stream != format!("{}:{}", stderr.dev(), stderr.ino()) {
        return None;
    }
    // Falls back to lines if the journal cannot be reached.
    JournalSocket::open(Path::new(JOURNAL)).ok()
}

/// Queues one formatted line.
struct LineWriter(Arc<LogQueue>);

impl io::Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queued = line[..line.len().min(MAX_LINE_BYTES)].to_vec();
        if queued.len() < line.len() {
            queued.extend_from_slice(b"...\n");
        }
        self.0.push(queued);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats fields as `tracing_subscriber` does, except for the names. Whatever a value has in it, a
/// line is one line.
fn lines() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", clean(format!("{value:?}"))),
        "message_id" => Ok(()),
        name => {
            let name = name.strip_prefix(FIELD_PREFIX).unwrap_or(name);
            write!(writer, " {name}={}", clean(format!("{value:?}")))
        }
    })
}
