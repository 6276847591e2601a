//! The files by which daemons know each other, and a daemon that clients do not reach.

use std::path::Path;

use conduit::Domain;
use conduit::internal::shm::dir::ShmDir;
use conduit::internal::shm::guard::{GuardFile, GuardFiles, GuardScope, GuardState};
use nix::unistd::geteuid;

use super::finding::Finding;
use super::logind::is_system_user;
use super::quoting::quoted;
use super::remedy::how_to_reconnect;
use crate::output::count;

pub(super) const ID: &str = "lock-files";
/// How many names are printed.
const MANY: usize = 5;

pub(super) fn check(domain: &Domain) -> Vec<Finding> {
    let here = domain.shm_dir();
    let found = ShmDir::open(domain).and_then(|directory| GuardFiles::find(&directory));
    vec![match found {
        Ok(found) => judge(here, &found),
        Err(error) => Finding::skipped(ID, format!("cannot read {}: {error}", here.display())),
    }]
}

fn judge(here: &Path, GuardFiles { guards, impostors, .. }: &GuardFiles) -> Finding {
    if !impostors.is_empty() {
        let paths: Vec<_> = impostors.iter().take(MANY).map(|name| quoted(&here.join(name))).collect();
        let files = count(impostors.len() as u64, "file");
        let message = format!("{files} named like those of daemons, which daemons ignore: {}", paths.join(", "));
        return Finding::warning(ID, message, format!("if they are not needed, `rm -r {}`", paths.join(" ")));
    }
    let of = |state| guards.iter().filter(move |guard| guard.state == state);
    let mut parts: Vec<String> = of(GuardState::Serving)
        .chain(of(GuardState::Starting))
        .map(|guard| format!("held by {} of uid {}", pid_of(guard), guard.uid))
        .collect();
    let stale = of(GuardState::Stale).count();
    if stale > 0 {
        parts.push(format!("{} of dead daemons, which the next one removes", count(stale as u64, "file")));
    }
    Finding::ok(ID, if parts.is_empty() { "none".into() } else { parts.join("; ") })
}

fn pid_of(guard: &GuardFile) -> String {
    guard.pid.map_or_else(|| "a daemon".into(), |pid| format!("pid {pid}"))
}

/// The daemon that serves the directory for this user, according to its file.
pub(super) fn serving(domain: &Domain) -> Option<GuardFile> {
    let directory = ShmDir::open(domain).ok()?;
    let own = geteuid().as_raw();
    let serves_us = |guard: &GuardFile| {
        guard.state == GuardState::Serving
            && match guard.scope {
                GuardScope::System => guard.uid == own || is_system_user(guard.uid),
                GuardScope::User => guard.uid == own,
            }
    };
    GuardFiles::find(&directory).ok()?.guards.into_iter().find(serves_us)
}

/// A daemon serves the directory, but nobody listens at the sockets of this environment.
pub(super) fn unreachable(id: &'static str, here: &Path, guard: &GuardFile, sockets: &[&Path]) -> Finding {
    let daemon = format!("a daemon serves {} ({}, uid {})", here.display(), pid_of(guard), guard.uid);
    match guard.socket.as_deref().map(Path::new) {
        Some(socket) if !sockets.contains(&socket) && socket.exists() => Finding::problem(
            id,
            format!("{daemon}, at {}, where programs of this environment do not look", socket.display()),
            format!("set CONDUIT_SOCKET={}", quoted(socket)),
        ),
        socket => {
            let at = socket.map_or_else(String::new, |socket| format!(" {}", socket.display()));
            let message = format!("{daemon}, but its socket{at} is gone: no program can connect to it");
            Finding::problem(id, message, how_to_reconnect(guard))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn impostors_are_told_and_stale_files_are_not_a_problem() {
        let here = Path::new("/dev/shm");
        assert_eq!(judge(here, &GuardFiles::default()), Finding::ok(ID, "none"));
        let found = GuardFiles { impostors: vec![".conduitd.system.0.a.lock".into()], ..GuardFiles::default() };
        let finding = judge(here, &found);
        assert_eq!(finding.state, Severity::Warning);
        assert_eq!(finding.remedy.unwrap(), "if they are not needed, `rm -r /dev/shm/.conduitd.system.0.a.lock`");
    }
}
