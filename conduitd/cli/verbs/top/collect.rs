//! Measurements, read from outside: no subscription, and no message is read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use conduit::inspect::{Counters, Region, age_ns};
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, ShmDir};
use conduit::registry::{SubscriberInfo, TopicInfo};
use conduit::{OpenError, TopicName, TopicPattern};

use super::quantiles::RecentDurations;
use super::rows::{SubscriberRow, TopicRow};
use crate::failure::Failure;

/// How many rates of a topic are kept, one a refresh.
const HISTORY: usize = 120;
/// So many messages in an interval make a better rate than the publisher's own, which is of the
/// last one to two seconds.
const ENOUGH_MESSAGES: u64 = 10;

/// All measurements.
pub(crate) struct Collector {
    directory: ShmDir,
    pattern: Option<TopicPattern>,
    topics: BTreeMap<TopicName, TopicTrack>,
    /// What could not be read, by topic.
    refusals: BTreeMap<String, String>,
}

/// One topic, across restarts of its publisher.
struct TopicTrack {
    source: Option<MeasuredRegion>,
    history: VecDeque<f64>,
    /// Messages lost at the last refresh, by the subscribers that only the registry sees.
    lost: HashMap<u32, (u64, Instant)>,
}

/// The measurements of one region.
struct MeasuredRegion {
    region: Region,
    /// The next position to read.
    position: u64,
    /// Sequence number and time stamp of the message before.
    last: Option<(u64, u64)>,
    intervals: RecentDurations,
    /// By record and process.
    readers: HashMap<(usize, u32), SubscriberTrack>,
    /// What was published at the last refresh, the last message's time stamp, and when that was.
    counted: Option<(u64, Option<u64>, Instant)>,
}

/// One subscriber.
struct SubscriberTrack {
    behind: RecentDurations,
    /// Messages lost at the last refresh, and when that was.
    lost: (u64, Instant),
}

impl Collector {
    pub(crate) fn new(directory: ShmDir, pattern: Option<TopicPattern>) -> Self {
        Self { directory, pattern, topics: BTreeMap::new(), refusals: BTreeMap::new() }
    }

    fn wants(&self, topic: &TopicName) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(topic))
    }

    /// Samples the last `messages` messages and the subscribers of one topic, or of all.
    pub(crate) fn look(&mut self, only: Option<&str>, messages: u64) {
        let now = Instant::now();
        for (name, track) in &mut self.topics {
            if only.is_none_or(|only| only == name.as_str())
                && let Some(source) = &mut track.source
            {
                source.look(messages, now);
            }
        }
    }

    /// All topics as they are now: as their regions tell, and what only the registry knows from its
    /// list. Returns, too, what cannot be read and could be before.
    pub(crate) fn refresh(&mut self, registry: Option<&[TopicInfo]>) -> Result<(Vec<TopicRow>, Vec<String>), Failure> {
        let mut listed: BTreeMap<&str, &TopicInfo> = BTreeMap::new();
        listed.extend(registry.unwrap_or_default().iter().map(|topic| (topic.name.as_str(), topic)));
        let news = self.find_regions(&listed)?;
        let now = Instant::now();
        let mut rows = Vec::with_capacity(self.topics.len());
        for (name, track) in &mut self.topics {
            let row = match &mut track.source {
                Some(source) => Some(source.row(listed.get(name.as_str()).copied(), now)),
                None => listed.get(name.as_str()).map(|topic| track.row_of_registry(topic, now)),
            };
            if let Some(mut row) = row {
                track.history.push_back(row.topic.rate_hz.unwrap_or(0.0));
                track.history.drain(..track.history.len().saturating_sub(HISTORY));
                row.history = track.history.iter().copied().collect();
                rows.push(row);
            }
        }
        Ok((rows, news))
    }

    /// Opens new regions, and drops those that are gone.
    fn find_regions(&mut self, listed: &BTreeMap<&str, &TopicInfo>) -> Result<Vec<String>, Failure> {
        let entries = self.directory.entries().map_err(Failure::io("read", self.directory.path()))?;
        let found: Vec<TopicName> = entries
            .into_iter()
            .filter_map(|entry| if let DirEntry::Region(topic) = entry { Some(topic) } else { None })
            .filter(|topic| self.wants(topic))
            .collect();
        let mut news = Vec::new();
        let mut refusals = BTreeMap::new();
        let mut topics = BTreeMap::new();
        for name in found {
            let old = self.topics.remove(&name);
            let (source, history, lost) = old.map_or_else(Default::default, |it| (it.source, it.history, it.lost));
            let is_same =
                |source: &MeasuredRegion| self.directory.id_of(&name).ok().flatten() == Some(source.region.id());
            let source = match source.filter(is_same) {
                Some(source) => Some(source),
                None => match Region::open_in(&self.directory, &name) {
                    Ok(region) => Some(MeasuredRegion::new(region)),
                    Err(OpenError::NotFound { .. }) => continue,
                    Err(error) => {
                        let known = listed.contains_key(name.as_str());
                        if !known && !self.refusals.contains_key(name.as_str()) {
                            news.push(error.to_string());
                        }
                        refusals.insert(name.to_string(), error.to_string());
                        None
                    }
                },
            };
            topics.insert(name, TopicTrack { source, history, lost });
        }
        // Unlinked topics, and those of other containers.
        for name in listed.keys().filter_map(|name| TopicName::new(name).ok()) {
            if self.wants(&name) && !topics.contains_key(&name) {
                let old = self.topics.remove(&name);
                let (history, lost) = old.map_or_else(Default::default, |old| (old.history, old.lost));
                topics.insert(name, TopicTrack { source: None, history, lost });
            }
        }
        (self.topics, self.refusals) = (topics, refusals);
        Ok(news)
    }
}

impl MeasuredRegion {
    fn new(region: Region) -> Self {
        let position = region.messages_since(u64::MAX).map_or(0, |(_, head)| head);
        let now = Instant::now();
        let intervals = RecentDurations::new(now);
        let mut source = Self { region, position, last: None, intervals, readers: HashMap::new(), counted: None };
        source.counted = source.region.counters().map(|counters| (counters.published, counters.last_stamp_ns, now));
        source.look(0, now);
        source
    }

    fn look(&mut self, messages: u64, now: Instant) {
        if let Some(counters) = self.region.counters() {
            self.take_messages(&counters, messages, now);
            self.take_readers(&counters, now);
        }
    }

    fn take_messages(&mut self, counters: &Counters, messages: u64, now: Instant) {
        if counters.published <= self.position {
            return;
        }
        let Some((headers, position)) =
            self.region.messages_since(self.position.max(counters.published.saturating_sub(messages)))
        else {
            return;
        };
        self.position = position;
        for header in headers {
            let Some(stamp_ns) = header.stamp_ns else { continue };
            if let Some((sequence, before_ns)) = self.last
                && header.sequence > sequence
            {
                // Of several at once only the mean is known: the longest was at least so long.
                let several = header.sequence - sequence;
                self.intervals.record(stamp_ns.saturating_sub(before_ns) / several, now);
            }
            self.last = Some((header.sequence, stamp_ns));
        }
    }

    fn take_readers(&mut self, counters: &Counters, now: Instant) {
        for (record, reader) in &counters.subscribers {
            let one = self.readers.entry((*record, reader.pid));
            let new = || SubscriberTrack { behind: RecentDurations::new(now), lost: (reader.lost, now) };
            let one = one.or_insert_with(new);
            let behind = if reader.lag == 0 {
                Some(0)
            } else {
                let cursor = counters.published.saturating_sub(reader.lag);
                let kept = self.region.message_at(cursor);
                // What is at the cursor may have been overwritten: then the oldest that is left is
                // the next one.
                let next = kept.or_else(|| self.region.messages_since(cursor)?.0.first().copied());
                next.and_then(|header| header.stamp_ns).map(age_ns)
            };
            if let Some(behind) = behind {
                one.behind.record(behind, now);
            }
        }
    }

    fn row(&mut self, listed: Option<&TopicInfo>, now: Instant) -> TopicRow {
        let counters = self.region.counters();
        let mut readers = Vec::new();
        let mut gone = std::mem::take(&mut self.readers);
        for (record, reader) in counters.iter().flat_map(|counters| &counters.subscribers) {
            let mut one = gone.remove(&(*record, reader.pid));
            let lost_per_second = one.as_mut().map_or(0.0, |one| per_second(&mut one.lost, reader.lost, now));
            let behind = one.as_mut().and_then(|one| one.behind.quantiles(now));
            readers.push(SubscriberRow { subscriber: reader.clone(), lost_per_second, behind });
            self.readers.extend(one.map(|one| ((*record, reader.pid), one)));
        }
        let mut topic = self.region.describe_from(counters.clone());
        if let Some(counters) = counters {
            self.measure_rate(&mut topic, &counters, now);
        }
        if let Some(listed) = listed {
            add_what_the_registry_knows(&mut topic, listed);
        }
        topic.subscribers = Vec::new();
        TopicRow { topic, history: Vec::new(), interval: self.intervals.quantiles(now), readers }
    }

    /// The rate since the last refresh, from the messages' own time stamps where they have any.
    fn measure_rate(&mut self, topic: &mut TopicInfo, counters: &Counters, now: Instant) {
        let Some((published, stamp_ns, at)) = self.counted.replace((counters.published, counters.last_stamp_ns, now))
        else {
            return;
        };
        let count = counters.published.saturating_sub(published);
        let seconds = match (stamp_ns, counters.last_stamp_ns) {
            (Some(from), Some(to)) => to.saturating_sub(from) as f64 / 1e9,
            _ => now.saturating_duration_since(at).as_secs_f64(),
        };
        let rate_hz = count as f64 / seconds;
        if count < ENOUGH_MESSAGES || !rate_hz.is_finite() {
            return;
        }
        if let (Some(published_hz), Some(bytes)) = (topic.rate_hz, topic.bytes_per_second)
            && published_hz > 0.0
        {
            topic.bytes_per_second = Some(bytes / published_hz * rate_hz);
        }
        topic.rate_hz = Some(rate_hz);
    }
}

impl TopicTrack {
    fn row_of_registry(&mut self, listed: &TopicInfo, now: Instant) -> TopicRow {
        let mut topic = listed.clone();
        let mut before = std::mem::take(&mut self.lost);
        let readers = std::mem::take(&mut topic.subscribers).into_iter().map(|subscriber: SubscriberInfo| {
            let mut lost = before.remove(&subscriber.pid).unwrap_or((subscriber.lost, now));
            let lost_per_second = per_second(&mut lost, subscriber.lost, now);
            self.lost.insert(subscriber.pid, lost);
            SubscriberRow { subscriber, lost_per_second, behind: None }
        });
        let readers = readers.collect();
        TopicRow { topic, history: Vec::new(), interval: None, readers }
    }
}

fn per_second((before, at): &mut (u64, Instant), count: u64, now: Instant) -> f64 {
    let seconds = now.saturating_duration_since(*at).as_secs_f64();
    let more = count.saturating_sub(*before) as f64;
    (*before, *at) = (count, now);
    if seconds > 0.0 { more / seconds } else { 0.0 }
}

/// The registry knows the processes by the kernel, and what its policy says; the region is newer in
/// all else.
fn add_what_the_registry_knows(topic: &mut TopicInfo, listed: &TopicInfo) {
    use conduit::registry::RegionState::{Live, Unauthorised};
    if topic.state == Live && listed.state == Unauthorised {
        topic.state = Unauthorised;
        topic.refusal.clone_from(&listed.refusal);
    }
    if topic.published >= listed.published {
        topic.publisher = listed.publisher.clone().or(topic.publisher.take());
        topic.liveness.clone_from(&listed.liveness);
    }
    topic.unlinked.clone_from(&listed.unlinked);
    if topic.last_message_age_ns.is_none() {
        topic.is_overdue = listed.is_overdue;
    }
}
