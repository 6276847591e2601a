//! The terminal in raw mode, restored at the end, on signals and panics, and while the process is
//! stopped.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Stdout, Write, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{execute, queue};
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

/// How long a signal waits for a drawing to end. It does not end on a terminal that nobody reads.
const LONGEST_DRAWING: Duration = Duration::from_millis(200);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Like [`screen_state`], but not for ever; `None` if something is being drawn all that time.
fn screen_state_soon() -> Option<MutexGuard<'static, ScreenState>> {
    let deadline = Instant::now() + LONGEST_DRAWING;
    loop {
        match SCREEN_STATE.try_lock() {
            Ok(screen_state) => return Some(screen_state),
            Err(TryLockError::Poisoned(screen_state)) => return Some(screen_state.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(LOOK_INTERVAL),
        }
    }
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

/// Writes to the terminal what it takes at once, past standard output and whoever has that locked.
fn write_at_once(commands: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
    let mut text = Vec::new();
    // The flag is that of this description of the file alone.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let terminal = OpenOptions::new().write(true).custom_flags(flags.bits()).open("/proc/thread-self/fd/1");
    // Nobody may be reading: then nothing needs to be put right.
    let _ = commands(&mut text).and_then(|()| terminal?.write_all(&text));
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

/// Gives the terminal back on a signal. Whatever the terminal does, this returns.
fn suspend() {
    let screen_state = screen_state_soon();
    // Who draws has the terminal.
    if screen_state.as_deref().is_none_or(|state| *state == ScreenState::Taken) {
        let _ = disable_raw_mode();
        write_at_once(|text| queue!(text, LeaveAlternateScreen, Show));
    }
    if let Some(mut state) = screen_state.filter(|state| **state == ScreenState::Taken) {
        *state = ScreenState::Suspended;
    }
}

/// Takes the terminal again after a stop. Whatever the terminal does, this returns.
fn resume() {
    let screen_state = screen_state_soon();
    let is_taken = match screen_state.as_deref() {
        Some(ScreenState::GivenBack) => false,
        Some(ScreenState::Suspended) => enable_raw_mode().is_ok(),
        // It was stopped by force, or while drawing: the shell has set the terminal its own way.
        Some(ScreenState::Taken) | None => {
            let _ = disable_raw_mode();
            enable_raw_mode().is_ok()
        }
    };
    if is_taken {
        write_at_once(|text| queue!(text, EnterAlternateScreen, Hide));
        if let Some(mut state) = screen_state {
            *state = ScreenState::Taken;
        }
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
