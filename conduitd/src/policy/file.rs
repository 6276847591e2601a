//! Reads the policy from a file, and reports errors by line and column.

use std::fmt::Display;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use conduit::TopicPattern;
use conduit::internal::foreign_text::clean;
use nix::unistd::{Group, User};
use serde::Deserialize;
use toml::Spanned;

use super::{NamedId, PermittedPublishers, Policy, PolicyRule};

/// Where the policy's rules are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// There are none: every user may publish any free name.
    None,
    /// In this file, if it exists.
    IfPresent(PathBuf),
    /// In this file.
    Required(PathBuf),
}

impl Config {
    /// The default file.
    pub const DEFAULT_PATH: &str = "/etc/conduit/conduitd.toml";

    /// Reads the rules and returns how many there are.
    ///
    /// # Errors
    /// A sentence with the file, line and column, and what is wrong there.
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

/// Why a policy could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("cannot read the rules for names in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}:{column}: {what}", path.display())]
    Content {
        path: PathBuf,
        /// From 1, like the column.
        line: usize,
        column: usize,
        what: String,
    },
}

impl Policy {
    /// Reads the rules of a file. Names of users and groups are looked up now only.
    pub(crate) fn load(path: &Path) -> Result<Self, PolicyError> {
        let text = fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|Misplaced { what, at }| {
            let before = text.get(..at).unwrap_or(&text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = before.matches('\n').count() + 1;
            let column = before[line_start..].chars().count() + 1;
            PolicyError::Content { path: path.into(), line, column, what: clean(what) }
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, Misplaced> {
        let document: PolicyDocument = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span: Range<usize>| span.start);
            Misplaced { what: error.message().trim().replace('\n', ", "), at }
        })?;
        let mut rules: Vec<PolicyRule> = Vec::new();
        for (number, rule) in (1..).zip(document.rule) {
            let place = rule.span();
            let name = rule.get_ref().name.clone();
            let rule = PolicyRule::check(rule.into_inner(), place, number)?;
            if let Some(name) = name
                && rules.iter().any(|other| other.label == rule.label)
            {
                return Err(Misplaced::at(&name, format!("there is already a rule {}", rule.label)));
            }
            rules.push(rule);
        }
        Ok(Self { rules })
    }
}

impl PolicyRule {
    fn check(raw: RawRule, place: Range<usize>, number: usize) -> Result<Self, Misplaced> {
        let label = raw.name.map_or_else(|| number.to_string(), |name| format!("{:?}", name.into_inner()));
        if raw.topics.is_empty() {
            return Err(Misplaced { what: format!("rule {label} is for no topics"), at: place.start });
        }
        let topics = raw
            .topics
            .iter()
            .map(|topic| TopicPattern::new(topic.get_ref()).map_err(|error| Misplaced::at(topic, error)));
        let publishers = if raw.users.is_none() && raw.groups.is_none() {
            None
        } else {
            let users = raw.users.unwrap_or_default().iter().map(user).collect::<Result<_, _>>()?;
            let groups: Vec<_> = raw.groups.unwrap_or_default().iter().map(group).collect::<Result<_, _>>()?;
            let members = groups.iter().flat_map(|(_, members)| members.clone()).collect();
            Some(PermittedPublishers { users, groups: groups.into_iter().map(|(group, _)| group).collect(), members })
        };
        Ok(Self {
            label,
            topics: topics.collect::<Result<_, _>>()?,
            publishers,
            mode: raw.mode.as_ref().map(mode).transpose()?,
            group: raw.group.as_ref().map(group).transpose()?.map(|(group, _)| group),
        })
    }
}

/// What is wrong, and the offset of the byte.
#[derive(Debug)]
pub(super) struct Misplaced {
    pub(super) what: String,
    pub(super) at: usize,
}

impl Misplaced {
    fn at<T>(value: &Spanned<T>, what: impl Display) -> Self {
        Self { what: what.to_string(), at: value.span().start }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDocument {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Option<Spanned<String>>,
    topics: Vec<Spanned<String>>,
    users: Option<Vec<Spanned<RawId>>>,
    groups: Option<Vec<Spanned<RawId>>>,
    mode: Option<Spanned<RawMode>>,
    group: Option<Spanned<RawId>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a name in quotes or a number")]
enum RawId {
    Number(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a mode like \"0640\" or 0o640")]
enum RawMode {
    Number(u32),
    Text(String),
}

fn user(id: &Spanned<RawId>) -> Result<NamedId, Misplaced> {
    match id.get_ref() {
        RawId::Number(id) => Ok(NamedId { id: *id, name: id.to_string() }),
        RawId::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(NamedId { id: user.uid.as_raw(), name: name.clone() }),
            Ok(None) => Err(Misplaced::at(id, format_args!("there is no user {name:?}"))),
            Err(errno) => Err(Misplaced::at(id, format_args!("cannot look up user {name:?}: {}", errno.desc()))),
        },
    }
}

/// A group, and the users that the database lists as its members.
fn group(id: &Spanned<RawId>) -> Result<(NamedId, Vec<u32>), Misplaced> {
    let (found, named) = match id.get_ref() {
        RawId::Number(gid) => (Group::from_gid((*gid).into()), NamedId { id: *gid, name: gid.to_string() }),
        RawId::Name(name) => {
            let found = Group::from_name(name)
                .map_err(|errno| Misplaced::at(id, format_args!("cannot look up group {name:?}: {}", errno.desc())))?
                .ok_or_else(|| Misplaced::at(id, format_args!("there is no group {name:?}")))?;
            let gid = found.gid.as_raw();
            (Ok(Some(found)), NamedId { id: gid, name: name.clone() })
        }
    };
    // A numeric id is valid without an entry in the database.
    let members = found.ok().flatten().map(|group| group.mem).unwrap_or_default();
    let uids = members.iter().filter_map(|name| User::from_name(name).ok().flatten());
    Ok((named, uids.map(|user| user.uid.as_raw()).collect()))
}

fn mode(mode: &Spanned<RawMode>) -> Result<u32, Misplaced> {
    let bits = match mode.get_ref() {
        RawMode::Number(bits) => Some(*bits),
        RawMode::Text(text) => u32::from_str_radix(text, 8).ok(),
    };
    let Some(bits) = bits.filter(|bits| bits & !0o777 == 0) else {
        return Err(Misplaced::at(mode, "this is not a mode: use \"0640\" or 0o640, up to 0777"));
    };
    if bits & 0o600 != 0o600 {
        let possible = bits | 0o600;
        return Err(Misplaced::at(
            mode,
            format_args!("a region's owner must be able to read and write: use {possible:04o}"),
        ));
    }
    Ok(bits)
}
