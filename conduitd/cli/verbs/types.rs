//! `conduit type` and `conduit find`: the type of a topic, and the topics of a type.

use std::io::Write;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::inspect::Region;
use conduit::{Domain, TopicName};
use serde_json::json;

use crate::completion::topics;
use crate::failure::Failure;
use crate::output::{self, topics::message_type};
use crate::source::Source;

/// Print the type of a topic's messages.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  conduit type imu")]
pub(crate) struct TypeArgs {
    /// Name of the topic
    #[arg(add = ArgValueCompleter::new(topics))]
    topic: String,
    /// Print a JSON object: topic, type (null for raw regions), size and align (of a message, or of
    /// an element of a list, in bytes), shape (its fields as in `conduit info --json`, or null).
    /// `conduit pub --type` reads it
    #[arg(long)]
    json: bool,
}

/// Print the names of the topics whose messages have this type.
///
/// The exit code is 1 if no topic has.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  conduit find robot/Imu\n  conduit find '[u8]'")]
pub(crate) struct FindArgs {
    /// Name of the type as printed by `conduit type`: in brackets for slices, `raw` for raw regions
    #[arg(value_name = "TYPE")]
    message_type: String,
    /// Print a JSON array of names
    #[arg(long)]
    json: bool,
}

pub(crate) fn run_type(args: &TypeArgs) -> Result<(), Failure> {
    let name = TopicName::new(&args.topic)?;
    let mut source = Source::connect(&Domain::from_env());
    let topic = source.describe(&name)?;
    output::print(|out| {
        if args.json {
            let region = source.region(&name);
            let shape = region.as_ref().and_then(Region::shape);
            let info = region.and_then(|it| it.message_type());
            let (size, align) = (info.map(|info| info.size()), info.map(|info| info.align()));
            let message_type = &topic.message_type;
            let described = json!({
                "topic": topic.name, "type": message_type, "size": size, "align": align, "shape": shape
            });
            output::json(out, &described)
        } else {
            writeln!(out, "{}", message_type(&topic))
        }
    })
}

pub(crate) fn run_find(args: &FindArgs) -> Result<(), Failure> {
    let topics = Source::connect(&Domain::from_env()).topics()?;
    let found = topics.iter().filter(|topic| message_type(topic) == args.message_type);
    let names: Vec<&str> = found.map(|topic| topic.name.as_str()).collect();
    if names.is_empty() {
        return Err(Failure::new(format_args!("no topic has messages of type {}", args.message_type)));
    }
    output::print(|out| {
        if args.json { output::json(out, &names) } else { names.iter().try_for_each(|name| writeln!(out, "{name}")) }
    })
}
