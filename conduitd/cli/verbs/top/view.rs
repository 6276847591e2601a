//! How `conduit top` looks: a pure function of its state.

use conduit::registry::{Liveness, RegionState as TopicState};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Sparkline, Table, TableState, Wrap};

use super::help::HELP;
use super::percentiles::Percentiles;
use super::state::{Column, Line as EventLine, Mood, Pane, Reader, Registry, Row, State};
use crate::output;
use crate::output::events::{certificate, time_of_day};
use crate::output::topics::{or_dash, size};

/// What it needs at least.
const SMALLEST: (u16, u16) = (60, 10);
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) is_coloured: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        if self.is_coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn mood(self, mood: Mood) -> Style {
        match mood {
            Mood::Neutral => Style::new(),
            Mood::Good => self.colour(Color::Green),
            Mood::Warning => self.colour(Color::Yellow),
            Mood::Bad => self.colour(Color::Red).bold(),
        }
    }

    fn state(self, state: &TopicState) -> Style {
        self.mood(match state {
            TopicState::Live => Mood::Good,
            TopicState::Unlinked => Mood::Warning,
            TopicState::Orphaned | TopicState::Unauthorised => Mood::Bad,
            _ => Mood::Neutral,
        })
    }
}

/// How many rows a page of the list has.
pub(crate) fn page(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(strip_height(area) + 3)).max(1)
}

/// The strip of events with its title.
fn strip_height(area: Rect) -> u16 {
    1 + (area.height / 6).clamp(2, 8)
}

pub(crate) fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme) {
    let area = frame.area();
    let (width, height) = SMALLEST;
    if area.width < width || area.height < height {
        let text = format!("terminal too small: {}x{}, need at least {width}x{height}", area.width, area.height);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let strip = match state.pane {
        Pane::Topics | Pane::Detail if state.help => 0,
        Pane::Events => 0,
        // A small detail pane needs all there is.
        Pane::Detail if area.height < 16 => 0,
        _ => strip_height(area),
    };
    let [title, main, events, hints] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(strip),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, title, state, theme);
    match &state.detail {
        _ if state.help => draw_help(frame, main, state.scrolled),
        _ if state.pane == Pane::Events => draw_events(frame, main, state, state.scrolled, theme),
        Some((row, is_there)) => draw_detail(frame, main, state, row, *is_there, theme),
        None => draw_topics(frame, main, state, theme),
    }
    if strip > 0 {
        draw_events(frame, events, state, 0, theme);
    }
    draw_hints(frame, hints, state);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let totals = state.totals();
    let mut left = vec![Span::from(output::count(totals.live as u64, "live topic")).bold()];
    if totals.orphaned > 0 {
        left.push(", ".into());
        left.push(Span::styled(format!("{} orphaned", totals.orphaned), theme.mood(Mood::Bad)));
    }
    let others = totals.topics - totals.live - totals.orphaned;
    if others > 0 {
        left.push(format!(", {others} other").into());
    }
    left.push(format!("  {} msg/s", number(totals.rate_hz)).into());
    left.push(format!("  {}/s", output::data_size(totals.bytes_per_second.round() as u64)).into());
    let registry = match &state.registry {
        Registry::Unknown => Span::default(),
        Registry::Answers { version, pid } => Span::from(format!("conduitd {version} ({pid})")),
        Registry::Missing => Span::styled("no registry", theme.mood(Mood::Warning).bold()),
    };
    let clock = if state.time_ms > 0 { seconds(state.time_ms) } else { String::new() };
    let left = Line::from(left);
    let all = Line::from(vec![registry.clone(), format!("  {clock}").into()]);
    let fits = |right: &Line<'_>| left.width() + right.width() + 2 <= usize::from(area.width);
    let right = [all, registry.into()].into_iter().find(fits).unwrap_or_default();
    let [left_area, right_area] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(right.width() as u16)]).areas(area);
    frame.render_widget(left, left_area);
    frame.render_widget(right, right_area);
}

fn seconds(time_ms: u64) -> String {
    let mut time = time_of_day(time_ms);
    time.truncate("12:34:56".len());
    time + "Z"
}

/// A column of the list of topics.
struct Field {
    title: &'static str,
    column: Option<Column>,
    width: u16,
    alignment: Alignment,
}

const fn field(title: &'static str, column: Option<Column>, width: u16, alignment: Alignment) -> Field {
    Field { title, column, width, alignment }
}

/// In their order on the screen. The first has whatever width is left.
const FIELDS: [Field; 12] = [
    field("TOPIC", Some(Column::Name), 0, Alignment::Left),
    field("STATE", Some(Column::State), 6, Alignment::Left),
    field("RATE", Some(Column::Rate), 5, Alignment::Right),
    field("HISTORY", None, 9, Alignment::Right),
    field("B/S", Some(Column::Bandwidth), 5, Alignment::Right),
    field("SUBS", Some(Column::Subscribers), 5, Alignment::Right),
    field("LOST/S", Some(Column::Loss), 7, Alignment::Right),
    field("LOST", Some(Column::Lost), 5, Alignment::Right),
    field("LAG", Some(Column::Lag), 5, Alignment::Right),
    field("BEHIND", Some(Column::Behind), 7, Alignment::Right),
    field("INTERVAL", Some(Column::Interval), 9, Alignment::Right),
    field("PUBLISHER", Some(Column::Publisher), 10, Alignment::Left),
];
const HISTORY: usize = 3;
const PUBLISHER: usize = 11;
/// Which of them are dispensable last.
const BY_IMPORTANCE: [usize; 12] = [0, 2, 5, 6, 8, 1, 4, 9, HISTORY, PUBLISHER, 10, 7];

/// Which fields fit, and how wide each is.
fn fields(state: &State, width: u16) -> Vec<(usize, u16)> {
    let longest = state.shown().map(|row| row.topic.name.len() as u16).max().unwrap_or(0);
    let mut widths = FIELDS.map(|field| field.width);
    widths[0] = longest.clamp(10, 20);
    let sorted = FIELDS.iter().position(|field| field.column == Some(state.sort)).unwrap_or(0);
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

fn draw_topics(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let fields = fields(state, area.width);
    let titles = fields.iter().map(|&(at, _)| {
        let field = &FIELDS[at];
        let is_sorted = field.column == Some(state.sort);
        let title = if is_sorted { format!("{}{}", field.title, arrow(state)) } else { field.title.into() };
        let title = Line::from(title).alignment(field.alignment).bold();
        Cell::from(if is_sorted { title.reversed() } else { title })
    });
    let rows = state.shown().map(|row| {
        TableRow::new(fields.iter().map(|&(at, width)| {
            let (text, style) = cell(row, at, width, theme);
            Cell::from(Line::from(text).alignment(FIELDS[at].alignment)).style(style)
        }))
    });
    let table = Table::new(rows, fields.iter().map(|&(_, width)| Constraint::Length(width)))
        .header(TableRow::new(titles))
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

fn arrow(state: &State) -> char {
    if state.sort.is_descending() == state.reversed { '▲' } else { '▼' }
}

fn cell(row: &Row, field: usize, width: u16, theme: Theme) -> (String, Style) {
    let topic = &row.topic;
    let plain = |text: String| (text, Style::new());
    let unless_zero = |text: String, is_zero: bool| (text, if is_zero { Style::new() } else { theme.mood(Mood::Bad) });
    let unless_raw = |text: String| plain(if topic.raw { "-".into() } else { text });
    match field {
        0 => plain(shorten(&topic.name, width)),
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

/// The end of a name tells topics apart.
fn shorten(name: &str, width: u16) -> String {
    let count = name.chars().count();
    let width = usize::from(width);
    if count <= width {
        name.into()
    } else {
        name.chars().skip(count - width + 1).fold("…".into(), |text, it| text + &it.to_string())
    }
}

fn short_state(state: &TopicState) -> &'static str {
    match state {
        TopicState::Live => "live",
        TopicState::Closed => "closed",
        TopicState::Orphaned => "orphan",
        TopicState::Kept => "kept",
        TopicState::Unauthorised => "unauth",
        TopicState::Unlinked => "unlink",
        _ => "?",
    }
}

/// The last values as bars, as high as their greatest allows.
fn bars(values: &[f64], width: usize) -> String {
    let last = &values[values.len().saturating_sub(width)..];
    let greatest = last.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        let eighths = if greatest > 0.0 { (value / greatest * 8.0).ceil() as usize } else { 0 };
        BARS[eighths.min(8)]
    };
    last.iter().map(bar).collect()
}

/// A number in five columns.
fn number(value: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value.max(0.0);
    if value < 0.005 {
        return "0".into();
    }
    // Four digits need no unit.
    let mut unit = 0;
    while unit + 1 < UNITS.len() && value >= if unit == 0 { 9999.5 } else { 999.5 } {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 && value.fract() == 0.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A duration in seven columns.
fn duration(ns: u64) -> String {
    if ns == 0 { "0".into() } else { output::duration_ns(ns).replace(' ', "") }
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, state: &State, row: &Row, is_there: bool, theme: Theme) {
    let mut fields = detail(state, row, is_there, theme);
    // Three subscribers are worth more than the last fields, four more than bars.
    let readers = row.readers.len() as u16 + 1;
    fields.truncate(area.height.saturating_sub(readers.min(4)).into());
    let rest = area.height.saturating_sub(fields.len() as u16);
    let bars = rest.saturating_sub(readers.clamp(5, 11)).min(8);
    let [text, history, table] =
        Layout::vertical([Constraint::Length(fields.len() as u16), Constraint::Length(bars), Constraint::Fill(1)])
            .areas(area);
    frame.render_widget(Text::from(fields), text);
    if bars > 0 {
        let last = &row.history[row.history.len().saturating_sub(history.width.into())..];
        // A thousandth of a message per second is the least that shows.
        let data: Vec<u64> = last.iter().map(|rate| (rate * 1000.0) as u64).collect();
        frame.render_widget(Sparkline::default().data(data).style(theme.colour(Color::Cyan)), history);
    }
    if !row.topic.raw {
        draw_readers(frame, table, &row.readers, state.scrolled, theme);
    }
}

fn detail(state: &State, row: &Row, is_there: bool, theme: Theme) -> Vec<Line<'static>> {
    let topic = &row.topic;
    let field = |name: &str, value: String| Line::from(vec![format!("{name:<13}").bold(), value.into()]);
    let name = format!("{} ", topic.name).bold().reversed();
    let type_name = topic.message_type.clone().unwrap_or_else(|| "raw region".into());
    let mut lines = vec![if is_there {
        let state = Span::styled(topic.state.to_string(), theme.state(&topic.state));
        Line::from(vec![name, "  ".into(), state, format!("  {type_name}").into()])
    } else {
        let gone = Span::styled("gone; this is what was seen last", theme.mood(Mood::Warning).bold());
        Line::from(vec![name, "  ".into(), gone])
    }];
    if let Some(reason) = topic.refusal.as_ref().or(topic.unlinked.as_ref()) {
        lines.push(Line::styled(reason.clone(), theme.mood(Mood::Warning)));
    }
    if !topic.raw {
        let age = topic.last_message_age_ns;
        let age = age.map_or_else(String::new, |age| format!(", the last {} ago", output::duration_ns(age)));
        lines.push(field("Published", output::count(topic.published.unwrap_or(0), "message") + &age));
        let rate = topic.rate_hz.map(output::rate);
        let bytes = topic.bytes_per_second.map(|bytes| format!(", {}/s", output::data_size(bytes.round() as u64)));
        lines.push(field("Rate", or_dash(rate) + &bytes.unwrap_or_default()));
        let interval = row.interval.map(|Percentiles { p50, p99, max }| {
            let [p50, p99, max] = [p50, p99, max].map(output::duration_ns);
            format!("p50 {p50}, p99 {p99}, max {max}")
        });
        lines.push(field("Interval", or_dash(interval)));
    }
    if let Some(death) = state.last_death(&topic.name) {
        let process = death.process.as_ref().map_or_else(String::new, |process| format!("{process} "));
        let told = death.death.as_ref().map(certificate).unwrap_or_default();
        lines.push(field("Last death", format!("{} {process}{told}", seconds(death.time_ms))));
    }
    let publisher = topic.publisher.as_ref();
    let publisher = publisher.map_or("unknown".into(), |process| format!("{process}, uid {}", process.uid));
    let liveness = match &topic.liveness {
        Some(Liveness::Lease) => ", lease: its end is noticed at once",
        Some(Liveness::Lock) => ", lock: looked at twice a second",
        Some(_) | None => "",
    };
    lines.push(field("Publisher", format!("{publisher}{liveness}")));
    lines.push(field("Path", topic.path.clone()));
    lines.push(field("Size", size(topic)));
    lines
}

fn draw_readers(frame: &mut Frame<'_>, area: Rect, readers: &[Reader], scrolled: usize, theme: Theme) {
    if readers.is_empty() {
        frame.render_widget(Paragraph::new("no subscribers".bold()), area);
        return;
    }
    // At 60 columns the last ones are cut off.
    let columns = [
        ("SUBSCRIBER", 10, Alignment::Left),
        ("PID", 7, Alignment::Right),
        ("LOST", 5, Alignment::Right),
        ("LOST/S", 6, Alignment::Right),
        ("LAG", 5, Alignment::Right),
        ("BEHIND P50", 10, Alignment::Right),
        ("P99", 6, Alignment::Right),
        ("MAX", 6, Alignment::Right),
        ("RECVD", 5, Alignment::Right),
        ("HELD", 4, Alignment::Right),
        ("SLEEP", 5, Alignment::Left),
        ("UID", 6, Alignment::Right),
    ];
    let mut left = area.width + 1;
    let fits = |width: u16| {
        let fits = width < left;
        left = left.saturating_sub(width + 1);
        fits
    };
    let count = columns.iter().map(|(_, width, _)| *width).map(fits).take_while(|fits| *fits).count();
    let columns = &columns[..count];
    let titles =
        columns.iter().map(|(title, _, alignment)| Cell::from(Line::from(*title).alignment(*alignment).bold()));
    let rows = readers.iter().skip(scrolled).map(|reader| {
        let cells = reader_cells(reader);
        let is_losing = reader.lost_per_second > 0.0;
        let styled = cells.into_iter().zip(columns).enumerate().map(|(at, (text, (_, _, alignment)))| {
            let style = if at == 3 && is_losing { theme.mood(Mood::Bad) } else { Style::new() };
            Cell::from(Line::from(text).alignment(*alignment)).style(style)
        });
        TableRow::new(styled.collect::<Vec<_>>())
    });
    let widths = columns.iter().enumerate().map(|(at, (_, width, _))| match at {
        0 => Constraint::Fill(1),
        _ => Constraint::Length(*width),
    });
    frame.render_widget(Table::new(rows, widths).header(TableRow::new(titles)).column_spacing(1), area);
}

fn reader_cells(reader: &Reader) -> [String; 12] {
    let Reader { subscriber, lost_per_second, behind } = reader;
    let behind = |pick: fn(Percentiles) -> u64| or_dash(behind.map(|behind| duration(pick(behind))));
    [
        subscriber.program.clone(),
        subscriber.pid.to_string(),
        number(subscriber.lost as f64),
        number(*lost_per_second),
        number(subscriber.lag as f64),
        behind(|it| it.p50),
        behind(|it| it.p99),
        behind(|it| it.max),
        number(subscriber.received as f64),
        subscriber.held.to_string(),
        if subscriber.asleep { "yes" } else { "no" }.into(),
        subscriber.uid.to_string(),
    ]
}

/// The last events, without the `skip` last of all.
fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &State, skip: usize, theme: Theme) {
    let mut title = "── events ".to_owned();
    let mut notes = Vec::new();
    if state.paused {
        notes.push("PAUSED".to_owned());
    }
    if !state.filter.is_empty() && state.typing.is_none() {
        notes.push(format!("{:?}: {} of {} topics", state.filter, state.shown().len(), state.count()));
    }
    if skip > 0 {
        notes.push(format!("{skip} more below"));
    }
    notes.iter().for_each(|note| title += &format!("── {note} "));
    let rest = usize::from(area.width).saturating_sub(title.chars().count());
    title += &"─".repeat(rest);
    let mut lines = vec![Line::from(title)];
    let height = usize::from(area.height.saturating_sub(1));
    let end = state.events.len().saturating_sub(skip);
    let begin = end.saturating_sub(height);
    let line = |event: &EventLine| Line::styled(event.text.clone(), theme.mood(event.mood));
    lines.extend(state.events.range(begin..end.max(begin)).map(line));
    frame.render_widget(Text::from(lines), area);
}

fn draw_hints(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if let Some(typed) = &state.typing {
        let found = format!("  {} of {}  Enter keeps, Esc drops it", state.shown().len(), state.count());
        frame.render_widget(Line::from(vec!["/".bold(), typed.clone().into(), " ".reversed(), found.into()]), area);
        return;
    }
    let hints: &[(&str, &str)] = match state.pane {
        _ if state.help => &[("Esc", "close"), ("↑↓", "scroll")],
        Pane::Topics => &[
            ("q", "quit"),
            ("?", "help"),
            ("Enter", "open"),
            ("s/S", "sort"),
            ("r", "reverse"),
            ("/", "filter"),
            ("p", "pause"),
            ("e", "events"),
        ],
        Pane::Detail => &[("Esc", "back"), ("?", "help"), ("↑↓", "scroll"), ("p", "pause"), ("e", "events")],
        Pane::Events => &[("Esc", "back"), ("?", "help"), ("↑↓", "scroll"), ("p", "pause")],
    };
    let spans = hints.iter().flat_map(|(key, does)| [key.bold(), format!(" {does}  ").into()]);
    frame.render_widget(Line::from(spans.collect::<Vec<_>>()), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, scrolled: usize) {
    let most = HELP.lines().count().saturating_sub(area.height.into());
    let lines = HELP
        .lines()
        .skip(scrolled.min(most))
        .map(|line| if line.starts_with(' ') { Line::from(line) } else { Line::from(line).bold() });
    frame.render_widget(Text::from(lines.collect::<Vec<_>>()), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::state::tests::{died, press, reader, row, rows};
    use super::*;

    fn terminal(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, Theme { is_coloured: false })).unwrap();
        terminal
    }

    fn text(state: &State, width: u16, height: u16) -> String {
        let terminal = terminal(state, width, height);
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(width.into());
        let line =
            |cells: &[ratatui::buffer::Cell]| cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
        lines.map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
    }

    fn state() -> State {
        let mut state = State::new(Column::Name, false);
        state.registry = Registry::Answers { version: "0.1.0".into(), pid: 321 };
        state.take_rows(rows(), 45_300_000);
        state.take_line(45_290_000, "registry 0.1.0 answers (pid 321)", Mood::Good);
        state.take_event(died("sonar"));
        state
    }

    /// The whole screen, without the blanks at the ends of lines.
    #[track_caller]
    fn assert_screen(state: &State, width: u16, height: u16, expected: &str) {
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
12:34:50 registry 0.1.0 answers (pid 321)
12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99


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
12:34:50 registry 0.1.0 answers (pid 321)
12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99




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
12:34:50 registry 0.1.0 answers (pid 321)
12:34:56 sonar died driver (7) was killed by SIGKILL, after
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
12:34:50 registry 0.1.0 answers (pid 321)
12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99


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
12:34:50 registry 0.1.0 answers (pid 321)
12:34:56 sonar died driver (7) was killed by SIGKILL, after message #99




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
What this can not know
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
        let colours = |state: &State, is_coloured: bool| {
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
    fn what_a_stranger_wrote_can_not_steer_the_terminal() {
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
}
