//! Who is where: connections by slot, by five-tuple, and by deadline.
//!
//! Events find a connection by the slot in their token, without a hash; what goes to a client
//! needs one. A slot is used again with a new generation, so a key kept too long finds nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use proto::addr::FiveTuple;

use super::connection::Connection;

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// As an event token: the generation above, the slot in 31 bits below.
    pub(super) fn to_token(self) -> usize {
        (self.generation as usize) << 32 | self.slot as usize
    }

    /// The inverse.
    #[expect(clippy::cast_possible_truncation, reason = "takes the integer's halves apart")]
    pub(super) fn from_token(token: usize) -> Self {
        Self { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

#[derive(Default)]
struct Place {
    generation: u32,
    connection: Option<Connection>,
}

/// The connections of one worker.
pub(super) struct Roster {
    places: Vec<Place>,
    free: Vec<u32>,
    by_client: HashMap<FiveTuple, Key, SeedableRandomState>,
    /// One live entry for each connection, named in its `armed`; others are ignored.
    deadlines: BinaryHeap<Reverse<(Instant, Key)>>,
}

impl Roster {
    /// Nobody. `secret` keeps clients from choosing addresses that collide.
    pub(super) fn new(secret: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(secret, SharedSeed::global_fixed());
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_client: HashMap::with_hasher(hasher),
            deadlines: BinaryHeap::new(),
        }
    }

    /// The connection of this key.
    pub(super) fn find(&mut self, key: Key) -> Option<&mut Connection> {
        let place = self.places.get_mut(key.slot as usize)?;
        place.connection.as_mut().filter(|_| place.generation == key.generation)
    }

    /// The connection of this client.
    pub(super) fn of(&mut self, client: FiveTuple) -> Option<(Key, &mut Connection)> {
        let key = *self.by_client.get(&client)?;
        Some((key, self.find(key)?))
    }

    /// Every connection.
    pub(super) fn keys(&self) -> Vec<Key> {
        let places = (0..).zip(&self.places);
        places
            .filter(|(_, place)| place.connection.is_some())
            .map(|(slot, place)| Key { slot, generation: place.generation })
            .collect()
    }

    /// The key that the next connection will have.
    pub(super) fn next_key(&mut self) -> Key {
        let slot = self.free.last().copied().unwrap_or_else(|| {
            let slot = u32::try_from(self.places.len()).expect("fewer than descriptors");
            self.places.push(Place::default());
            self.free.push(slot);
            slot
        });
        Key { slot, generation: self.places[slot as usize].generation }
    }

    /// Takes a connection in, under the next key.
    pub(super) fn insert(&mut self, connection: Connection) -> Key {
        let key = self.next_key();
        self.free.pop();
        self.by_client.insert(connection.client, key);
        self.deadlines.push(Reverse((connection.armed, key)));
        self.places[key.slot as usize].connection = Some(connection);
        key
    }

    /// A connection is of another client than it seemed.
    pub(super) fn rename(&mut self, key: Key, client: FiveTuple) {
        self.strike(key);
        if let Some(connection) = self.find(key) {
            connection.client = client;
            self.by_client.insert(client, key);
        }
    }

    /// The client of this connection is found no more; the connection itself is.
    pub(super) fn strike(&mut self, key: Key) {
        let Some(client) = self.find(key).map(|connection| connection.client) else { return };
        if self.by_client.get(&client) == Some(&key) {
            self.by_client.remove(&client);
        }
    }

    /// Hands a connection out.
    pub(super) fn remove(&mut self, key: Key) -> Option<Connection> {
        self.strike(key);
        self.find(key)?;
        let place = &mut self.places[key.slot as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.slot);
        place.connection.take()
    }

    /// Sees to it that a connection comes up when its deadline does.
    pub(super) fn arm(&mut self, key: Key) {
        let Some(connection) = self.find(key) else { return };
        connection.armed = connection.deadline();
        let armed = connection.armed;
        self.deadlines.push(Reverse((armed, key)));
    }

    /// When the next deadline is; perhaps of a connection that is gone.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// The next connection whose deadline has passed. It has to be armed again, or removed.
    pub(super) fn due(&mut self, now: Instant) -> Option<Key> {
        while self.next_deadline().is_some_and(|at| at <= now) {
            let Some(Reverse((at, key))) = self.deadlines.pop() else { break };
            if self.find(key).is_some_and(|connection| connection.armed == at) {
                return Some(key);
            }
        }
        None
    }
}
