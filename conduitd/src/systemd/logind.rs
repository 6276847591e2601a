//! The login manager, which removes the files of logged-out users from `/dev/shm`, those of live
//! topics too. See `RemoveIPC=` in
//! [`logind.conf(5)`](https://www.freedesktop.org/software/systemd/man/latest/logind.conf.html).

use std::path::Path;

use conduit::internal::foreign_text::clean_name;
use nix::unistd::{Uid, User};

/// The login manager's state of each user, as read by `sd_uid_get_state(3)`.
const USERS: &str = "/run/systemd/users";
/// The largest uid of system users, whose files the login manager does not remove: `SYS_UID_MAX` of
/// most distributions.
const LAST_SYSTEM_UID: u32 = 999;

/// What probably removed the name of a live topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remover {
    /// The login manager, since this user has logged out.
    LoginManager { uid: u32 },
    /// Somebody.
    Unknown,
}

/// What probably removed the name of this user's live topic.
pub(crate) fn who_removed(uid: u32) -> Remover {
    // Container images may have the directory without a login manager.
    remover(Path::new(USERS), uid, sd_notify::booted().unwrap_or(false))
}

fn remover(users: &Path, uid: u32, is_booted: bool) -> Remover {
    let is_managed = is_booted && users.is_dir() && uid > LAST_SYSTEM_UID;
    let state = std::fs::read_to_string(users.join(uid.to_string())).unwrap_or_default();
    match state.lines().find_map(|line| line.strip_prefix("STATE=")) {
        None | Some("closing" | "offline") if is_managed => Remover::LoginManager { uid },
        _ => Remover::Unknown,
    }
}

impl Remover {
    /// The reason and the remedy. A user is called by its number.
    pub(crate) fn explain(self) -> String {
        match self {
            Self::LoginManager { uid } => after_logout(&uid.to_string()),
            Self::Unknown => "something removed its file (rm?); start the publisher again".into(),
        }
    }

    /// The same with the user's name, if there is one; `None` if that adds nothing. Asks the
    /// machine's user database, which can be a server that does not answer.
    pub(crate) fn explain_by_name(self) -> Option<String> {
        let Self::LoginManager { uid } = self else { return None };
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| after_logout(&clean_name(user.name)))
    }
}

fn after_logout(user: &str) -> String {
    format!(
        "the last session of user {user} has ended, so logind removed its files (RemoveIPC=); start the publisher again \
         after `loginctl enable-linger {user}`, or run it as a system service"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_session_points_to_logind() {
        let users = tempfile::tempdir().unwrap();
        let logged_out = |uid: u32| remover(users.path(), uid, true).explain().contains("logind");
        assert!(logged_out(4321), "logind has no state of the user");
        for (state, expected) in [("closing", true), ("active", false), ("online", false), ("lingering", false)] {
            let text = format!("# This is private data.\nNAME=ana\nSTATE={state}\nSTOPPING=no\n");
            std::fs::write(users.path().join("4321"), text).unwrap();
            assert_eq!(logged_out(4321), expected, "{state}");
        }
        assert!(!logged_out(33), "a system user");
        std::fs::remove_file(users.path().join("4321")).unwrap();
        assert_eq!(remover(users.path(), 4321, false), Remover::Unknown, "systemd is not running");
        assert_eq!(remover(Path::new("/nonexistent"), 4321, true), Remover::Unknown, "there is no login manager");
    }

    #[test]
    fn a_user_is_named_if_that_is_possible() {
        let by_name = Remover::LoginManager { uid: 0 }.explain_by_name().unwrap();
        assert!(by_name.contains("enable-linger root"), "{by_name}");
        assert_eq!(Remover::LoginManager { uid: u32::MAX - 7 }.explain_by_name(), None);
        assert_eq!(Remover::Unknown.explain_by_name(), None);
    }
}
