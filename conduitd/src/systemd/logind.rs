//! The login manager, which removes the files of logged-out users from `/dev/shm`, those of live
//! topics too. See `RemoveIPC=` in
//! [`logind.conf(5)`](https://www.freedesktop.org/software/systemd/man/latest/logind.conf.html).

use std::path::Path;

use nix::unistd::{Uid, User};

/// The login manager's state of each user, as read by `sd_uid_get_state(3)`.
const USERS: &str = "/run/systemd/users";
/// The largest uid of system users, whose files the login manager does not remove: `SYS_UID_MAX` of
/// most distributions.
const LAST_SYSTEM_UID: u32 = 999;

/// What probably removed the name of this user's live topic, and the remedy.
pub(crate) fn who_removed(uid: u32) -> String {
    // Container images may have the directory without a login manager.
    explain(Path::new(USERS), uid, sd_notify::booted().unwrap_or(false))
}

fn explain(users: &Path, uid: u32, is_booted: bool) -> String {
    let is_managed = is_booted && users.is_dir() && uid > LAST_SYSTEM_UID;
    let state = std::fs::read_to_string(users.join(uid.to_string())).unwrap_or_default();
    let state = state.lines().find_map(|line| line.strip_prefix("STATE="));
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let name = name.unwrap_or_else(|| uid.to_string());
    match state {
        None | Some("closing" | "offline") if is_managed => format!(
            "the last session of user {name} has ended, so logind removed its files (RemoveIPC=); start the publisher again \
             after `loginctl enable-linger {name}`, or run it as a system service"
        ),
        _ => "something removed its file (rm?); start the publisher again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_session_points_to_logind() {
        let users = tempfile::tempdir().unwrap();
        let logged_out = |uid: u32| explain(users.path(), uid, true).contains("logind");
        assert!(logged_out(4321), "logind has no state of the user");
        for (state, expected) in [("closing", true), ("active", false), ("online", false), ("lingering", false)] {
            let text = format!("# This is private data.\nNAME=ana\nSTATE={state}\nSTOPPING=no\n");
            std::fs::write(users.path().join("4321"), text).unwrap();
            assert_eq!(logged_out(4321), expected, "{state}");
        }
        assert!(!logged_out(33), "a system user");
        std::fs::remove_file(users.path().join("4321")).unwrap();
        assert!(!explain(users.path(), 4321, false).contains("logind"), "systemd is not running");
        assert!(!explain(Path::new("/nonexistent"), 4321, true).contains("logind"), "there is no login manager");
    }
}
