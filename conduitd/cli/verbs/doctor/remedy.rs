//! What to do about the daemon.

use std::path::Path;

use conduit::internal::shm::guard::{GuardFile, GuardScope};
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

/// The command that makes a daemon reachable again whose socket is gone.
pub(super) fn how_to_reconnect(guard: &GuardFile) -> String {
    let is_of_unit = unit_prefix().is_some()
        && guard.socket.as_deref().is_some_and(|socket| {
            let user_socket =
                std::env::var("XDG_RUNTIME_DIR").map(|directory| format!("{directory}/conduit/registry.sock"));
            socket == "/run/conduit/registry.sock" || user_socket.is_ok_and(|own| socket == own)
        });
    let who = if guard.uid == geteuid().as_raw() || geteuid().is_root() { "" } else { "as root: " };
    match guard.scope {
        GuardScope::System if is_of_unit => format!("{who}`systemctl restart conduitd.socket`"),
        GuardScope::User if is_of_unit => format!("{who}`systemctl --user restart conduitd.socket`"),
        _ => match guard.pid {
            Some(pid) => format!("{who}`kill {pid}`, then `conduitd &`"),
            None => format!("{who}end that process, then `conduitd &`"),
        },
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
