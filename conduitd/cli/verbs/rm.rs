//! `conduit rm`: removes regions, through the registry or, without one, as this user.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{ReapLock, Removal, ShmDir};
use conduit::registry::{RegistryCallError, RegistryError};
use conduit::{Domain, OpenError, TopicName, TopicNameError};

use crate::completion::topics;
use crate::failure::Failure;
use crate::output;
use crate::removal::take_name;
use crate::source::{Source, open_directory};

/// Remove topics or raw regions of this user, or as root of any user.
///
/// A region whose owner is alive is removed only with --force. A topic is then closed first: its
/// subscribers see it closed, and its publisher's next message fails. With --force, anything else
/// that has the name of a topic's file is removed, too, a directory with all its content. A file
/// that has no topic's name is not a region: rm(1) removes it.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit rm map
  conduit rm --force camera/front")]
pub(crate) struct Args {
    /// Names of topics or raw regions
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// Remove regions whose owner is alive, too
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let domain = Domain::from_env();
    let topics: Vec<_> = args.topics.iter().map(|name| checked(&domain, name)).collect::<Result<_, _>>()?;
    let mut source = Source::connect(&domain);
    let mut failed: Option<Failure> = None;
    for topic in &topics {
        // A failure does not keep the others from being removed.
        if let Err(failure) = remove_any(&mut source, topic, args.force)
            && let Some(before) = failed.replace(failure)
        {
            before.exit();
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The name of a topic. Of a file that has a region's place, but no topic's name, it says how to
/// remove it.
fn checked(domain: &Domain, name: &str) -> Result<TopicName, Failure> {
    TopicName::new(name).map_err(|error| {
        let path = domain.shm_dir().join(format!("conduit_{}", name.replace('/', ".")));
        match &error {
            TopicNameError::LeadingHyphen { .. } if path.symlink_metadata().is_ok() => Failure::new(format_args!(
                "{error}; Conduit leaves that file alone, `rm {}` removes it",
                path.display()
            )),
            error => Failure::new(error),
        }
    })
}

/// Removes what has the name of a topic: a region, or by force anything else.
fn remove_any(source: &mut Source, topic: &TopicName, force: bool) -> Result<(), Failure> {
    let directory = open_directory(&source.domain)?;
    match Region::open_even_damaged(&directory, topic) {
        Err(OpenError::Kind { path, .. }) if force => remove_foreign(&directory, topic, &path),
        Err(OpenError::Kind { path, .. }) => Err(Failure::new(format_args!(
            "{} is {}, which Conduit did not make; --force removes it",
            path.display(),
            kind_of(&path)
        ))),
        // Perhaps the registry may read it.
        _ => remove(source, topic, force),
    }
}

/// Removes a file that Conduit did not make from the place of a region. In a directory with the
/// sticky bit only its owner and root may do so.
fn remove_foreign(directory: &ShmDir, topic: &TopicName, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io("remove", path)(error);
    let kind = kind_of(path);
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        // Never follows a link, not even one that takes the place of a directory meanwhile.
        std::fs::remove_dir_all(path).map_err(failed)?;
    } else if let Some(found) = directory.id_of(topic).map_err(failed)?
        && let Removal::Stranded(name) = directory.remove(topic, found).map_err(failed)?
    {
        return Err(failed(io::Error::other(format!("a region was renamed to {name} meanwhile"))));
    }
    output::notice(format_args!("removed {}, {kind} that Conduit did not make", path.display()));
    Ok(())
}

/// What a file is, for a sentence.
fn kind_of(path: &Path) -> &'static str {
    let Ok(metadata) = path.symlink_metadata() else { return "a file" };
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_file() => "a file",
        () => "a device",
    }
}

fn remove(source: &mut Source, topic: &TopicName, force: bool) -> Result<(), Failure> {
    let Some(registry) = &mut source.registry else { return remove_alone(source, topic, force) };
    match registry.unlink(topic, force) {
        Ok(()) => Ok(()),
        Err(error) if error.is_too_busy() => {
            source.fall_back(&error);
            remove_alone(source, topic, force)
        }
        Err(RegistryCallError::Refused(reply)) => Err(match reply.known() {
            Some(RegistryError::TopicInUse { owner, .. }) => in_use(topic, &owner),
            _ => source.refused(topic, &reply),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Removes a region without a registry.
fn remove_alone(source: &mut Source, topic: &TopicName, force: bool) -> Result<(), Failure> {
    let directory = open_directory(&source.domain)?;
    let region = Region::open_even_damaged(&directory, topic).map_err(|error| source.unopened(topic, error))?;
    let path = directory.path_of(topic);
    let failed = |error: std::io::Error| Failure::io("remove", &path)(error);
    if region.is_kept() {
        return take_name(&directory, &region).map_err(failed);
    }
    // Held until the name is gone, so that no process takes the orphan over meanwhile.
    match region.reap_lock(ReapLock::Write).map_err(failed)? {
        Some(_guard) => {
            region.mark_orphaned().map_err(failed)?;
            take_name(&directory, &region).map_err(failed)
        }
        None if force => {
            if !region.is_raw() {
                region.mark_closed().map_err(failed)?;
            }
            take_name(&directory, &region).map_err(failed)
        }
        None => {
            let owner = region.claimed_owner();
            let owner = owner.program.zip(owner.pid).map(|(name, pid)| format!("{name} ({pid})"));
            Err(in_use(topic, owner.as_deref().unwrap_or("a process")))
        }
    }
}

fn in_use(topic: &TopicName, owner: &str) -> Failure {
    let remedy = "stop that process, or use --force";
    Failure::new(format_args!("topic \"{topic}\" is live: {owner} publishes it; {remedy}"))
}
