//! The relayed ports of one worker.
//!
//! Ports are kept in pairs (N even, N + 1), because EVEN-PORT wants one and the successor of an
//! even port must belong to the same worker. A pair lies in one of three lists, by which of its
//! halves are free; drawing at random and putting back cost O(1). A port that was used rests
//! before it is given out again, unless no port at all is left: then what fits and has rested
//! longest serves, and everything else rests on.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::addr::{Family, RelayedAddr};
use crate::policy::Edge;
use crate::request::Parity;
use crate::turn::config::Share;
use crate::turn::random::Random;

/// Halves of a pair, as bits.
const EVEN: u8 = 1;
const ODD: u8 = 2;
const BOTH: u8 = EVEN | ODD;

/// The relayed ports of one worker, over all relay addresses.
#[derive(Debug)]
pub(crate) struct Ports {
    pools: Vec<Pool>,
    workers: u16,
}

impl Ports {
    /// Every port of `range` that is this worker's share, on every relay address.
    pub(crate) fn new(edge: &Edge, range: &RangeInclusive<u16>, share: Share) -> Self {
        let relays = Family::ALL.into_iter().flat_map(|family| edge.relays(family));
        let pools = relays.map(|relay| Pool::new(relay.local, range, share)).collect();
        Self { pools, workers: share.of }
    }

    /// Whether there is a relay address of this family.
    pub(crate) fn serves(&self, family: Family) -> bool {
        self.pools.iter().any(|pool| Family::of(pool.local) == family)
    }

    /// The worker whose share a port belongs to.
    pub(crate) fn owner(&self, relayed: RelayedAddr) -> u16 {
        (relayed.port() / 2) % self.workers
    }

    /// Draws a port; `None` when no free or resting one fits.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        family: Family,
        parity: Parity,
        random: &mut Random,
    ) -> Option<RelayedAddr> {
        for pool in self.of(family) {
            pool.wake(now);
        }
        if self.of(family).all(|pool| pool.free(Parity::Any) == 0) {
            self.rouse(family, parity);
        }
        let fitting = self.of(family).map(|pool| pool.free(parity)).sum();
        // Every fitting port of the family is equally likely.
        let mut nth = if fitting == 0 { return None } else { random.below(fitting) };
        for pool in self.of(family) {
            match nth.checked_sub(pool.free(parity)) {
                Some(rest) => nth = rest,
                None => return pool.take(nth, parity),
            }
        }
        None
    }

    /// Gives a port back that was never used: it is free at once.
    pub(crate) fn put(&mut self, relayed: RelayedAddr) {
        if let Some(pool) = self.pool(relayed) {
            pool.set(relayed.port(), true);
        }
    }

    /// Gives a used port back: it rests until `until`.
    pub(crate) fn rest(&mut self, relayed: RelayedAddr, until: Instant) {
        if let Some(pool) = self.pool(relayed) {
            pool.rest(relayed.port(), until);
        }
    }

    /// Ports in the share.
    pub(crate) fn total(&self) -> usize {
        self.pools.iter().map(|pool| pool.total).sum()
    }

    /// Ports in use or reserved.
    pub(crate) fn used(&self) -> usize {
        self.total()
            - self
                .pools
                .iter()
                .map(|pool| pool.free(Parity::Any) + pool.resting.len())
                .sum::<usize>()
    }

    /// Panics unless every list holds the pairs it should.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        for pool in &self.pools {
            let listed: usize = pool.lists.iter().map(Vec::len).sum();
            let free = pool.free.iter().filter(|halves| **halves != 0).count();
            assert_eq!(listed, free, "a pair with a free half is listed, once");
            assert!(pool.free(Parity::Any) + pool.resting.len() <= pool.total, "no port twice");
            let asleep: u32 = pool.asleep.iter().map(|halves| halves.count_ones()).sum();
            assert_eq!(asleep as usize, pool.resting.len(), "what rests is marked");
            let whole = pool.asleep.iter().map(|halves| usize::from(*halves == BOTH));
            assert_eq!(whole.sum::<usize>(), pool.whole, "pairs that rest whole are counted");
        }
    }

    /// Frees the one draw that has rested longest, if one fits.
    fn rouse(&mut self, family: Family, parity: Parity) {
        let fitting = self.of(family).filter_map(|pool| Some((pool.oldest(parity)?, pool)));
        if let Some(((_, port), pool)) = fitting.min_by_key(|((until, _), _)| *until) {
            pool.rouse(port, parity);
        }
    }

    fn of(&mut self, family: Family) -> impl Iterator<Item = &mut Pool> {
        self.pools.iter_mut().filter(move |pool| Family::of(pool.local) == family)
    }

    fn pool(&mut self, relayed: RelayedAddr) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.local == relayed.ip() && pool.has(relayed.port()))
    }
}

/// The ports of one relay address.
#[derive(Debug)]
struct Pool {
    local: IpAddr,
    /// Number of the share's first pair; the next is `step` further.
    first: u16,
    step: u16,
    total: usize,
    /// Which halves of each pair are in the range, and which of them are free.
    inside: Vec<u8>,
    free: Vec<u8>,
    /// Pairs by the halves that are free; each pair's place in its list.
    lists: [Vec<u16>; 4],
    places: Vec<u16>,
    /// Ports that rest, in order of their release.
    resting: VecDeque<(Instant, u16)>,
    /// Which halves of each pair rest, and of how many pairs both.
    asleep: Vec<u8>,
    whole: usize,
}

impl Pool {
    fn new(local: IpAddr, range: &RangeInclusive<u16>, share: Share) -> Self {
        let (low, high) = (*range.start() / 2, *range.end() / 2);
        let ahead = (u32::from(share.index) + u32::from(share.of) - u32::from(low % share.of))
            % u32::from(share.of);
        let first = u32::from(low) + ahead;
        let mut pool = Self {
            local,
            first: u16::try_from(first).unwrap_or(u16::MAX),
            step: share.of,
            total: 0,
            inside: Vec::new(),
            free: Vec::new(),
            lists: Default::default(),
            places: Vec::new(),
            resting: VecDeque::new(),
            asleep: Vec::new(),
            whole: 0,
        };
        for pair in (first..=u32::from(high)).step_by(usize::from(share.of)) {
            let half = |bit: u32| u16::try_from(pair * 2 + bit).is_ok_and(|p| range.contains(&p));
            let inside = (u8::from(half(0)) * EVEN) | (u8::from(half(1)) * ODD);
            pool.total += inside.count_ones() as usize;
            pool.inside.push(inside);
            pool.free.push(0);
            pool.asleep.push(0);
            pool.places.push(0);
            pool.move_to(pool.free.len() - 1, inside);
        }
        pool
    }

    fn has(&self, port: u16) -> bool {
        self.locate(port).is_some_and(|(pair, half)| self.inside[pair] & half != 0)
    }

    /// Index of the port's pair, and its half.
    fn locate(&self, port: u16) -> Option<(usize, u8)> {
        let distance = (port / 2).checked_sub(self.first)?;
        let pair = usize::from(distance / self.step);
        let ours = distance % self.step == 0 && pair < self.free.len();
        ours.then_some((pair, if port.is_multiple_of(2) { EVEN } else { ODD }))
    }

    /// How many draws of this kind are possible.
    fn free(&self, parity: Parity) -> usize {
        let [_, even, odd, both] = &self.lists;
        match parity {
            Parity::Any => even.len() + odd.len() + 2 * both.len(),
            Parity::Even => even.len() + both.len(),
            Parity::Pair => both.len(),
        }
    }

    /// Takes the `nth` possible draw.
    fn take(&mut self, nth: usize, parity: Parity) -> Option<RelayedAddr> {
        let [_, even, odd, both] = &self.lists;
        let (pair, half) = match parity {
            Parity::Pair => (*both.get(nth)?, EVEN),
            Parity::Even => (*both.get(nth).or_else(|| even.get(nth - both.len()))?, EVEN),
            Parity::Any if nth < 2 * both.len() => {
                (both[nth / 2], if nth.is_multiple_of(2) { EVEN } else { ODD })
            }
            Parity::Any => {
                let nth = nth - 2 * both.len();
                match even.get(nth) {
                    Some(pair) => (*pair, EVEN),
                    None => (*odd.get(nth - even.len())?, ODD),
                }
            }
        };
        let port = (self.first + pair * self.step) * 2 + u16::from(half == ODD);
        self.set(port, false);
        if parity == Parity::Pair {
            self.set(port + 1, false);
        }
        Some(RelayedAddr::new(SocketAddr::new(self.local, port)))
    }

    fn set(&mut self, port: u16, free: bool) {
        if let Some((pair, half)) = self.locate(port) {
            let halves = if free { self.free[pair] | half } else { self.free[pair] & !half };
            self.move_to(pair, halves & self.inside[pair]);
        }
    }

    /// Moves a pair into the list of its free halves.
    fn move_to(&mut self, pair: usize, halves: u8) {
        let before = usize::from(self.free[pair]);
        if before != 0 {
            let place = usize::from(self.places[pair]);
            self.lists[before].swap_remove(place);
            if let Some(&moved) = self.lists[before].get(place) {
                self.places[usize::from(moved)] = self.places[pair];
            }
        }
        self.free[pair] = halves;
        if halves != 0 {
            let list = &mut self.lists[usize::from(halves & BOTH)];
            self.places[pair] = u16::try_from(list.len()).unwrap_or(u16::MAX);
            list.push(u16::try_from(pair).unwrap_or(u16::MAX));
        }
    }

    fn rest(&mut self, port: u16, until: Instant) {
        self.resting.push_back((until, port));
        self.mark(port, true);
    }

    /// Frees what has rested long enough.
    fn wake(&mut self, now: Instant) {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.free_resting(0);
        }
    }

    /// Frees the port that rests at this place; those near the front cost little.
    fn free_resting(&mut self, place: usize) {
        if let Some((_, port)) = self.resting.remove(place) {
            self.mark(port, false);
            self.set(port, true);
        }
    }

    /// Marks whether a port rests.
    fn mark(&mut self, port: u16, rests: bool) {
        if let Some((pair, half)) = self.locate(port) {
            let before = self.asleep[pair];
            let after = if rests { before | half } else { before & !half };
            self.asleep[pair] = after;
            self.whole -= usize::from(before == BOTH);
            self.whole += usize::from(after == BOTH);
        }
    }

    /// Of the draws that rest whole, the one that has rested longest: until when, and its first
    /// port.
    fn oldest(&self, parity: Parity) -> Option<(Instant, u16)> {
        let mut resting = self.resting.iter().copied();
        match parity {
            Parity::Any => resting.next(),
            Parity::Even => resting.find(|(_, port)| port.is_multiple_of(2)),
            // A request that finds none must not cost a look at all of them.
            Parity::Pair if self.whole == 0 => None,
            Parity::Pair => {
                let mut halves = BTreeSet::new();
                let is_whole =
                    |port| self.locate(port).is_some_and(|(pair, _)| self.asleep[pair] == BOTH);
                let mut resting = resting.filter(|(_, port)| is_whole(*port));
                let whole = resting.find(|(_, port)| !halves.insert(port / 2));
                whole.map(|(until, port)| (until, port & !1))
            }
        }
    }

    /// Frees a draw that rests.
    fn rouse(&mut self, port: u16, parity: Parity) {
        let last = if parity == Parity::Pair { port + 1 } else { port };
        for port in port..=last {
            if let Some(place) = self.resting.iter().position(|(_, resting)| *resting == port) {
                self.free_resting(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::now::tests::start;
    use crate::policy::RelayAddress;

    fn ports(range: RangeInclusive<u16>, index: u16, of: u16) -> Ports {
        let ip = IpAddr::from([192, 0, 2, 1]);
        let relay = RelayAddress { local: ip, advertised: ip };
        Ports::new(&Edge::new(vec![], vec![relay], vec![]), &range, Share { index, of })
    }

    fn random() -> Random {
        Random::new([5; 32], 0)
    }

    #[test]
    fn alloc_021_ports_are_unique_in_range_and_in_no_order() {
        let (now, mut random) = (start().mono, random());
        let mut seen = BTreeSet::new();
        let mut successors = 0;
        for index in 0..3 {
            let mut ports = ports(50_001..=50_998, index, 3);
            let mut last = 0;
            while let Some(relayed) = ports.take(now, Family::V4, Parity::Any, &mut random) {
                assert_eq!(ports.owner(relayed), index);
                assert!((50_001..=50_998).contains(&relayed.port()));
                assert!(seen.insert(relayed.port()), "{relayed} twice");
                successors += u32::from(relayed.port() == last + 1);
                last = relayed.port();
            }
            assert_eq!(ports.used(), ports.total());
        }
        assert_eq!(seen.len(), 998, "workers share the whole range");
        assert!(successors < 100, "{successors} of 998 ports follow their predecessor");
    }

    #[test]
    fn sec_009_ports_that_are_used_up_cost_a_flood_of_allocations_no_more_than_others() {
        // A look at all that rest, for each of these, would take minutes.
        let (now, mut random) = (start().mono, random());
        let mut ports = ports(10_000..=59_999, 0, 1);
        let mut later = now;
        let mut rest = |ports: &mut Ports, port: RelayedAddr| {
            later += Duration::from_micros(50);
            ports.rest(port, later + Duration::from_secs(60));
        };
        for _ in 0..300_000 {
            let port = ports.take(now, Family::V4, Parity::Any, &mut random).unwrap();
            rest(&mut ports, port);
        }
        // No pair rests whole when one half of each is in use.
        let used: Vec<_> = (0..ports.total())
            .map(|_| ports.take(now, Family::V4, Parity::Any, &mut random).unwrap())
            .collect();
        for port in used.into_iter().filter(|port| port.port().is_multiple_of(2)) {
            rest(&mut ports, port);
        }
        for _ in 0..300_000 {
            assert_eq!(ports.take(now, Family::V4, Parity::Pair, &mut random), None);
        }
        ports.check();
    }

    #[test]
    fn alloc_012_even_ports_and_pairs() {
        let (now, mut random) = (start().mono, random());
        let mut ports = ports(50_000..=50_009, 0, 1);
        let even = ports.take(now, Family::V4, Parity::Even, &mut random).unwrap();
        assert_eq!(even.port() % 2, 0);
        let pair = ports.take(now, Family::V4, Parity::Pair, &mut random).unwrap();
        assert_eq!((pair.port() % 2, ports.used()), (0, 3));
        let mut rest = BTreeSet::new();
        while let Some(relayed) = ports.take(now, Family::V4, Parity::Any, &mut random) {
            rest.insert(relayed.port());
        }
        assert_eq!(rest.len(), 7);
        assert!(!rest.contains(&(pair.port() + 1)), "the successor is reserved");
        ports.put(RelayedAddr::new(SocketAddr::new(pair.ip(), pair.port() + 1)));
        for (case, parity) in [("even", Parity::Even), ("pair", Parity::Pair)] {
            assert_eq!(ports.take(now, Family::V4, parity, &mut random), None, "{case}");
        }
        assert!(ports.take(now, Family::V4, Parity::Any, &mut random).is_some());
        assert_eq!(ports.take(now, Family::V6, Parity::Any, &mut random), None, "no such family");
    }

    #[test]
    fn alloc_022_a_used_port_rests_unless_nothing_else_is_left() {
        let (begin, mut random) = (start().mono, random());
        let later = begin + Duration::from_secs(60);
        let mut ports = ports(50_000..=50_003, 0, 1);
        let used = ports.take(begin, Family::V4, Parity::Any, &mut random).unwrap();
        ports.rest(used, later);
        assert_eq!(ports.used(), 0);
        for _ in 0..3 {
            assert_ne!(ports.take(begin, Family::V4, Parity::Any, &mut random), Some(used));
        }
        assert_eq!(
            ports.take(begin, Family::V4, Parity::Any, &mut random),
            Some(used),
            "reuse is better than refusal"
        );
        assert_eq!(ports.take(begin, Family::V4, Parity::Any, &mut random), None);
        ports.rest(used, later);
        assert_eq!(ports.take(later, Family::V4, Parity::Any, &mut random), Some(used));
    }

    #[test]
    fn alloc_022_a_request_cuts_no_port_s_rest_short_but_what_it_takes_when_nothing_is_free() {
        use Parity::{Any, Even, Pair};
        let (now, mut random) = (start().mono, random());
        let at = |port| RelayedAddr::new(SocketAddr::new(IpAddr::from([192, 0, 2, 1]), port));
        // Of ports 50000 to 50007, all others are in use; those that rest came in this order.
        for (case, free, resting, parity, taken) in [
            ("any, one is free", &[4][..], &[0, 1, 2][..], Any, Some(4)),
            ("any, none is free", &[], &[3, 0, 1], Any, Some(3)),
            ("even, one is free", &[2, 5], &[0, 1], Even, Some(2)),
            ("even, odd ones are free", &[3, 5], &[0, 1, 4], Even, None),
            ("even, none is free", &[], &[3, 1, 4, 0], Even, Some(4)),
            ("even, odd ones rest", &[], &[3, 1], Even, None),
            ("pair, one is free", &[6, 7], &[0, 1], Pair, Some(6)),
            ("pair, halves are free", &[0, 3], &[4, 5, 6, 7], Pair, None),
            ("pair, one port is free", &[5], &[0, 1, 2, 3], Pair, None),
            ("pair, none is free", &[], &[0, 2, 5, 3, 1, 4], Pair, Some(2)),
            ("pair, halves rest", &[], &[0, 3, 4, 7], Pair, None),
            ("any, all are in use", &[], &[], Any, None),
        ] {
            let mut ports = ports(50_000..=50_007, 0, 1);
            while ports.take(now, Family::V4, Any, &mut random).is_some() {}
            for port in free {
                ports.put(at(50_000 + port));
            }
            for (port, age) in resting.iter().zip(1..) {
                ports.rest(at(50_000 + port), now + Duration::from_secs(age));
            }
            let drawn = ports.take(now, Family::V4, parity, &mut random);
            assert_eq!(drawn, taken.map(|port| at(50_000 + port)), "{case}");
            let rest_on = ports.pools[0].resting.iter().map(|(_, port)| port - 50_000);
            let both = |port: &u16| parity == Pair && taken.map(|taken| taken + 1) == Some(*port);
            let others = resting.iter().filter(|port| taken != Some(**port) && !both(port));
            assert_eq!(rest_on.collect::<Vec<_>>(), others.copied().collect::<Vec<_>>(), "{case}");
            ports.check();
        }
    }

    #[test]
    fn alloc_022_a_free_port_of_another_address_lets_the_others_rest() {
        let (now, mut random) = (start().mono, random());
        let hosts = [1, 2].map(|host| IpAddr::from([192, 0, 2, host]));
        let relays = hosts.map(|ip| RelayAddress { local: ip, advertised: ip });
        let edge = Edge::new(vec![], relays.to_vec(), vec![]);
        let mut ports = Ports::new(&edge, &(50_000..=50_001), Share { index: 0, of: 1 });
        while ports.take(now, Family::V4, Parity::Any, &mut random).is_some() {}
        let at = |host: usize, port| RelayedAddr::new(SocketAddr::new(hosts[host], port));
        let later = |seconds| now + Duration::from_secs(seconds);
        ports.put(at(1, 50_001));
        for (host, port, seconds) in [(1, 50_000, 2), (0, 50_001, 3), (0, 50_000, 4)] {
            ports.rest(at(host, port), later(seconds));
        }
        for (parity, expected) in [
            (Parity::Even, None),
            (Parity::Any, Some(at(1, 50_001))),
            (Parity::Pair, Some(at(0, 50_000))),
            (Parity::Even, Some(at(1, 50_000))),
            (Parity::Any, None),
        ] {
            assert_eq!(ports.take(now, Family::V4, parity, &mut random), expected, "{parity:?}");
        }
    }
}
