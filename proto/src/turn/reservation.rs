//! Ports kept for a later Allocate (RFC 8656 §7.2: RESERVATION-TOKEN).
//!
//! Every worker may redeem a token, so the ledger holds the reservation, which is charged like the
//! allocation that may come of it. The worker whose port it is watches the clock: a reservation nobody redeemed frees its port, one that another worker
//! redeemed leaves the port lent until that worker hands it back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::addr::RelayedAddr;
use crate::now::Now;
use crate::policy::bandwidth::Shares;
use crate::policy::{Claim, Lease, Ledger, Reservation, UserKey};
use crate::reject::Why;
use crate::turn::server::Server;

/// How long a port is kept (RFC 8656 §7.2: at least 30 s).
pub(crate) const HOLD: Duration = Duration::from_secs(30);

/// Reservations of one worker's ports, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    kept: VecDeque<Kept>,
    /// Ports of ours that allocations of other workers use.
    lent: usize,
}

#[derive(Debug)]
struct Kept {
    until: Instant,
    token: [u8; 8],
    relayed: RelayedAddr,
}

impl Reservations {
    /// When the oldest one lapses.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.kept.front().map(|kept| kept.until)
    }

    fn remove(&mut self, token: [u8; 8]) {
        self.kept.retain(|kept| kept.token != token);
    }
}

impl<L: Ledger> Server<L> {
    /// Keeps a port for whoever of this user brings the token.
    pub(super) fn reserve(
        &mut self,
        now: Now,
        user: UserKey,
        (relayed, lease): (RelayedAddr, Lease),
    ) -> [u8; 8] {
        let (token, until) = (self.random.token(), now.mono + HOLD);
        self.ledger.reserve(token, Reservation { user, relayed, until, lease });
        self.reservations.kept.push_back(Kept { until, token, relayed });
        token
    }

    /// Takes the port a token stands for, with its charge.
    pub(super) fn redeem(
        &mut self,
        token: [u8; 8],
        user: UserKey,
        claim: &Claim,
    ) -> Result<(RelayedAddr, Lease, Shares), Why> {
        let redeemed = self.ledger.redeem(token, user, claim, &self.config.limits)?;
        // A port of our own is ours to free when its allocation ends; nothing to watch any more.
        self.reservations.remove(token);
        Ok(redeemed)
    }

    /// Ends what has been kept long enough, and collects what others hand back.
    pub(super) fn lapse(&mut self, now: Now) {
        while self.reservations.next().is_some_and(|until| until <= now.mono) {
            self.lapse_oldest();
        }
        if self.reservations.lent > 0 {
            for relayed in self.ledger.take_back(self.config.share.index) {
                self.reservations.lent = self.reservations.lent.saturating_sub(1);
                self.ports.rest(relayed, now.mono + self.config.port_quarantine);
            }
        }
    }

    /// Ends every reservation.
    pub(super) fn lapse_all(&mut self) {
        while self.reservations.next().is_some() {
            self.lapse_oldest();
        }
    }

    fn lapse_oldest(&mut self) {
        let Some(kept) = self.reservations.kept.pop_front() else { return };
        if self.ledger.lapse(kept.token) {
            self.ports.put(kept.relayed);
        } else {
            self.reservations.lent += 1;
        }
    }

    /// A relayed port is used no more: it rests, or goes back to the worker whose share it is of.
    pub(super) fn release_port(&mut self, now: Now, relayed: RelayedAddr) {
        let owner = self.ports.owner(relayed);
        if owner == self.config.share.index {
            self.ports.rest(relayed, now.mono + self.config.port_quarantine);
        } else {
            self.ledger.give_back(owner, relayed);
        }
    }
}
