use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;

use super::super::rows::SortKey;
use super::super::state::tests::{died, press, reader, row, rows};
use super::text::{bars, number, shorten};
use super::*;

fn terminal(state: &TopState, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Theme { is_coloured: false })).unwrap();
    terminal
}

fn text(state: &TopState, width: u16, height: u16) -> String {
    let terminal = terminal(state, width, height);
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(width.into());
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
    lines.map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
}

fn state() -> TopState {
    let mut state = TopState::new(SortKey::Name, false);
    state.registry = RegistryLink::Answers { version: "0.1.0".into(), pid: 321 };
    state.take_rows(rows(), 45_300_000);
    state.take_line(45_290_000, "registry 0.1.0 answers (pid 321)", Mood::Good);
    state.take_event(died("sonar"));
    state
}

/// The whole screen, without the blanks at the ends of lines.
#[track_caller]
fn assert_screen(state: &TopState, width: u16, height: u16, expected: &str) {
    let found = text(state, width, height);
    assert_eq!(found.lines().count(), usize::from(height));
    assert!(found == expected, "{width}x{height}:\n{found}");
}

#[test]
fn topics_fit_a_small_terminal_and_use_a_large_one() {
    let state = state();
    assert_screen(
        &state,
        80,
        24,
        "\
4 live topics  1055 msg/s  4.2 MB/s              conduitd 0.1.0 (321)  12:35:00Z
TOPIC▲       STATE   RATE   HISTORY   B/S  SUBS  LOST/S   LAG  BEHIND PUBLISHER
camera/front live      30       █▄█  120k     2       4     3  6.00ms imu_driver
camera/rear  live      15       █▄█ 60.0k     1    0.20     9  18.0ms imu_driver
imu          live    1000       █▄█ 4.00M     0       0     -       - imu_driver
lidar        live      10       █▄█ 40.0k     1       0     0       0 imu_driver












── events ──────────────────────────────────────────────────────────────────────
01-01 12:34:50 registry 0.1.0 answers (pid 321)
01-01 12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99


q quit  ? help  Enter open  s/S sort  r reverse  / filter  p pause  e events
",
    );
    assert_screen(
        &state,
        120,
        40,
        "\
4 live topics  1055 msg/s  4.2 MB/s                                                      conduitd 0.1.0 (321)  12:35:00Z
TOPIC▲       STATE   RATE                      HISTORY   B/S  SUBS  LOST/S  LOST   LAG  BEHIND  INTERVAL PUBLISHER
camera/front live      30                          █▄█  120k     2       4    40     3  6.00ms    33.3ms imu_driver
camera/rear  live      15                          █▄█ 60.0k     1    0.20     2     9  18.0ms    66.7ms imu_driver
imu          live    1000                          █▄█ 4.00M     0       0     0     -       -    1.00ms imu_driver
lidar        live      10                          █▄█ 40.0k     1       0     0     0       0     100ms imu_driver


























── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
01-01 12:34:50 registry 0.1.0 answers (pid 321)
01-01 12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99




q quit  ? help  Enter open  s/S sort  r reverse  / filter  p pause  e events
",
    );
    assert_screen(
        &state,
        60,
        10,
        "\
4 live topics  1055 msg/s  4.2 MB/s     conduitd 0.1.0 (321)
TOPIC▲        STATE   RATE   B/S  SUBS  LOST/S   LAG  BEHIND
camera/front  live      30  120k     2       4     3  6.00ms
camera/rear   live      15 60.0k     1    0.20     9  18.0ms
imu           live    1000 4.00M     0       0     -       -
lidar         live      10 40.0k     1       0     0       0
── events ──────────────────────────────────────────────────
01-01 12:34:50 registry 0.1.0 answers (pid 321)
01-01 12:34:56 sonar died driver (7) was killed by SIGKILL,
q quit  ? help  Enter open  s/S sort  r reverse  / filter  p
",
    );
}

#[test]
fn a_topic_has_a_pane_with_its_subscribers() {
    let mut state = state();
    state.press(KeyCode::Enter.into());
    assert_screen(
        &state,
        80,
        24,
        "\
4 live topics  1055 msg/s  4.2 MB/s              conduitd 0.1.0 (321)  12:35:00Z
camera/front   live  [u8]
Published    42 messages, the last 3.20 ms ago
Rate         30.0 Hz, 120.0 kB/s
Interval     p50 5.00 ms, p99 33.3 ms, max 9.00 ms
Publisher    imu_driver (7), uid 1000
Path         /dev/shm/conduit_camera/front
Size         68.0 KiB (69632 bytes), 16 slots of 4.0 KiB
█ █
█ █
█▄█
███
███
SUBSCRIBER      PID  LOST LOST/S   LAG BEHIND P50    P99    MAX RECVD HELD SLEEP
viewer           12    40      4     3     3.00ms 6.00ms 9.00ms  1000    1 no
recorder         13     0      0     0          0      0      0  1000    1 yes


── events ──────────────────────────────────────────────────────────────────────
01-01 12:34:50 registry 0.1.0 answers (pid 321)
01-01 12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99


Esc back  ? help  ↑↓ scroll  p pause  e events
",
    );
    assert_screen(
        &state,
        120,
        40,
        "\
4 live topics  1055 msg/s  4.2 MB/s                                                      conduitd 0.1.0 (321)  12:35:00Z
camera/front   live  [u8]
Published    42 messages, the last 3.20 ms ago
Rate         30.0 Hz, 120.0 kB/s
Interval     p50 5.00 ms, p99 33.3 ms, max 9.00 ms
Publisher    imu_driver (7), uid 1000
Path         /dev/shm/conduit_camera/front
Size         68.0 KiB (69632 bytes), 16 slots of 4.0 KiB
█ █
█ █
█ █
█ █
███
███
███
███
SUBSCRIBER                                       PID  LOST LOST/S   LAG BEHIND P50    P99    MAX RECVD HELD SLEEP    UID
viewer                                            12    40      4     3     3.00ms 6.00ms 9.00ms  1000    1 no      1000
recorder                                          13     0      0     0          0      0      0  1000    1 yes     1000













── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
01-01 12:34:50 registry 0.1.0 answers (pid 321)
01-01 12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99




Esc back  ? help  ↑↓ scroll  p pause  e events
",
    );
}

#[test]
fn the_help_is_a_screen() {
    let mut state = state();
    press(&mut state, "?");
    assert_screen(
        &state,
        80,
        24,
        "\
4 live topics  1055 msg/s  4.2 MB/s              conduitd 0.1.0 (321)  12:35:00Z
Keys
  Enter, →          open the selected topic         q, Esc, ←  back; q: quit
  ↑ ↓ PgUp PgDn Home End, j k g G                   move
  s >, S <          sort by the next, the previous column      r  reverse
  /                 only topics with this text in their name, or matching a glob
                    (* in a segment, ** across, ?, [a-z]); Esc shows all again
  p, space          pause              e  all events           Ctrl-L  draw anew
Columns
  RATE, B/S         messages and bytes per second, and the rate's HISTORY
  SUBS              subscribers
  LOST/S, LOST      messages that its subscribers lose a second, and have lost
  LAG               messages that were published and not received: the greatest
  BEHIND            how old the oldest message is that a subscriber has not yet
                    received, 0 when it has all: the last one's 99th percentile
  INTERVAL          time between two messages, 99th percentile
One topic
  P50, P99, MAX     percentiles of BEHIND
  HELD, SLEEP       messages it has borrowed now; whether it waits for the next
What this cannot know
  top never subscribes: it reads the regions from outside, and nobody notices.
  Only a subscriber can measure when a message reached it. BEHIND is what can be
  seen of that from outside, looked at 5 times a second, of an open topic 50
Esc close  ↑↓ scroll
",
    );
}

#[test]
fn what_is_too_small_says_so() {
    let state = state();
    assert_eq!(text(&state, 40, 8), format!("terminal too small: 40x8, need at least\n60x10\n{}", "\n".repeat(6)));
    for (width, height) in [(59, 24), (80, 9), (1, 1)] {
        assert!(!text(&state, width, height).contains("TOPIC"), "{width}x{height}");
    }
    assert!(text(&state, 60, 10).contains("TOPIC"));
}

#[test]
fn nothing_is_wider_or_higher_than_any_terminal() {
    let mut state = state();
    state.take_rows((0..100).map(|at| row(&format!("{at}/{}", "x".repeat(at)), 1e9, vec![])).collect(), 1);
    for keys in ["", "G", "/x", "\n", "\n", "e", "q", "?"] {
        match keys {
            "\n" => drop(state.press(KeyCode::Enter.into())),
            keys => drop(press(&mut state, keys)),
        }
        for (width, height) in [(60, 10), (61, 15), (80, 24), (200, 60), (500, 11)] {
            text(&state, width, height);
        }
    }
}

#[test]
fn the_selection_is_always_on_the_screen() {
    let mut state = state();
    state.take_rows((0..100).map(|at| row(&format!("t{at:02}"), 1.0, vec![])).collect(), 1);
    for area in [Rect::new(0, 0, 80, 24), Rect::new(0, 0, 60, 10)] {
        state.page = page(area);
        for key in [KeyCode::Home, KeyCode::PageDown, KeyCode::End, KeyCode::PageUp, KeyCode::Down, KeyCode::Up] {
            state.press(key.into());
            let name = format!("t{:02}", state.selected().unwrap());
            assert!(text(&state, area.width, area.height).contains(&name), "{name}");
        }
    }
}

#[test]
fn without_colours_there_are_none() {
    let mut state = state();
    let colours = |state: &TopState, is_coloured: bool| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, state, Theme { is_coloured })).unwrap();
        let buffer = terminal.backend().buffer();
        buffer.content().iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    for key in ["", "\n", "e"] {
        let _ = if key == "\n" { state.press(KeyCode::Enter.into()) } else { press(&mut state, key) };
        assert_eq!(colours(&state, false), 0);
        assert!(colours(&state, true) > 0);
    }
}

#[test]
fn what_a_stranger_wrote_cannot_steer_the_terminal() {
    let mut state = state();
    let mut evil = row("imu", 1.0, vec![reader("\u{1b}[2Jx", 1, 0, 0)]);
    evil.topic.publisher.as_mut().unwrap().program = "\u{1b}]0;owned\u{7}".into();
    evil.topic.message_type = Some("\r\n\u{9b}2J".into());
    state.take_rows(vec![evil], 1);
    for _ in 0..2 {
        let text = text(&state, 120, 24);
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        state.press(KeyCode::Enter.into());
    }
}

#[test]
fn the_help_fits() {
    assert!(HELP.lines().all(|line| line.chars().count() <= 80));
    let mut state = state();
    state.page = page(Rect::new(0, 0, 80, 24));
    press(&mut state, "?G");
    assert!(text(&state, 80, 24).contains(HELP.lines().last().unwrap()));
}

#[test]
fn numbers_fit_their_columns() {
    for (value, expected) in [
        (0.0, "0"),
        (0.001, "0"),
        (0.5, "0.50"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1000.4, "1000"),
        (9999.6, "10.0k"),
        (123_456.0, "123k"),
        (999_600.0, "1.00M"),
        (1e18, "1.00E"),
        (-1.0, "0"),
    ] {
        assert_eq!(number(value), expected);
        assert!(expected.len() <= 5);
    }
    assert_eq!(bars(&[1.0, 0.0, 50.0, 100.0], 3), " ▄█");
    assert_eq!(bars(&[0.0], 3), " ");
    assert_eq!(shorten("camera/front", 6), "…front");
}
