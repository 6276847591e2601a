//! End-to-end tests with real processes, a real daemon and SIGKILL. Each test has a private
//! shared-memory directory and socket, so tests run in parallel and leave nothing behind.
#![allow(missing_docs, unreachable_pub, reason = "not a library")]
#![allow(clippy::print_stdout, reason = "the test runner shows it if a test fails")]

mod asking;
mod bad_input;
mod bench;
mod bounded;
mod closed_readers;
mod command;
mod containers;
mod cplusplus;
mod crash_only;
mod daemon;
mod deadlines;
mod doctor;
mod dying;
mod echo;
mod echo_several;
mod ending;
mod external_verbs;
mod following;
mod foreign_text;
mod frugal;
mod guard;
mod guest;
mod guide;
mod harness;
mod healing;
mod hermetic;
mod hostile_client;
mod killed_at_every_step;
mod lease;
mod limits;
mod log;
mod malice;
mod manager;
mod messages;
mod policy;
#[path = "peer/protocol.rs"]
mod protocol;
mod publish;
mod publisher_dies;
mod races;
mod rates;
mod readme;
mod regions;
mod registry;
mod removal;
mod shell;
mod stopping;
mod storm;
mod subscriber_dies;
mod supervised;
mod tidying;
mod top;
mod typed;
mod unlinked;
mod users;
mod wait;
mod waiting;
mod watching;
