//! The lives of allocations: of all that live, and of those that ended last.
//!
//! Most that live have done nothing but begin. That is not written down until something else
//! happens: client and time say it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proto::addr::{AllocationId, ClientAddr, FiveTuple, ListenerId};
use proto::now::Now;
use proto::policy::UserKey;
use proto::turn::{Change, CloseReason};

use super::entry::{Entry, What};

/// Entries of one allocation. What exceeds them pushes out the oldest but the first, which says
/// where the allocation began.
const ENTRIES: usize = 32;

/// Lives that are remembered when they have ended.
const ENDED: usize = 256;

/// What happened to one allocation.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) id: AllocationId,
    /// Where the client is, or was last: its parts take a third less than the whole.
    client: (IpAddr, u16, ListenerId),
    pub(crate) user: UserKey,
    pub(crate) opened: Instant,
    /// In the order in which they happened last; none where it has only begun, unless it is
    /// [told](Life::told).
    pub(crate) entries: Vec<Entry>,
    /// Entries that were pushed out.
    pub(crate) omitted: u64,
}

impl Life {
    /// Where the client is, or was last.
    pub(crate) fn client(&self) -> FiveTuple {
        let (ip, port, listener) = self.client;
        FiveTuple { listener, client: ClientAddr::new((ip, port).into()) }
    }

    /// As it is told: with its beginning.
    pub(super) fn told(&self) -> Self {
        let mut life = self.clone();
        life.write_beginning();
        life
    }

    /// When it ended and why, if it did.
    pub(crate) fn ended(&self) -> Option<(Instant, CloseReason)> {
        let mut latest = self.entries.iter().rev();
        latest.find_map(|entry| Some((entry.last, entry.what.end()?)))
    }

    /// Writes down where it began, before anything else is, and before that is another place.
    fn write_beginning(&mut self) {
        if self.entries.is_empty() {
            let begun = Entry::at(self.opened, What::Opened, Some(self.client().client.socket()));
            self.entries.reserve_exact(2);
            self.entries.push(begun);
        }
    }

    /// Adds an entry; whether it is the first of its kind.
    fn note(&mut self, entry: Entry) -> bool {
        self.write_beginning();
        if let Some(at) = self.entries.iter_mut().rposition(|it| it.absorb(&entry)) {
            self.entries[at..].rotate_left(1);
            return false;
        }
        if self.entries.len() >= ENTRIES {
            self.entries.remove(1);
            self.omitted += 1;
        }
        self.entries.push(entry);
        true
    }

    /// Whether the client is or was at one of these addresses.
    pub(crate) fn was_at(&self, is_there: impl Fn(SocketAddr) -> bool) -> bool {
        let stations = self.entries.iter().filter(|it| it.what.is_station());
        is_there(self.client().client.socket()) || stations.filter_map(|it| it.about).any(is_there)
    }
}

/// What a life keeps of where its client is.
fn parts(FiveTuple { listener, client }: FiveTuple) -> (IpAddr, u16, ListenerId) {
    (client.ip(), client.port(), listener)
}

/// The lives of a worker's allocations.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// By slot.
    live: Vec<Option<Box<Life>>>,
    ended: VecDeque<Life>,
}

impl Lives {
    /// Follows a change.
    pub(super) fn follow(&mut self, now: Now, change: &Change) {
        let entry = |what, about| Entry::new(now, what, about);
        match *change {
            Change::AllocationOpened { id, client, user, .. } => {
                let (opened, entries) = (now.mono, Vec::new());
                let life = Life { id, client: parts(client), user, opened, entries, omitted: 0 };
                let slot = id.slot as usize;
                if self.live.len() <= slot {
                    self.live.resize_with(slot + 1, || None);
                }
                self.live[slot] = Some(Box::new(life));
            }
            Change::AllocationClosed { id, reason, .. } => self.end(now, id, reason),
            Change::ClientMoved { id, client } => self.move_to(now, id, client),
            Change::PermissionSet { id, peer } => {
                self.note(id, entry(What::Permission, Some(peer.socket())));
            }
            Change::DestinationSet { id, peer } => {
                self.note(id, entry(What::Destination, Some(peer.socket())));
            }
            Change::ChannelSet { id, number, peer } => {
                self.note(id, entry(What::Channel(number), Some(peer.socket())));
            }
            Change::RoutesChanged { .. } => {}
        }
    }

    fn end(&mut self, now: Now, id: AllocationId, reason: CloseReason) {
        if self.living(id).is_none() {
            return;
        }
        let Some(mut life) = self.live[id.slot as usize].take() else { return };
        life.note(Entry::new(now, What::Closed(reason), None));
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(*life);
    }

    fn move_to(&mut self, now: Now, id: AllocationId, client: FiveTuple) {
        let Some(life) = self.living(id) else { return };
        life.write_beginning();
        life.client = parts(client);
        life.note(Entry::new(now, What::Moved, Some(client.client.socket())));
    }

    fn living(&mut self, id: AllocationId) -> Option<&mut Life> {
        self.live.get_mut(id.slot as usize)?.as_deref_mut().filter(|life| life.id == id)
    }

    /// Adds to the life of an allocation, even of one that has just ended; whether that is new.
    pub(super) fn note(&mut self, id: AllocationId, entry: Entry) -> bool {
        if let Some(life) = self.living(id) {
            return life.note(entry);
        }
        let ended = self.ended.iter_mut().rev().find(|life| life.id == id);
        ended.is_some_and(|life| life.note(entry))
    }

    /// All of them, those that ended first, in order of their end.
    pub(super) fn all(&self) -> impl Iterator<Item = &Life> {
        self.ended.iter().chain(self.live.iter().flatten().map(|life| &**life))
    }

    /// The life of an allocation.
    pub(super) fn get(&self, id: AllocationId) -> Option<&Life> {
        let live = self.live.get(id.slot as usize).and_then(Option::as_deref);
        let mut all = live.into_iter().chain(self.ended.iter().rev());
        all.find(|life| life.id == id)
    }
}
