//! The terminal: taken as a whole, and given back as it was, however this ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::{DefaultTerminal, Frame};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// How long a key is waited for before answers are looked for.
const KEY_WAIT: Duration = Duration::from_millis(200);

/// The terminal, until it is dropped. A panic gives it back as well: its hook does.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    ended: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> Result<Self, Failure> {
        let ended = Arc::new(AtomicBool::new(false));
        listen(Arc::clone(&ended))?;
        let terminal = ratatui::try_init().map_err(failed)?;
        Ok(Self { terminal, ended })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.terminal.draw(draw).map(drop).map_err(failed)
    }

    /// Whether a signal has ended this.
    pub(super) fn is_to_end(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// The next key, if one is pressed soon.
pub(super) fn key() -> Result<Option<KeyEvent>, Failure> {
    if !event::poll(KEY_WAIT).map_err(failed)? {
        return Ok(None);
    }
    match event::read().map_err(failed)? {
        Event::Key(key) if key.kind == KeyEventKind::Press => Ok(Some(key)),
        _ => Ok(None),
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn failed(error: std::io::Error) -> Failure {
    Failure::job(format!("the terminal: {error}"))
}

/// Notes the signals that would end the process with the terminal as it is.
fn listen(ended: Arc<AtomicBool>) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::job)?;
    let signal = |kind| signal(kind).map_err(Failure::job);
    let (mut terminate, mut hangup, mut interrupt) = {
        let _runtime = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        ended.store(true, Ordering::Relaxed);
    });
    Ok(())
}
