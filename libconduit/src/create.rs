//! Making a region and telling the registry of it: what topics and raw regions have in common.

use std::time::Duration;

use crate::error::CreateError;
use crate::fault::{self, Step};
use crate::registry::{Client, Lease};
use crate::shm::dir::{Place, ShmDir};
use crate::shm::file::{FileSpec, Mark, NewFile, OwnedFile, PATIENCE, tidy};
use crate::{Domain, TopicName};

/// What the user may choose of any region.
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
    pub(crate) place: Place,
    pub(crate) lease: Lease,
}

impl CreateOptions {
    /// Creates a region that starts with `content`.
    pub(crate) fn create(
        self,
        topic: &TopicName,
        size: u64,
        mark: Mark,
        content: &[u8],
        shape: Option<&[u8]>,
    ) -> Result<Created, CreateError> {
        let domain = self.domain.unwrap_or_default();
        let directory = ShmDir::open(&domain).map_err(CreateError::io("open", domain.shm_dir().into()))?;
        let place = directory.place().map_err(CreateError::io("examine", domain.shm_dir().into()))?;
        tidy(&directory, topic);
        let ask_reaper = || {
            // Without a registry that may do it, the error says so.
            let _ = Client::connect(&domain).and_then(|mut client| client.reap(topic));
        };
        let (mode, group, patience) = (self.mode, self.group, self.patience);
        let spec = FileSpec { topic, size, mode, group, mark, content, shape, patience };
        let file = NewFile::make(&directory, &spec, &ask_reaper)?;
        let lease = Lease::register(&domain, topic, file.owned())?;
        fault::point(Step::CreateRegistered);
        let file = file.link(&ask_reaper)?;
        Ok(Created { file, place, lease })
    }
}
