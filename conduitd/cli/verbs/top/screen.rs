//! The terminal in raw mode, restored at the end, on signals and panics, and while the process is
//! stopped.

use std::io::{self, IsTerminal, Stdout, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};

use crate::failure::Failure;
use crate::signals;

/// Whether this process has the terminal. Locked while writing, so that nothing is drawn after it
/// was given back.
static SCREEN_STATE: Mutex<ScreenState> = Mutex::new(ScreenState::GivenBack);
/// The terminal may no longer show what was drawn last.
static IS_STALE: AtomicBool = AtomicBool::new(false);
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, PartialEq)]
enum ScreenState {
    Taken,
    /// Given back to come back.
    Suspended,
    GivenBack,
}

fn screen_state() -> MutexGuard<'static, ScreenState> {
    SCREEN_STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)
}

fn give_back() {
    // There may be no terminal any more: then nothing needs to be put right.
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// The terminal in the hands of this process until it is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal. `redraw` is called when it is to be drawn without anything new.
    ///
    /// To be called before other threads are started, for the signals' sake.
    pub(crate) fn new(redraw: impl Fn() + Send + 'static) -> Result<Self, Failure> {
        if !(stdin().is_terminal() && stdout().is_terminal()) {
            return Err(Failure::new(
                "top needs a terminal as standard input and output; use `conduit top --once`, with `--json` for scripts",
            ));
        }
        let failed = |error| Failure::new(format_args!("cannot use the terminal: {error}"));
        let terminal = Terminal::new(CrosstermBackend::new(stdout())).map_err(failed)?;
        give_back_on_panic();
        signals::before_ending_or_stopping(suspend, move || {
            resume();
            redraw();
        })
        .map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
        let mut screen_state = screen_state();
        *screen_state = ScreenState::Taken;
        take().map_err(|error| {
            give_back();
            failed(error)
        })?;
        Ok(Self { terminal })
    }

    /// The whole screen.
    pub(crate) fn area(&self) -> io::Result<Rect> {
        Ok(self.terminal.size()?.into())
    }

    /// Draws, unless the terminal has been given back.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        let screen_state = screen_state();
        if HAS_PANICKED.load(Relaxed) {
            return Err(Failure::new("top has failed"));
        }
        if *screen_state != ScreenState::Taken {
            return Ok(());
        }
        let area = self.area().map_err(Failure::Output)?;
        if IS_STALE.swap(false, Relaxed) {
            // Not `clear`: it asks the terminal where the cursor is, and the answer is another
            // thread's input.
            self.terminal.resize(area).map_err(Failure::Output)?;
        }
        self.terminal.draw(draw).map(drop).map_err(Failure::Output)
    }

    /// The next drawing begins with nothing.
    pub(crate) fn forget() {
        IS_STALE.store(true, Relaxed);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut screen_state = screen_state();
        if *screen_state == ScreenState::Taken {
            give_back();
        }
        *screen_state = ScreenState::GivenBack;
    }
}

fn suspend() {
    let mut screen_state = screen_state();
    if *screen_state == ScreenState::Taken {
        give_back();
        *screen_state = ScreenState::Suspended;
    }
}

fn resume() {
    let mut screen_state = screen_state();
    match *screen_state {
        ScreenState::Suspended => {
            if take().is_ok() {
                *screen_state = ScreenState::Taken;
            }
        }
        // It was stopped by force: the shell has set the terminal its own way.
        ScreenState::Taken => {
            let _ = disable_raw_mode();
            let _ = enable_raw_mode();
            let _ = execute!(stdout(), Hide);
        }
        ScreenState::GivenBack => {}
    }
    Screen::forget();
}

/// Otherwise the panic message would be lost with the alternate screen.
fn give_back_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        HAS_PANICKED.store(true, Relaxed);
        // Whoever panics while drawing has it locked.
        let mut screen_state = match SCREEN_STATE.try_lock() {
            Ok(screen_state) => Some(screen_state),
            Err(TryLockError::Poisoned(screen_state)) => Some(screen_state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if screen_state.as_deref() != Some(&ScreenState::GivenBack) {
            give_back();
        }
        if let Some(screen_state) = &mut screen_state {
            **screen_state = ScreenState::GivenBack;
        }
        drop(screen_state);
        tell(panic);
    }));
}
