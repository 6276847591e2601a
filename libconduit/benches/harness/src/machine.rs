//! The machine that a measurement ran on.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// The first value of a field of `/proc/cpuinfo`; not all architectures have all fields.
pub fn cpu_field(name: &str) -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// A figure that depends on who made the processor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByVendor {
    /// Of processors by AMD.
    pub amd: f64,
    /// Of processors by Intel.
    pub intel: f64,
}

impl ByVendor {
    /// The figure of a processor whose `vendor_id` is this; `None` if it is another's.
    pub fn of(self, vendor_id: &str) -> Option<f64> {
        match vendor_id {
            "AuthenticAMD" => Some(self.amd),
            "GenuineIntel" => Some(self.intel),
            _ => None,
        }
    }
}

/// Whether this is a virtual machine: what it says of its processors may be made up.
pub fn is_virtual() -> bool {
    cpu_field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// The release of the running kernel.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Now, on the clock that stamps messages: CLOCK_MONOTONIC in nanoseconds, the same in all
/// processes.
pub fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// What a clock shows, in nanoseconds.
pub(crate) fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_vendor() {
        let figure = ByVendor { amd: 7.0, intel: 10.0 };
        let of = |vendor_id| figure.of(vendor_id);
        assert_eq!(["AuthenticAMD", "GenuineIntel", ""].map(of), [Some(7.0), Some(10.0), None]);
    }
}
