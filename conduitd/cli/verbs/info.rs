//! `conduit info`: everything about one topic.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::registry::{RegistryEvent, SubscriberInfo, TopicInfo};
use conduit::{Domain, Shape, TopicName};
use serde::Serialize;

use crate::completion::topics;
use crate::failure::Failure;
use crate::output::topics::{liveness, message_type, publisher, size, state};
use crate::output::{self, events};
use crate::source::Source;

/// Show everything about one topic: its publisher, its subscribers, and the messages they lost.
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
    /// Also show the fields of the messages, the file's permissions, and the subscribers at the
    /// last publisher's death
    #[arg(short, long)]
    verbose: bool,
    /// Print a JSON object: the reply of the registry's `Describe` (name, state, raw, path,
    /// size_bytes, slots, slot_bytes, type, publisher, liveness, published, rate_hz,
    /// bytes_per_second, last_message_age_ns, deadline_ns, overdue, subscribers), and last_death
    /// and shape if known
    #[arg(long)]
    json: bool,
}

/// All that is known about a topic.
#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    topic: TopicInfo,
    /// The layout of its messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<Shape>,
    /// The last death of one of its owners that the registry remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_death: Option<RegistryEvent>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = TopicName::new(&args.topic)?;
    let mut source = Source::connect(&Domain::from_env());
    let topic = source.describe(&name)?;
    let region = source.region(&name);
    // Every slice of bytes has the same shape.
    let shape = region.as_ref().and_then(Region::shape).filter(|_| message_type(&topic) != "[u8]");
    let info = Info { topic, shape, last_death: source.last_death(&name) };
    output::print(|out| {
        if args.json { output::json(out, &info) } else { print(out, &info, region.as_ref().filter(|_| args.verbose)) }
    })
}

/// Prints what is known; with the region also what `--verbose` adds.
fn print(out: &mut impl Write, info: &Info, region: Option<&Region>) -> io::Result<()> {
    print_region(out, info, region)?;
    if info.topic.raw {
        return Ok(());
    }
    print_traffic(out, &info.topic)?;
    let death = info.last_death.as_ref().and_then(|event| event.death.as_ref()).filter(|_| region.is_some());
    match death.map(|death| &death.subscribers) {
        Some(subscribers) if !subscribers.is_empty() => {
            writeln!(out, "{}", output::styled(output::TITLE, "Subscribed when the last publisher died:"))?;
            print_subscribers(out, subscribers)
        }
        _ => Ok(()),
    }
}

fn field(out: &mut impl Write, name: &str, value: impl std::fmt::Display) -> io::Result<()> {
    let name = format!("{name}:");
    writeln!(out, "{}{value}", output::styled(output::TITLE, format_args!("{name:<14}")))
}

fn print_region(out: &mut impl Write, info: &Info, region: Option<&Region>) -> io::Result<()> {
    let Info { topic, shape, last_death } = info;
    field(out, "Name", &topic.name)?;
    let reason = topic.refusal.as_ref().or(topic.unlinked.as_ref());
    let reason = reason.map_or_else(String::new, |reason| format!(", {reason}"));
    field(out, "State", format_args!("{}{reason}", state(topic)))?;
    field(out, "Type", topic.message_type.as_deref().unwrap_or("raw region"))?;
    if let (Some(_), Some(shape)) = (region, shape) {
        field(out, "Fields", shape)?;
    }
    field(out, "Path", &topic.path)?;
    if let Some((region, (gid, mode))) = region.and_then(|region| Some((region, region.access().ok()?))) {
        let (uid, inode) = (region.uid(), region.id().ino);
        field(out, "Access", format_args!("mode {mode:04o}, uid {uid}, gid {gid}, inode {inode}"))?;
    }
    field(out, "Size", size(topic))?;
    field(out, "Publisher", publisher(topic))?;
    if let Some(liveness) = liveness(topic) {
        field(out, "Liveness", liveness)?;
    }
    if let Some(event) = last_death {
        let when = events::when(event, SystemTime::now());
        field(out, "Last death", format_args!("{when}: {}", events::death(event)))?;
    }
    Ok(())
}

fn print_traffic(out: &mut impl Write, topic: &TopicInfo) -> io::Result<()> {
    field(out, "Published", output::count(topic.published.unwrap_or(0), "message"))?;
    if let (Some(rate), Some(bytes)) = (topic.rate_hz, topic.bytes_per_second) {
        field(out, "Rate", format_args!("{}, {}/s", output::rate(rate), output::data_size(bytes as u64)))?;
    }
    if let Some(age) = topic.last_message_age_ns {
        field(out, "Last message", format_args!("{} ago", output::duration_ns(age)))?;
    }
    if let Some(deadline_ns) = topic.deadline_ns {
        let missed = if topic.is_overdue { ", missed" } else { "" };
        field(out, "Deadline", format_args!("{}{missed}", output::duration_ns(deadline_ns)))?;
    }
    field(out, "Subscribers", topic.subscribers.len())?;
    print_subscribers(out, &topic.subscribers)
}

fn print_subscribers(out: &mut impl Write, subscribers: &[SubscriberInfo]) -> io::Result<()> {
    let columns = ["<  PROGRAM", ">PID", ">UID", ">RECEIVED", ">LOST", ">HELD", ">OLDEST", ">LAG", "<ASLEEP"];
    let row = |one: &SubscriberInfo| {
        [
            format!("  {}", one.program),
            one.pid.to_string(),
            one.uid.to_string(),
            one.received.to_string(),
            if one.lost > 0 { output::styled(output::WARNING, one.lost) } else { "0".into() },
            one.held.to_string(),
            one.oldest_held_age_ns.map_or_else(|| "-".into(), output::duration_ns),
            one.lag.to_string(),
            if one.asleep { "yes" } else { "no" }.into(),
        ]
    };
    output::table(out, &columns, &subscribers.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use conduit::registry::Liveness;

    use super::*;
    use crate::output::topics::tests::topic;

    #[test]
    fn subscribers_are_a_table() {
        let mut subscriber = SubscriberInfo::default();
        (subscriber.pid, subscriber.uid, subscriber.program) = (12, 1000, "viewer".into());
        (subscriber.received, subscriber.lost, subscriber.held) = (40, 2, 1);
        subscriber.oldest_held_age_ns = Some(5_200_000_000);
        subscriber.asleep = true;
        let mut topic = topic("imu");
        topic.subscribers = vec![subscriber];
        topic.liveness = Some(Liveness::Lease);
        let mut out = Vec::new();
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
  PROGRAM  PID   UID  RECEIVED  LOST  HELD  OLDEST  LAG  ASLEEP
  viewer    12  1000        40     2     1  5.20 s    0  yes
";
        assert_eq!(output::plain(&out), expected);
    }
}
