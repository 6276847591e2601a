//! Whether the login manager removes this user's regions at logout: `RemoveIPC=` in
//! [`logind.conf(5)`](https://www.freedesktop.org/software/systemd/man/latest/logind.conf.html).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use conduit::Domain;
use nix::unistd::{User, geteuid};

use super::finding::Finding;
use super::time_limit::within;

pub(super) const ID: &str = "remove-ipc";

/// Where the login manager's settings are, the most important first.
const CONFIGURATION: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
/// `SYS_UID_MAX` of most distributions.
const USUAL_LAST_SYSTEM_UID: u32 = 999;
/// loginctl(1) asks over D-Bus and answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn check(domain: &Domain) -> Vec<Finding> {
    let uid = geteuid().as_raw();
    let name = User::from_uid(geteuid()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let directory = fs::canonicalize(domain.shm_dir()).unwrap_or_else(|_| domain.shm_dir().into());
    let person = Person { uid, name, last_system_uid: last_system_uid() };
    vec![judge(Path::new("/"), &directory, &person, running_setting)]
}

/// Whose files they are.
struct Person {
    uid: u32,
    name: String,
    last_system_uid: u32,
}

fn judge(root: &Path, directory: &Path, person: &Person, running: impl Fn() -> Option<bool>) -> Finding {
    let Person { uid, name, last_system_uid } = person;
    if uid <= last_system_uid {
        return Finding::ok(ID, format!("{name} is a system user: logind leaves its regions alone"));
    }
    if !directory.starts_with("/dev/shm") {
        return Finding::ok(ID, format!("logind does not look into {}", directory.display()));
    }
    if root.join("var/lib/systemd/linger").join(name).exists() {
        return Finding::ok(ID, format!("{name} lingers: its regions outlive its sessions"));
    }
    let (removes, source) = match running() {
        Some(removes) => (removes, "as logind says".into()),
        // As sd_booted(3) does: a directory of logind's own may come with an image in which it
        // never runs.
        None if !root.join("run/systemd/system").is_dir() => return Finding::ok(ID, "no logind runs here"),
        None => match setting(root) {
            Some((removes, path)) => (removes, format!("in {}", path.display())),
            None => (true, "logind's default".into()),
        },
    };
    if removes {
        Finding::warning(
            ID,
            format!(
                "RemoveIPC=yes ({source}): when the last session of {name} ends, its regions are removed, live ones too"
            ),
            format!(
                "`loginctl enable-linger {name}`, or RemoveIPC=no in /etc/systemd/logind.conf, or run publishers as a \
                 system service"
            ),
        )
    } else {
        Finding::ok(ID, format!("RemoveIPC=no ({source})"))
    }
}

/// What the login manager that runs has read, which may be older than the files.
fn running_setting() -> Option<bool> {
    let mut command = Command::new("loginctl");
    // Without a user it shows the manager.
    command.args(["show-user", "--property=RemoveIPC"]).env_remove("XDG_SESSION_ID").stdin(Stdio::null());
    let output = within(PATIENCE, move || command.output()).ok()?.ok().filter(|output| output.status.success())?;
    let answer = String::from_utf8(output.stdout).ok()?;
    boolean(answer.lines().find_map(|line| line.strip_prefix("RemoveIPC="))?)
}

/// The setting in the files, and the file that has it; `None` if no file does.
fn setting(root: &Path) -> Option<(bool, PathBuf)> {
    let directories = CONFIGURATION.map(|directory| root.join(directory).join("systemd"));
    let main = directories.iter().map(|directory| directory.join("logind.conf")).find(|file| file.exists());
    // Sorted by name, wherever they are; of the same name only the most important.
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in &directories {
        let Ok(entries) = fs::read_dir(directory.join("logind.conf.d")) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|it| it == "conf")) {
                drop_ins.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    let files = main.into_iter().chain(drop_ins.into_values());
    // The last word counts. A link to /dev/null hides the file of that name and reads as nothing.
    files.filter_map(|path| Some((remove_ipc(&fs::read_to_string(&path).ok()?)?, path))).next_back()
}

/// The last valid `RemoveIPC=` in the section `[Login]` of a file.
fn remove_ipc(text: &str) -> Option<bool> {
    let text = text.replace("\\\n", " ");
    let mut is_login = false;
    let mut value = None;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_login = section.strip_suffix(']') == Some("Login");
        } else if let Some((key, word)) = line.split_once('=')
            && is_login
            && key.trim_end() == "RemoveIPC"
        {
            value = boolean(word.trim_start()).or(value);
        }
    }
    value
}

/// As in systemd.syntax(7).
fn boolean(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a user is a system user, whose programs no ordinary user controls.
pub(super) fn is_system_user(uid: u32) -> bool {
    uid <= last_system_uid()
}

/// The highest user id that this machine gives to its own services.
fn last_system_uid() -> u32 {
    let text = fs::read_to_string("/etc/login.defs").unwrap_or_default();
    sys_uid_max(&text).unwrap_or(USUAL_LAST_SYSTEM_UID)
}

fn sys_uid_max(text: &str) -> Option<u32> {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "SYS_UID_MAX").then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(value).next_back()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn only_the_right_section_and_valid_values_count() {
        for (text, expected) in [
            ("", None),
            ("[Login]\n#RemoveIPC=no\n;RemoveIPC=no\n", None),
            ("[Login]\nRemoveIPC=no\n", Some(false)),
            ("[Login]\n  RemoveIPC = Off  \n", Some(false)),
            ("[Login]\nRemoveIPC=no\nRemoveIPC=1\n", Some(true)),
            ("[Login]\nRemoveIPC=no\nRemoveIPC=perhaps\nRemoveIPC=\n", Some(false)),
            ("[Manager]\nRemoveIPC=no\n", None),
            ("[Login]\n[Other]\nRemoveIPC=no\n", None),
            ("RemoveIPC=no\n[Login]\nKillExcludeUsers=root \\\nRemoveIPC=no\n", None),
            ("[Login\nRemoveIPC=no", None),
            ("=\n[]\n[Login]\n=no\nRemoveIPC\nRemoveIPC=NO", Some(false)),
        ] {
            assert_eq!(remove_ipc(text), expected, "{text}");
        }
    }

    /// A machine's files under a directory.
    struct FakeMachine(tempfile::TempDir);

    impl FakeMachine {
        fn new(files: &[(&str, &str)]) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.0.path().join("run/systemd/system")).unwrap();
            for (path, text) in files {
                let path = machine.0.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            machine
        }

        fn setting(&self) -> Option<bool> {
            setting(self.0.path()).map(|(value, _)| value)
        }

        fn judge(&self, uid: u32, directory: &str, running: Option<bool>) -> Severity {
            let person = Person { uid, name: "ana".into(), last_system_uid: 999 };
            judge(self.0.path(), Path::new(directory), &person, || running).state
        }
    }

    const YES: &str = "[Login]\nRemoveIPC=yes\n";
    const NO: &str = "[Login]\nRemoveIPC=no\n";

    #[test]
    fn drop_ins_count_by_name_and_hide_those_of_the_same_name() {
        let setting = |files: &[(&str, &str)]| FakeMachine::new(files).setting();
        assert_eq!(setting(&[]), None);
        assert_eq!(setting(&[("usr/lib/systemd/logind.conf", NO)]), Some(false));
        let mains = [("etc/systemd/logind.conf", "[Login]\n"), ("usr/lib/systemd/logind.conf", NO)];
        assert_eq!(setting(&mains), None, "one main file only");
        let dropped = ("usr/lib/systemd/logind.conf.d/50-a.conf", NO);
        assert_eq!(setting(&[("etc/systemd/logind.conf", YES), dropped]), Some(false), "drop-ins come later");
        assert_eq!(setting(&[dropped, ("run/systemd/logind.conf.d/40-b.conf", YES)]), Some(false), "in order of names");
        assert_eq!(setting(&[dropped, ("run/systemd/logind.conf.d/60-b.conf", YES)]), Some(true));
        let hidden = [dropped, ("run/systemd/logind.conf.d/50-a.conf", YES)];
        assert_eq!(setting(&hidden), Some(true), "/run hides /usr/lib");
        assert_eq!(setting(&[dropped, hidden[1], ("etc/systemd/logind.conf.d/50-a.conf", NO)]), Some(false));
        assert_eq!(setting(&[("etc/systemd/logind.conf.d/x.conf.bak", NO)]), None);

        let machine = FakeMachine::new(&[dropped, ("etc/systemd/logind.conf.d/x", "")]);
        std::os::unix::fs::symlink("/dev/null", machine.0.path().join("etc/systemd/logind.conf.d/50-a.conf")).unwrap();
        assert_eq!(machine.setting(), None, "a link to /dev/null hides it");
    }

    #[test]
    fn only_people_who_do_not_linger_lose_their_regions() {
        let machine = FakeMachine::new(&[("etc/systemd/logind.conf", NO)]);
        assert_eq!(machine.judge(1000, "/dev/shm", None), Severity::Ok);
        assert_eq!(machine.judge(1000, "/dev/shm", Some(true)), Severity::Warning, "what runs counts");
        let machine = FakeMachine::new(&[]);
        assert_eq!(machine.judge(1000, "/dev/shm", None), Severity::Warning, "the default");
        assert_eq!(machine.judge(1000, "/dev/shm/robot", None), Severity::Warning);
        assert_eq!(machine.judge(1000, "/dev/shm", Some(false)), Severity::Ok);
        assert_eq!(machine.judge(1000, "/mnt/tmpfs", None), Severity::Ok);
        assert_eq!(machine.judge(999, "/dev/shm", None), Severity::Ok);
        let lingering = FakeMachine::new(&[("var/lib/systemd/linger/ana", "")]);
        assert_eq!(lingering.judge(1000, "/dev/shm", None), Severity::Ok);
        let without = FakeMachine::new(&[]);
        fs::remove_dir(without.0.path().join("run/systemd/system")).unwrap();
        assert_eq!(without.judge(1000, "/dev/shm", None), Severity::Ok);
        assert_eq!(without.judge(1000, "/dev/shm", Some(true)), Severity::Warning, "another login manager answers");
    }

    #[test]
    fn system_users_end_where_the_machine_says() {
        assert_eq!(sys_uid_max("#SYS_UID_MAX 5\nSYS_UID_MIN 100\nSYS_UID_MAX\t\t 499 # x\n"), Some(499));
        assert_eq!(sys_uid_max("SYS_UID_MAX many\nSYS_UID_MAX"), None);
    }
}
