//! `conduit type` and `conduit find`: from a topic to its type, and back.

use std::io::Write;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, TopicName};

use crate::completions::topics;
use crate::failure::Failure;
use crate::info::describe;
use crate::list::{all_topics, type_of};
use crate::output;

/// Print the type of a topic's messages.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  conduit type imu")]
pub(crate) struct TypeArgs {
    /// Name of the topic
    #[arg(add = ArgValueCompleter::new(topics))]
    topic: String,
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
}

pub(crate) fn run_type(args: &TypeArgs) -> Result<(), Failure> {
    let topic = describe(&Domain::from_env(), &TopicName::new(&args.topic)?)?;
    writeln!(output::stdout(), "{}", type_of(&topic)).map_err(Failure::Output)
}

pub(crate) fn run_find(args: &FindArgs) -> Result<(), Failure> {
    let topics = all_topics(&Domain::from_env())?;
    let mut found = topics.iter().filter(|topic| type_of(topic) == args.message_type).peekable();
    if found.peek().is_none() {
        return Err(Failure::new(format_args!("no topic has messages of type {}", args.message_type)));
    }
    let mut out = output::stdout();
    found.try_for_each(|topic| writeln!(out, "{}", topic.name)).map_err(Failure::Output)
}
