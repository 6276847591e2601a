//! `conduit top`: all topics and their subscribers at a glance, as they are now.

mod collect;
mod feeds;
mod help;
mod keys;
mod once;
mod quantiles;
mod rows;
mod screen;
mod state;
mod view;

use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, TopicPattern};
use nix::sys::signal::Signal;

use crate::arguments::duration;
use crate::completion::topics;
use crate::failure::Failure;
use crate::output::is_coloured;
use crate::signals;
use crate::source::open_directory;
use collect::Collector;
use feeds::{Feeds, Update};
use keys::Action;
use rows::SortKey;
use screen::Screen;
use state::TopState;
use view::Theme;

/// Events may come faster than anybody can read.
const SHORTEST_BETWEEN_DRAWINGS: Duration = Duration::from_millis(40);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Watch all topics: rates, bandwidth, what subscribers lose and how far they are behind, and
/// events as they happen.
///
/// Nobody subscribes for it: everything is read from outside, so that no publisher or subscriber
/// notices. Without a registry the regions alone are shown, without events.
///
/// Keys: Enter opens a topic, ? explains the rest, q quits.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit top
  conduit top 'camera/**' --sort bandwidth
  conduit top --once --json | jq -r '.topics[] | select(.state == \"live\") | \"\\(.name) \\(.rate_hz)\"'
  conduit top --once --json --interval 5 | jq '[.topics[].subscribers[].lost_per_second] | add'")]
pub(crate) struct Args {
    /// Only topics that match: * stays within a segment of the name, ** crosses segments
    #[arg(add = ArgValueCompleter::new(topics))]
    glob: Option<TopicPattern>,
    /// Time between two looks, in seconds or with a unit, at least 0.1
    #[arg(short = 'd', long, value_name = "TIME", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Sort by this column: numbers begin with the greatest
    #[arg(long, value_name = "COLUMN", default_value = "name", value_enum)]
    sort: SortKey,
    /// Sort the other way round
    #[arg(long)]
    reverse: bool,
    /// Print one measurement, over one interval, as a table and end
    #[arg(long)]
    once: bool,
    /// Print it as a JSON object: time_ms, interval_s, registry (pid, version; null if there is
    /// none), totals (topics, live, orphaned, subscribers, rate_hz, bytes_per_second,
    /// lost_per_second) and topics, in their order
    ///
    /// Of each topic: name, state, type, publisher (pid, uid, program), published, rate_hz,
    /// bytes_per_second, last_message_age_ns, interval_ns (p50, p99, max of the time between two
    /// messages), and subscribers.
    ///
    /// Of each subscriber: program, pid, uid, received, lost, lost_per_second, lag (in messages),
    /// behind_ns (p50, p99, max of how old the oldest message was that it had not received, looked
    /// at 50 times a second; 0 when it had all), held, asleep.
    ///
    /// What is not known is null: everything but name and state of what is no topic, rates before
    /// the second message and without time stamps.
    #[arg(long, requires = "once")]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SHORTEST_INTERVAL { Err("it is at least 0.1 seconds".into()) } else { Ok(interval) }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let domain = Domain::from_env();
    let collector = Collector::new(open_directory(&domain)?, args.glob.clone());
    if args.once { once::run(args, &domain, collector) } else { watch(args, &domain, collector) }
}

fn watch(args: &Args, domain: &Domain, collector: Collector) -> Result<(), Failure> {
    let theme = Theme { is_coloured: is_coloured(&std::io::stdout()) };
    let (sender, updates) = mpsc::channel();
    let redraw = {
        let sender = sender.clone();
        move || drop(sender.send(Update::Redraw))
    };
    let mut screen = Screen::new(redraw)?;
    let feeds = Feeds::start(domain, args, collector, &sender)?;
    let mut state = TopState::new(args.sort, args.reverse);
    let mut drawn: Option<Instant> = None;
    loop {
        state.page = view::page(screen.area().map_err(Failure::Output)?);
        screen.draw(|frame| view::draw(frame, &state, theme))?;
        // Keys are answered at once, all else may gather.
        let soonest = drawn.replace(Instant::now()).map(|drawn| drawn + SHORTEST_BETWEEN_DRAWINGS);
        let mut next = updates.recv().ok();
        while let Some(update) = next {
            let is_urgent = matches!(update, Update::Key(_) | Update::Redraw);
            match take(update, &mut state)? {
                Action::Quit => return Ok(()),
                Action::Interrupt => {
                    signals::as_if_typed(Signal::SIGINT);
                    return if signals::is_ignored(Signal::SIGINT) { Ok(()) } else { Err(Failure::Interrupted) };
                }
                Action::Suspend => signals::as_if_typed(Signal::SIGTSTP),
                Action::Redraw => Screen::forget(),
                Action::Stay => {}
            }
            let wait = soonest.map_or(Duration::ZERO, |soonest| soonest.saturating_duration_since(Instant::now()));
            next = if is_urgent { updates.try_recv().ok() } else { updates.recv_timeout(wait).ok() };
        }
        feeds.look_at(state.focus());
    }
}

fn take(update: Update, state: &mut TopState) -> Result<Action, Failure> {
    match update {
        Update::Key(key) => return Ok(state.press(key)),
        Update::Redraw => {}
        Update::Rows(rows) => state.take_rows(rows, now_ms()),
        Update::News(text, mood) => state.take_line(now_ms(), &text, mood),
        Update::Event(event) => state.take_event(event),
        Update::Deaths(deaths) => deaths.into_iter().for_each(|death| state.take_death(death)),
        Update::Registry(registry, text, mood) => {
            state.registry = registry;
            state.take_line(now_ms(), &text, mood);
        }
        Update::Failed(failure) => return Err(failure),
    }
    Ok(Action::Stay)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_long_enough() {
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(["0", "99ms", "-1", "soon"].iter().all(|text| interval(text).is_err()));
    }
}
