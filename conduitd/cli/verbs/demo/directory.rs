//! Where the demo keeps its files.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use conduit::Domain;

use super::payload;
use super::plan::SLOTS;
use crate::failure::Failure;
use crate::output;
use crate::private_directory::{PrivateDirectory, free_bytes};

/// The demo's private directory: the regions, the registry's socket and the content of the
/// messages.
#[derive(Debug)]
pub(super) struct DemoDirectory {
    pub(super) directory: PrivateDirectory,
    pub(super) domain: Domain,
}

impl DemoDirectory {
    pub(super) fn new() -> Result<Self, Failure> {
        let directory = PrivateDirectory::new(".conduit-demo-")?;
        let shm_dir = directory.path().join("shm");
        fs::create_dir(&shm_dir).map_err(Failure::io("make", &shm_dir))?;
        let domain = Domain::from_env().with_shm_dir(shm_dir).with_socket(directory.path().join("registry.sock"));
        Ok(Self { directory, domain })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("registry.sock")
    }

    pub(super) fn payload(&self) -> PathBuf {
        self.directory.path().join("payload")
    }

    /// Copies the content to where the children read it, so that all see the same even if the file
    /// changes; returns its size.
    pub(super) fn write_payload(&self, file: Option<&Path>, size_bytes: u64) -> Result<u64, Failure> {
        let path = self.payload();
        let limit_bytes = free_bytes(self.domain.shm_dir())? / (SLOTS + 1);
        let too_large = |size: &str| {
            let (limit, directory) = (output::data_size(limit_bytes), self.domain.shm_dir().display());
            Failure::new(format_args!("{size} is too large: there is room for {SLOTS} slots of {limit} in {directory}"))
        };
        let mut to = fs::File::create(&path).map(BufWriter::new).map_err(Failure::io("create", &path))?;
        let size = if let Some(file) = file {
            let from = fs::File::open(file).map_err(Failure::io("open", file))?;
            let size = io::copy(&mut from.take(limit_bytes), &mut to).map_err(Failure::io("copy", file))?;
            if size == limit_bytes {
                return Err(too_large(&file.display().to_string()));
            }
            size
        } else if size_bytes < limit_bytes {
            payload::write_point_cloud(size_bytes, &mut to).map_err(Failure::io("write", &path))?;
            size_bytes
        } else {
            return Err(too_large(&output::data_size(size_bytes)));
        };
        to.flush().map_err(Failure::io("write", &path))?;
        Ok(size)
    }
}
