//! `conduit type` and `conduit find`: from a topic to its type, and back.

use std::io::Write;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, TopicName};
use serde_json::json;

use crate::failure::Failure;
use crate::output;
use crate::verbs::completions::topics;
use crate::verbs::info::{describe, shape_of};
use crate::verbs::list::{all_topics, type_of};

/// Print the type of a topic's messages.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  conduit type imu")]
pub(crate) struct TypeArgs {
    /// Name of the topic
    #[arg(add = ArgValueCompleter::new(topics))]
    topic: String,
    /// Print a JSON object: topic, type (null for raw regions), shape (its fields, as `conduit info --json` has them, or null)
    #[arg(long)]
    json: bool,
}

/// Print the names of the topics whose messages are of a type.
///
/// The exit code is 1 if there are none.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  conduit find robot/Imu\n  conduit find '[u8]'")]
pub(crate) struct FindArgs {
    /// Name of the type, as `conduit type` prints it; in brackets for slices, `raw` for raw regions
    #[arg(value_name = "TYPE")]
    message_type: String,
    /// Print a JSON array of names
    #[arg(long)]
    json: bool,
}

pub(crate) fn run_type(args: &TypeArgs) -> Result<(), Failure> {
    let (domain, name) = (Domain::from_env(), TopicName::new(&args.topic)?);
    let topic = describe(&domain, &name)?;
    let mut out = output::stdout();
    let written = if args.json {
        let value = json!({"topic": topic.name, "type": topic.message_type, "shape": shape_of(&domain, &name)});
        output::json(&mut out, &value)
    } else {
        writeln!(out, "{}", type_of(&topic))
    };
    written.map_err(Failure::Output)
}

pub(crate) fn run_find(args: &FindArgs) -> Result<(), Failure> {
    let topics = all_topics(&Domain::from_env())?;
    let mut found = topics.iter().filter(|topic| type_of(topic) == args.message_type).peekable();
    if found.peek().is_none() {
        return Err(Failure::new(format_args!("no topic has messages of type {}", args.message_type)));
    }
    let mut out = output::stdout();
    if args.json {
        return output::json(&mut out, &found.map(|topic| &topic.name).collect::<Vec<_>>()).map_err(Failure::Output);
    }
    found.try_for_each(|topic| writeln!(out, "{}", topic.name)).map_err(Failure::Output)
}
