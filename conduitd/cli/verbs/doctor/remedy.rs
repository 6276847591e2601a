//! What to do about the daemon.

use std::path::Path;

use nix::unistd::geteuid;

/// The command that starts a daemon for this user.
pub(super) fn how_to_start() -> String {
    match unit_prefix() {
        Some(systemctl) => format!("`{systemctl} enable --now conduitd.socket`, or `conduitd &`"),
        None => "`conduitd &`".into(),
    }
}

/// The command that restarts this user's daemon.
pub(super) fn how_to_restart() -> String {
    match unit_prefix() {
        Some(systemctl) => format!("`{systemctl} restart conduitd`"),
        None => "end that process and start `conduitd &`".into(),
    }
}

/// The service manager's command, if it starts this user's daemon: one for another directory or
/// socket it does not.
fn unit_prefix() -> Option<&'static str> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("CONDUIT_SOCKET") || is_set("CONDUIT_SHM_DIR") || !Path::new("/run/systemd/system").is_dir() {
        None
    } else if geteuid().is_root() {
        Some("systemctl")
    } else {
        Some("systemctl --user")
    }
}
