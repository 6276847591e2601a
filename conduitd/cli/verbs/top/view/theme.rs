//! Colours.

use conduit::registry::RegionState;
use ratatui::style::{Color, Style};

use super::super::state::Mood;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) is_coloured: bool,
}

impl Theme {
    pub(super) fn colour(self, colour: Color) -> Style {
        if self.is_coloured { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn mood(self, mood: Mood) -> Style {
        match mood {
            Mood::Neutral => Style::new(),
            Mood::Good => self.colour(Color::Green),
            Mood::Warning => self.colour(Color::Yellow),
            Mood::Bad => self.colour(Color::Red).bold(),
        }
    }

    pub(super) fn state(self, state: &RegionState) -> Style {
        self.mood(match state {
            RegionState::Live => Mood::Good,
            RegionState::Unlinked => Mood::Warning,
            RegionState::Orphaned | RegionState::Unauthorised => Mood::Bad,
            _ => Mood::Neutral,
        })
    }
}
