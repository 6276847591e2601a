//! Owns the policy: the administrator's rules on which users may publish which names.
//!
//! The first rule with a pattern that matches a topic decides. A topic that no rule matches may be
//! published by every user; root is bound by the rules like other users. The kernel does not
//! enforce them: a process that does not ask the daemon can still create a file of such a name,
//! which is then listed and logged as unauthorised.

mod file;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use conduit::{TopicName, TopicPattern};
pub use file::Config;

/// The rules, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    rules: Vec<PolicyRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PolicyRule {
    /// The rule's name in quotes, or its number.
    label: String,
    topics: Vec<TopicPattern>,
    /// `None`: every user.
    publishers: Option<PermittedPublishers>,
    mode: Option<u32>,
    group: Option<NamedId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PermittedPublishers {
    users: Vec<NamedId>,
    groups: Vec<NamedId>,
    /// Members of the groups, according to the group database.
    members: Vec<u32>,
}

/// A user or group, as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedId {
    id: u32,
    name: String,
}

/// The attributes of a region's file, or those that a client announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) gid: Option<u32>,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
}

/// Why a process may not publish a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {reason}")]
pub(crate) struct Refusal {
    /// The rule's name in quotes, or its number.
    pub(crate) rule: String,
    pub(crate) reason: String,
}

impl Policy {
    /// How many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Checks whether a process may publish a topic, given its user and all its groups.
    pub(crate) fn may_publish(&self, topic: &TopicName, uid: u32, gids: &[u32]) -> Result<(), Refusal> {
        let Some(rule) = self.rule_for(topic) else { return Ok(()) };
        match &rule.publishers {
            Some(publishers) if !publishers.include(uid, gids) => Err(rule.refusal(publishers.to_string())),
            _ => Ok(()),
        }
    }

    /// Checks whether a file may have the topic's name. `gids`: the groups of the process that
    /// published it, if known.
    ///
    /// Else the file's group counts: a process cannot give a file to a group that it is not in.
    pub(crate) fn judge(
        &self,
        topic: &TopicName,
        uid: u32,
        gids: Option<&[u32]>,
        file: FileFacts,
    ) -> Result<(), Refusal> {
        let of_file = [file.gid.unwrap_or(u32::MAX)];
        self.may_publish(topic, uid, gids.unwrap_or(&of_file))?;
        let Some(rule) = self.rule_for(topic) else { return Ok(()) };
        if let (Some(wanted), Some(found)) = (rule.mode, file.mode)
            && wanted != found
        {
            return Err(rule.refusal(format!("its file must have mode {wanted:04o}, not {found:04o}")));
        }
        if let (Some(wanted), Some(found)) = (&rule.group, file.gid)
            && wanted.id != found
        {
            return Err(rule.refusal(format!("its file must have group {}, not group {found}", wanted.name)));
        }
        Ok(())
    }

    fn rule_for(&self, topic: &TopicName) -> Option<&PolicyRule> {
        self.rules.iter().find(|rule| rule.topics.iter().any(|glob| glob.matches(topic)))
    }
}

impl PolicyRule {
    fn refusal(&self, reason: String) -> Refusal {
        Refusal { rule: self.label.clone(), reason }
    }
}

impl PermittedPublishers {
    fn include(&self, uid: u32, gids: &[u32]) -> bool {
        self.users.iter().any(|user| user.id == uid)
            || self.groups.iter().any(|group| gids.contains(&group.id))
            || self.members.contains(&uid)
    }
}

impl Display for PermittedPublishers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = self.users.iter().map(|user| format!("user {}", user.name));
        let groups = self.groups.iter().map(|group| format!("group {}", group.name));
        let all: Vec<String> = users.chain(groups).collect();
        match all.split_last() {
            None => f.write_str("nobody may publish it"),
            Some((only, [])) => write!(f, "only {only} may publish it"),
            Some((last, others)) => write!(f, "only {} and {last} may publish it", others.join(", ")),
        }
    }
}
