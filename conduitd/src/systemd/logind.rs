//! What the login manager says of a user: it removes the files of users who have logged out from `/dev/shm`, those of living
//! topics too. See `RemoveIPC=` in [`logind.conf(5)`](https://www.freedesktop.org/software/systemd/man/latest/logind.conf.html).

use std::path::Path;

use nix::unistd::{Uid, User};

/// Where the login manager keeps what it knows of users; the format is that of `sd_uid_get_state(3)`.
const USERS: &str = "/run/systemd/users";
/// Up to here users are the system's, whose files the login manager leaves alone: `SYS_UID_MAX` of most distributions.
const LAST_SYSTEM_UID: u32 = 999;

/// Who has probably removed the name of a living topic of this user, and what can be done about it.
pub(crate) fn who_removed(uid: u32) -> String {
    // Images carry the directory without anybody who fills it.
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
        _ => "somebody has removed the file (rm?); start the publisher again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_session_has_been_tidied_away() {
        let users = tempfile::tempdir().unwrap();
        let logged_out = |uid: u32| explain(users.path(), uid, true).contains("logind");
        assert!(logged_out(4321), "logind does not know the user any more");
        for (state, expected) in [("closing", true), ("active", false), ("online", false), ("lingering", false)] {
            let text = format!("# This is private data.\nNAME=ana\nSTATE={state}\nSTOPPING=no\n");
            std::fs::write(users.path().join("4321"), text).unwrap();
            assert_eq!(logged_out(4321), expected, "{state}");
        }
        assert!(!logged_out(33), "a system user");
        std::fs::remove_file(users.path().join("4321")).unwrap();
        assert!(!explain(users.path(), 4321, false).contains("logind"), "systemd does not run here");
        assert!(!explain(Path::new("/nonexistent"), 4321, true).contains("logind"), "no login manager here");
    }
}
