//! Five-tuple → slot → allocation.
//!
//! Slots never move and are reused with a new generation, so that an id kept too long finds
//! nothing. The map from five-tuples is only looked into, never walked: its order is not the same
//! from run to run. So is the one from connections, by which a client is known at a new address.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use crate::addr::{AllocationId, FiveTuple};
use crate::turn::allocate::Opening;
use crate::turn::allocation::{Allocation, Owner};

/// The allocations of one worker, opening and open.
#[derive(Debug)]
pub(crate) struct Table {
    by_client: HashMap<Key, Seat, SeedableRandomState>,
    by_connection: HashMap<[u8; 20], AllocationId, SeedableRandomState>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// A five-tuple in 24 bytes, so that two entries of the map share a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    high: u64,
    low: u64,
    port_and_listener: u32,
}

impl From<FiveTuple> for Key {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "takes the integer's halves apart")]
    fn from(FiveTuple { listener, client }: FiveTuple) -> Self {
        let bits = match client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let port_and_listener = u32::from(client.port()) << 16 | u32::from(listener.0);
        Self { high: (bits >> 64) as u64, low: bits as u64, port_and_listener }
    }
}

/// Where the allocation of a five-tuple lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    slot: u32,
    /// The client moves here and has not yet sent payload from here (RFC 8016 §3.2.2).
    pub(crate) arriving: bool,
}

/// Begins on a cache line: uplink reads the first two lines of it.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    generation: u32,
    state: State,
}

/// What a slot holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "slots hold allocations: a box would cost a hop")]
enum State {
    Free,
    Opening(Box<Opening>),
    Open(Allocation),
}

impl Table {
    /// Room for `capacity` allocations from the start, so that nothing moves under load. `secret`
    /// keeps clients from choosing addresses that collide.
    pub(crate) fn new(capacity: usize, secret: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(secret, SharedSeed::global_fixed());
        Self {
            by_client: HashMap::with_capacity_and_hasher(capacity, hasher.clone()),
            by_connection: HashMap::with_hasher(hasher),
            slots: Vec::with_capacity(capacity),
            free: Vec::new(),
        }
    }

    /// Where the allocation of a client lies.
    #[inline]
    pub(crate) fn seat(&self, client: FiveTuple) -> Option<Seat> {
        self.by_client.get(&client.into()).copied()
    }

    /// The allocation there, unless its sockets are still being opened.
    #[inline]
    pub(crate) fn open_at(&mut self, seat: Seat) -> Option<(AllocationId, &mut Allocation)> {
        match self.slots.get_mut(seat.slot as usize)? {
            Slot { generation, state: State::Open(allocation) } => {
                Some((AllocationId { slot: seat.slot, generation: *generation }, allocation))
            }
            Slot { state: State::Free | State::Opening(_), .. } => None,
        }
    }

    /// The allocation of a client.
    #[inline]
    pub(crate) fn open_of(&mut self, client: FiveTuple) -> Option<(AllocationId, &mut Allocation)> {
        self.open_at(self.seat(client)?)
    }

    /// The same as [`Table::open_of`], by its name.
    pub(crate) fn id_of(&self, client: FiveTuple) -> Option<AllocationId> {
        let Seat { slot, .. } = self.seat(client)?;
        match self.slots.get(slot as usize)? {
            Slot { generation, state: State::Open(_) } => {
                Some(AllocationId { slot, generation: *generation })
            }
            Slot { state: State::Free | State::Opening(_), .. } => None,
        }
    }

    /// The allocation that gave its client this connection.
    pub(crate) fn of_connection(&self, connection: [u8; 20]) -> Option<AllocationId> {
        self.by_connection.get(&connection).copied()
    }

    /// The allocation of a client, if it still waits for its relayed sockets.
    pub(crate) fn opening_of(&self, client: FiveTuple) -> Option<AllocationId> {
        let Seat { slot, .. } = self.seat(client)?;
        match self.slots.get(slot as usize)? {
            Slot { generation, state: State::Opening(_) } => {
                Some(AllocationId { slot, generation: *generation })
            }
            Slot { state: State::Free | State::Open(_), .. } => None,
        }
    }

    /// Lets a five-tuple find an allocation, in place of what it found before.
    pub(crate) fn sit(&mut self, client: FiveTuple, id: AllocationId, arriving: bool) {
        self.by_client.insert(client.into(), Seat { slot: id.slot, arriving });
    }

    /// Lets a five-tuple find nothing.
    pub(crate) fn rise(&mut self, client: FiveTuple) {
        self.by_client.remove(&client.into());
    }

    /// The owner of a client's allocation, to look at.
    pub(crate) fn owner_of(&self, client: FiveTuple) -> Option<&Owner> {
        let Seat { slot, .. } = self.seat(client)?;
        match &self.slots.get(slot as usize)?.state {
            State::Open(allocation) => Some(&allocation.owner),
            State::Free | State::Opening(_) => None,
        }
    }

    /// The same as [`Table::open`], to look at.
    pub(crate) fn get(&self, id: AllocationId) -> Option<&Allocation> {
        match self.slots.get(id.slot as usize)? {
            Slot { generation, state: State::Open(allocation) } if *generation == id.generation => {
                Some(allocation)
            }
            _ => None,
        }
    }

    /// The allocation of this id, unless it is over.
    #[inline]
    pub(crate) fn open(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        match self.slots.get_mut(id.slot as usize)? {
            Slot { generation, state: State::Open(allocation) } if *generation == id.generation => {
                Some(allocation)
            }
            _ => None,
        }
    }

    /// The opening allocation of this id.
    pub(crate) fn opening(&mut self, id: AllocationId) -> Option<&mut Opening> {
        match self.slots.get_mut(id.slot as usize)? {
            Slot { generation, state: State::Opening(opening) } if *generation == id.generation => {
                Some(opening)
            }
            _ => None,
        }
    }

    /// Puts an opening allocation into a slot; the five-tuple must have none.
    pub(crate) fn insert(&mut self, client: FiveTuple, opening: Opening) -> AllocationId {
        let state = State::Opening(Box::new(opening));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, state: State::Free });
            u32::try_from(self.slots.len() - 1).expect("fewer allocations than relayed ports")
        });
        self.by_client.insert(client.into(), Seat { slot, arriving: false });
        let place = &mut self.slots[slot as usize];
        place.state = state;
        AllocationId { slot, generation: place.generation }
    }

    /// Takes an opening allocation out of its slot, which then is either put to use by
    /// [`Table::settle`] or given up by [`Table::vacate`].
    pub(crate) fn take_opening(&mut self, id: AllocationId) -> Option<Opening> {
        self.opening(id)?;
        match std::mem::replace(&mut self.slots[id.slot as usize].state, State::Free) {
            State::Opening(opening) => Some(*opening),
            State::Free | State::Open(_) => None,
        }
    }

    /// The opening allocation of this slot is open now.
    pub(crate) fn settle(&mut self, id: AllocationId, allocation: Allocation) {
        if let Some(session) = &allocation.owner.session {
            self.by_connection.insert(session.numbered().connection, id);
        }
        self.slots[id.slot as usize].state = State::Open(allocation);
    }

    /// Frees the slot of an opening allocation.
    pub(crate) fn vacate(&mut self, id: AllocationId, client: FiveTuple) {
        self.rise(client);
        self.free(id);
    }

    fn free(&mut self, id: AllocationId) {
        let slot = &mut self.slots[id.slot as usize];
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
    }

    /// Takes an allocation out and frees its slot.
    pub(crate) fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        self.open(id)?;
        let state = std::mem::replace(&mut self.slots[id.slot as usize].state, State::Free);
        let State::Open(allocation) = state else { return None };
        for client in allocation.seats() {
            self.rise(client);
        }
        if let Some(session) = &allocation.owner.session {
            self.by_connection.remove(&session.numbered().connection);
        }
        self.free(id);
        Some(allocation)
    }

    /// Whether a client has an allocation, opening or open.
    pub(crate) fn serves(&self, client: FiveTuple) -> bool {
        self.by_client.contains_key(&client.into())
    }

    /// Whether there is neither an opening nor an open allocation.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Every open allocation from a slot on, in order of its slot.
    pub(crate) fn iter_from(
        &self,
        first: u32,
    ) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        let slots = self.slots.get(first as usize..).unwrap_or_default();
        slots.iter().zip(first..).filter_map(|(slot, number)| match &slot.state {
            State::Open(allocation) => {
                Some((AllocationId { slot: number, generation: slot.generation }, allocation))
            }
            State::Free | State::Opening(_) => None,
        })
    }

    /// The id of every allocation, opening or open, in order of its slot.
    pub(crate) fn ids(&self) -> Vec<AllocationId> {
        self.slots
            .iter()
            .zip(0..)
            .filter(|(slot, _)| !matches!(slot.state, State::Free))
            .map(|(slot, number)| AllocationId { slot: number, generation: slot.generation })
            .collect()
    }

    /// Panics unless every five-tuple finds what says that it sits there, and every connection
    /// what gave it to its client.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        let (mut seats, mut connections) = (0, 0);
        for (slot, number) in self.slots.iter().zip(0..) {
            let State::Open(allocation) = &slot.state else {
                seats += usize::from(matches!(slot.state, State::Opening(_)));
                continue;
            };
            for client in allocation.seats() {
                let arriving = client != allocation.client;
                let seat = Seat { slot: number, arriving };
                assert_eq!(self.seat(client), Some(seat), "{client:?} finds its allocation");
                seats += 1;
            }
            if let Some(session) = &allocation.owner.session {
                let id = AllocationId { slot: number, generation: slot.generation };
                let found = self.of_connection(session.numbered().connection);
                assert_eq!(found, Some(id), "a connection finds its allocation");
                connections += 1;
            }
        }
        assert_eq!(self.by_client.len(), seats, "no five-tuple finds what is over");
        assert_eq!(self.by_connection.len(), connections, "nor does a connection");
    }
}
