//! What is looked at, and what keys do to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::figures::{Overview, Row, Sample};
use super::source::{Look, Wanted};
use crate::cli::TopSort;
use crate::failure::Failure;

/// Lines that page keys move by.
const LEAP: i32 = 10;

/// The state of the display.
#[derive(Debug)]
pub(super) struct Board {
    sort: TopSort,
    limit: u16,
    look: Look,
    /// Why the last look failed, if it did; what was seen before stays.
    trouble: Option<String>,
    /// The line of the list that keys are about.
    pub(super) lines: TableState,
    /// The allocation that is looked at closely.
    detail: Option<String>,
    /// How far its history is scrolled.
    scroll: u16,
    /// Whether it is said what to do about what is wrong.
    advises: bool,
    /// Whether the first line is the one to look at as soon as another order is there.
    begins: bool,
    over: bool,
}

impl Board {
    pub(super) fn new(sort: TopSort, limit: u16) -> Self {
        Self {
            sort,
            limit,
            look: Look::default(),
            trouble: None,
            lines: TableState::new().with_selected(Some(0)),
            detail: None,
            scroll: 0,
            advises: true,
            begins: false,
            over: false,
        }
    }

    /// What to ask the relay for.
    pub(super) fn wanted(&self) -> Wanted {
        let detail = self.detail.clone();
        Wanted { sort: self.sort.name(), limit: self.limit, detail }
    }

    /// Takes what was seen.
    pub(super) fn take(&mut self, answer: Result<Look, Failure>) {
        match answer {
            Ok(look) => {
                let selected = self.selected().map(|row| row.id.clone());
                self.look = look;
                self.trouble = None;
                if self.begins {
                    self.lines.select(Some(0));
                    self.begins = self.look.sort != self.sort.name();
                } else {
                    self.follow(selected.as_deref());
                }
            }
            Err(failure) => self.trouble = Some(failure.to_string()),
        }
    }

    /// Keeps to an allocation that stands in another line now.
    fn follow(&mut self, id: Option<&str>) {
        let rows = &self.look.page.allocations;
        let line = id.and_then(|id| rows.iter().position(|row| row.id == id));
        let last = rows.len().saturating_sub(1);
        let line = line.or(self.lines.selected()).unwrap_or(0).min(last);
        self.lines.select(Some(line));
    }

    /// Obeys a key.
    pub(super) fn press(&mut self, key: KeyEvent) {
        let is_interrupt =
            key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
        match key.code {
            _ if is_interrupt => self.over = true,
            KeyCode::Char('q') => self.over = true,
            KeyCode::Up | KeyCode::Char('k') => self.walk(-1),
            KeyCode::Down | KeyCode::Char('j') => self.walk(1),
            KeyCode::PageUp => self.walk(-LEAP),
            KeyCode::PageDown => self.walk(LEAP),
            KeyCode::Home => self.walk(i32::MIN),
            KeyCode::End => self.walk(i32::MAX),
            KeyCode::Enter | KeyCode::Right if self.detail.is_none() => {
                self.detail = self.selected().map(|row| row.id.clone());
                self.scroll = 0;
            }
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.detail = None,
            KeyCode::Char('p') => self.advises = !self.advises,
            KeyCode::Char('s') => self.sort_by(self.sort.next()),
            KeyCode::Char(letter) => {
                if let Some(sort) = TopSort::of_key(letter) {
                    self.sort_by(sort);
                }
            }
            _ => {}
        }
    }

    /// Who asks for another order wants to see the first of it.
    fn sort_by(&mut self, sort: TopSort) {
        self.sort = sort;
        self.begins = true;
        self.lines.select(Some(0));
    }

    /// Moves along the list, or along the history of one allocation.
    fn walk(&mut self, by: i32) {
        let step = |at: i32, last: usize| {
            at.saturating_add(by).clamp(0, i32::try_from(last).unwrap_or(i32::MAX))
        };
        if self.detail.is_some() {
            let entries = self.look.explanation.as_ref().map_or(0, |it| it.entries.len());
            let to = step(self.scroll.into(), entries.saturating_sub(1));
            self.scroll = u16::try_from(to).unwrap_or(u16::MAX);
        } else {
            let at = i32::try_from(self.lines.selected().unwrap_or(0)).unwrap_or(0);
            let to = step(at, self.rows().len().saturating_sub(1));
            self.lines.select(usize::try_from(to).ok());
        }
    }

    /// The allocation that keys are about.
    fn selected(&self) -> Option<&Row> {
        self.rows().get(self.lines.selected()?)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether anything was seen so far.
    pub(super) fn is_seen(&self) -> bool {
        !self.look.sort.is_empty()
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn overview(&self) -> &Overview {
        &self.look.overview
    }

    /// The relay over the last ten minutes, the oldest first.
    pub(super) fn samples(&self) -> &[Sample] {
        &self.look.samples.samples
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.look.page.allocations
    }

    /// All allocations, more than there are rows perhaps.
    pub(super) fn total(&self) -> u64 {
        self.look.page.total
    }

    /// The order of the rows that are there.
    pub(super) fn sort(&self) -> &'static str {
        self.look.sort
    }

    pub(super) fn advises(&self) -> bool {
        self.advises
    }

    /// The allocation that is looked at closely, and what was seen of it.
    pub(super) fn detail(&self) -> Option<(&str, &Look)> {
        self.detail.as_deref().map(|id| (id, &self.look))
    }

    pub(super) fn scroll(&self) -> u16 {
        self.scroll
    }
}
