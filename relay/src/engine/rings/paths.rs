//! Next hops of those we send to, as the host's routing has them.
//!
//! Only where payload goes is remembered, so strangers cannot make this grow. A hop is forgotten
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

    /// Forgets a hop, because something was said about what went there.
    pub(super) fn forget(&mut self, ends: (IpAddr, IpAddr)) {
        self.known.remove(&ends);
    }

    /// Hears what has changed.
    pub(super) fn heed(&mut self) {
        let Self { hops, known } = self;
        hops.news(&mut |_| known.clear());
    }
}
