//! The death certificates of late, oldest first.

use std::collections::VecDeque;

use conduit::registry::RegistryEvent;

/// How many are kept; then the oldest is dropped for each new one.
const KEPT: usize = 1000;

/// What the registry remembers of the dead.
#[derive(Debug, Default)]
pub(crate) struct Deaths(VecDeque<RegistryEvent>);

impl Deaths {
    pub(crate) fn remember(&mut self, event: RegistryEvent) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    pub(crate) fn all(&self) -> Vec<RegistryEvent> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use conduit::registry::EventKind;

    use super::*;

    #[test]
    fn the_oldest_are_dropped_for_the_newest() {
        let mut deaths = Deaths::default();
        for time_ms in 0..KEPT as u64 + 3 {
            deaths.remember(RegistryEvent {
                kind: EventKind::Died,
                topic: "a".into(),
                time_ms,
                process: None,
                death: None,
            });
        }
        let times: Vec<u64> = deaths.all().iter().map(|event| event.time_ms).collect();
        assert_eq!(times, (3..KEPT as u64 + 3).collect::<Vec<_>>());
    }
}
