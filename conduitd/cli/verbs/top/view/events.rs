//! The list of events.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};

use super::super::state::{EventLine, TopState};
use super::theme::Theme;

/// The last events, without the `skip` last of all.
pub(super) fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &TopState, skip: usize, theme: Theme) {
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
