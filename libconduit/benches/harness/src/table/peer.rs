//! The libraries beside Conduit, and what each can do.

use super::topic_costs::TopicCosts;
use super::works::{Half, RowWork};
use crate::contestants::threads::within_one_process;
use crate::site::BenchSite;
use crate::transport::{Carries, CarriesAll, SmallMessage, Transport};
use crate::{BenchSide, Wait};

/// A library that is measured beside Conduit.
#[derive(Clone, Copy)]
pub struct Peer {
    pub(super) name: &'static str,
    pub(super) half: fn(&RowWork, &BenchSite, BenchSide) -> Half,
    pub(super) costs: Option<TopicCosts>,
    pub(super) clean: fn(&BenchSite),
}

impl Peer {
    /// Carries everything, between processes that poll or sleep.
    pub const fn of_all<T: CarriesAll>() -> Self {
        let costs = Some(TopicCosts::of::<T, SmallMessage>());
        Self { name: T::NAME, half: any_half::<T>, costs, clean: T::clean }
    }

    /// Carries messages of 64 bytes, between processes that poll.
    pub const fn of_small<T: Carries<SmallMessage>>() -> Self {
        let costs = Some(TopicCosts::of::<T, SmallMessage>());
        Self { name: T::NAME, half: polled_half::<T>, costs, clean: T::clean }
    }

    /// Carries messages of 64 bytes, between threads that poll.
    pub const fn of_threads<T: Carries<SmallMessage>>() -> Self {
        Self { name: T::NAME, half: threads_half::<T>, costs: None, clean: T::clean }
    }
}

/// What its topics are called: its name without the version.
fn topic<T: Transport>() -> &'static str {
    T::NAME.split(' ').next().unwrap_or_default()
}

fn any_half<T: CarriesAll>(work: &RowWork, site: &BenchSite, side: BenchSide) -> Half {
    work.half::<T>(site, side, topic::<T>())
}

fn polled_half<T: Carries<SmallMessage>>(work: &RowWork, site: &BenchSite, side: BenchSide) -> Half {
    if work.wait() == Wait::Poll { work.small_half::<T>(site, side, topic::<T>()) } else { Ok(None) }
}

fn threads_half<T: Carries<SmallMessage>>(work: &RowWork, site: &BenchSite, side: BenchSide) -> Half {
    if !work.fits_threads() {
        return Ok(None);
    }
    let (work, half_site) = (work.clone(), site.clone());
    let half = move |side| {
        let half = work.small_half::<T>(&half_site, side, topic::<T>())?;
        half.ok_or_else(|| format!("{} cannot do this", T::NAME).into())
    };
    within_one_process(side, site.second_core, half).map(Some)
}
