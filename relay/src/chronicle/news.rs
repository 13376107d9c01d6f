//! What just happened, until somebody has asked for it.
//!
//! Nobody is called: who follows asks now and then, and says how far it has come. Begins, moves and
//! ends of allocations and the first refusal of each kind wait in a ring; who asks too seldom hears
//! how many it has missed. What befell strangers needs no ring: their table knows what is new.

use std::collections::VecDeque;

use proto::addr::FiveTuple;

use super::Stranger;
use super::entry::Entry;
use crate::session::SessionId;

/// Items that wait.
const WAITING: usize = 1_024;

/// Strangers of an answer.
pub(super) const STRANGERS: usize = 128;

/// Something that happened to an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) id: SessionId,
    pub(crate) client: FiveTuple,
    pub(crate) entry: Entry,
}

/// How far somebody has come who follows a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bookmark {
    /// Items that it has heard of, or has missed.
    pub(crate) items: u64,
    /// How much of strangers had been noted when it asked; `None` before it did.
    pub(crate) strangers: Option<u64>,
}

/// What happened since then.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(crate) items: Vec<Item>,
    pub(crate) strangers: Vec<Stranger>,
    /// Items that are gone already.
    pub(crate) missed: u64,
    /// Where to go on.
    pub(crate) until: Bookmark,
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct News {
    items: VecDeque<Item>,
    /// Items that were pushed out.
    gone: u64,
}

impl News {
    /// Adds something.
    pub(super) fn add(&mut self, item: Item) {
        if self.items.len() == WAITING {
            self.items.pop_front();
            self.gone += 1;
        }
        self.items.push_back(item);
    }

    /// What happened since then, of allocations.
    pub(super) fn since(&self, then: u64) -> (Vec<Item>, u64) {
        let missed = self.gone.saturating_sub(then);
        let known = usize::try_from(then.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        (self.items.iter().skip(known).copied().collect(), missed)
    }

    /// Items that were ever added.
    pub(super) fn count(&self) -> u64 {
        self.gone + self.items.len() as u64
    }
}
