//! What one client of this relay sends another: it never leaves the process.
//!
//! A datagram from one relayed address to another waits here for the next turn, as it would wait in
//! the queue of a socket. All share one room, which nobody may fill: an allocation has no more waiting
//! than is still free of three quarters of it. So one that is flooded gets half of them, and two come to
//! a third each. The last quarter is for allocations that have little waiting, as calls have.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU8;

use proto::addr::RelayId;
use proto::marks::{Datagram, Marks};

/// Bytes that may wait: more is dropped, as a full queue drops it.
const ROOM: usize = 512 * 1024;

/// Datagrams that may.
const MOST: usize = 2_048;

/// A quarter of both is kept for allocations with no more than this waiting.
const KEPT: usize = 4;
const LITTLE: Held = Held { bytes: 6_000, datagrams: 4 };

/// The hops of what brings none along.
const HOPS: NonZeroU8 = NonZeroU8::new(64).expect("it is not zero");

/// What waits for one allocation.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: usize,
    datagrams: usize,
}

impl Held {
    /// One more, of this size.
    fn and(self, size: usize) -> Self {
        Self { bytes: self.bytes + size, datagrams: self.datagrams + 1 }
    }

    fn fits(self, room: Self) -> bool {
        self.bytes <= room.bytes && self.datagrams <= room.datagrams
    }
}

/// Those that wait.
#[derive(Debug)]
pub(super) struct Within {
    /// What was given out already, and behind it what waits.
    bytes: Vec<u8>,
    given: usize,
    /// Each with its size.
    waiting: VecDeque<(RelayId, SocketAddr, Marks, usize)>,
    /// By the slot of the allocation.
    held: Vec<Held>,
}

impl Within {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(2 * ROOM),
            given: 0,
            waiting: VecDeque::with_capacity(MOST),
            held: Vec::new(),
        }
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one in that is made of pieces; false if there is no room for one more of this allocation.
    pub(super) fn put<'p>(
        &mut self,
        at: RelayId,
        (from, marks): (SocketAddr, Marks),
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> bool {
        let slot = at.allocation.slot as usize;
        if slot >= self.held.len() {
            self.held.resize(slot + 1, Held::default());
        }
        let size: usize = pieces.clone().map(<[u8]>::len).sum();
        if !self.has_room(self.held[slot].and(size)) {
            return false;
        }
        self.held[slot] = self.held[slot].and(size);
        pieces.for_each(|piece| self.bytes.extend_from_slice(piece));
        let marks = Marks { hops: marks.hops.or(Some(HOPS)), dont_fragment: false, ..marks };
        self.waiting.push_back((at, from, marks, size));
        true
    }

    /// Whether there is room for the last of what would be held for an allocation.
    fn has_room(&self, held: Held) -> bool {
        let waiting = self.bytes.len() - self.given;
        let free = Held { bytes: ROOM - waiting, datagrams: MOST - self.waiting.len() };
        let kept = usize::from(!held.fits(LITTLE));
        held.bytes + kept * ROOM / KEPT <= free.bytes
            && held.datagrams + kept * MOST / KEPT <= free.datagrams
    }

    /// Gives some out, in order.
    pub(super) fn take(
        &mut self,
        most: usize,
        each: &mut dyn FnMut(RelayId, SocketAddr, Datagram<'_>),
    ) {
        let Self { bytes, given, waiting, held } = self;
        for (at, from, marks, size) in waiting.drain(..most.min(waiting.len())) {
            let held = &mut held[at.allocation.slot as usize];
            held.bytes -= size;
            held.datagrams -= 1;
            each(at, from, Datagram { marks, bytes: &bytes[*given..*given + size] });
            *given += size;
        }
        // What waits is moved to the front once as much was given out as may ever wait.
        if waiting.is_empty() || *given >= ROOM {
            bytes.drain(..*given);
            *given = 0;
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes.clear();
        self.given = 0;
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use proto::addr::{AllocationId, Family};

    use super::*;

    /// The address of an allocation.
    fn at(slot: u32) -> RelayId {
        RelayId { allocation: AllocationId { slot, generation: 2 }, family: Family::V4 }
    }

    fn from() -> SocketAddr {
        "192.0.2.1:50000".parse().unwrap()
    }

    const MARKS: Marks = Marks { class: 0xB8, hops: None, dont_fragment: true };

    /// Puts one in of this size, whose last byte is a mark.
    fn put(within: &mut Within, slot: u32, size: usize, mark: u8) -> bool {
        let body = vec![7; size - 1];
        within.put(at(slot), (from(), MARKS), [&body[..], &[mark]].into_iter())
    }

    /// How many more are taken in.
    fn fill(within: &mut Within, slot: u32, size: usize) -> usize {
        (0..=MOST).find(|_| !put(within, slot, size, 0)).expect("a bound")
    }

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        let mut within = Within::new();
        let mut seen = Vec::new();
        for round in 0..100_u8 {
            for part in 0..2 {
                assert!(put(&mut within, 1, 60_001, 2 * round + part));
            }
            // One stays behind, so that what waits begins anywhere.
            let most = if round == 0 { 1 } else { 2 };
            within.take(most, &mut |to, source, datagram| {
                assert_eq!((to, source, datagram.bytes.len()), (at(1), from(), 60_001));
                assert_eq!((datagram.marks.class, datagram.marks.hops), (0xB8, Some(HOPS)));
                seen.push(datagram.bytes[60_000]);
            });
            assert!(within.bytes.len() <= 2 * ROOM, "it does not grow");
        }
        assert_eq!(seen, (0..199).collect::<Vec<u8>>());
        within.take(MOST, &mut |_, _, _| {});
        assert!(within.is_empty());
    }

    #[test]
    fn sec_010_nobody_fills_the_room_of_others() {
        for size in [1, 100, 1_000] {
            let mut within = Within::new();
            let alone = fill(&mut within, 1, size);
            let most = MOST.min(ROOM / size) * 3 / 8;
            assert!(alone.abs_diff(most) <= 1, "{size}: {alone} of {most} are for one");
            for slot in 2..20 {
                fill(&mut within, slot, size);
            }
            for packet in 0..LITTLE.datagrams {
                assert!(put(&mut within, 100, size, 0), "{size}: packet {packet} of a call");
            }
        }
    }

    #[test]
    fn what_was_given_out_makes_room_again() {
        let mut within = Within::new();
        let most = fill(&mut within, 1, 1_000);
        for _ in 0..100 {
            within.take(10, &mut |_, _, _| {});
            assert_eq!(fill(&mut within, 1, 1_000), 10);
        }
        within.take(MOST, &mut |_, _, _| {});
        assert_eq!(fill(&mut within, 1, 1_000), most);
        within.clear();
        assert_eq!(fill(&mut within, 1, 1_000), most);
    }
}
