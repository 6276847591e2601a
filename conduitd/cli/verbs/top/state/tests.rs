use conduit::registry::{DeathCertificate, Process, SubscriberInfo};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::keys::Action;
use super::super::quantiles::Quantiles;
use super::super::rows::{SubscriberRow, Totals, sort};
use super::*;
use crate::output::topics::tests::topic;

pub(crate) fn reader(program: &str, pid: u32, lost: u64, lag: u64) -> SubscriberRow {
    let mut subscriber = SubscriberInfo::default();
    (subscriber.pid, subscriber.uid, subscriber.program) = (pid, 1000, program.into());
    (subscriber.received, subscriber.lost, subscriber.held) = (1000, lost, 1);
    (subscriber.lag, subscriber.asleep) = (lag, lag == 0);
    let behind = Some(Quantiles { p50: lag * 1_000_000, p99: lag * 2_000_000, max: lag * 3_000_000 });
    SubscriberRow { subscriber, lost_per_second: lost as f64 / 10.0, behind }
}

pub(crate) fn row(name: &str, rate: f64, readers: Vec<SubscriberRow>) -> TopicRow {
    let mut topic = topic(name);
    (topic.rate_hz, topic.bytes_per_second) = (Some(rate), Some(rate * 4000.0));
    let interval = Some(Quantiles { p50: 5_000_000, p99: (1e9 / rate) as u64, max: 9_000_000 });
    TopicRow { topic, history: vec![rate, rate / 2.0, rate], interval, readers }
}

pub(crate) fn rows() -> Vec<TopicRow> {
    vec![
        row("camera/front", 30.0, vec![reader("viewer", 12, 40, 3), reader("recorder", 13, 0, 0)]),
        row("camera/rear", 15.0, vec![reader("viewer", 12, 2, 9)]),
        row("imu", 1000.0, vec![]),
        row("lidar", 10.0, vec![reader("slam", 14, 0, 0)]),
    ]
}

pub(crate) fn press(state: &mut TopState, keys: &str) -> Action {
    keys.chars().map(|key| state.press(KeyCode::Char(key).into())).last().unwrap_or(Action::Stay)
}

pub(crate) fn died(topic: &str) -> RegistryEvent {
    let process = Some(Process::new(7, 0, "driver"));
    let mut death = DeathCertificate::default();
    (death.signal, death.last_sequence) = (Some(9), Some(99));
    RegistryEvent::new(EventKind::Died, topic, 45_296_789).with_process(process).with_death(Some(death))
}

fn state() -> TopState {
    let mut state = TopState::new(SortKey::Name, false);
    state.take_rows(rows(), 1);
    state
}

fn names(state: &TopState) -> Vec<&str> {
    state.shown().map(|row| row.topic.name.as_str()).collect()
}

fn selected(state: &TopState) -> &str {
    &state.selected.as_ref().unwrap().0
}

#[test]
fn every_column_sorts_and_r_reverses() {
    let mut state = state();
    let [front, rear, imu, lidar] = ["camera/front", "camera/rear", "imu", "lidar"];
    for (column, expected) in [
        (SortKey::Name, [front, rear, imu, lidar]),
        (SortKey::State, [front, rear, imu, lidar]),
        (SortKey::Rate, [imu, front, rear, lidar]),
        (SortKey::Bandwidth, [imu, front, rear, lidar]),
        (SortKey::Subscribers, [front, rear, lidar, imu]),
        (SortKey::Loss, [front, rear, imu, lidar]),
        (SortKey::Lost, [front, rear, imu, lidar]),
        (SortKey::Lag, [rear, front, lidar, imu]),
        (SortKey::Behind, [rear, front, lidar, imu]),
        (SortKey::Interval, [lidar, rear, front, imu]),
        (SortKey::Publisher, [front, rear, imu, lidar]),
    ] {
        assert_eq!(state.sort, column);
        assert_eq!(names(&state), expected, "{column:?}");
        press(&mut state, "s");
    }
    assert_eq!(state.sort, SortKey::Name, "around");
    press(&mut state, "r");
    assert_eq!(names(&state), [lidar, imu, rear, front]);
    press(&mut state, "<");
    assert_eq!((state.sort, state.is_reversed), (SortKey::Publisher, false));
    press(&mut state, ">>>");
    assert_eq!(names(&state)[0], imu, "by rate");
    press(&mut state, "r");
    assert_eq!(names(&state), [lidar, rear, front, imu]);
}

#[test]
fn what_has_no_number_comes_last() {
    let mut rows = rows();
    rows[2].topic.rate_hz = None;
    sort(&mut rows, SortKey::Rate, false);
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
    for (key, expected) in [(KeyCode::End, "lidar"), (KeyCode::PageUp, "camera/front"), (KeyCode::PageDown, "lidar")] {
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
    assert!(state.deaths.contains_key("camera/front"));
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
    assert_eq!((state.help, state.sort), (false, SortKey::Name));
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
    assert_eq!(state.events[0].text, "01-01 12:34:56 imu died driver (7) was killed by SIGKILL, after message #99");
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
