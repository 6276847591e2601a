//! Which caches the processors share.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Where Linux describes the processors: `Documentation/ABI/testing/sysfs-devices-system-cpu`.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Whether all processors of this machine have a cache in common, as far as Linux says. Determined
/// once.
pub(crate) fn is_one_shared_by_all() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| is_one_shared_by_all_in(Path::new(PROCESSORS)))
}

/// The caches of the first processor suffice: one that all share is one of its own.
fn is_one_shared_by_all_in(processors: &Path) -> bool {
    let online = fs::read_to_string(processors.join("online"));
    let caches = fs::read_dir(processors.join("cpu0/cache"));
    let (Ok(online), Ok(caches)) = (online, caches) else { return false };
    let shared = caches.flatten().filter_map(|cache| fs::read_to_string(cache.path().join("shared_cpu_list")).ok());
    // The kernel writes both lists in the same way.
    shared.into_iter().any(|shared| shared == online)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_shared(online: &str, caches: &[&str]) -> bool {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("online"), online).unwrap();
        for (index, shared) in caches.iter().enumerate() {
            let cache = directory.path().join(format!("cpu0/cache/index{index}"));
            fs::create_dir_all(&cache).unwrap();
            fs::write(cache.join("shared_cpu_list"), shared).unwrap();
        }
        is_one_shared_by_all_in(directory.path())
    }

    #[test]
    fn a_last_level_cache_can_be_shared_by_all_or_by_some() {
        assert!(is_shared("0-7\n", &["0,4\n", "0,4\n", "0-7\n"]));
        assert!(!is_shared("0-15\n", &["0,8\n", "0,8\n", "0-3,8-11\n"]));
        assert!(is_shared("0\n", &["0\n"]));
    }

    #[test]
    fn caches_that_are_not_described_are_not_shared() {
        assert!(!is_shared("0-7\n", &[]));
        assert!(!is_one_shared_by_all_in(Path::new("/nonexistent")));
    }
}
