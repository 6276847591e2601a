//! What `conduit top` shows: rows, their order, the selection, and what the keys do. Pure: no
//! terminal, no region, no clock.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use clap::ValueEnum;
use conduit::registry::{EventKind, RegionState as TopicState, RegistryEvent, SubscriberInfo, TopicInfo};
use conduit::{TopicName, TopicPattern};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::help::HELP;
use super::percentiles::Percentiles;
use crate::output::events::{certificate, time_of_day};

/// How many events are kept.
const MAX_EVENTS: usize = 1000;
/// Longest filter that can be typed.
const MAX_FILTER: usize = 64;

/// One topic. Its subscribers are in `readers`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) topic: TopicInfo,
    /// Messages per second, one a refresh, oldest first.
    pub(crate) history: Vec<f64>,
    /// Between two messages.
    pub(crate) interval: Option<Percentiles>,
    pub(crate) readers: Vec<Reader>,
}

/// One subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) subscriber: SubscriberInfo,
    pub(crate) lost_per_second: f64,
    /// How old the oldest message was that it had not received.
    pub(crate) behind: Option<Percentiles>,
}

impl Row {
    pub(crate) fn lost(&self) -> u64 {
        self.readers.iter().fold(0, |sum, reader| sum.saturating_add(reader.subscriber.lost))
    }

    pub(crate) fn lost_per_second(&self) -> f64 {
        // An empty sum of f64 is -0.
        self.readers.iter().fold(0.0, |sum, reader| sum + reader.lost_per_second)
    }

    pub(crate) fn lag(&self) -> Option<u64> {
        self.readers.iter().map(|reader| reader.subscriber.lag).max()
    }

    /// Of the subscriber that is worst off.
    pub(crate) fn behind_p99(&self) -> Option<u64> {
        self.readers.iter().filter_map(|reader| Some(reader.behind?.p99)).max()
    }

    pub(crate) fn publisher(&self) -> &str {
        self.topic.publisher.as_ref().map_or("-", |process| &process.program)
    }
}

/// What the table can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    /// Name of the topic
    Name,
    /// State: live, closed, orphaned, kept, unauthorised, unlinked
    State,
    /// Messages per second
    Rate,
    /// Bytes per second
    Bandwidth,
    /// Number of subscribers
    Subscribers,
    /// Messages that subscribers lose per second
    Loss,
    /// Messages that subscribers have lost
    Lost,
    /// Messages that the last subscriber is behind
    Lag,
    /// Time that the last subscriber is behind (99th percentile)
    Behind,
    /// Interval between messages (99th percentile)
    Interval,
    /// Program that publishes
    Publisher,
}

impl Column {
    /// Whether the greatest comes first.
    pub(crate) fn is_descending(self) -> bool {
        !matches!(self, Self::Name | Self::State | Self::Publisher)
    }

    fn next(self, step: isize) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|column| *column == self).unwrap_or(0);
        all[at.checked_add_signed(step).map_or(all.len() - 1, |at| at % all.len())]
    }

    fn compare(self, one: &Row, other: &Row) -> Ordering {
        let numbers =
            |number: fn(&Row) -> Option<f64>| number(one).unwrap_or(-1.0).total_cmp(&number(other).unwrap_or(-1.0));
        match self {
            Self::Name => one.topic.name.cmp(&other.topic.name),
            Self::State => one.topic.state.to_string().cmp(&other.topic.state.to_string()),
            Self::Rate => numbers(|row| row.topic.rate_hz),
            Self::Bandwidth => numbers(|row| row.topic.bytes_per_second),
            Self::Subscribers => one.readers.len().cmp(&other.readers.len()),
            Self::Loss => numbers(|row| Some(row.lost_per_second())),
            Self::Lost => one.lost().cmp(&other.lost()),
            Self::Lag => one.lag().cmp(&other.lag()),
            Self::Behind => one.behind_p99().cmp(&other.behind_p99()),
            Self::Interval => one.interval.map(|it| it.p99).cmp(&other.interval.map(|it| it.p99)),
            Self::Publisher => one.publisher().cmp(other.publisher()),
        }
    }
}

/// Sorts rows by a column, and by name where that is the same.
pub(crate) fn sort(rows: &mut [Row], by: Column, reversed: bool) {
    rows.sort_by(|one, other| compare(one, other, by, reversed));
}

fn compare(one: &Row, other: &Row, by: Column, reversed: bool) -> Ordering {
    let order = by.compare(one, other);
    let order = if by.is_descending() != reversed { order.reverse() } else { order };
    order.then_with(|| one.topic.name.cmp(&other.topic.name))
}

/// Sums over all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Totals {
    pub(crate) topics: usize,
    pub(crate) live: usize,
    pub(crate) orphaned: usize,
    pub(crate) subscribers: usize,
    pub(crate) rate_hz: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) lost_per_second: f64,
}

impl Totals {
    pub(crate) fn of(rows: &[Row]) -> Self {
        let count = |state| rows.iter().filter(|row| row.topic.state == state).count();
        let sum = |number: fn(&Row) -> Option<f64>| rows.iter().filter_map(number).fold(0.0, |sum, one| sum + one);
        Self {
            topics: rows.len(),
            live: count(TopicState::Live),
            orphaned: count(TopicState::Orphaned),
            subscribers: rows.iter().map(|row| row.readers.len()).sum(),
            rate_hz: sum(|row| row.topic.rate_hz),
            bytes_per_second: sum(|row| row.topic.bytes_per_second),
            lost_per_second: sum(|row| Some(row.lost_per_second())),
        }
    }
}

/// Who answers at the registry's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    /// Nobody was asked yet.
    Unknown,
    /// A daemon of this version and process.
    Answers { version: String, pid: u32 },
    /// Nobody.
    Missing,
}

/// What the user wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// To look.
    Stay,
    /// To end.
    Quit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// What is on the screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pane {
    Topics,
    Detail,
    Events,
}

/// A line of the list of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
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
#[derive(Clone, Debug)]
pub(crate) struct State {
    rows: Vec<Row>,
    /// The rows to show, in their order.
    order: Vec<usize>,
    /// The selected topic, and where it stood.
    selected: Option<(String, usize)>,
    pub(crate) sort: Column,
    pub(crate) reversed: bool,
    pub(crate) filter: String,
    /// The filter while it is typed, and the one to go back to.
    pub(crate) typing: Option<String>,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    pub(crate) pane: Pane,
    /// First line of the help, of the subscribers in the detail pane, or last event but so many.
    pub(crate) scrolled: usize,
    /// The topic of the detail pane as it was last seen, and whether it is still there.
    pub(crate) detail: Option<(Row, bool)>,
    pub(crate) events: VecDeque<Line>,
    /// Events that came while the screen was paused.
    held: VecDeque<Line>,
    /// The last death by topic.
    deaths: BTreeMap<String, RegistryEvent>,
    pub(crate) registry: Registry,
    pub(crate) time_ms: u64,
    /// How many rows a page has.
    pub(crate) page: usize,
}

impl State {
    pub(crate) fn new(sort: Column, reversed: bool) -> Self {
        Self {
            rows: Vec::new(),
            order: Vec::new(),
            selected: None,
            sort,
            reversed,
            filter: String::new(),
            typing: None,
            paused: false,
            help: false,
            pane: Pane::Topics,
            scrolled: 0,
            detail: None,
            events: VecDeque::new(),
            held: VecDeque::new(),
            deaths: BTreeMap::new(),
            registry: Registry::Unknown,
            time_ms: 0,
            page: 10,
        }
    }

    /// What has been measured anew.
    pub(crate) fn take_rows(&mut self, rows: Vec<Row>, time_ms: u64) {
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
            EventKind::Published | EventKind::Subscribed => Mood::Good,
            EventKind::Died | EventKind::SubscriberDied => Mood::Bad,
            EventKind::Unlinked | EventKind::Removed => Mood::Warning,
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

    /// Something to say that is no event of a topic.
    pub(crate) fn take_line(&mut self, time_ms: u64, text: &str, mood: Mood) {
        let mut time = time_of_day(time_ms);
        time.truncate("12:34:56".len());
        let line = Line { text: format!("{time} {text}"), mood };
        let list = if self.paused { &mut self.held } else { &mut self.events };
        list.push_back(line);
        if list.len() > MAX_EVENTS {
            list.pop_front();
        }
        // What somebody reads stays where it is.
        if self.pane == Pane::Events && self.scrolled > 0 && !self.paused {
            self.scrolled = (self.scrolled + 1).min(MAX_EVENTS);
        }
    }

    pub(crate) fn last_death(&self, topic: &str) -> Option<&RegistryEvent> {
        self.deaths.get(topic)
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals::of(&self.rows)
    }

    /// The rows to show, in their order.
    pub(crate) fn shown(&self) -> impl ExactSizeIterator<Item = &Row> {
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

    /// The topic that is looked at closely.
    pub(crate) fn focus(&self) -> Option<&str> {
        self.detail.as_ref().map(|(row, _)| row.topic.name.as_str())
    }

    fn arrange(&mut self) {
        let filter = Filter::new(self.typing.as_ref().unwrap_or(&self.filter));
        let mut shown: Vec<(usize, &Row)> =
            self.rows.iter().enumerate().filter(|(_, row)| filter.admits(&row.topic.name)).collect();
        shown.sort_by(|(_, one), (_, other)| compare(one, other, self.sort, self.reversed));
        self.order = shown.into_iter().map(|(at, _)| at).collect();
        let (name, at) = self.selected.take().unwrap_or_default();
        // The selection goes with its topic; when that vanishes, to the one in its place.
        let at = self.order.iter().position(|&row| self.rows[row].topic.name == name).unwrap_or(at);
        self.select(at);
    }

    fn select(&mut self, at: usize) {
        let at = at.min(self.order.len().saturating_sub(1));
        self.selected = self.order.get(at).map(|&row| (self.rows[row].topic.name.clone(), at));
    }

    pub(crate) fn press(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Interrupt,
                KeyCode::Char('z') => Action::Suspend,
                KeyCode::Char('l') => Action::Redraw,
                _ => Action::Stay,
            };
        }
        if self.typing.is_some() {
            self.press_while_typing(key.code);
            return Action::Stay;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc if self.help => self.show_help(false),
            KeyCode::Char('?') | KeyCode::F(1) => self.show_help(!self.help),
            KeyCode::Char('q') if self.pane == Pane::Topics => return Action::Quit,
            KeyCode::Char('q') | KeyCode::Esc => self.close(),
            KeyCode::Left | KeyCode::Char('h') | KeyCode::Backspace if self.help => self.show_help(false),
            KeyCode::Left | KeyCode::Char('h') | KeyCode::Backspace => self.close(),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-(self.page.max(1) as isize)),
            KeyCode::PageDown => self.go(self.page.max(1) as isize),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Char('p' | ' ') => self.pause(),
            // What follows is about what the help covers.
            _ if self.help => {}
            KeyCode::Char('e') if self.pane == Pane::Events => self.close(),
            KeyCode::Char('e') => self.show(Pane::Events),
            KeyCode::Enter | KeyCode::Right if self.pane == Pane::Topics => self.open(),
            KeyCode::Char('s' | '>') => self.sort_by(self.sort.next(1)),
            KeyCode::Char('S' | '<') => self.sort_by(self.sort.next(-1)),
            KeyCode::Char('r') => {
                self.reversed = !self.reversed;
                self.arrange();
            }
            KeyCode::Char('/') if self.pane == Pane::Topics => self.typing = Some(self.filter.clone()),
            _ => {}
        }
        Action::Stay
    }

    fn press_while_typing(&mut self, key: KeyCode) {
        let Some(typed) = &mut self.typing else { return };
        match key {
            KeyCode::Enter => self.filter = self.typing.take().unwrap_or_default(),
            KeyCode::Esc => self.typing = None,
            KeyCode::Backspace if typed.is_empty() => self.typing = None,
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(letter) if typed.len() < MAX_FILTER => typed.push(letter),
            _ => {}
        }
        self.arrange();
    }

    fn sort_by(&mut self, column: Column) {
        (self.sort, self.reversed) = (column, false);
        self.arrange();
    }

    fn show_help(&mut self, help: bool) {
        (self.help, self.scrolled) = (help, 0);
    }

    fn show(&mut self, pane: Pane) {
        (self.pane, self.scrolled) = (pane, 0);
    }

    fn open(&mut self) {
        if let Some(row) = self.selected().and_then(|at| self.shown().nth(at)) {
            self.detail = Some((row.clone(), true));
            self.show(Pane::Detail);
        }
    }

    /// Back to where one came from.
    fn close(&mut self) {
        if self.pane == Pane::Events && self.detail.is_some() {
            self.show(Pane::Detail);
        } else if self.pane == Pane::Topics {
            // Whoever sees a filter and presses Esc wants it gone.
            self.filter.clear();
            self.arrange();
        } else {
            self.detail = None;
            self.show(Pane::Topics);
        }
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        self.events.append(&mut self.held);
        self.events.drain(..self.events.len().saturating_sub(MAX_EVENTS));
    }

    fn go(&mut self, by: isize) {
        let moved = |at: usize, last: usize| at.saturating_add_signed(by).min(last);
        match self.pane {
            _ if self.help => {
                self.scrolled = moved(self.scrolled, HELP.lines().count().saturating_sub(self.page));
            }
            Pane::Topics => self.select(moved(self.selected().unwrap_or(0), self.order.len())),
            Pane::Detail => {
                let readers = self.detail.as_ref().map_or(0, |(row, _)| row.readers.len());
                self.scrolled = moved(self.scrolled, readers.saturating_sub(1));
            }
            // The end is what came last.
            Pane::Events => {
                let last = self.events.len().saturating_sub(1);
                self.scrolled = last - moved(last.saturating_sub(self.scrolled), last);
            }
        }
    }
}

/// Which names are wanted: a glob if it has wildcards, else a part of the name.
enum Filter<'a> {
    Part(&'a str),
    Glob(TopicPattern),
}

impl<'a> Filter<'a> {
    fn new(text: &'a str) -> Self {
        match TopicPattern::new(text) {
            Ok(glob) if text.contains(['*', '?', '[']) => Self::Glob(glob),
            // As long as it is being typed.
            _ => Self::Part(text),
        }
    }

    fn admits(&self, name: &str) -> bool {
        match self {
            Self::Part(part) => name.contains(part),
            Self::Glob(glob) => TopicName::new(name).is_ok_and(|name| glob.matches(&name)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::topics::tests::topic;
    use conduit::registry::{DeathCertificate, Process};

    pub(crate) fn reader(program: &str, pid: u32, lost: u64, lag: u64) -> Reader {
        let subscriber = SubscriberInfo {
            pid,
            uid: 1000,
            program: program.into(),
            received: 1000,
            lost,
            held: 1,
            lag,
            asleep: lag == 0,
        };
        let behind = Some(Percentiles { p50: lag * 1_000_000, p99: lag * 2_000_000, max: lag * 3_000_000 });
        Reader { subscriber, lost_per_second: lost as f64 / 10.0, behind }
    }

    pub(crate) fn row(name: &str, rate: f64, readers: Vec<Reader>) -> Row {
        let bytes = rate * 4000.0;
        let topic = TopicInfo { rate_hz: Some(rate), bytes_per_second: Some(bytes), ..topic(name) };
        let interval = Some(Percentiles { p50: 5_000_000, p99: (1e9 / rate) as u64, max: 9_000_000 });
        Row { topic, history: vec![rate, rate / 2.0, rate], interval, readers }
    }

    pub(crate) fn rows() -> Vec<Row> {
        vec![
            row("camera/front", 30.0, vec![reader("viewer", 12, 40, 3), reader("recorder", 13, 0, 0)]),
            row("camera/rear", 15.0, vec![reader("viewer", 12, 2, 9)]),
            row("imu", 1000.0, vec![]),
            row("lidar", 10.0, vec![reader("slam", 14, 0, 0)]),
        ]
    }

    pub(crate) fn press(state: &mut State, keys: &str) -> Action {
        keys.chars().map(|key| state.press(KeyCode::Char(key).into())).last().unwrap_or(Action::Stay)
    }

    pub(crate) fn died(topic: &str) -> RegistryEvent {
        let process = Some(Process { pid: 7, uid: 0, program: "driver".into() });
        let death = Some(DeathCertificate { signal: Some(9), last_sequence: Some(99), ..DeathCertificate::default() });
        RegistryEvent { kind: EventKind::Died, topic: topic.into(), time_ms: 45_296_789, process, death }
    }

    fn state() -> State {
        let mut state = State::new(Column::Name, false);
        state.take_rows(rows(), 1);
        state
    }

    fn names(state: &State) -> Vec<&str> {
        state.shown().map(|row| row.topic.name.as_str()).collect()
    }

    fn selected(state: &State) -> &str {
        &state.selected.as_ref().unwrap().0
    }

    #[test]
    fn every_column_sorts_and_r_reverses() {
        let mut state = state();
        let [front, rear, imu, lidar] = ["camera/front", "camera/rear", "imu", "lidar"];
        for (column, expected) in [
            (Column::Name, [front, rear, imu, lidar]),
            (Column::State, [front, rear, imu, lidar]),
            (Column::Rate, [imu, front, rear, lidar]),
            (Column::Bandwidth, [imu, front, rear, lidar]),
            (Column::Subscribers, [front, rear, lidar, imu]),
            (Column::Loss, [front, rear, imu, lidar]),
            (Column::Lost, [front, rear, imu, lidar]),
            (Column::Lag, [rear, front, lidar, imu]),
            (Column::Behind, [rear, front, lidar, imu]),
            (Column::Interval, [lidar, rear, front, imu]),
            (Column::Publisher, [front, rear, imu, lidar]),
        ] {
            assert_eq!(state.sort, column);
            assert_eq!(names(&state), expected, "{column:?}");
            press(&mut state, "s");
        }
        assert_eq!(state.sort, Column::Name, "around");
        press(&mut state, "r");
        assert_eq!(names(&state), [lidar, imu, rear, front]);
        press(&mut state, "<");
        assert_eq!((state.sort, state.reversed), (Column::Publisher, false));
        press(&mut state, ">>>");
        assert_eq!(names(&state)[0], imu, "by rate");
        press(&mut state, "r");
        assert_eq!(names(&state), [lidar, rear, front, imu]);
    }

    #[test]
    fn what_has_no_number_comes_last() {
        let mut rows = rows();
        rows[2].topic.rate_hz = None;
        sort(&mut rows, Column::Rate, false);
        assert_eq!(rows.last().unwrap().topic.name, "imu");
    }

    #[test]
    fn the_selection_goes_with_its_topic_and_survives_its_end() {
        let mut state = state();
        assert_eq!(selected(&state), "camera/front");
        press(&mut state, "jj");
        assert_eq!(selected(&state), "imu");
        press(&mut state, "ss");
        assert_eq!((selected(&state), state.selected()), ("imu", Some(0)), "the fastest is first");
        press(&mut state, "SS");
        state.take_rows(rows().into_iter().filter(|row| row.topic.name != "imu").collect(), 2);
        assert_eq!((selected(&state), state.selected()), ("lidar", Some(2)), "the one in its place");
        state.take_rows(rows().into_iter().take(1).collect(), 3);
        assert_eq!(selected(&state), "camera/front");
        state.take_rows(Vec::new(), 4);
        assert_eq!(state.selected(), None);
        press(&mut state, "jkG");
        state.press(KeyCode::Enter.into());
        assert_eq!(state.pane, Pane::Topics, "there is nothing to open");
        state.take_rows(rows(), 5);
        assert_eq!(selected(&state), "camera/front");
        for (key, expected) in
            [(KeyCode::End, "lidar"), (KeyCode::PageUp, "camera/front"), (KeyCode::PageDown, "lidar")]
        {
            state.press(key.into());
            assert_eq!(selected(&state), expected);
        }
        state.press(KeyCode::Home.into());
        assert_eq!(selected(&state), "camera/front");
    }

    #[test]
    fn a_filter_is_a_part_or_a_glob_and_escape_drops_it() {
        let mut state = state();
        for (typed, expected) in [
            ("rea", &["camera/rear"][..]),
            ("camera/", &["camera/front", "camera/rear"]),
            ("*", &["imu", "lidar"]),
            ("**/f*", &["camera/front"]),
            ("[il]*", &["imu", "lidar"]),
            ("x", &[]),
            ("", &["camera/front", "camera/rear", "imu", "lidar"]),
        ] {
            press(&mut state, &format!("/{typed}"));
            assert_eq!(names(&state), expected, "{typed} while it is typed");
            state.press(KeyCode::Enter.into());
            assert_eq!(names(&state), expected, "{typed}");
            state.press(KeyCode::Esc.into());
            assert_eq!(names(&state).len(), 4, "{typed}");
        }
        press(&mut state, "/imu");
        state.press(KeyCode::Enter.into());
        press(&mut state, "/qx");
        assert_eq!(names(&state), [""; 0], "q is a letter here");
        state.press(KeyCode::Esc.into());
        assert_eq!(names(&state), ["imu"], "as before");
        press(&mut state, "/");
        state.press(KeyCode::Backspace.into());
        assert_eq!(state.typing.as_deref(), Some("im"));
    }

    #[test]
    fn the_detail_pane_stays_when_its_topic_goes() {
        let mut state = state();
        state.press(KeyCode::Enter.into());
        assert_eq!(state.focus(), Some("camera/front"));
        state.take_event(died("camera/front"));
        state.take_rows(rows().into_iter().skip(1).collect(), 2);
        let (row, is_there) = state.detail.as_ref().unwrap();
        assert!(row.topic.name == "camera/front" && !is_there);
        assert!(state.last_death("camera/front").is_some());
        state.take_rows(rows(), 3);
        assert!(state.detail.as_ref().unwrap().1, "back");
        press(&mut state, "e");
        assert_eq!(state.pane, Pane::Events);
        press(&mut state, "q");
        assert_eq!(state.pane, Pane::Detail);
        assert_eq!(press(&mut state, "q"), Action::Stay);
        assert_eq!((state.pane.clone(), state.focus()), (Pane::Topics, None));
        assert_eq!(press(&mut state, "q"), Action::Quit);
    }

    #[test]
    fn the_help_is_closed_first() {
        let mut state = state();
        press(&mut state, "?");
        assert_eq!((press(&mut state, "q"), state.help), (Action::Stay, false));
        press(&mut state, "?s?");
        assert_eq!((state.help, state.sort), (false, Column::Name));
    }

    #[test]
    fn a_pause_holds_rows_and_events() {
        let mut state = state();
        press(&mut state, "p");
        state.take_rows(Vec::new(), 2);
        state.take_event(died("imu"));
        assert_eq!((state.count(), state.time_ms, state.events.len()), (4, 1, 0));
        press(&mut state, " ");
        assert_eq!(state.events.len(), 1);
        assert_eq!(state.events[0].text, "12:34:56 imu died driver (7) was killed by SIGKILL, after message #99");
        assert_eq!(state.events[0].mood, Mood::Bad);
        state.take_rows(Vec::new(), 3);
        assert_eq!(state.count(), 0);
    }

    #[test]
    fn the_list_of_events_is_bounded_and_what_is_read_stays() {
        let mut state = state();
        for number in 0..1500 {
            state.take_line(number, &number.to_string(), Mood::Neutral);
        }
        assert_eq!(state.events.len(), 1000);
        press(&mut state, "ekkk");
        assert_eq!(state.scrolled, 3);
        state.take_line(0, "x", Mood::Neutral);
        assert_eq!(state.scrolled, 4);
        press(&mut state, "G");
        assert_eq!(state.scrolled, 0);
        press(&mut state, "g");
        assert_eq!(state.scrolled, 999);
    }

    #[test]
    fn control_keys_are_the_terminals() {
        let mut state = state();
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        press(&mut state, "/");
        for (letter, action) in [('c', Action::Interrupt), ('z', Action::Suspend), ('l', Action::Redraw)] {
            assert_eq!(state.press(control(letter)), action);
        }
    }

    #[test]
    fn totals_are_of_all_topics() {
        let totals = Totals::of(&rows());
        assert_eq!((totals.topics, totals.live, totals.orphaned, totals.subscribers), (4, 4, 0, 4));
        assert!((totals.rate_hz - 1055.0).abs() < 1e-9 && (totals.lost_per_second - 4.2).abs() < 1e-9);
        assert_eq!(serde_json::to_value(Totals::of(&[])).unwrap()["rate_hz"].to_string(), "0.0");
    }
}
