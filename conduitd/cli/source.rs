//! Where answers come from: the registry, or the shared-memory directory if no registry answers.

use std::fmt::Display;
use std::time::SystemTime;

use conduit::inspect::{self, Region};
use conduit::internal::shm::dir::{DirEntry, ShmDir};
use conduit::registry::{Client, ErrorReply, RegistryCallError, RegistryError, RegistryEvent, TopicInfo};
use conduit::{Domain, OpenError, TopicName};

use crate::failure::Failure;
use crate::output::{self, events};
use crate::suggestion;

/// The registry as long as it answers, and the directory in any case.
pub(crate) struct Source {
    pub(crate) domain: Domain,
    /// `None` if it is missing or has failed to answer.
    pub(crate) registry: Option<Client>,
}

impl Source {
    /// Connects to the registry. Without one, a line on standard error says that the directory
    /// answers.
    pub(crate) fn connect(domain: &Domain) -> Self {
        let mut source = Self::directory_only(domain);
        match Client::connect(domain) {
            Ok(registry) => source.registry = Some(registry),
            Err(error) => source.fall_back(&error),
        }
        source
    }

    /// Asks no registry.
    pub(crate) fn directory_only(domain: &Domain) -> Self {
        Self { domain: domain.clone(), registry: None }
    }

    /// Goes on without the registry, which has failed to answer.
    pub(crate) fn fall_back(&mut self, error: &RegistryCallError) {
        self.registry = None;
        let directory = self.domain.shm_dir().display();
        match error {
            RegistryCallError::Unreachable { sockets, source, .. } => {
                output::notice(format_args!("no registry at {sockets} ({source}), reading {directory} instead"));
            }
            error if error.is_too_busy() => {
                output::notice(format_args!("the registry is too busy ({error}), reading {directory} instead"));
            }
            error => output::notice(format_args!("{error}, reading {directory} instead")),
        }
    }

    /// All topics and raw regions, sorted by name: as the registry lists them, or as they are read.
    pub(crate) fn topics(&mut self) -> Result<Vec<TopicInfo>, Failure> {
        if let Some(topics) = self.topics_of_registry() {
            return Ok(topics);
        }
        let found = inspect::list(&self.domain)?;
        // An unreadable region is reported.
        Ok(found.into_iter().filter_map(|topic| topic.map_err(output::notice).ok()).collect())
    }

    /// What the registry lists; `None` if there is no registry or its answer is an error.
    pub(crate) fn topics_of_registry(&mut self) -> Option<Vec<TopicInfo>> {
        let listed = self.registry.as_mut()?.list();
        listed.map_err(|error| self.fall_back(&error)).ok()
    }

    pub(crate) fn describe(&mut self, name: &TopicName) -> Result<TopicInfo, Failure> {
        if let Some(registry) = &mut self.registry {
            match registry.describe(name) {
                Ok(topic) => return Ok(topic),
                Err(RegistryCallError::Refused(reply)) if is_answer(&reply) => return Err(self.refused(name, &reply)),
                Err(error) => self.fall_back(&error),
            }
        }
        match Region::open(&self.domain, name) {
            Ok(region) => Ok(region.describe()),
            Err(error) => Err(self.unopened(name, error)),
        }
    }

    /// The region of a topic, read from outside; `None` if there is none to read.
    pub(crate) fn region(&self, name: &TopicName) -> Option<Region> {
        Region::open(&self.domain, name).ok()
    }

    /// The last death of an owner of the topic that the registry remembers.
    pub(crate) fn last_death(&mut self, name: &TopicName) -> Option<RegistryEvent> {
        let deaths = self.registry.as_mut()?.deaths().ok()?;
        deaths.into_iter().rfind(|event| event.topic == name.as_str())
    }

    /// Explains a refusal of the registry.
    pub(crate) fn refused(&mut self, name: &TopicName, reply: &ErrorReply) -> Failure {
        match reply.known() {
            Some(RegistryError::TopicNotFound { .. }) => self.not_found(name, reply),
            _ => Failure::new(reply),
        }
    }

    /// Explains why a region cannot be opened.
    pub(crate) fn unopened(&mut self, name: &TopicName, error: OpenError) -> Failure {
        match error {
            OpenError::NotFound { .. } => self.not_found(name, &error),
            error => error.into(),
        }
    }

    /// Adds to an error that a topic does not exist how its last publisher died, or which name was
    /// probably meant.
    fn not_found(&mut self, name: &TopicName, error: &impl Display) -> Failure {
        if let Some(event) = self.last_death(name) {
            let when = events::when(&event, SystemTime::now());
            return Failure::new(format_args!("{error}; its publisher {}; that was at {when}", events::death(&event)));
        }
        match self.suggestion(name) {
            Some(nearest) => Failure::new(format_args!("{error}; did you mean \"{nearest}\"?")),
            None => Failure::new(error),
        }
    }

    /// An existing name that resembles this one.
    pub(crate) fn suggestion(&mut self, name: &TopicName) -> Option<String> {
        let names: Vec<String> = match self.registry.as_mut().and_then(|registry| registry.list().ok()) {
            Some(topics) => topics.into_iter().map(|topic| topic.name).collect(),
            None => region_names(&self.domain).iter().map(ToString::to_string).collect(),
        };
        suggestion::nearest(name.as_str(), names.iter().map(String::as_str)).map(str::to_owned)
    }
}

/// Whether an error answers the question about a topic. Others mean that the registry cannot: it is
/// too busy, or of another version.
fn is_answer(reply: &ErrorReply) -> bool {
    matches!(reply.known(), Some(RegistryError::TopicNotFound { .. } | RegistryError::InvalidTopic { .. }))
}

/// The directory of the domain's regions.
pub(crate) fn open_directory(domain: &Domain) -> Result<ShmDir, Failure> {
    ShmDir::open(domain).map_err(Failure::io("open", domain.shm_dir()))
}

/// Names of the topics and raw regions in the directory, sorted; none if it cannot be read.
pub(crate) fn region_names(domain: &Domain) -> Vec<TopicName> {
    let entries = ShmDir::open(domain).and_then(|directory| directory.entries()).unwrap_or_default();
    let name = |entry| if let DirEntry::Region(topic) = entry { Some(topic) } else { None };
    let mut names: Vec<TopicName> = entries.into_iter().filter_map(name).collect();
    names.sort();
    names
}
