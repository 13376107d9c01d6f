//! What the kernel carried, kept by slot.
//!
//! The kernel counts datagrams and bytes of a leg in one word, which wraps: [`Reading`]. Readings
//! are compared before either part can have come round, and what lies between two of them is exact.

use std::collections::VecDeque;
use std::ops::Range;

use proto::policy::bandwidth::Direction;
use proto::turn::tally::{Flow, Usage};

use super::life::LIFE;
use super::program::Meter;

/// The bits of a reading that count bytes, and those above that count datagrams; as
/// `relay/xdp/abi.h` says.
const BYTES_BITS: u32 = 38;
const DATAGRAMS_BITS: u32 = u64::BITS - BYTES_BITS;

/// What one leg may carry in a second: more than a processor can send on, and what the fastest link
/// brings. The datagrams of a leg have one sender, which network cards bring to one queue, and so
/// to one processor.
const MOST_DATAGRAMS_PER_S: u64 = 6_000_000;
const MOST_BYTES_PER_S: u64 = 100_000_000_000 / 8;

/// A leg lives eleven seconds from a look at the longest. In these, six million datagrams a second
/// are 66,000,000 of 2²⁶ = 67,108,864; and 100 Gbit/s are 137,500,000,000 bytes of 2³⁸ =
/// 274,877,906,944.
const _: () = {
    assert!(LIFE.as_secs() * MOST_DATAGRAMS_PER_S < 1 << DATAGRAMS_BITS);
    assert!(LIFE.as_secs() * MOST_BYTES_PER_S < 1 << BYTES_BITS);
};

/// Counters of what one worker has the kernel relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadTally {
    /// Routes of which at least one direction is in the kernel.
    pub routes: u64,
    /// Routes that wait: a next hop is not known, or leads nowhere the program stands.
    pub waiting: u64,
    /// Routes that the kernel did not take, or had no room for.
    pub refused: u64,
    /// What it carried.
    pub carried: Usage,
}

/// The slots of one worker, and how far each was read.
#[derive(Debug)]
pub(super) struct Accounts {
    meter: Meter,
    /// The one that was free longest comes first: what a packet on its way still counts there is
    /// nobody else's.
    free: VecDeque<u32>,
}

/// A slot in use.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) slot: u32,
    read: Reading,
    /// What was seen and not drawn yet.
    seen: Flow,
}

/// What a leg has counted so far: datagrams times 2³⁸ and bytes of payload, wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading(u64);

impl Reading {
    /// One that the kernel's word says.
    pub(super) fn of(word: u64) -> Self {
        Self(word)
    }

    /// What came since an earlier one, if that is less than 2²⁶ datagrams and 2³⁸ bytes. Their
    /// difference is the sum of what was added between, whether bytes were carried over to
    /// datagrams or not: so much is below 2⁶⁴, and only one pair of parts makes it.
    pub fn since(self, before: Self) -> Flow {
        let added = self.0.wrapping_sub(before.0);
        Flow { packets: added >> BYTES_BITS, bytes: added & ((1 << BYTES_BITS) - 1) }
    }
}

impl Accounts {
    /// All free.
    pub(super) fn new(meter: Meter, slots: Range<u32>) -> Self {
        Self { meter, free: slots.collect() }
    }

    /// Opens one; `None` if all are in use.
    pub(super) fn open(&mut self) -> Option<Account> {
        let slot = self.free.pop_front()?;
        Some(Account { slot, read: self.meter.reading(slot), seen: Flow::default() })
    }

    /// Closes one, which has been drawn.
    pub(super) fn close(&mut self, account: &Account) {
        self.free.push_back(account.slot);
    }

    /// Sees what came to it. Whoever lets its leg live on does this before.
    pub(super) fn look(&self, account: &mut Account) {
        let reading = self.meter.reading(account.slot);
        let came = reading.since(std::mem::replace(&mut account.read, reading));
        account.seen += came;
    }

    /// What came to it since it was drawn last.
    pub(super) fn draw(&self, account: &mut Account) -> Flow {
        self.look(account);
        std::mem::take(&mut account.seen)
    }
}

/// A flow in one direction.
pub(super) fn usage(direction: Direction, flow: Flow) -> Usage {
    match direction {
        Direction::ToPeer => Usage { to_peer: flow, ..Usage::default() },
        Direction::ToClient => Usage { to_client: flow, ..Usage::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts as the program does.
    fn count(reading: Reading, bytes: u64) -> Reading {
        Reading(reading.0.wrapping_add((1 << BYTES_BITS) + bytes))
    }

    #[test]
    fn what_lies_between_two_readings_is_exact_wherever_the_first_one_is() {
        let most = (1_u64 << DATAGRAMS_BITS) - 1;
        let most_bytes = (1 << BYTES_BITS) - 1;
        for word in [0_u64, 1, most_bytes, most_bytes - 100, 1 << 63, u64::MAX, u64::MAX - 1_000] {
            for (packets, bytes) in
                [(0, 0), (1, 0), (1, 1_200), (most, 0), (1, most_bytes), (most, most_bytes)]
            {
                let before = Reading(word);
                let after = Reading(word.wrapping_add((packets << BYTES_BITS) + bytes));
                assert_eq!(after.since(before), Flow { packets, bytes }, "{word:#x}");
            }
        }
    }

    #[test]
    fn a_leg_that_is_looked_at_in_time_is_counted_to_the_byte_for_ever() {
        // As much as a leg may carry until it is looked at, a hundred times: both parts come round.
        let (each, times) = (4_000, 11_000_000_u64);
        let begin = count(Reading(u64::MAX - 5), 7);
        let (mut reading, mut sum) = (begin, Flow::default());
        for _ in 0..100 {
            let before = reading;
            let carried = (times << BYTES_BITS) + times * each;
            reading = Reading(reading.0.wrapping_add(carried));
            let came = reading.since(before);
            sum += came;
        }
        assert_eq!(sum, Flow { packets: 100 * times, bytes: 100 * times * each });
        assert!(sum.packets > 1 << DATAGRAMS_BITS && sum.bytes > 1 << BYTES_BITS);
        assert_ne!(reading.since(begin), sum, "a look that comes too late loses");
    }

    #[test]
    fn several_processors_count_as_one() {
        let rows = [u64::MAX - 3, 1 << BYTES_BITS, 77];
        let sum = |rows: [u64; 3]| Reading(rows.into_iter().fold(0, u64::wrapping_add));
        let after = rows.map(|row| count(count(Reading(row), 1_000), 200).0);
        assert_eq!(sum(after).since(sum(rows)), Flow { packets: 6, bytes: 3_600 });
    }
}
