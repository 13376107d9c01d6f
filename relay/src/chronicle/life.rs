//! The lives of allocations: of all that live, and of those that ended last.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use proto::addr::{AllocationId, FiveTuple};
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
    /// Where the client is, or was last.
    pub(crate) client: FiveTuple,
    pub(crate) user: UserKey,
    pub(crate) opened: Instant,
    pub(crate) ended: Option<(Instant, CloseReason)>,
    /// In the order in which they happened last.
    pub(crate) entries: Vec<Entry>,
    /// Entries that were pushed out.
    pub(crate) omitted: u64,
}

impl Life {
    /// Adds an entry; whether it is the first of its kind.
    fn note(&mut self, entry: Entry) -> bool {
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
        is_there(self.client.client.socket()) || stations.filter_map(|it| it.about).any(is_there)
    }
}

/// The lives of a worker's allocations.
#[derive(Debug, Default)]
pub(super) struct Lives {
    live: HashMap<AllocationId, Life>,
    by_client: HashMap<FiveTuple, AllocationId>,
    ended: VecDeque<Life>,
}

impl Lives {
    /// Follows a change.
    pub(super) fn follow(&mut self, now: Now, change: &Change) {
        let entry = |what, about| Entry::new(now, what, about);
        match *change {
            Change::AllocationOpened { id, client, user, .. } => {
                let first = entry(What::Opened, Some(client.client.socket()));
                let life = Life {
                    id,
                    client,
                    user,
                    opened: now.mono,
                    ended: None,
                    entries: vec![first],
                    omitted: 0,
                };
                self.by_client.insert(client, id);
                self.live.insert(id, life);
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
        let Some(mut life) = self.live.remove(&id) else { return };
        self.leave(&life);
        life.note(Entry::new(now, What::Closed(reason), None));
        life.ended = Some((now.mono, reason));
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(life);
    }

    fn move_to(&mut self, now: Now, id: AllocationId, client: FiveTuple) {
        let Some(mut life) = self.live.remove(&id) else { return };
        self.leave(&life);
        life.client = client;
        life.note(Entry::new(now, What::Moved, Some(client.client.socket())));
        self.by_client.insert(client, id);
        self.live.insert(id, life);
    }

    /// Lets the client's address find nothing, unless it finds another by now.
    fn leave(&mut self, life: &Life) {
        if self.by_client.get(&life.client) == Some(&life.id) {
            self.by_client.remove(&life.client);
        }
    }

    /// Adds to the life of an allocation, even of one that has just ended; whether that is new.
    pub(super) fn note(&mut self, id: AllocationId, entry: Entry) -> bool {
        if let Some(life) = self.live.get_mut(&id) {
            return life.note(entry);
        }
        let ended = self.ended.iter_mut().rev().find(|life| life.id == id);
        ended.is_some_and(|life| life.note(entry))
    }

    /// The allocation of a client.
    pub(super) fn of(&self, client: FiveTuple) -> Option<AllocationId> {
        self.by_client.get(&client).copied()
    }

    /// All of them, those that ended first, in order of their end.
    pub(super) fn all(&self) -> impl Iterator<Item = &Life> {
        self.ended.iter().chain(self.live.values())
    }

    /// The life of an allocation.
    pub(super) fn get(&self, id: AllocationId) -> Option<&Life> {
        self.live.get(&id).or_else(|| self.ended.iter().rev().find(|life| life.id == id))
    }
}
