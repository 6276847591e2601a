//! What `conduit top` shows, changed by measurements and events. Pure: no terminal, no region, no
//! clock. Keys change it in `keys.rs`.

use std::collections::{BTreeMap, VecDeque};

use conduit::registry::{EventKind, RegistryEvent};
use conduit::{TopicName, TopicPattern};

use super::rows::{SortKey, TopicRow, compare};
use crate::output;
use crate::output::events::certificate;

/// How many events are kept.
pub(super) const MAX_EVENTS: usize = 1000;

/// Which daemon answers at the registry's socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum RegistryLink {
    /// Not asked yet.
    #[default]
    Unknown,
    /// A daemon of this version and process.
    Answers { version: String, pid: u32 },
    /// None.
    Missing,
}

/// What is on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Pane {
    #[default]
    Topics,
    Detail,
    Events,
}

/// A line of the list of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventLine {
    pub(crate) text: String,
    pub(crate) mood: Mood,
}

/// What a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Neutral,
    Good,
    Warning,
    Bad,
}

/// Everything that the screen depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopState {
    pub(super) rows: Vec<TopicRow>,
    /// The rows to show, in their order.
    pub(super) order: Vec<usize>,
    /// The selected topic, and where it stood.
    selected: Option<(String, usize)>,
    pub(crate) sort: SortKey,
    pub(crate) is_reversed: bool,
    pub(crate) filter: String,
    /// The filter while it is typed, and the one to go back to.
    pub(crate) typing: Option<String>,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    pub(crate) pane: Pane,
    /// First line of the help, of the subscribers in the detail pane, or last event but so many.
    pub(crate) scrolled: usize,
    /// The topic of the detail pane as last seen, and whether it still exists.
    pub(crate) detail: Option<(TopicRow, bool)>,
    pub(crate) events: VecDeque<EventLine>,
    /// Events that came while the screen was paused.
    pub(super) held: VecDeque<EventLine>,
    /// The last death by topic.
    pub(super) deaths: BTreeMap<String, RegistryEvent>,
    pub(crate) registry: RegistryLink,
    pub(crate) time_ms: u64,
    /// How many rows a page has.
    pub(crate) page: usize,
}

impl TopState {
    pub(crate) fn new(sort: SortKey, is_reversed: bool) -> Self {
        Self { sort, is_reversed, page: 10, ..Self::default() }
    }

    /// Takes new measurements.
    pub(crate) fn take_rows(&mut self, rows: Vec<TopicRow>, time_ms: u64) {
        if self.paused {
            return;
        }
        self.time_ms = time_ms;
        self.rows = rows;
        self.arrange();
        if let Some((last, is_there)) = &mut self.detail {
            let found = self.rows.iter().find(|row| row.topic.name == last.topic.name);
            *is_there = found.is_some();
            if let Some(row) = found {
                last.clone_from(row);
            }
        }
    }

    pub(crate) fn take_event(&mut self, event: RegistryEvent) {
        let process = event.process.as_ref().map_or_else(String::new, |process| format!(" {process}"));
        let death = event.death.as_ref().map_or_else(String::new, |death| format!(" {}", certificate(death)));
        let mood = match event.kind {
            EventKind::Published | EventKind::Subscribed | EventKind::Resumed => Mood::Good,
            EventKind::Died | EventKind::SubscriberDied => Mood::Bad,
            EventKind::Unlinked | EventKind::Removed | EventKind::Overdue => Mood::Warning,
            _ => Mood::Neutral,
        };
        self.take_line(event.time_ms, &format!("{} {}{process}{death}", event.topic, event.kind), mood);
        self.take_death(event);
    }

    /// Remembers the last death of every topic.
    pub(crate) fn take_death(&mut self, event: RegistryEvent) {
        if event.kind == EventKind::Died {
            self.deaths.insert(event.topic.clone(), event);
        }
    }

    /// Adds a line to the list of events.
    pub(crate) fn take_line(&mut self, time_ms: u64, text: &str, mood: Mood) {
        // A screen may stay for days, but not for a year.
        let time = output::time_ms(time_ms)["2026-".len()..][.."11-27T12:34:56".len()].replace('T', " ");
        let line = EventLine { text: format!("{time} {text}"), mood };
        let list = if self.paused { &mut self.held } else { &mut self.events };
        list.push_back(line);
        if list.len() > MAX_EVENTS {
            list.pop_front();
        }
        // The lines being read stay in place.
        if self.pane == Pane::Events && self.scrolled > 0 && !self.paused {
            self.scrolled = (self.scrolled + 1).min(MAX_EVENTS);
        }
    }

    /// The rows to show, in their order.
    pub(crate) fn shown(&self) -> impl ExactSizeIterator<Item = &TopicRow> {
        self.order.iter().filter_map(|&at| self.rows.get(at)).collect::<Vec<_>>().into_iter()
    }

    /// How many topics there are, whatever the filter.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// Where the selected row stands among those shown.
    pub(crate) fn selected(&self) -> Option<usize> {
        self.selected.as_ref().map(|(_, at)| *at)
    }

    /// The topic of the detail pane.
    pub(crate) fn focus(&self) -> Option<&str> {
        self.detail.as_ref().map(|(row, _)| row.topic.name.as_str())
    }

    pub(super) fn arrange(&mut self) {
        // A glob if it has wildcards, else, or while the glob is unfinished, a part of the name.
        let filter = self.typing.as_ref().unwrap_or(&self.filter);
        let glob = TopicPattern::new(filter).ok().filter(|_| filter.contains(['*', '?', '[']));
        let is_shown = |row: &TopicRow| match &glob {
            Some(glob) => TopicName::new(&row.topic.name).is_ok_and(|name| glob.matches(&name)),
            None => row.topic.name.contains(filter.as_str()),
        };
        let mut shown: Vec<(usize, &TopicRow)> =
            self.rows.iter().enumerate().filter(|(_, row)| is_shown(row)).collect();
        shown.sort_by(|(_, one), (_, other)| compare(one, other, self.sort, self.is_reversed));
        self.order = shown.into_iter().map(|(at, _)| at).collect();
        let (name, at) = self.selected.take().unwrap_or_default();
        // The selection follows its topic; if that disappears, the one in its place is selected.
        let at = self.order.iter().position(|&row| self.rows[row].topic.name == name).unwrap_or(at);
        self.select(at);
    }

    pub(super) fn select(&mut self, at: usize) {
        let at = at.min(self.order.len().saturating_sub(1));
        self.selected = self.order.get(at).map(|&row| (self.rows[row].topic.name.clone(), at));
    }
}

#[cfg(test)]
pub(crate) mod tests;
