//! What a topic costs before any message: the time of a process to its first one, and files, memory and descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;

use super::duel::{Column, Footprint, Measured};
use super::ours::Conduit;
use super::pattern;
use super::processes::{self, Second, retry, this_program};
use super::statistics::Distribution;
use super::transport::{All, Carries, Place, Publish as _, Result, Shape};

type Message = [u64; 8];

/// First of the hidden arguments of a process that only starts.
pub const START: &str = "start";
const TOPIC: &str = "first";
/// As many starts as a median needs.
const LEAST: usize = 20;

fn shape() -> Shape {
    Shape { words: 8, ..Shape::default() }
}

/// Starts processes in turn: one that does nothing, one that publishes with Conduit, one that publishes with the peer.
pub fn time_to_first<P: All>(place: &Place, time: Duration) -> Result<Measured> {
    let mut columns = vec![Column::Limit, Column::Ours];
    columns.extend(P::PEER.map(|_| Column::Peer));
    let mut times = BTreeMap::new();
    for &column in &columns {
        times.insert(column, Distribution::new(1)?);
    }
    let end = Instant::now() + time;
    let place = serde_json::to_string(place)?;
    for round in 0.. {
        if round > LEAST && Instant::now() > end {
            break;
        }
        for (column, times) in &mut times {
            let mut command = this_program()?;
            command.args([START, &column.to_string(), &place]).stdin(Stdio::null()).stdout(Stdio::piped());
            let begun = now_ns();
            let mut process = command.spawn()?;
            let mut stamp = [0; 8];
            let read = process.stdout.take().map(|mut output| output.read_exact(&mut stamp));
            let status = process.wait()?;
            if !status.success() || read.is_none_or(|read| read.is_err()) {
                return Err(format!("a process that only starts has failed: {status}").into());
            }
            // The first start reads files that later ones find in memory.
            if round > 0 {
                times.record(u64::from_le_bytes(stamp).saturating_sub(begun));
            }
        }
    }
    let columns = times.into_iter().filter_map(|(column, times)| Some((column, times.figures()?))).collect();
    Ok(Measured { columns, ..Measured::default() })
}

/// What such a process does: it says when it has published, or that it is there.
pub fn start<P: All>(column: &str, place: &str) -> Result<()> {
    use std::io::Write as _;
    fn publish<T: Carries<Message>>(place: &str) -> Result<(u64, impl Sized)> {
        let transport = T::new(&serde_json::from_str(place)?)?;
        let mut publisher = transport.publisher(TOPIC, shape())?;
        publisher.publish(|message| pattern::write(1, message))?;
        Ok((now_ns(), (publisher, transport)))
    }
    let say = |stamp: u64| std::io::stdout().write_all(&stamp.to_le_bytes());
    if column == Column::Ours.to_string() {
        let (stamp, _publisher) = publish::<Conduit>(place)?;
        say(stamp)?;
    } else if column == Column::Peer.to_string() {
        let (stamp, _publisher) = publish::<P>(place)?;
        say(stamp)?;
    } else {
        say(now_ns())?;
    }
    Ok(())
}

/// What one topic with a publisher here and a subscriber there takes.
pub fn footprints<P: All>(place: &Place, second: &mut Second) -> Result<Measured> {
    second.started()?;
    let mut footprints = BTreeMap::new();
    footprints.insert(Column::Ours, footprint::<Conduit>(place, second, Column::Ours)?);
    if P::PEER.is_some() {
        footprints.insert(Column::Peer, footprint::<P>(place, second, Column::Peer)?);
    }
    Ok(Measured { footprints, ..Measured::default() })
}

fn footprint<T: Carries<Message>>(place: &Place, second: &mut Second, column: Column) -> Result<Footprint> {
    let before = descriptors()?;
    let files_before = T::files(place)?;
    let transport = T::new(place)?;
    let mut publisher = transport.publisher(TOPIC, shape())?;
    publisher.publish(|message| pattern::write(1, message))?;
    second.begin(&column.to_string())?;
    let subscriber_descriptors = second.hear()?.parse()?;
    // The peer opens what belongs to a subscriber when it publishes next.
    publisher.publish(|message| pattern::write(2, message))?;
    let files = T::files(place)?;
    Ok(Footprint {
        files: files.len() - files_before.len(),
        bytes: files.iter().sum::<u64>() - files_before.iter().sum::<u64>(),
        publisher_descriptors: descriptors()?.saturating_sub(before),
        subscriber_descriptors,
    })
}

/// The second process's part: it subscribes when it is told to, and says how many descriptors that took.
pub fn follow<P: All>(place: &Place) -> Result<()> {
    let (mut ours, mut peer) = (None, None);
    processes::follow(|line, started| {
        started()?;
        let before = descriptors()?;
        if line == Column::Ours.to_string() {
            ours = Some(subscribe::<Conduit>(place)?);
        } else {
            peer = Some(subscribe::<P>(place)?);
        }
        Ok(descriptors()?.saturating_sub(before).to_string())
    })?;
    drop((ours, peer));
    Ok(())
}

fn subscribe<T: Carries<Message>>(place: &Place) -> Result<(T::Subscriber, T)> {
    let transport = T::new(place)?;
    let subscriber = retry(TOPIC, || transport.subscriber(TOPIC, shape()))?;
    Ok((subscriber, transport))
}

/// How many this process has.
fn descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// The bytes that each file below a directory occupies.
pub fn files_below(directory: &Path) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(data.blocks() * 512);
        }
    }
    Ok(found)
}
