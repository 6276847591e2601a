//! Who may publish what: the administrator's rules for names.
//!
//! The first rule with a pattern that matches a topic decides. A topic that no rule matches may be published by everybody;
//! root is bound by the rules like every other user. The kernel does not know them, so a process that asks nobody can
//! still give a file such a name: it is then told of in the list and in the log.

use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use conduit::{TopicName, TopicPattern};
use nix::unistd::{Group, User};
use serde::Deserialize;
use toml::Spanned;

/// Where the rules for names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Nowhere: everybody may publish any free name.
    None,
    /// In this file, if it is there.
    IfPresent(PathBuf),
    /// In this file.
    Required(PathBuf),
}

impl Config {
    /// Where they are if nobody says otherwise.
    pub const DEFAULT_PATH: &str = "/etc/conduit/conduitd.toml";

    /// Reads the rules and says how many there are, or what is wrong with them.
    pub fn check(&self) -> Result<usize, String> {
        self.load().map(|policy| policy.len()).map_err(|error| error.to_string())
    }

    pub(crate) fn load(&self) -> Result<Policy, PolicyError> {
        match self {
            Self::None => Ok(Policy::default()),
            Self::Required(path) => Policy::load(path),
            Self::IfPresent(path) => match Policy::load(path) {
                Err(PolicyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Ok(Policy::default())
                }
                loaded => loaded,
            },
        }
    }
}

/// The rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Its name in quotes, or its number.
    label: String,
    topics: Vec<TopicPattern>,
    /// Everybody if none.
    publishers: Option<Publishers>,
    mode: Option<u32>,
    group: Option<Named>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Publishers {
    users: Vec<Named>,
    groups: Vec<Named>,
    /// Users that the group database lists as members of the groups.
    members: Vec<u32>,
}

/// A user or group, as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    id: u32,
    name: String,
}

/// A region's file, or what a client says its file will be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub(crate) gid: Option<u32>,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
}

/// Why a process may not publish a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The rule's name in quotes, or its number.
    pub(crate) rule: String,
    pub(crate) reason: String,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.rule, self.reason)
    }
}

/// Why a file gives no policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("can not read the rules for names in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}:{column}: {what}", path.display())]
    Content {
        path: PathBuf,
        /// From 1, as the column.
        line: usize,
        column: usize,
        what: String,
    },
}

impl Policy {
    /// Reads the rules of a file. Names of users and groups are looked up now, and not again.
    pub(crate) fn load(path: &Path) -> Result<Self, PolicyError> {
        let text = fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|Misplaced { what, at }| {
            let before = text.get(..at).unwrap_or(&text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = before.matches('\n').count() + 1;
            let column = before[line_start..].chars().count() + 1;
            PolicyError::Content { path: path.into(), line, column, what }
        })
    }

    fn parse(text: &str) -> Result<Self, Misplaced> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span: Range<usize>| span.start);
            Misplaced { what: error.message().trim().replace('\n', ", "), at }
        })?;
        let mut rules: Vec<Rule> = Vec::new();
        for (number, rule) in (1..).zip(document.rule) {
            let place = rule.span();
            let name = rule.get_ref().name.clone();
            let rule = Rule::check(rule.into_inner(), place, number)?;
            if let Some(name) = name
                && rules.iter().any(|other| other.label == rule.label)
            {
                return Err(Misplaced::at(&name, format!("there is a rule {} already", rule.label)));
            }
            rules.push(rule);
        }
        Ok(Self { rules })
    }

    /// How many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether a process may publish a topic, given its user and all its groups.
    pub(crate) fn may_publish(&self, topic: &TopicName, uid: u32, gids: &[u32]) -> Result<(), Refusal> {
        let Some(rule) = self.rule_for(topic) else { return Ok(()) };
        match &rule.publishers {
            Some(publishers) if !publishers.include(uid, gids) => Err(rule.refusal(publishers.to_string())),
            _ => Ok(()),
        }
    }

    /// Whether a file may have the topic's name. `gids` are the groups of the process that published it, if it is known.
    ///
    /// Without, the file's group counts: nobody can give a file to a group that they are not in.
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
            return Err(rule.refusal(format!("its file must have group {wanted}, not group {found}")));
        }
        Ok(())
    }

    fn rule_for(&self, topic: &TopicName) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.topics.iter().any(|glob| glob.matches(topic)))
    }
}

impl Rule {
    fn refusal(&self, reason: String) -> Refusal {
        Refusal { rule: self.label.clone(), reason }
    }

    fn check(raw: RawRule, place: Range<usize>, number: usize) -> Result<Self, Misplaced> {
        let label = raw.name.map_or_else(|| number.to_string(), |name| format!("{:?}", name.into_inner()));
        if raw.topics.is_empty() {
            return Err(Misplaced { what: format!("rule {label} is for no topics"), at: place.start });
        }
        let globs =
            raw.topics.iter().map(|glob| TopicPattern::new(glob.get_ref()).map_err(|error| Misplaced::at(glob, error)));
        let publishers = if raw.users.is_none() && raw.groups.is_none() {
            None
        } else {
            let users = raw.users.unwrap_or_default().iter().map(user).collect::<Result<_, _>>()?;
            let groups: Vec<_> = raw.groups.unwrap_or_default().iter().map(group).collect::<Result<_, _>>()?;
            let members = groups.iter().flat_map(|(_, members)| members.clone()).collect();
            Some(Publishers { users, groups: groups.into_iter().map(|(group, _)| group).collect(), members })
        };
        Ok(Self {
            label,
            topics: globs.collect::<Result<_, _>>()?,
            publishers,
            mode: raw.mode.as_ref().map(mode).transpose()?,
            group: raw.group.as_ref().map(group).transpose()?.map(|(group, _)| group),
        })
    }
}

impl Publishers {
    fn include(&self, uid: u32, gids: &[u32]) -> bool {
        self.users.iter().any(|user| user.id == uid)
            || self.groups.iter().any(|group| gids.contains(&group.id))
            || self.members.contains(&uid)
    }
}

impl Display for Publishers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = self.users.iter().map(|user| format!("user {user}"));
        let groups = self.groups.iter().map(|group| format!("group {group}"));
        let all: Vec<String> = users.chain(groups).collect();
        match all.split_last() {
            None => f.write_str("nobody may publish it"),
            Some((only, [])) => write!(f, "only {only} may publish it"),
            Some((last, others)) => write!(f, "only {} and {last} may publish it", others.join(", ")),
        }
    }
}

impl Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Misplaced {
    what: String,
    at: usize,
}

impl Misplaced {
    fn at<T>(value: &Spanned<T>, what: impl Display) -> Self {
        Self { what: what.to_string(), at: value.span().start }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Option<Spanned<String>>,
    topics: Vec<Spanned<String>>,
    users: Option<Vec<Spanned<Id>>>,
    groups: Option<Vec<Spanned<Id>>>,
    mode: Option<Spanned<Mode>>,
    group: Option<Spanned<Id>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a name in quotes or a number")]
enum Id {
    Number(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a mode like \"0640\" or 0o640")]
enum Mode {
    Number(u32),
    Text(String),
}

fn user(id: &Spanned<Id>) -> Result<Named, Misplaced> {
    match id.get_ref() {
        Id::Number(id) => Ok(Named { id: *id, name: id.to_string() }),
        Id::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(Named { id: user.uid.as_raw(), name: name.clone() }),
            Ok(None) => Err(Misplaced::at(id, format_args!("there is no user {name:?}"))),
            Err(errno) => Err(Misplaced::at(id, format_args!("can not look up user {name:?}: {}", errno.desc()))),
        },
    }
}

/// A group, and the users that are listed as its members.
fn group(id: &Spanned<Id>) -> Result<(Named, Vec<u32>), Misplaced> {
    let (found, named) = match id.get_ref() {
        Id::Number(gid) => (Group::from_gid((*gid).into()), Named { id: *gid, name: gid.to_string() }),
        Id::Name(name) => {
            let found = Group::from_name(name)
                .map_err(|errno| Misplaced::at(id, format_args!("can not look up group {name:?}: {}", errno.desc())))?
                .ok_or_else(|| Misplaced::at(id, format_args!("there is no group {name:?}")))?;
            let gid = found.gid.as_raw();
            (Ok(Some(found)), Named { id: gid, name: name.clone() })
        }
    };
    // A number needs no name.
    let members = found.ok().flatten().map(|group| group.mem).unwrap_or_default();
    let uids = members.iter().filter_map(|name| User::from_name(name).ok().flatten());
    Ok((named, uids.map(|user| user.uid.as_raw()).collect()))
}

fn mode(mode: &Spanned<Mode>) -> Result<u32, Misplaced> {
    let bits = match mode.get_ref() {
        Mode::Number(bits) => Some(*bits),
        Mode::Text(text) => u32::from_str_radix(text, 8).ok(),
    };
    let Some(bits) = bits.filter(|bits| bits & !0o777 == 0) else {
        return Err(Misplaced::at(mode, "this is no mode: use \"0640\" or 0o640, up to 0777"));
    };
    if bits & 0o600 != 0o600 {
        let possible = bits | 0o600;
        return Err(Misplaced::at(
            mode,
            format_args!("a region's owner may always read and write: use {possible:04o}"),
        ));
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: FileFacts = FileFacts { gid: None, mode: None };

    fn policy(text: &str) -> Policy {
        Policy::parse(text).unwrap()
    }

    fn topic(name: &str) -> TopicName {
        name.parse().unwrap()
    }

    fn error_of(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.toml");
        std::fs::write(&path, text).unwrap();
        let error = Policy::load(&path).unwrap_err().to_string();
        error.strip_prefix(&format!("{}:", directory.path().join("p.toml").display())).unwrap().to_owned()
    }

    #[test]
    fn without_rules_everybody_may_publish() {
        assert_eq!(policy("").may_publish(&topic("a"), 7, &[]), Ok(()));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(
            r#"
            [[rule]]
            topics = ["camera/front"]
            users = [1000]
            [[rule]]
            name = "cameras"
            topics = ["lidar", "camera/**"]
            users = ["root"]
            groups = [44]
            [[rule]]
            topics = ["closed"]
            users = []
            [[rule]]
            topics = ["open"]
            "#,
        );
        assert_eq!(policy.len(), 4);
        let refused =
            |name: &str, uid, gids: &[u32]| policy.may_publish(&topic(name), uid, gids).err().map(|it| it.to_string());
        assert_eq!(refused("camera/front", 1000, &[]), None);
        assert_eq!(refused("camera/front", 0, &[44]).unwrap(), "rule 1: only user 1000 may publish it");
        assert_eq!(refused("camera/rear", 0, &[]), None);
        assert_eq!(refused("lidar", 1, &[2, 44]), None);
        let expected = "rule \"cameras\": only user root and group 44 may publish it";
        assert_eq!(refused("camera/rear", 1, &[2]).unwrap(), expected);
        assert_eq!(refused("closed", 0, &[]).unwrap(), "rule 3: nobody may publish it");
        assert_eq!(refused("open", 5, &[]), None);
        assert_eq!(refused("other", 5, &[]), None);
    }

    #[test]
    fn a_file_must_have_its_mode_and_group() {
        let policy = policy(
            "[[rule]]\ntopics = ['a']\nmode = '0640'\ngroup = 44\n[[rule]]\ntopics = ['b']\ngroups = [44]\nmode = 0o600",
        );
        let judge = |name: &str, gid, mode| {
            let file = FileFacts { gid: Some(gid), mode: Some(mode) };
            policy.judge(&topic(name), 7, None, file).err().map(|refusal| refusal.to_string())
        };
        assert_eq!(judge("a", 44, 0o640), None);
        assert_eq!(judge("a", 44, 0o644).unwrap(), "rule 1: its file must have mode 0640, not 0644");
        assert_eq!(judge("a", 45, 0o640).unwrap(), "rule 1: its file must have group 44, not group 45");
        assert_eq!(judge("b", 44, 0o600), None, "whoever could give it that group is in the group");
        assert!(judge("b", 45, 0o600).unwrap().ends_with("only group 44 may publish it"));
        assert_eq!(policy.judge(&topic("b"), 7, Some(&[44]), ANY), Ok(()), "what is not known yet is not judged");
    }

    #[test]
    fn errors_have_their_place() {
        let rule = |line: &str| format!("# rules\n[[rule]]\ntopics = ['a']\n{line}\n");
        for (text, expected) in [
            ("rule = 1".to_owned(), "1:8: invalid type: integer `1`, expected a sequence"),
            ("[[rules]]\n".into(), "1:3: unknown field `rules`, expected `rule`"),
            (
                rule("user = 'x'"),
                "4:1: unknown field `user`, expected one of `name`, `topics`, `users`, `groups`, `mode`, `group`",
            ),
            (rule("users = ['nobody-at-all']"), "4:10: there is no user \"nobody-at-all\""),
            (rule("users = [0, -1]"), "4:9: expected a name in quotes or a number"),
            (rule("groups = ['no-such-group']"), "4:11: there is no group \"no-such-group\""),
            (rule("group = 'no-such-group'"), "4:9: there is no group \"no-such-group\""),
            (rule("mode = '0888'"), "4:8: this is no mode: use \"0640\" or 0o640, up to 0777"),
            (rule("mode = 640000"), "4:8: this is no mode: use \"0640\" or 0o640, up to 0777"),
            (rule("mode = 0o440"), "4:8: a region's owner may always read and write: use 0640"),
            (rule("mode = true"), "4:8: expected a mode like \"0640\" or 0o640"),
            (
                "[[rule]]\n topics = [ 'e', 'a/[b']".into(),
                "2:18: pattern \"a/[b\" is invalid at byte 2: `[` has no `]`; write `[a-z]`",
            ),
            ("[[rule]]\ntopics = []".into(), "1:1: rule 1 is for no topics"),
            ("[[rule]]\nname = 'x'".into(), "1:1: missing field `topics`"),
            (rule("name = 'x'") + &rule("name = 'x'"), "8:8: there is a rule \"x\" already"),
        ] {
            assert_eq!(error_of(&text), expected, "{text}");
        }
        assert!(error_of("[[rule]\n").starts_with("1:8: "), "{}", error_of("[[rule]\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_policy_or_an_error(
            lines in prop::collection::vec(prop_oneof![
                Just("[[rule]]".to_owned()),
                Just("topics = ['a/**', \"b\"]".to_owned()),
                "(name|users|groups|mode|group|topics) = .{0,12}",
                ".{0,20}",
            ], 0..8),
        ) {
            let text = lines.join("\n");
            if let Err(error) = Policy::parse(&text) {
                prop_assert!(error.at <= text.len() && !error.what.is_empty());
            }
        }
    }
}
