//! The list of topics.

use conduit::registry::RegionState;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::super::rows::{SortKey, TopicRow};
use super::super::state::{Mood, TopState};
use super::text::{bars, duration, number, shorten};
use super::theme::Theme;
use crate::output::topics::or_dash;

/// Title, sort key, width and alignment, in their order on the screen. The first has whatever width
/// is left.
const FIELDS: [(&str, Option<SortKey>, u16, Alignment); 12] = [
    ("TOPIC", Some(SortKey::Name), 0, Alignment::Left),
    ("STATE", Some(SortKey::State), 6, Alignment::Left),
    ("RATE", Some(SortKey::Rate), 5, Alignment::Right),
    ("HISTORY", None, 9, Alignment::Right),
    ("B/S", Some(SortKey::Bandwidth), 5, Alignment::Right),
    ("SUBS", Some(SortKey::Subscribers), 5, Alignment::Right),
    ("LOST/S", Some(SortKey::Loss), 7, Alignment::Right),
    ("LOST", Some(SortKey::Lost), 5, Alignment::Right),
    ("LAG", Some(SortKey::Lag), 5, Alignment::Right),
    ("BEHIND", Some(SortKey::Behind), 7, Alignment::Right),
    ("INTERVAL", Some(SortKey::Interval), 9, Alignment::Right),
    ("PUBLISHER", Some(SortKey::Publisher), 10, Alignment::Left),
];
const HISTORY: usize = 3;
const PUBLISHER: usize = 11;
/// Which of them are dispensable last.
const BY_IMPORTANCE: [usize; 12] = [0, 2, 5, 6, 8, 1, 4, 9, HISTORY, PUBLISHER, 10, 7];

/// Which fields fit, and how wide each is.
fn fields(state: &TopState, width: u16) -> Vec<(usize, u16)> {
    let longest = state.shown().map(|row| row.topic.name.len() as u16).max().unwrap_or(0);
    let mut widths = FIELDS.map(|(_, _, width, _)| width);
    widths[0] = longest.clamp(10, 20);
    let sorted = FIELDS.iter().position(|(_, key, ..)| *key == Some(state.sort)).unwrap_or(0);
    let mut left = width + 1;
    let mut shown = Vec::new();
    for at in [0, sorted].into_iter().chain(BY_IMPORTANCE) {
        if !shown.contains(&at) && widths[at] < left {
            left -= widths[at] + 1;
            shown.push(at);
        }
    }
    let mut widen = |at: usize, most: u16| {
        let more = left.min(most.saturating_sub(widths[at]));
        if shown.contains(&at) {
            widths[at] += more;
            left -= more;
        }
    };
    widen(0, longest);
    widen(PUBLISHER, 15);
    widen(HISTORY, 60);
    widen(0, u16::MAX);
    shown.sort_unstable();
    shown.into_iter().map(|at| (at, widths[at])).collect()
}

pub(super) fn draw_topics(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let fields = fields(state, area.width);
    let titles = fields.iter().map(|&(at, _)| {
        let (title, key, _, alignment) = FIELDS[at];
        let is_sorted = key == Some(state.sort);
        let title = if is_sorted { format!("{title}{}", arrow(state)) } else { title.into() };
        let title = Line::from(title).alignment(alignment).bold();
        Cell::from(if is_sorted { title.reversed() } else { title })
    });
    let rows = state.shown().map(|row| {
        Row::new(fields.iter().map(|&(at, width)| {
            let (text, style) = cell(row, at, width, theme);
            Cell::from(Line::from(text).alignment(FIELDS[at].3)).style(style)
        }))
    });
    let table = Table::new(rows, fields.iter().map(|&(_, width)| Constraint::Length(width)))
        .header(Row::new(titles))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    let offset = state.selected().unwrap_or(0) / page * page;
    let mut selection = TableState::new().with_offset(offset).with_selected(state.selected());
    frame.render_stateful_widget(table, area, &mut selection);
    if state.shown().len() == 0 {
        let text = match state.count() {
            _ if state.time_ms == 0 => "",
            0 => "no topics",
            _ => "no topic matches the filter",
        };
        let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
        frame.render_widget(Paragraph::new(text), below);
    }
}

fn arrow(state: &TopState) -> char {
    if state.sort.is_descending() == state.is_reversed { '▲' } else { '▼' }
}

fn cell(row: &TopicRow, field: usize, width: u16, theme: Theme) -> (String, Style) {
    let topic = &row.topic;
    let plain = |text: String| (text, Style::new());
    let unless_zero = |text: String, is_zero: bool| (text, if is_zero { Style::new() } else { theme.mood(Mood::Bad) });
    let unless_raw = |text: String| plain(if topic.raw { "-".into() } else { text });
    match field {
        0 => plain(shorten(&topic.name, width)),
        1 if topic.is_overdue => ("late".into(), theme.mood(Mood::Warning)),
        1 => (short_state(&topic.state).into(), theme.state(&topic.state)),
        2 => plain(or_dash(topic.rate_hz.map(number))),
        HISTORY => (bars(&row.history, width.into()), theme.colour(Color::Cyan)),
        4 => plain(or_dash(topic.bytes_per_second.map(number))),
        5 => unless_raw(row.readers.len().to_string()),
        6 if topic.raw => plain("-".into()),
        6 => unless_zero(number(row.lost_per_second()), row.lost_per_second() == 0.0),
        7 => unless_raw(number(row.lost() as f64)),
        8 => plain(or_dash(row.lag().map(|lag| number(lag as f64)))),
        9 => plain(or_dash(row.behind_p99().map(duration))),
        10 => plain(or_dash(row.interval.map(|interval| duration(interval.p99)))),
        _ => plain(row.publisher().into()),
    }
}

fn short_state(state: &RegionState) -> &str {
    match state {
        RegionState::Live => "live",
        RegionState::Closed => "closed",
        RegionState::Orphaned => "orphan",
        RegionState::Kept => "kept",
        RegionState::Unauthorised => "unauth",
        RegionState::Unlinked => "unlink",
        other => other.as_str(),
    }
}
