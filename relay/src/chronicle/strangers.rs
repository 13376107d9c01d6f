//! What befell those who have no allocation.
//!
//! Anybody can provoke it, from as many addresses as they like, so the memory is a fixed table in
//! which a keyed hash chooses four places for a client and a reason; the one that was silent
//! longest gives way. Nobody can fill it, or aim at what befell somebody else.

use std::hash::{BuildHasher, RandomState};

use proto::addr::FiveTuple;

use super::entry::{Entry, What};

/// Places that a hash chooses together.
const WAYS: usize = 4;

/// Choices of a hash.
const SETS: usize = 512;

/// What befell a client without allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranger {
    /// Where it sent from; perhaps a forged address.
    pub(crate) client: FiveTuple,
    pub(crate) entry: Entry,
    /// How much had been noted when this was noted last.
    pub(super) number: u64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Strangers {
    sets: Box<[[Option<Stranger>; WAYS]]>,
    hasher: RandomState,
    noted: u64,
}

impl Strangers {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { sets: vec![[None; WAYS]; SETS].into(), hasher: RandomState::new(), noted: 0 }
    }

    /// Adds what befell somebody.
    pub(super) fn note(&mut self, client: FiveTuple, entry: Entry) {
        let reason = match entry.what {
            What::Refused { why, .. } => (0, why.index()),
            What::Dropped(reason) => (1, reason.index()),
            What::Below(below) => below.index(),
            What::Opened
            | What::Moved
            | What::Permission
            | What::Channel(_)
            | What::Destination
            | What::Closed(_) => return,
        };
        self.noted += 1;
        let number = self.noted;
        let hash = self.hasher.hash_one((client, reason));
        let set = &mut self.sets[usize::try_from(hash % SETS as u64).unwrap_or(0)];
        let mut known = set.iter_mut().flatten().filter(|it| it.client == client);
        if let Some(known) = known.find_map(|it| it.entry.absorb(&entry).then_some(it)) {
            known.number = number;
            return;
        }
        // An empty place comes before any instant.
        if let Some(place) = set.iter_mut().min_by_key(|it| it.map(|it| it.entry.last)) {
            *place = Some(Stranger { client, entry, number });
        }
    }

    /// How much was ever noted.
    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    /// All entries, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Stranger> {
        self.sets.iter().flatten().flatten()
    }
}
