//! `conduit rm`: takes regions away, by the registry, or where this user may without one.

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::shm::dir::{ReapLock, Removal, ShmDir};
use conduit::registry::RegistryError;
use conduit::registry::{Client, RegistryCallError};
use conduit::{Domain, OpenError, TopicName};

use crate::failure::Failure;
use crate::verbs::completions::topics;
use crate::verbs::info::{not_found, refused};
use crate::verbs::list::{open_directory, read_directory, say_without_registry};

/// Remove topics or raw regions of this user; root removes anybody's.
///
/// What has a living owner is removed with --force only. A topic is then closed first: its subscribers are told, and its
/// publisher's next message fails.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit rm map
  conduit rm --force camera/front")]
pub(crate) struct Args {
    /// Names of topics or raw regions
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// Also if the owner lives
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topics: Result<Vec<TopicName>, _> = args.topics.iter().map(|topic| topic.parse()).collect();
    let topics = topics?;
    let domain = Domain::from_env();
    let mut registry = match Client::connect(&domain) {
        Ok(registry) => Some(registry),
        Err(error) => {
            say_without_registry(&domain, &error);
            None
        }
    };
    let mut failed = None;
    for topic in &topics {
        let removed = match &mut registry {
            Some(registry) => registry.unlink(topic, args.force).map_err(|error| match error {
                RegistryCallError::Refused(reply) => match reply.known() {
                    Some(RegistryError::TopicInUse { owner, .. }) => is_live(topic, &owner),
                    _ => refused(&domain, topic, &reply),
                },
                error => error.into(),
            }),
            None => remove_alone(&domain, topic, args.force),
        };
        // One that can not be removed keeps none of the others.
        if let Err(failure) = removed
            && let Some(before) = failed.replace(failure)
        {
            before.exit();
        }
    }
    failed.map_or(Ok(()), Err)
}

fn remove_alone(domain: &Domain, topic: &TopicName, force: bool) -> Result<(), Failure> {
    let directory = open_directory(domain)?;
    let region = match Region::open_even_damaged(&directory, topic) {
        Ok(region) => region,
        Err(error @ OpenError::NotFound { .. }) => return Err(not_found(&error, topic, &read_directory(domain)?)),
        Err(error) => return Err(error.into()),
    };
    let may_not = |error: std::io::Error| {
        Failure::new(format_args!("can not remove {}: {error}", directory.path_of(topic).display()))
    };
    if region.is_kept() {
        return take_name(&directory, &region).map_err(may_not);
    }
    // Held until the name is gone: nobody can take the orphan over meanwhile.
    match region.try_reap_lock(ReapLock::Write).map_err(may_not)? {
        Some(_guard) => {
            region.mark_orphaned().map_err(may_not)?;
            take_name(&directory, &region).map_err(may_not)
        }
        None if force => {
            if !region.is_raw() {
                region.mark_closed().map_err(may_not)?;
            }
            take_name(&directory, &region).map_err(may_not)
        }
        None => {
            let owner = region.claimed_owner();
            let owner =
                owner.program.zip(owner.pid).map_or("a process".into(), |(name, pid)| format!("{name} ({pid})"));
            Err(is_live(topic, &owner))
        }
    }
}

fn is_live(topic: &TopicName, owner: &str) -> Failure {
    let reason = "publishes it; stop that process, or use --force";
    Failure::new(format_args!("topic \"{topic}\" is live: {owner} {reason}"))
}

/// Takes the name of a region away if it still is that region's.
pub(crate) fn take_name(directory: &ShmDir, region: &Region) -> std::io::Result<()> {
    match directory.remove(region.topic(), region.id())? {
        Removal::Removed | Removal::NotOurs => Ok(()),
        Removal::Stranded(name) => Err(std::io::Error::other(format!("a live region was renamed to {name} meanwhile"))),
    }
}
