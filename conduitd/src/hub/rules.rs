//! Policy decisions: which registrations are refused, and which regions are not allowed.

use std::rc::Rc;

use conduit::TopicName;
use conduit::registry::{Process, RegistryError};

use super::Hub;
use crate::logging::message_id;
use crate::peer::PeerProcess;
use crate::policy::{FileFacts, Policy, Refusal};
use crate::registry::Key;

impl Hub {
    /// Checks an announcement against the policy.
    pub(super) fn authorise(
        &self,
        topic: &TopicName,
        peer: &PeerProcess,
        announced: FileFacts,
    ) -> Result<(), RegistryError> {
        let Process { pid, uid, .. } = peer.process;
        let judged = self.policy.borrow().judge(topic, uid, Some(&peer.gids), announced);
        judged.map_err(|Refusal { rule, reason }| {
            if self.log.may_log(Some(uid)) {
                tracing::warn!(
                    conduit.topic = %topic, conduit.pid = pid, conduit.uid = uid, conduit.rule = rule, "refused: {reason}"
                );
            }
            RegistryError::NotAllowed { topic: topic.to_string(), rule, reason }
        })
    }

    /// Replaces the policy, and checks existing regions against the new one.
    pub(crate) fn set_policy(self: &Rc<Self>, policy: Policy) {
        self.invalidate_answers();
        self.policy.replace(policy);
        for key in self.topics.keys() {
            self.judge(&key);
        }
    }

    /// Checks a region against the policy.
    pub(super) fn judge(&self, key: &Key) {
        let Some(region) = self.topics.region(key) else { return };
        let (gid, mode) = region.access().map_or((None, None), |(gid, mode)| (Some(gid), Some(mode)));
        let announcer = self.registry.borrow().announcer_of(&key.0);
        let gids = announcer.and_then(|connection| self.processes.groups_of(connection));
        let judged = self.policy.borrow().judge(&key.0, region.uid(), gids.as_deref(), FileFacts { gid, mode });
        if let Err(refusal) = &judged
            && self.log.may_log(Some(region.uid()))
        {
            tracing::warn!(
                message_id = message_id::UNAUTHORISED,
                conduit.topic = %key.0,
                conduit.uid = region.uid(),
                conduit.rule = refusal.rule,
                "unauthorised: {}",
                refusal.reason
            );
        }
        self.topics.update(key, |topic| topic.refusal = judged.err());
    }
}
