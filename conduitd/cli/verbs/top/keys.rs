//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::help::HELP;
use super::rows::SortKey;
use super::state::{MAX_EVENTS, Pane, TopState};

/// Longest filter that can be typed.
const MAX_FILTER_BYTES: usize = 64;

/// What the user wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Stay,
    Quit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

impl TopState {
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
        match key.code {
            code if self.typing.is_some() => self.press_while_typing(code),
            KeyCode::Char('q') if self.pane == Pane::Topics && !self.help => return Action::Quit,
            KeyCode::Char('?') | KeyCode::F(1) => self.show_help(!self.help),
            KeyCode::Char('p' | ' ') => self.pause(),
            code => match self.step(code) {
                Some(step) => self.go(step),
                None if is_back(code) && self.help => self.show_help(false),
                None if is_back(code) => self.close(),
                // The help hides what the other keys are about.
                None if self.help => {}
                None => self.press_in_pane(code),
            },
        }
        Action::Stay
    }

    /// How far a key moves.
    fn step(&self, key: KeyCode) -> Option<isize> {
        let page = self.page.max(1) as isize;
        Some(match key {
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::PageUp => -page,
            KeyCode::PageDown => page,
            KeyCode::Home | KeyCode::Char('g') => isize::MIN,
            KeyCode::End | KeyCode::Char('G') => isize::MAX,
            _ => return None,
        })
    }

    fn press_in_pane(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('e') if self.pane == Pane::Events => self.close(),
            KeyCode::Char('e') => self.show(Pane::Events),
            KeyCode::Enter | KeyCode::Right if self.pane == Pane::Topics => self.open(),
            KeyCode::Char('s' | '>') => self.sort_by(self.sort.next(1)),
            KeyCode::Char('S' | '<') => self.sort_by(self.sort.next(-1)),
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.arrange();
            }
            KeyCode::Char('/') if self.pane == Pane::Topics => self.typing = Some(self.filter.clone()),
            _ => {}
        }
    }

    fn press_while_typing(&mut self, key: KeyCode) {
        let Some(typed) = &mut self.typing else { return };
        match key {
            KeyCode::Enter => self.filter = self.typing.take().unwrap_or_default(),
            KeyCode::Esc => self.typing = None,
            KeyCode::Backspace if typed.is_empty() => self.typing = None,
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(letter) if typed.len() < MAX_FILTER_BYTES => typed.push(letter),
            _ => {}
        }
        self.arrange();
    }

    fn sort_by(&mut self, column: SortKey) {
        (self.sort, self.is_reversed) = (column, false);
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

    /// Returns to the pane before.
    fn close(&mut self) {
        if self.pane == Pane::Events && self.detail.is_some() {
            self.show(Pane::Detail);
        } else if self.pane == Pane::Topics {
            // In the list, Esc clears the filter.
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

fn is_back(key: KeyCode) -> bool {
    matches!(key, KeyCode::Char('q' | 'h') | KeyCode::Esc | KeyCode::Left | KeyCode::Backspace)
}
