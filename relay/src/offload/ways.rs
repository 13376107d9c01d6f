//! Which way out stands where in the kernel's table.
//!
//! Legs that leave from one address by one next hop share a way. It is written once, before the
//! first of them names it, and another one in its place when none has named it for long: so no
//! packet leaves with half of one way and half of another, whatever it was doing meanwhile. A next
//! hop that changes is another way, to which its legs move one by one.
//!
//! Each worker has a part of the table to itself. Knows no kernel: [`Legs`](super::Legs) writes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::life::LIFE;
use crate::sys::{MOST_WAYS, Way};

/// How long a way rests that no leg names any more, before another one is written in its place:
/// longer than a leg lives that nobody renews, and than a processor may be stuck with one packet
/// until the kernel takes it for broken (21 seconds).
pub(super) const REST: Duration = Duration::from_secs(30);

const _: () = assert!(REST.as_secs() > LIFE.as_secs());

/// Legs for each of which there is room for a way of its own, and how many share one beyond.
const FEW: u32 = 512;
const SHARED_BY: u32 = 32;

/// Room for the ways of so many legs of one worker: clients and peers lie behind few gateways, or
/// are neighbours of this host, of which its own stack keeps some hundreds.
pub fn ways_of(legs: u32) -> u32 {
    legs.min(FEW).max(legs / SHARED_BY).min(MOST_WAYS)
}

/// The ways of one worker's legs.
#[derive(Debug)]
pub(super) struct Ways {
    known: BTreeMap<Way, Named>,
    /// Those that no leg names, by when that began.
    resting: BTreeMap<(Instant, u32), Way>,
    /// Where none was written yet.
    blank: Range<u32>,
}

/// A way in the table.
#[derive(Debug)]
struct Named {
    index: u32,
    is_written: bool,
    by: Naming,
}

#[derive(Debug)]
enum Naming {
    /// So many legs, of which there is one at least.
    Legs(u32),
    /// None since then.
    Nobody(Instant),
}

/// Where a way stands that one more leg names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) index: u32,
    /// Whether it is to be written there first.
    pub(super) is_new: bool,
}

impl Ways {
    /// None yet, and room at these indices.
    pub(super) fn new(indices: Range<u32>) -> Self {
        Self { known: BTreeMap::new(), resting: BTreeMap::new(), blank: indices }
    }

    /// One more leg names a way; `None` if there is no room for it.
    pub(super) fn hold(&mut self, now: Instant, way: &Way) -> Option<Held> {
        if let Some(named) = self.known.get_mut(way) {
            let legs = match named.by {
                Naming::Legs(legs) => legs + 1,
                Naming::Nobody(since) => {
                    self.resting.remove(&(since, named.index));
                    1
                }
            };
            named.by = Naming::Legs(legs);
            return Some(Held { index: named.index, is_new: !named.is_written });
        }
        let index = self.blank.next().or_else(|| self.forget(now))?;
        self.known.insert(*way, Named { index, is_written: false, by: Naming::Legs(1) });
        Some(Held { index, is_new: true })
    }

    /// A way that is held was written where it stands.
    pub(super) fn wrote(&mut self, way: &Way) {
        if let Some(named) = self.known.get_mut(way) {
            named.is_written = true;
        }
    }

    /// One leg less names a way.
    pub(super) fn release(&mut self, now: Instant, way: &Way) {
        let Some(named) = self.known.get_mut(way) else { return };
        match named.by {
            Naming::Legs(legs @ 2..) => named.by = Naming::Legs(legs - 1),
            Naming::Legs(_) => {
                named.by = Naming::Nobody(now);
                self.resting.insert((now, named.index), *way);
            }
            Naming::Nobody(_) => {}
        }
    }

    /// Forgets the way that no leg has named for longest, if that is long enough; where it stood.
    fn forget(&mut self, now: Instant) -> Option<u32> {
        let first = self.resting.first_entry()?;
        let (since, index) = *first.key();
        if since + REST > now {
            return None;
        }
        self.known.remove(&first.remove());
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::KernelClock;

    fn way(number: u8) -> Way {
        Way { to_mac: [number; 6], ..Way::default() }
    }

    /// Holds a way as one that is written where it is new does; where it stands, and whether it is.
    fn hold(ways: &mut Ways, now: Instant, number: u8) -> Option<(u32, bool)> {
        let Held { index, is_new } = ways.hold(now, &way(number))?;
        ways.wrote(&way(number));
        Some((index, is_new))
    }

    #[test]
    fn legs_share_a_way_that_is_written_once() {
        let now = KernelClock::look().unwrap().made();
        let mut ways = Ways::new(7..9);
        assert_eq!(hold(&mut ways, now, 1), Some((7, true)));
        assert_eq!(hold(&mut ways, now, 2), Some((8, true)));
        for _ in 0..100 {
            assert_eq!(hold(&mut ways, now, 1), Some((7, false)));
        }
        assert_eq!(hold(&mut ways, now, 3), None, "there is no room for a third");
        assert_eq!(hold(&mut ways, now, 2), Some((8, false)), "those that are known stay");
    }

    #[test]
    fn another_way_takes_a_place_when_no_leg_has_named_it_for_long() {
        let begin = KernelClock::look().unwrap().made();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut ways = Ways::new(0..2);
        hold(&mut ways, begin, 1);
        hold(&mut ways, begin, 1);
        hold(&mut ways, begin, 2);
        ways.release(at(1), &way(1));
        assert_eq!(hold(&mut ways, at(100), 3), None, "one leg still names it");
        ways.release(at(100), &way(1));
        ways.release(at(101), &way(2));
        assert_eq!(hold(&mut ways, at(129), 3), None, "a packet could still be on its way");
        assert_eq!(hold(&mut ways, at(130), 3), Some((0, true)));
        assert_eq!(hold(&mut ways, at(130), 1), None, "the other one rests longer");
        assert_eq!(hold(&mut ways, at(131), 1), Some((1, true)));
        assert_eq!(hold(&mut ways, at(1_000), 2), None, "legs name both");
    }

    #[test]
    fn a_way_that_rests_is_taken_up_again_as_it_stands() {
        let begin = KernelClock::look().unwrap().made();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut ways = Ways::new(0..1);
        for round in 0..10 {
            assert_eq!(hold(&mut ways, at(round), 1), Some((0, round == 0)), "{round}");
            ways.release(at(round), &way(1));
        }
        assert_eq!(hold(&mut ways, at(38), 2), None, "it rests since the last round");
        assert_eq!(hold(&mut ways, at(38), 1), Some((0, false)));
        assert_eq!(hold(&mut ways, at(100), 2), None, "it rests no more");
        assert_eq!((ways.known.len(), ways.resting.len()), (1, 0));
    }

    #[test]
    fn what_nobody_holds_cannot_be_released() {
        let now = KernelClock::look().unwrap().made();
        let mut ways = Ways::new(0..1);
        ways.release(now, &way(1));
        hold(&mut ways, now, 1);
        ways.release(now, &way(1));
        ways.release(now + REST, &way(1));
        assert_eq!(hold(&mut ways, now + REST, 2), Some((0, true)), "it rests since it first did");
    }

    #[test]
    fn a_way_is_new_until_it_was_written() {
        let now = KernelClock::look().unwrap().made();
        let mut ways = Ways::new(0..1);
        assert_eq!(ways.hold(now, &way(1)), Some(Held { index: 0, is_new: true }));
        ways.release(now, &way(1));
        assert_eq!(hold(&mut ways, now, 1), Some((0, true)), "the kernel had not taken it");
        assert_eq!(hold(&mut ways, now, 1), Some((0, false)));
    }

    #[test]
    fn there_is_room_for_the_ways_of_few_legs_and_for_a_share_of_many() {
        for (legs, ways) in
            [(0, 0), (2, 2), (512, 512), (16_384, 512), (20_000, 625), (u32::MAX, MOST_WAYS)]
        {
            assert_eq!(ways_of(legs), ways, "{legs} legs");
        }
    }
}
