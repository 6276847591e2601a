//! How `conduit top` looks: a pure function of its state.

mod detail;
mod text;
mod theme;
mod topics;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Wrap};

use super::help::HELP;
use super::rows::Totals;
use super::state::{EventLine, Mood, Pane, RegistryLink, TopState};
use crate::output;
use detail::draw_detail;
use text::{number, seconds};
pub(crate) use theme::Theme;
use topics::draw_topics;

/// What it needs at least.
const SMALLEST: (u16, u16) = (60, 10);

/// How many rows a page of the list has.
pub(crate) fn page(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(strip_height(area) + 3)).max(1)
}

/// The strip of events with its title.
fn strip_height(area: Rect) -> u16 {
    1 + (area.height / 6).clamp(2, 8)
}

pub(crate) fn draw(frame: &mut Frame<'_>, state: &TopState, theme: Theme) {
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

fn draw_title(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let totals = Totals::of(&state.rows);
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
        RegistryLink::Unknown => Span::default(),
        RegistryLink::Answers { version, pid } => Span::from(format!("conduitd {version} ({pid})")),
        RegistryLink::Missing => Span::styled("no registry", theme.mood(Mood::Warning).bold()),
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

/// The last events, without the `skip` last of all.
fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &TopState, skip: usize, theme: Theme) {
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

fn draw_hints(frame: &mut Frame<'_>, area: Rect, state: &TopState) {
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
mod tests;
