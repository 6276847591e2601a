//! The pane of one topic: what is known about it, the history of its rate, its subscribers.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table};

use super::super::quantiles::Quantiles;
use super::super::rows::{SubscriberRow, TopicRow};
use super::super::state::{Mood, TopState};
use super::text::{duration, number, seconds};
use super::theme::Theme;
use crate::output;
use crate::output::events::certificate;
use crate::output::topics::{liveness, or_dash, publisher, size};

pub(super) fn draw_detail(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &TopState,
    row: &TopicRow,
    is_there: bool,
    theme: Theme,
) {
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
        // A thousandth of a message per second is the least that shows, and more than any topic can
        // do the most.
        let data: Vec<u64> = last.iter().map(|rate| (rate * 1000.0).min(1e15) as u64).collect();
        frame.render_widget(Sparkline::default().data(data).style(theme.colour(Color::Cyan)), history);
    }
    if !row.topic.raw {
        draw_readers(frame, table, &row.readers, state.scrolled, theme);
    }
}

fn detail(state: &TopState, row: &TopicRow, is_there: bool, theme: Theme) -> Vec<Line<'static>> {
    let topic = &row.topic;
    let field = |name: &str, value: String| Line::from(vec![format!("{name:<13}").bold(), value.into()]);
    let name = format!("{} ", topic.name).bold().reversed();
    let type_name = topic.message_type.clone().unwrap_or_else(|| "raw region".into());
    let mut lines = vec![if is_there {
        let state = Span::styled(topic.state.to_string(), theme.state(&topic.state));
        Line::from(vec![name, "  ".into(), state, format!("  {type_name}").into()])
    } else {
        let gone = Span::styled("gone; last seen state", theme.mood(Mood::Warning).bold());
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
        if let Some(deadline_ns) = topic.deadline_ns {
            let missed = if topic.is_overdue { ", missed" } else { "" };
            lines.push(field("Deadline", output::duration_ns(deadline_ns) + missed));
        }
        let interval = row.interval.map(|Quantiles { p50, p99, max }| {
            let [p50, p99, max] = [p50, p99, max].map(output::duration_ns);
            format!("p50 {p50}, p99 {p99}, max {max}")
        });
        lines.push(field("Interval", or_dash(interval)));
    }
    if let Some(death) = state.deaths.get(&topic.name) {
        let process = death.process.as_ref().map_or_else(String::new, |process| format!("{process} "));
        let how = death.death.as_ref().map(certificate).unwrap_or_default();
        lines.push(field("Last death", format!("{} {process}{how}", seconds(death.time_ms))));
    }
    let liveness = liveness(topic).map_or_else(String::new, |liveness| format!(", {liveness}"));
    lines.push(field("Publisher", publisher(topic) + &liveness));
    lines.push(field("Path", topic.path.clone()));
    lines.push(field("Size", size(topic)));
    lines
}

fn draw_readers(frame: &mut Frame<'_>, area: Rect, readers: &[SubscriberRow], scrolled: usize, theme: Theme) {
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
        Row::new(styled.collect::<Vec<_>>())
    });
    let widths = columns.iter().enumerate().map(|(at, (_, width, _))| match at {
        0 => Constraint::Fill(1),
        _ => Constraint::Length(*width),
    });
    frame.render_widget(Table::new(rows, widths).header(Row::new(titles)).column_spacing(1), area);
}

fn reader_cells(reader: &SubscriberRow) -> [String; 12] {
    let SubscriberRow { subscriber, lost_per_second, behind } = reader;
    let behind = |pick: fn(Quantiles) -> u64| or_dash(behind.map(|behind| duration(pick(behind))));
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
