//! `av-edge top`: a relay in a terminal, as it works: what is wrong, what it carries, and each call.
//!
//! `source` asks the relay on a thread of its own, so that keys are heard while it is slow;
//! `figures` are its answers, `board` is what is looked at and what keys do to it, `draw` puts that
//! on the screen, `screen` takes the terminal and gives it back.

mod board;
mod draw;
mod figures;
mod screen;
mod source;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};

use crate::cli::TopArgs;
use crate::failure::Failure;
use crate::output::print;
use board::Board;
use screen::Screen;
use source::{Asker, Source};

/// Width of a frame that goes into a pipe, in columns.
const WIDTH: u16 = 160;

/// Shows the relay until it is told to quit.
pub(crate) fn run(args: &TopArgs) -> Result<(), Failure> {
    let source = Source::of(args)?;
    let board = Board::new(args.sort, args.limit);
    if args.once {
        return once(&source, board);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::setup("there is no terminal here; --once prints one frame as text"));
    }
    watch(&Asker::new(source, Duration::from_secs(args.every)), board)
}

/// One frame, as text.
fn once(source: &Source, mut board: Board) -> Result<(), Failure> {
    board.take(Ok(source.look(&board.wanted())?));
    let height = draw::height(&board, WIDTH);
    let mut lines = frame(&mut board, (WIDTH, height))?;
    // No keys are heard here.
    lines.pop();
    print(&lines)
}

/// The lines of a frame of this size, without blanks at their ends.
fn frame(board: &mut Board, (width, height): (u16, u16)) -> Result<Vec<String>, Failure> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(Failure::job)?;
    terminal.draw(|frame| draw::draw(frame, board)).map_err(Failure::job)?;
    Ok(text(terminal.backend().buffer()))
}

/// What stands in a buffer.
fn text(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    buffer
        .content
        .chunks(width)
        .map(|cells| cells.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned())
        .collect()
}

/// Draws and hears keys until somebody quits.
fn watch(asker: &Asker, mut board: Board) -> Result<(), Failure> {
    let mut screen = Screen::take()?;
    asker.ask(board.wanted());
    while !board.is_over() && !screen.is_to_end() {
        screen.draw(|frame| draw::draw(frame, &mut board))?;
        if let Some(key) = screen::key()? {
            board.press(key);
        }
        if let Some(answer) = asker.answer() {
            board.take(answer);
        }
        asker.ask(board.wanted());
    }
    Ok(())
}
