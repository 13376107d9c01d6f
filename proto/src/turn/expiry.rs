//! Deadlines of allocations: one for each, the earliest of everything it holds.
//!
//! An ordered set of (instant, allocation). What lives inside an allocation — its relayed
//! addresses, permissions, channels — has its own deadlines there; when the earliest is due, the
//! allocation drops what is over and is armed anew. A refresh that only moves deadlines back
//! changes nothing here, and the set never holds more entries than there are allocations.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::addr::AllocationId;

/// The deadlines of one worker.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    deadlines: BTreeSet<(Instant, AllocationId)>,
    next: Option<Instant>,
}

impl Expiry {
    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Arms an allocation.
    pub(crate) fn arm(&mut self, at: Instant, id: AllocationId) {
        self.deadlines.insert((at, id));
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// Takes a deadline back.
    pub(crate) fn disarm(&mut self, at: Instant, id: AllocationId) {
        self.deadlines.remove(&(at, id));
        self.next = self.deadlines.first().map(|(at, _)| *at);
    }

    /// Takes the first allocation whose deadline has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<AllocationId> {
        if self.next? > now {
            return None;
        }
        let (_, id) = self.deadlines.pop_first()?;
        self.next = self.deadlines.first().map(|(at, _)| *at);
        Some(id)
    }

    /// How many allocations are armed.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether an allocation is armed for this instant.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn is_armed(&self, at: Instant, id: AllocationId) -> bool {
        self.deadlines.contains(&(at, id))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::now::tests::start;

    #[test]
    fn deadlines_come_in_order_and_once() {
        let begin = start().mono;
        let at = |s| begin + Duration::from_secs(s);
        let id = |slot| AllocationId { slot, generation: 0 };
        let mut expiry = Expiry::default();
        for (second, slot) in [(30, 3), (10, 1), (20, 2), (10, 4)] {
            expiry.arm(at(second), id(slot));
        }
        expiry.disarm(at(20), id(2));
        assert_eq!(expiry.next(), Some(at(10)));
        assert_eq!(expiry.due(at(9)), None);
        assert_eq!(expiry.due(at(10)), Some(id(1)));
        assert_eq!(expiry.due(at(10)), Some(id(4)));
        assert_eq!(expiry.due(at(29)), None);
        assert_eq!(expiry.due(at(31)), Some(id(3)));
        assert_eq!((expiry.next(), expiry.len()), (None, 0));
    }
}
