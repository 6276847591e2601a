//! `conduit top`: all topics and their subscribers, live.

mod args;
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

use conduit::Domain;
use nix::sys::signal::Signal;

use crate::failure::Failure;
use crate::output::is_coloured;
use crate::signals;
use crate::source::open_directory;
pub(crate) use args::Args;
use collect::Collector;
use feeds::{Feeds, Update};
use keys::Action;
use screen::Screen;
use state::TopState;
use view::Theme;

/// Limits the redraws when events arrive fast.
const SHORTEST_BETWEEN_DRAWINGS: Duration = Duration::from_millis(40);

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
        // Keys are answered at once; other updates are batched.
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
