//! Limits, clock and pages.

use std::fs;
use std::path::Path;
use std::time::Duration;

use conduit::Domain;
use conduit::internal::shm::clock::now_ns;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::finding::Finding;
use super::shm::Mount;
use crate::output::{duration, memory_size};

pub(super) const IDS: [&str; 4] = [FILES, LOCKED, CLOCK, PAGES];
const FILES: &str = "open-files";
const LOCKED: &str = "locked-memory";
const CLOCK: &str = "clock";
const PAGES: &str = "huge-pages";

const FEW_FILES: u64 = 1024;
/// What a publisher or a subscriber holds open: the directory, its region, and its lease.
const DESCRIPTORS_EACH: u64 = 3;
/// Clock sources that are read without a system call.
const FAST: [&str; 5] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv", "riscv_clocksource"];
/// What no clock without a system call takes.
const SLOW: Duration = Duration::from_nanos(300);

pub(super) fn check(domain: &Domain) -> Vec<Finding> {
    vec![check_files(), check_locked(), check_clock(), check_pages(domain)]
}

fn check_files() -> Finding {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => judge_files(soft, hard),
        Err(errno) => Finding::skipped(FILES, errno.to_string()),
    }
}

fn judge_files(soft: u64, hard: u64) -> Finding {
    if soft >= FEW_FILES {
        return Finding::ok(FILES, format!("{} per process", limit(soft, |files| files.to_string())));
    }
    let remedy = if hard >= FEW_FILES {
        format!("`ulimit -n {FEW_FILES}`, or LimitNOFILE= of the service")
    } else {
        "more `nofile` in /etc/security/limits.conf, or LimitNOFILE= of the service".into()
    };
    let each = DESCRIPTORS_EACH;
    let message = format!("{soft} per process: enough for {} publishers and subscribers, of {each} each", soft / each);
    Finding::warning(FILES, message, remedy)
}

fn limit(value: u64, text: impl Fn(u64) -> String) -> String {
    if value == RLIM_INFINITY { "no limit".into() } else { text(value) }
}

fn check_locked() -> Finding {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) => {
            let soft = limit(soft, memory_size);
            Finding::ok(
                LOCKED,
                format!("{soft} per process; Conduit locks none, but after mlockall(2) regions count too"),
            )
        }
        Err(errno) => Finding::skipped(LOCKED, errno.to_string()),
    }
}

fn check_clock() -> Finding {
    let name = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    judge_clock(name.ok().as_deref().map(str::trim), cost_of_a_stamp())
}

fn judge_clock(name: Option<&str>, cost: Duration) -> Finding {
    let costs = format!("a time stamp costs {}", duration(cost));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Finding::skipped(CLOCK, format!("clock source unknown; {costs}"));
    };
    let is_fast = FAST.iter().any(|fast| name.starts_with(fast));
    if is_fast && cost < SLOW {
        return Finding::ok(CLOCK, format!("{name}; {costs}"));
    }
    let reason = if is_fast { "as if it needed a system call" } else { "it is read by a system call" };
    Finding::warning(
        CLOCK,
        format!("{name}: {reason}, {costs}, once per message"),
        "see available_clocksource in /sys/devices/system/clocksource/clocksource0 and `dmesg | grep -i clocksource`; \
         of a virtual machine: a hypervisor with an invariant TSC",
    )
}

/// The median of many batches: what else runs here does not count.
fn cost_of_a_stamp() -> Duration {
    const BATCH: u64 = 100;
    let mut batches: Vec<u64> = (0..101)
        .map(|_| {
            let start = now_ns();
            for _ in 0..BATCH {
                std::hint::black_box(now_ns());
            }
            now_ns().saturating_sub(start)
        })
        .collect();
    batches.sort_unstable();
    Duration::from_nanos(batches[batches.len() / 2] / (BATCH + 1))
}

fn check_pages(domain: &Domain) -> Finding {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    let path = fs::canonicalize(domain.shm_dir()).unwrap_or_else(|_| domain.shm_dir().into());
    judge_pages(setting.ok().as_deref().and_then(chosen), &path, Mount::of(&path).as_ref())
}

/// The word in brackets.
fn chosen(setting: &str) -> Option<&str> {
    Some(setting.split_once('[')?.1.split_once(']')?.0)
}

/// A tmpfs goes by its own option, unless the machine's setting is `force` or `deny`.
fn judge_pages(setting: Option<&str>, path: &Path, mount: Option<&Mount>) -> Finding {
    let Some(mount) = mount else { return Finding::skipped(PAGES, "mount unknown") };
    let of_mount = mount.options.split(',').find_map(|option| option.strip_prefix("huge=")).unwrap_or("never");
    let at = mount.at.display();
    let wasteful = "every region takes 2 MiB at least";
    match (setting, of_mount) {
        (None, _) => Finding::skipped(PAGES, "this kernel has no huge pages for shared memory, or does not tell"),
        (Some("force"), _) => Finding::warning(
            PAGES,
            format!("shmem_enabled is `force`: {wasteful}, in {}", path.display()),
            "`echo never >/sys/kernel/mm/transparent_hugepage/shmem_enabled`",
        ),
        (Some("deny"), _) => Finding::ok(PAGES, "none: shmem_enabled is `deny`"),
        (_, "always") => Finding::warning(
            PAGES,
            format!("{at} is mounted with huge=always: {wasteful}"),
            format!("`mount -o remount,huge=within_size {}`", super::quoting::quoted(&mount.at)),
        ),
        (_, "within_size") => {
            Finding::ok(PAGES, format!("for the whole huge pages of large regions (huge=within_size of {at})"))
        }
        (_, "advise") => Finding::ok(PAGES, format!("for what programs ask for by madvise(2) (huge=advise of {at})")),
        (_, other) => {
            let message = format!(
                "none (huge={other} of {at}); huge=within_size would give large regions pages of 2 MiB, huge=advise those \
                 that ask by madvise(2)"
            );
            Finding::ok(PAGES, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Ok, Skipped, Warning};
    use super::*;

    #[test]
    fn a_low_limit_of_files_is_reported_with_its_remedy() {
        assert_eq!(judge_files(1024, 4096).state, Ok);
        assert_eq!(judge_files(RLIM_INFINITY, RLIM_INFINITY).message, "no limit per process");
        let low = judge_files(256, 4096);
        assert!(low.state == Warning && low.remedy.unwrap().contains("ulimit -n 1024"));
        assert!(judge_files(256, 256).remedy.unwrap().contains("limits.conf"));
    }

    #[test]
    fn slow_clocks_are_reported() {
        let cost = |ns| Duration::from_nanos(ns);
        assert_eq!(judge_clock(Some("tsc"), cost(20)).state, Ok);
        assert_eq!(judge_clock(Some("hyperv_clocksource_tsc_page"), cost(40)).state, Ok);
        assert_eq!(judge_clock(Some("kvm-clock"), cost(900)).state, Warning);
        let hpet = judge_clock(Some("hpet"), cost(1500));
        assert!(hpet.state == Warning && hpet.message.contains("1.50 us"), "{hpet:?}");
        assert_eq!(judge_clock(None, cost(20)).state, Skipped);
        assert!(cost_of_a_stamp() > Duration::ZERO);
    }

    #[test]
    fn pages_go_by_the_mount_unless_the_machine_overrules_it() {
        let judge = |setting: &str, huge: &str| {
            let mount = Mount {
                at: "/dev/shm".into(),
                kind: "tmpfs".into(),
                source: "tmpfs".into(),
                options: format!("rw,size=1024k{huge}"),
            };
            judge_pages(chosen(setting), Path::new("/dev/shm"), Some(&mount)).state
        };
        let never = "always within_size advise [never] deny force\n";
        assert_eq!(judge(never, ""), Ok);
        assert_eq!(judge(never, ",huge=advise"), Ok);
        assert_eq!(judge(never, ",huge=within_size"), Ok);
        assert_eq!(judge(never, ",huge=always"), Warning);
        assert_eq!(judge("always never [deny] force", ",huge=always"), Ok);
        assert_eq!(judge("always never deny [force]", ""), Warning);
        assert_eq!(judge("", ""), Skipped);
    }
}
