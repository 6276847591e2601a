//! How topics and their states are worded and styled.

use anstyle::Style;
use conduit::registry::{Liveness, RegionState, TopicInfo};

use super::{BAD, FAINT, GOOD, WARNING, memory_size, styled};

/// The type of a topic's messages; `raw` for raw regions.
pub(crate) fn message_type(topic: &TopicInfo) -> &str {
    topic.message_type.as_deref().unwrap_or("raw")
}

/// The state of a topic, styled; `overdue` if its publisher lives and has missed its own deadline.
pub(crate) fn state(topic: &TopicInfo) -> String {
    if topic.state == RegionState::Live && topic.is_overdue {
        return styled(WARNING, "overdue");
    }
    styled(state_style(&topic.state), &topic.state)
}

pub(crate) fn state_style(state: &RegionState) -> Style {
    match state {
        RegionState::Live => GOOD,
        RegionState::Closed => FAINT,
        RegionState::Unauthorised | RegionState::Unlinked => WARNING,
        RegionState::Orphaned => BAD,
        _ => Style::new(),
    }
}

/// The size of a topic's region, and of its slots.
pub(crate) fn size(topic: &TopicInfo) -> String {
    let size = format!("{} ({} bytes)", memory_size(topic.size_bytes), topic.size_bytes);
    match (topic.slots, topic.slot_bytes) {
        (Some(slots), Some(bytes)) => format!("{size}, {slots} slots of {}", memory_size(bytes)),
        _ => size,
    }
}

/// The process that publishes a topic.
pub(crate) fn publisher(topic: &TopicInfo) -> String {
    topic.publisher.as_ref().map_or("unknown".into(), |process| format!("{process}, uid {}", process.uid))
}

/// How the end of a topic's owner is noticed, if the registry watches it.
pub(crate) fn liveness(topic: &TopicInfo) -> Option<&str> {
    match topic.liveness.as_ref()? {
        Liveness::Lease => Some("lease: its end is noticed at once"),
        Liveness::Lock => Some("lock: checked twice a second"),
        Liveness::None => None,
        // A newer registry's.
        other => Some(other.as_str()),
    }
}

/// A value that may be unknown, as a cell of a table.
pub(crate) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

#[cfg(test)]
pub(crate) mod tests {
    use conduit::registry::Process;

    use super::*;

    pub(crate) fn topic(name: &str) -> TopicInfo {
        let mut topic = TopicInfo::new(name, RegionState::Live);
        topic.path = format!("/dev/shm/conduit_{name}");
        topic.size_bytes = 69_632;
        topic.slots = Some(16);
        topic.slot_bytes = Some(4096);
        topic.message_type = Some("[u8]".into());
        topic.publisher = Some(Process::new(7, 1000, "imu_driver"));
        topic.published = Some(42);
        topic.rate_hz = Some(99.96);
        topic.bytes_per_second = Some(4e6);
        topic.last_message_age_ns = Some(3_200_000);
        topic
    }
}
