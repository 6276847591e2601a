//! What one topic of a library costs before any message.

use std::any::Any;
use std::fs;

use super::result::Footprint;
use crate::machine::now_ns;
use crate::partner::{Partner, retry};
use crate::site::BenchSite;
use crate::transport::{Carries, Publish as _, TopicOptions, WordMessage};
use crate::{Result, pattern};

const TOPIC: &str = "first";

/// What a library's topics cost, measured.
#[derive(Clone, Copy)]
pub(super) struct TopicCosts {
    /// Publishes one message; returns when that was done.
    pub(super) publish: fn(&BenchSite) -> Result<u64>,
    /// The first process's part of a footprint; names the entrant to the second process.
    pub(super) footprint: fn(&BenchSite, &mut Partner, &str) -> Result<Footprint>,
    /// The second process's part: keeps the subscriber.
    pub(super) subscribe: fn(&BenchSite) -> Result<Box<dyn Any>>,
}

impl TopicCosts {
    pub(super) const fn of<T: Carries<M>, M: WordMessage + ?Sized>() -> Self {
        Self { publish: publish::<T, M>, footprint: footprint::<T, M>, subscribe: subscribe::<T, M> }
    }
}

fn publish<T: Carries<M>, M: WordMessage + ?Sized>(site: &BenchSite) -> Result<u64> {
    let transport = T::new(site)?;
    let mut publisher = transport.publisher(TOPIC, TopicOptions::default())?;
    publisher.publish(|message| pattern::write(1, message.as_mut()))?;
    Ok(now_ns())
}

fn footprint<T: Carries<M>, M: WordMessage + ?Sized>(
    site: &BenchSite,
    partner: &mut Partner,
    entrant: &str,
) -> Result<Footprint> {
    let before = descriptors()?;
    let files_before = T::files(site)?;
    let transport = T::new(site)?;
    let mut publisher = transport.publisher(TOPIC, TopicOptions::default())?;
    publisher.publish(|message| pattern::write(1, message.as_mut()))?;
    partner.begin(entrant)?;
    let subscriber_descriptors = partner.hear()?.parse()?;
    // iceoryx2 opens what belongs to a subscriber when it publishes next.
    publisher.publish(|message| pattern::write(2, message.as_mut()))?;
    let files = T::files(site)?;
    Ok(Footprint {
        files: files.len() - files_before.len(),
        bytes: files.iter().sum::<u64>() - files_before.iter().sum::<u64>(),
        publisher_descriptors: descriptors()?.saturating_sub(before),
        subscriber_descriptors,
    })
}

fn subscribe<T: Carries<M>, M: WordMessage + ?Sized>(site: &BenchSite) -> Result<Box<dyn Any>> {
    let transport = T::new(site)?;
    let subscriber = retry(TOPIC, || transport.subscriber(TOPIC, TopicOptions::default()))?;
    Ok(Box::new((subscriber, transport)))
}

/// How many descriptors this process has open.
pub(super) fn descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
