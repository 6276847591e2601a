//! The verbs of the command: a file or folder each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod deaths;
pub(crate) mod delay;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod echo;
pub(crate) mod gc;
pub(crate) mod hz;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod publish;
pub(crate) mod rm;
pub(crate) mod top;
pub(crate) mod types;
pub(crate) mod wait;
pub(crate) mod watch;
