//! `conduit echo`: prints the messages of topics, for people or for a pipe.

mod appearing;
mod args;
mod field_path;
mod print;
mod session;
mod value;
mod wanted;
mod yaml;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conduit::WaitSet;

use crate::failure::Failure;
use crate::{closed_output, signals};
pub(crate) use args::Args;
use session::{Echo, EndFlags};
use wanted::WantedTopics;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = WantedTopics::new(&args.topics).map_err(Failure::new)?;
    if args.raw && wanted.may_be_several() {
        return Err(Failure::with_code("--raw has no place for the names of several topics; give it one name", 2));
    }
    let set = WaitSet::new();
    let [on_signal, on_close] = [set.waker(), set.waker()];
    // The sender is dropped after the subscribers.
    let wake = move || on_signal.wake();
    let (is_interrupted, subscribed) = signals::set_and_wake_before_ending(wake).map_err(Failure::new)?;
    let is_closed = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&is_closed);
    closed_output::when_closed(move || {
        closed.store(true, Ordering::Relaxed);
        on_close.wake();
    })?;
    let result = Echo::new(args, wanted, set, EndFlags { is_interrupted, is_closed }).run();
    drop(subscribed);
    result
}
