//! What was said last of allocations that are gone (MST-81).
//!
//! A release may be repeated, because its answer was lost: then nothing is there any more to make
//! the same answer of. So it is remembered for a while, for as many as were released lately. What
//! has its time behind it is thrown away when another comes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::addr::{AllocationId, FiveTuple};
use crate::dialect::Call;
use crate::now::Now;
use crate::policy::Ledger;
use crate::request::{Allocated, Numbered, Reply};
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;

/// How long a release is remembered: clients of MS-TURN repeat themselves for six and a half
/// seconds, and ten are asked for.
const REMEMBERED: Duration = Duration::from_secs(15);

/// How many are.
const MOST: usize = 1_024;

/// The releases of the last seconds, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Farewells(VecDeque<Farewell>);

/// A release that was answered.
#[derive(Debug)]
struct Farewell {
    client: FiveTuple,
    call: Call,
    digest: u64,
    relayed: Vec<SocketAddr>,
    numbered: Option<Numbered>,
    until: Instant,
}

impl<L: Ledger> Server<L> {
    /// Remembers what the release of an allocation is answered with.
    pub(super) fn remember(&mut self, now: Now, id: AllocationId, request: &Authenticated<'_>) {
        let digest = self.digest(request.bytes);
        let Some(allocation) = self.table.open(id) else { return };
        let relayed =
            allocation.relays().map(|(_, relay)| self.config.edge.advertise(relay.addr()));
        let farewell = Farewell {
            client: request.exchange.client,
            call: request.exchange.call,
            digest,
            relayed: relayed.collect(),
            numbered: allocation.owner.session.as_ref().map(|session| session.numbered()),
            until: now.mono + REMEMBERED,
        };
        let Farewells(all) = &mut self.farewells;
        while all.len() >= MOST || all.front().is_some_and(|it| it.until <= now.mono) {
            all.pop_front();
        }
        all.push_back(farewell);
    }

    /// Answers the release of an allocation that is gone: alike, if this very request released it.
    pub(super) fn repeat_farewell(&mut self, now: Now, request: &Authenticated<'_>) {
        let digest = self.digest(request.bytes);
        let Authenticated { exchange, .. } = request;
        let mapped = exchange.client.client.socket();
        let Farewells(all) = &self.farewells;
        let known = all.iter().rev().find(|it| {
            (it.client, it.call, it.digest) == (exchange.client, exchange.call, digest)
                && it.until > now.mono
        });
        let (relayed, numbered) =
            known.map_or((Vec::new(), None), |it| (it.relayed.clone(), it.numbered));
        let held = Allocated { relayed: &relayed, numbered, ..Allocated::nothing(mapped) };
        self.succeed(exchange, Reply::Allocated(&held));
    }
}
