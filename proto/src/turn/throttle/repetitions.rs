//! Requests that were not answered, and come again.
//!
//! Who hears nothing asks again, in the very same words: after half a second, a second, two (RFC
//! 8489 §6.2.1). Who forges sources has new ones to send. So of each request that is let go
//! unanswered a fixed table remembers for some seconds how often that was, by a keyed hash of its
//! five-tuple and transaction. A repetition counts once, and only a while after the one before:
//! whoever sends everything twice at once has repeated nothing.
//!
//! Each place of the table is one word. Where all that a hash may take are in use, the request
//! that came least often goes, of those the oldest: with every source of a network at it, 80,000
//! requests a second, one is still remembered for more than a second.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::quality::SeedableRandomState;

use super::{Question, hasher};

/// Places for one hash.
const WAYS: usize = 4;

/// So many times as many; half a mebibyte.
const SETS: usize = 32_768;

/// How often a request may have been let go, and be told from one that was less often.
pub(super) const MOST: u32 = 3;

/// Bits of nanoseconds that are not kept: what is left counts in 17 ms.
const COARSE: u32 = 24;

/// Time wraps after so many of these, 69 s: only what has the same hash could be mistaken.
const TICKS: u32 = 1 << 12;

/// After so many a request that comes again is a repetition: 150 ms. No client repeats sooner.
const SOONEST: u32 = 9;

/// Until so many it is remembered: 6 s, so that a client's first five sends are one row.
const LATEST: u32 = 358;

/// Requests that were let go lately.
#[derive(Debug)]
pub(super) struct Repetitions {
    sets: Box<[[AtomicU32; WAYS]]>,
    hasher: SeedableRandomState,
}

/// What stands for a request, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    set: usize,
    tag: u32,
}

/// What a place of the table says: 18 bits of hash, 12 of time, 2 that count.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Repetitions {
    pub(super) fn new(secret: u64) -> Self {
        let set = || [const { AtomicU32::new(0) }; WAYS];
        Self { sets: (0..SETS).map(|_| set()).collect(), hasher: hasher(secret) }
    }

    pub(super) fn mark(&self, question: &Question<'_>) -> Mark {
        let hash = self.hasher.hash_one((question.from, question.transaction));
        let set = usize::try_from(hash % SETS as u64).unwrap_or(0);
        Mark { set, tag: u32::try_from(hash >> 46).unwrap_or(0) }
    }

    /// How often a request came before and was let go each time, a while after the time before:
    /// [`MOST`] at most.
    pub(super) fn before(&self, mark: Mark, now: u64) -> u32 {
        let found = self.place(mark).map(|place| Entry(place.load(Ordering::Relaxed)));
        let due = |it: &Entry| (SOONEST..=LATEST).contains(&it.age(ticks(now)));
        found.filter(due).map_or(0, Entry::times)
    }

    /// A request is let go.
    pub(super) fn let_go(&self, mark: Mark, now: u64) {
        let ticks = ticks(now);
        if let Some(place) = self.place(mark) {
            let found = Entry(place.load(Ordering::Relaxed));
            let times = match found.age(ticks) {
                ..SOONEST => return,
                SOONEST..=LATEST => (found.times() + 1).min(MOST),
                _ => 1,
            };
            place.store(Entry::new(mark, ticks, times).0, Ordering::Relaxed);
        } else if let Some(place) = self.sets[mark.set].iter().min_by_key(|place| {
            let found = Entry(place.load(Ordering::Relaxed));
            let age = found.age(ticks);
            (if age > LATEST { 0 } else { found.times() }, TICKS - age)
        }) {
            place.store(Entry::new(mark, ticks, 1).0, Ordering::Relaxed);
        }
    }

    /// A request is answered: should it come again, it has to wait like any other.
    pub(super) fn settle(&self, mark: Mark) {
        if let Some(place) = self.place(mark) {
            place.store(0, Ordering::Relaxed);
        }
    }

    fn place(&self, mark: Mark) -> Option<&AtomicU32> {
        let is_its = |it: Entry| it.times() > 0 && it.tag() == mark.tag;
        self.sets[mark.set].iter().find(|place| is_its(Entry(place.load(Ordering::Relaxed))))
    }
}

impl Entry {
    fn new(mark: Mark, ticks: u32, times: u32) -> Self {
        Self(mark.tag << 14 | ticks << 2 | times)
    }

    fn tag(self) -> u32 {
        self.0 >> 14
    }

    /// How often; 0 if nothing is there.
    fn times(self) -> u32 {
        self.0 & MOST
    }

    fn age(self, ticks: u32) -> u32 {
        ticks.wrapping_sub(self.0 >> 2) % TICKS
    }
}

fn ticks(now: u64) -> u32 {
    u32::try_from(now >> COARSE & u64::from(TICKS - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::About;
    use super::*;
    use crate::addr::{ClientAddr, FiveTuple, ListenerId};

    fn at(port: u16, transaction: &[u8]) -> Question<'_> {
        let client = ClientAddr::new(SocketAddr::from(([192, 0, 2, 1], port)));
        let from = FiveTuple { listener: ListenerId(0), client };
        Question { from, transaction, about: About::Address }
    }

    fn ms(ms: u64) -> u64 {
        ms * 1_000_000
    }

    #[test]
    fn sec_007_a_repetition_is_known_when_it_comes_as_clients_send_it() {
        for (case, sent, expected) in [
            ("RFC 8489", &[0, 500, 1_500, 3_500, 7_500][..], &[0, 1, 2, 3, 3][..]),
            ("from a quarter of a second", &[0, 250, 750, 1_750], &[0, 1, 2, 3]),
            ("twice at once", &[0, 0, 10, 140, 500], &[0, 0, 0, 0, 1]),
            ("as fast as may be", &[0, 170, 340, 510, 680], &[0, 1, 2, 3, 3]),
            ("after a pause", &[0, 6_100, 6_600], &[0, 0, 1]),
        ] {
            let repetitions = Repetitions::new(1);
            let mark = repetitions.mark(&at(1, b"a"));
            let seen = sent.iter().map(|&after| {
                let before = repetitions.before(mark, ms(after));
                repetitions.let_go(mark, ms(after));
                before
            });
            assert_eq!(seen.collect::<Vec<_>>(), expected, "{case}");
        }
    }

    #[test]
    fn sec_007_who_was_answered_and_who_asks_otherwise_has_repeated_nothing() {
        let repetitions = Repetitions::new(1);
        let mark = repetitions.mark(&at(1, b"a"));
        repetitions.let_go(mark, 0);
        for (case, other) in [("a port", at(2, b"a")), ("a transaction", at(1, b"b"))] {
            assert_eq!(repetitions.before(repetitions.mark(&other), ms(500)), 0, "another {case}");
        }
        assert_eq!(repetitions.before(mark, ms(500)), 1);
        repetitions.settle(mark);
        assert_eq!(repetitions.before(mark, ms(500)), 0, "it is good once");
    }

    #[test]
    fn sec_007_a_request_is_remembered_while_floods_pass() {
        for (case, first_sights_per_ms, kept) in [("3,000 a second", 3, 990), ("80,000", 80, 900)] {
            let repetitions = Repetitions::new(1);
            let good: Vec<_> = (0..1_000).map(|n| repetitions.mark(&at(n, b"good"))).collect();
            for mark in &good {
                repetitions.let_go(*mark, 0);
            }
            for n in 0..500 * first_sights_per_ms {
                let transaction = u32::to_be_bytes(n);
                let mark = repetitions.mark(&at(7, &transaction));
                repetitions.let_go(mark, ms(u64::from(n / first_sights_per_ms)));
            }
            let known = good.iter().filter(|mark| repetitions.before(**mark, ms(500)) == 1);
            let known = known.count();
            assert!(known >= kept, "{case}: {known}");
        }
    }
}
