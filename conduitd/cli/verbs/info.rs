//! `conduit info`: everything about one topic.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::{Client, RegistryCallError};
use conduit::registry::{ErrorReply, Liveness, RegistryError, RegistryEvent, SubscriberInfo, TopicInfo};
use conduit::{Domain, OpenError, Shape, TopicName};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Align};
use crate::verbs::completions::topics;
use crate::verbs::deaths::{ago, obituary};
use crate::verbs::list::{open_directory, read_directory, say_without_registry, style_of, type_of};

/// Show everything about one topic: who publishes it, who reads it, and what was lost.
///
/// Asks the registry, or reads the region itself if there is none.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit info imu
  conduit info imu -v
  conduit info imu --json | jq '[.subscribers[].lost] | add'")]
pub(crate) struct Args {
    /// Name of the topic or raw region
    #[arg(add = ArgValueCompleter::new(topics))]
    topic: String,
    /// Show also the fields of the messages, who may read and write the file, and whom the last death found subscribed
    #[arg(short, long)]
    verbose: bool,
    /// Print a JSON object: what the registry's `Describe` gives (name, state, raw, path, size_bytes, slots, slot_bytes, type, publisher,
    /// liveness, published, rate_hz, bytes_per_second, last_message_age_ns, subscribers), and last_death and shape if there are any
    #[arg(long)]
    json: bool,
}

/// All that is known of a topic.
#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    topic: TopicInfo,
    /// What its messages' bytes mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<Shape>,
    /// The last death of one of its owners that the registry remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_death: Option<RegistryEvent>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = TopicName::new(&args.topic)?;
    let domain = Domain::from_env();
    let topic = describe(&domain, &name)?;
    let region = open(&domain, &name);
    let shape = region.as_ref().and_then(Region::shape).filter(|_| type_of(&topic) != "[u8]");
    let info = Info { topic, shape, last_death: last_death(&domain, &name) };
    let mut out = output::stdout();
    let written = if args.json {
        output::json(&mut out, &info)
    } else {
        print(&mut out, &info, region.as_ref().filter(|_| args.verbose))
    };
    written.and_then(|()| out.flush()).map_err(Failure::Output)
}

fn open(domain: &Domain, name: &TopicName) -> Option<Region> {
    Region::open(&ShmDir::open(domain).ok()?, name).ok()
}

/// What the bytes of a topic's messages mean.
pub(crate) fn shape_of(domain: &Domain, name: &TopicName) -> Option<Shape> {
    open(domain, name)?.shape()
}

/// How the last owner of the topic that died did so, if the registry remembers one.
pub(crate) fn last_death(domain: &Domain, name: &TopicName) -> Option<RegistryEvent> {
    let deaths = Client::connect(domain).and_then(|mut registry| registry.deaths()).ok()?;
    deaths.into_iter().rfind(|event| event.topic == name.as_str())
}

pub(crate) fn describe(domain: &Domain, name: &TopicName) -> Result<TopicInfo, Failure> {
    let asked = Client::connect(domain).and_then(|mut registry| registry.describe(name));
    match asked {
        Ok(topic) => Ok(topic),
        Err(RegistryCallError::Refused(reply)) => Err(refused(domain, name, &reply)),
        Err(error) => {
            say_without_registry(domain, &error);
            read_region(domain, name)
        }
    }
}

fn read_region(domain: &Domain, name: &TopicName) -> Result<TopicInfo, Failure> {
    match Region::open(&open_directory(domain)?, name) {
        Ok(region) => Ok(region.describe()),
        Err(error @ OpenError::NotFound { .. }) => Err(not_found(&error, name, &read_directory(domain)?)),
        Err(error) => Err(error.into()),
    }
}

/// Why the registry refused; for a topic that is not there, with the one that was probably meant.
pub(crate) fn refused(domain: &Domain, name: &TopicName, reply: &ErrorReply) -> Failure {
    if !matches!(reply.known(), Some(RegistryError::TopicNotFound { .. })) {
        return Failure::new(reply);
    }
    let known = Client::connect(domain).and_then(|mut registry| registry.list());
    not_found_any_more(reply, domain, name, &known.unwrap_or_default())
}

pub(crate) fn not_found(error: &impl std::fmt::Display, name: &TopicName, known: &[TopicInfo]) -> Failure {
    match nearest(name.as_str(), known.iter().map(|topic| topic.name.as_str())) {
        Some(nearest) => Failure::new(format_args!("{error}; did you mean \"{nearest}\"?")),
        None => Failure::new(error),
    }
}

/// The same, with the death of its last publisher if that is why.
fn not_found_any_more(
    error: &impl std::fmt::Display,
    domain: &Domain,
    name: &TopicName,
    known: &[TopicInfo],
) -> Failure {
    match last_death(domain, name) {
        Some(event) => {
            let ago = ago(&event, SystemTime::now());
            Failure::new(format_args!("{error}; {ago} ago its publisher {}", obituary(&event)))
        }
        None => not_found(error, name, known),
    }
}

/// The name that was probably meant: few letters differ, or the one is a part of the other.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close_enough = 1 + wanted.chars().count() / 4;
    let part = |name: &str| wanted.len() >= 3 && name.contains(wanted) || name.len() >= 3 && wanted.contains(name);
    names
        .map(|name| (distance(wanted, name), name))
        .filter(|&(distance, name)| distance <= close_enough || part(name))
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be inserted, removed or replaced to make one text of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

fn print(out: &mut impl Write, info: &Info, region: Option<&Region>) -> io::Result<()> {
    let Info { topic, shape, last_death } = info;
    let mut field = |name: &str, value: String| {
        let name = format!("{name}:");
        writeln!(out, "{}{value}", output::styled(output::TITLE, format_args!("{name:<14}")))
    };
    field("Name", topic.name.clone())?;
    let reason = topic.refusal.as_ref().or(topic.unlinked.as_ref());
    let reason = reason.map_or_else(String::new, |reason| format!(", {reason}"));
    field("State", format!("{}{reason}", output::styled(style_of(topic.state), topic.state)))?;
    field("Type", topic.message_type.clone().unwrap_or_else(|| "raw region".into()))?;
    if let (Some(_), Some(shape)) = (region, shape) {
        field("Fields", shape.to_string())?;
    }
    field("Path", topic.path.clone())?;
    if let Some((region, (gid, mode))) = region.and_then(|region| Some((region, region.access().ok()?))) {
        field("Access", format!("mode {mode:04o}, uid {}, gid {gid}, inode {}", region.uid(), region.id().ino))?;
    }
    field("Size", size(topic))?;
    let publisher = topic.publisher.as_ref();
    field("Publisher", publisher.map_or("unknown".into(), |process| format!("{process}, uid {}", process.uid)))?;
    match topic.liveness {
        Some(Liveness::Lease) => field("Liveness", "lease: its end is noticed at once".into())?,
        Some(Liveness::Lock) => field("Liveness", "lock: looked at twice a second".into())?,
        Some(Liveness::None) | None => {}
    }
    if let Some(event) = last_death {
        field("Last death", format!("{} ago, {}", ago(event, SystemTime::now()), obituary(event)))?;
    }
    if topic.raw {
        return Ok(());
    }
    field("Published", output::count(topic.published.unwrap_or(0), "message"))?;
    if let (Some(rate), Some(bytes)) = (topic.rate_hz, topic.bytes_per_second) {
        field("Rate", format!("{}, {}/s", output::rate(rate), output::data_size(bytes as u64)))?;
    }
    if let Some(age) = topic.last_message_age_ns {
        field("Last message", format!("{} ago", output::duration_ns(age)))?;
    }
    field("Subscribers", topic.subscribers.len().to_string())?;
    if !topic.subscribers.is_empty() {
        print_subscribers(out, &topic.subscribers)?;
    }
    let bereaved = last_death.as_ref().and_then(|event| event.death.as_ref()).filter(|_| region.is_some());
    match bereaved.map(|death| &death.subscribers) {
        Some(subscribers) if !subscribers.is_empty() => {
            writeln!(out, "{}", output::styled(output::TITLE, "Subscribed when the last publisher died:"))?;
            print_subscribers(out, subscribers)
        }
        _ => Ok(()),
    }
}

fn size(topic: &TopicInfo) -> String {
    let size = format!("{} ({} bytes)", output::memory_size(topic.size_bytes), topic.size_bytes);
    match (topic.slots, topic.slot_bytes) {
        (Some(slots), Some(bytes)) => format!("{size}, {slots} slots of {}", output::memory_size(bytes)),
        _ => size,
    }
}

fn print_subscribers(out: &mut impl Write, subscribers: &[SubscriberInfo]) -> io::Result<()> {
    let columns = [
        ("  PROGRAM", Align::Left),
        ("PID", Align::Right),
        ("UID", Align::Right),
        ("RECEIVED", Align::Right),
        ("LOST", Align::Right),
        ("HELD", Align::Right),
        ("LAG", Align::Right),
        ("ASLEEP", Align::Left),
    ];
    let row = |one: &SubscriberInfo| {
        [
            format!("  {}", one.program),
            one.pid.to_string(),
            one.uid.to_string(),
            one.received.to_string(),
            if one.lost > 0 { output::styled(output::WARNING, one.lost) } else { "0".into() },
            one.held.to_string(),
            one.lag.to_string(),
            if one.asleep { "yes" } else { "no" }.into(),
        ]
    };
    output::table(out, columns, &subscribers.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::list::tests::topic;

    #[test]
    fn distances_are_levenshtein_s() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("imu", "imu", 0), ("kitten", "sitting", 3), ("lidar", "ldiar", 2)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_topic() {
        let names = ["camera/front", "camera/rear", "imu", "lidar"];
        let find = |wanted| nearest(wanted, names.into_iter());
        assert_eq!(find("camera/frnt"), Some("camera/front"));
        assert_eq!(find("liadr"), Some("lidar"));
        assert_eq!(find("rear"), Some("camera/rear"));
        assert_eq!(find("imu2"), Some("imu"));
        assert_eq!(find("odometry"), None);
        assert_eq!(find("x"), None);
    }

    #[test]
    fn subscribers_follow_in_a_table() {
        let subscriber = SubscriberInfo {
            pid: 12,
            uid: 1000,
            program: "viewer".into(),
            received: 40,
            lost: 2,
            held: 1,
            lag: 0,
            asleep: true,
        };
        let mut out = Vec::new();
        let topic = TopicInfo { subscribers: vec![subscriber], liveness: Some(Liveness::Lease), ..topic("imu") };
        print(&mut out, &Info { topic, shape: None, last_death: None }, None).unwrap();
        let expected = "\
Name:         imu
State:        live
Type:         [u8]
Path:         /dev/shm/conduit_imu
Size:         68.0 KiB (69632 bytes), 16 slots of 4.0 KiB
Publisher:    imu_driver (7), uid 1000
Liveness:     lease: its end is noticed at once
Published:    42 messages
Rate:         100 Hz, 4.0 MB/s
Last message: 3.20 ms ago
Subscribers:  1
  PROGRAM  PID   UID  RECEIVED  LOST  HELD  LAG  ASLEEP
  viewer    12  1000        40     2     1    0  yes
";
        assert_eq!(output::plain(&out), expected);
    }
}
