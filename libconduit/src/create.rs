//! Creating a region and registering it: what topics and raw regions have in common.

use std::time::Duration;

use crate::error::{CreateError, OwnerClaim};
use crate::fault::{self, Step};
use crate::inspect::{confirmed_dying, owner_of, seems_dying};
use crate::registry::{Client, Lease};
use crate::ring::end::mark_orphaned;
use crate::shape;
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::{DirLocation, FileId, ReapLock, ShmDir};
use crate::shm::mark::Mark;
use crate::shm::new_file::{FileSpec, NewFile, NewFileError, OwnedFile, PATIENCE};
use crate::shm::room::RoomError;
use crate::shm::takeover::{OwnerLife, TakeoverError, TakeoverHooks};
use crate::{Domain, TopicName};

/// Options of any region.
#[derive(Clone, Debug)]
pub(crate) struct CreateOptions {
    pub(crate) domain: Option<Domain>,
    pub(crate) mode: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) patience: Duration,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { domain: None, mode: None, group: None, patience: PATIENCE }
    }
}

/// A region that this process owns and the registry knows.
pub(crate) struct Created {
    pub(crate) file: OwnedFile,
    pub(crate) location: DirLocation,
    pub(crate) lease: Lease,
}

impl CreateOptions {
    /// Creates a region that starts with `content`.
    pub(crate) fn create(
        self,
        topic: &TopicName,
        size_bytes: u64,
        mark: Mark,
        content: &[u8],
        shape: Option<&[u8]>,
    ) -> Result<Created, CreateError> {
        let domain = self.domain.unwrap_or_default();
        let directory = ShmDir::open(&domain).map_err(CreateError::io("open", domain.shm_dir().into()))?;
        let location = directory.location().map_err(CreateError::io("examine", domain.shm_dir().into()))?;
        directory.tidy(topic);
        let hooks = Hooks { domain: &domain, topic };
        let attribute = shape.map(|shape| (shape::XATTR, shape));
        let (mode, group, patience) = (self.mode, self.group, self.patience);
        let spec = FileSpec { topic, size_bytes, mode, group, mark, content, attribute, patience };
        let explain = |error| explain(error, &directory, topic, size_bytes);
        let file = match NewFile::make(&directory, &spec, &hooks) {
            Err(NewFileError::Room(_)) => {
                // Perhaps killed removers left regions; where there is room, nobody looks for them.
                let _ = directory.finish_removals(ReapLock::Write);
                NewFile::make(&directory, &spec, &hooks)
            }
            made => made,
        };
        let file = file.map_err(explain)?;
        let lease = Lease::register(&domain, topic, file.owned())?;
        fault::point(Step::CreateRegistered);
        let file = file.link(&hooks).map_err(explain)?;
        Ok(Created { file, location, lease })
    }
}

struct Hooks<'a> {
    domain: &'a Domain,
    topic: &'a TopicName,
}

impl TakeoverHooks for Hooks<'_> {
    fn ask_reaper(&self) {
        // Without a registry that may reap, creation reports that the name cannot be freed.
        let _ = Client::connect_in_passing(self.domain).and_then(|mut client| client.reap(self.topic));
    }

    fn owner_life(&self, file: &Descriptor, id: FileId, mark: &Mark) -> OwnerLife {
        let owner = owner_of(file, mark);
        if seems_dying(&owner).is_none() {
            OwnerLife::MayRun
        } else if confirmed_dying(&owner, id, *mark != Mark::Topic).is_none() {
            OwnerLife::SeemsDying
        } else {
            OwnerLife::IsDying
        }
    }

    fn mark_orphaned(&self, topic: &Descriptor) {
        if let Err(error) = mark_orphaned(topic) {
            // Its subscribers probe the owner lock themselves within a second.
            tracing::debug!("cannot wake the subscribers of topic \"{}\": {error}", self.topic);
        }
    }
}

fn explain(error: NewFileError, directory: &ShmDir, topic: &TopicName, need: u64) -> CreateError {
    let path = directory.path_of(topic);
    let uid = || directory.owner_of(topic).ok().flatten().map(|(_, uid)| uid);
    match error {
        NewFileError::Size => CreateError::Size { size: need },
        NewFileError::NotTmpfs => CreateError::NotShared { path: directory.path().into() },
        NewFileError::LocksDoNotLast => CreateError::LocksDoNotLast { path: directory.path().into() },
        NewFileError::Room(RoomError::Directory { have_bytes: have }) => {
            CreateError::NoSpace { need, have, path: directory.path().into() }
        }
        NewFileError::Room(RoomError::Cgroup { have_bytes: have }) => CreateError::NoMemory { need, have },
        NewFileError::Name(TakeoverError::Owned(file)) => {
            let mut owner = file.map_or_else(OwnerClaim::default, |(file, mark)| owner_of(file, &mark));
            owner.dying = seems_dying(&owner);
            owner.uid = uid();
            CreateError::AlreadyPublished { topic: topic.clone(), owner }
        }
        NewFileError::Name(TakeoverError::NotRemovable { uid }) => {
            CreateError::NotRemovable { topic: topic.clone(), uid }
        }
        NewFileError::Name(TakeoverError::Kept) => CreateError::Kept { topic: topic.clone() },
        NewFileError::Name(TakeoverError::Foreign) => CreateError::Foreign { topic: topic.clone(), path, uid: uid() },
        NewFileError::Name(TakeoverError::Io { doing, source }) | NewFileError::Io { doing, source } => {
            CreateError::Io { doing, path, source }
        }
    }
}
