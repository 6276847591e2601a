//! The log: to the journal with fields, else as lines to standard error.
//!
//! Fields for the journal are named `conduit.…` in the code, which the journal stores as
//! `CONDUIT_…`; lines omit the prefix. Messages that systemd's catalogue explains (`journalctl -x`)
//! carry a [`message_id`]; see `systemd/conduit.catalog`.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatFields, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Starts logging for the program `conduitd`: to the journal if standard error is connected to it,
/// else to standard error. `RUST_LOG` sets the level (default: info).
///
/// # Panics
/// If the program has a logger already.
pub fn start_logging() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    match journal() {
        Some(journal) => registry.with(journal).init(),
        None => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .fmt_fields(lines());
            registry.with(lines).init();
        }
    }
}

/// The journal, if standard error is connected to it: see `$JOURNAL_STREAM` in
/// [`systemd.exec(5)`](https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html).
fn journal() -> Option<tracing_journald::Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = std::fs::metadata("/proc/thread-self/fd/2").ok()?;
    if stream != format!("{}:{}", stderr.dev(), stderr.ino()) {
        return None;
    }
    // Falls back to lines if the journal cannot be reached.
    let layer = tracing_journald::layer().ok()?;
    let priorities = tracing_journald::PriorityMappings {
        info: tracing_journald::Priority::Informational,
        debug: tracing_journald::Priority::Debug,
        ..tracing_journald::PriorityMappings::new()
    };
    Some(layer.with_field_prefix(None).with_syslog_identifier("conduitd".into()).with_priority_mappings(priorities))
}

/// Formats fields as `tracing_subscriber` does, except for the names.
fn lines() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        "message_id" => Ok(()),
        name => write!(writer, " {}={value:?}", name.strip_prefix(FIELD_PREFIX).unwrap_or(name)),
    })
}
