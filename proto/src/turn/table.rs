//! Five-tuple → slot → allocation.
//!
//! Slots never move and are reused with a new generation, so that an id kept too long finds
//! nothing. The map from five-tuples is only looked into, never walked: its order is not the same
//! from run to run.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use crate::addr::{AllocationId, FiveTuple};
use crate::turn::allocate::Opening;
use crate::turn::allocation::Allocation;

/// The allocations of one worker, opening and open.
#[derive(Debug)]
pub(crate) struct Table {
    by_client: HashMap<Key, u32, SeedableRandomState>,
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

/// What a five-tuple has.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Relayed sockets are being opened.
    Opening(AllocationId),
    /// An allocation.
    Open(AllocationId, &'a mut Allocation),
}

impl Table {
    /// Room for `capacity` allocations from the start, so that nothing moves under load. `secret`
    /// keeps clients from choosing addresses that collide.
    pub(crate) fn new(capacity: usize, secret: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(secret, SharedSeed::global_fixed());
        Self {
            by_client: HashMap::with_capacity_and_hasher(capacity, hasher),
            slots: Vec::with_capacity(capacity),
            free: Vec::new(),
        }
    }

    /// What a client has.
    #[inline]
    pub(crate) fn find(&mut self, client: FiveTuple) -> Option<Found<'_>> {
        let slot = *self.by_client.get(&client.into())?;
        let Slot { generation, state } = self.slots.get_mut(slot as usize)?;
        let id = AllocationId { slot, generation: *generation };
        match state {
            State::Free => None,
            State::Opening(_) => Some(Found::Opening(id)),
            State::Open(allocation) => Some(Found::Open(id, allocation)),
        }
    }

    /// The allocation of a client.
    #[inline]
    pub(crate) fn open_of(&mut self, client: FiveTuple) -> Option<(AllocationId, &mut Allocation)> {
        match self.find(client)? {
            Found::Opening(_) => None,
            Found::Open(id, allocation) => Some((id, allocation)),
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
        self.by_client.insert(client.into(), slot);
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
        self.slots[id.slot as usize].state = State::Open(allocation);
    }

    /// Frees a slot.
    pub(crate) fn vacate(&mut self, id: AllocationId, client: FiveTuple) {
        let slot = &mut self.slots[id.slot as usize];
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.by_client.remove(&client.into());
        self.free.push(id.slot);
    }

    /// Takes an allocation out and frees its slot.
    pub(crate) fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        self.open(id)?;
        let state = std::mem::replace(&mut self.slots[id.slot as usize].state, State::Free);
        let State::Open(allocation) = state else { return None };
        self.vacate(id, allocation.client);
        Some(allocation)
    }

    /// Whether a client has an allocation, opening or open.
    pub(crate) fn serves(&self, client: FiveTuple) -> bool {
        self.by_client.contains_key(&client.into())
    }

    /// Whether there is neither an opening nor an open allocation.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// Every open allocation, in order of its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        self.slots.iter().zip(0..).filter_map(|(slot, number)| match &slot.state {
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

    /// How many five-tuples are known.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }
}
