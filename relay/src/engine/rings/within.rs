//! What one client of this relay sends another: it never leaves the process.
//!
//! A datagram from one relayed address to another waits here for the next turn, as it would wait in
//! the queue of a socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::ops::Range;

use proto::addr::RelayId;
use proto::marks::{Datagram, Marks};

/// Bytes that may wait: more is dropped, as a full queue drops it.
const ROOM: usize = 256 * 1024;

/// Datagrams that may.
const MOST: usize = 1_024;

/// The hops of what brings none along.
const HOPS: NonZeroU8 = NonZeroU8::new(64).expect("it is not zero");

/// Those that wait.
#[derive(Debug)]
pub(super) struct Within {
    bytes: Vec<u8>,
    waiting: VecDeque<(RelayId, SocketAddr, Marks, Range<usize>)>,
}

impl Within {
    /// None.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(ROOM), waiting: VecDeque::with_capacity(MOST) }
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one in that is made of pieces; false if there is no room.
    pub(super) fn put<'p>(
        &mut self,
        at: RelayId,
        (from, marks): (SocketAddr, Marks),
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> bool {
        let begin = self.bytes.len();
        for piece in pieces {
            if self.bytes.len() + piece.len() > ROOM || self.waiting.len() == MOST {
                self.bytes.truncate(begin);
                return false;
            }
            self.bytes.extend_from_slice(piece);
        }
        let marks = Marks { hops: marks.hops.or(Some(HOPS)), dont_fragment: false, ..marks };
        self.waiting.push_back((at, from, marks, begin..self.bytes.len()));
        true
    }

    /// Gives some out, in order.
    pub(super) fn take(
        &mut self,
        most: usize,
        each: &mut dyn FnMut(RelayId, SocketAddr, Datagram<'_>),
    ) {
        for (at, from, marks, range) in self.waiting.drain(..most.min(self.waiting.len())) {
            each(at, from, Datagram { marks, bytes: &self.bytes[range] });
        }
        if self.waiting.is_empty() {
            self.bytes.clear();
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use proto::addr::{AllocationId, Family};

    use super::*;

    const AT: RelayId =
        RelayId { allocation: AllocationId { slot: 1, generation: 2 }, family: Family::V4 };

    #[test]
    fn what_is_put_in_comes_out_in_order_and_no_more_than_there_is_room_for() {
        let mut within = Within::new();
        let from: SocketAddr = "192.0.2.1:50000".parse().unwrap();
        let marks = Marks { class: 0xB8, hops: None, dont_fragment: true };
        let large = vec![7; 60_000];
        let mut taken = 0;
        while within.put(AT, (from, marks), [&large[..], &[taken]].into_iter()) {
            taken += 1;
        }
        assert_eq!(usize::from(taken), ROOM / 60_001);
        let mut seen = Vec::new();
        for most in [1, 0, MOST] {
            within.take(most, &mut |at, source, datagram| {
                assert_eq!((at, source, datagram.bytes.len()), (AT, from, 60_001));
                assert_eq!((datagram.marks.class, datagram.marks.hops), (0xB8, Some(HOPS)));
                seen.push(datagram.bytes[60_000]);
            });
        }
        assert_eq!(seen, (0..taken).collect::<Vec<_>>());
        assert!(within.is_empty() && within.put(AT, (from, marks), [&large[..]].into_iter()));
        within.clear();
        for _ in 0..MOST {
            assert!(within.put(AT, (from, marks), [&[][..]].into_iter()));
        }
        assert!(!within.put(AT, (from, marks), [&[][..]].into_iter()), "that many are enough");
    }
}
