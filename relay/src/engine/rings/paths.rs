//! Next hops of those we send to, as the host's routing has them.
//!
//! Only where clients and their peers are is remembered, so strangers cannot make this grow. A hop is forgotten
//! after a while, and one datagram takes the host's stack instead: that keeps the stack's own
//! knowledge of its neighbours fresh, which learns nothing from what goes past it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use mio::{Registry, Token};

use crate::offload::{Hop, Hops};

/// How long a hop is good without another look.
const GOOD: Duration = Duration::from_secs(20);

/// How long one that is not known is not asked for again, unless something is heard of it.
const UNKNOWN: Duration = Duration::from_secs(1);

/// What every path of IPv6 takes (RFC 8200 §5).
const LEAST_MTU: u32 = 1_280;

/// Hops remembered; with more of them all are asked for again.
const REMEMBERED: usize = 65_536;

/// What one worker knows.
#[derive(Debug)]
pub(super) struct Paths {
    hops: Hops,
    known: HashMap<(IpAddr, IpAddr), Known, SeedableRandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    hop: Option<Hop>,
    until: Instant,
}

impl Paths {
    pub(super) fn new(hops: Hops, seed: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { hops, known: HashMap::with_hasher(hasher) }
    }

    /// Has a poll wake when hops change.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        self.hops.register(registry, token)
    }

    /// The hop between two addresses; `None` means the host's stack. One that is not remembered is
    /// asked for if that is worth it.
    pub(super) fn find(&mut self, now: Instant, ends: (IpAddr, IpAddr), ask: bool) -> Option<Hop> {
        match self.known.get(&ends) {
            Some(known) if now < known.until => known.hop,
            Some(_) => {
                self.known.remove(&ends);
                None
            }
            None if ask => self.ask(now, ends),
            None => None,
        }
    }

    #[cold]
    fn ask(&mut self, now: Instant, ends: (IpAddr, IpAddr)) -> Option<Hop> {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let hop = self.hops.path(ends).and_then(|path| self.hops.hop(&path));
        let until = now + if hop.is_some() { GOOD } else { UNKNOWN };
        self.known.insert(ends, Known { hop, until });
        hop
    }

    /// The largest IP packet that fits between two addresses; zero if that is not known.
    pub(super) fn mtu(&mut self, ends: (IpAddr, IpAddr)) -> u16 {
        let path = self.hops.path(ends);
        path.and_then(|path| self.hops.mtu(&path)).unwrap_or_default()
    }

    /// Hears that a path of IPv6 is narrower than it was thought to be, and asks again then: the
    /// host's stack has heard it too. Whoever forges that cannot have it asked for over and over.
    pub(super) fn narrow(&mut self, ends: (IpAddr, IpAddr), mtu: u32) {
        let mtu = mtu.max(LEAST_MTU);
        let known = self.known.get(&ends).and_then(|known| known.hop);
        if known.is_some_and(|hop| u32::from(hop.mtu) > mtu) {
            self.known.remove(&ends);
        }
    }

    /// Hears what has changed.
    pub(super) fn heed(&mut self) {
        let Self { hops, known } = self;
        hops.news(&mut |_| known.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_path_is_asked_for_again_when_it_is_narrower_and_only_then() {
        let ends = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let mut paths = Paths::new(Hops::new(&[]).unwrap(), 7);
        let now = Clock::new().last().mono;
        let hop = Hop { mtu: 1_400, ..Hop::default() };
        let mut known = |mtu, hops: Hop| {
            paths.known.insert(ends, Known { hop: Some(hops), until: now + GOOD });
            paths.narrow(ends, mtu);
            paths.find(now, ends, false)
        };
        for mtu in [1_500, 1_400, u32::MAX] {
            assert_eq!(known(mtu, hop), Some(hop), "{mtu} is no narrower");
        }
        for mtu in [1_399, 1_280, 0] {
            assert_eq!(known(mtu, hop), None, "{mtu}");
        }
        let least = Hop { mtu: 1_280, ..hop };
        assert_eq!(known(68, least), Some(least), "no path of IPv6 is narrower");
    }

    #[test]
    fn a_path_is_good_for_a_while_and_strangers_are_not_worth_a_look() {
        let ends = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut paths = Paths::new(Hops::new(&[]).unwrap(), 7);
        let now = Clock::new().last().mono;
        assert_eq!((paths.find(now, ends, false), paths.known.len()), (None, 0));
        let hop = Hop { mtu: 1_500, ..Hop::default() };
        paths.known.insert(ends, Known { hop: Some(hop), until: now + GOOD });
        assert_eq!(paths.find(now + GOOD / 2, ends, false), Some(hop));
        assert_eq!(paths.find(now + GOOD, ends, true), None, "one goes by the stack");
        assert_eq!(paths.known.len(), 0, "and the next one asks");
    }
}
