//! The ledger of a relay with one thread: for one worker, for tests and for the simulation.
//!
//! Ordered maps only, so that a run replays from its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::addr::{Carried, RelayedAddr};
use crate::policy::bandwidth::{Pots, Shares};
use crate::policy::limits::{Claim, Lease, Ledger, Limits, Reservation, UserKey};
use crate::reject::Why;

/// Quotas, live relayed addresses and reservations of one thread.
#[derive(Debug, Default)]
pub struct LocalLedger {
    total: u32,
    users: BTreeMap<UserKey, u32>,
    pots: Pots,
    clients: BTreeMap<IpAddr, u32>,
    live: BTreeSet<(RelayedAddr, Carried)>,
    reservations: BTreeMap<[u8; 8], Reservation>,
    handed_back: BTreeMap<u16, Vec<RelayedAddr>>,
}

impl LocalLedger {
    /// A ledger without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allocations charged at this moment.
    pub fn charged(&self) -> u32 {
        self.total
    }

    /// Relayed addresses alive at this moment.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}

impl Ledger for LocalLedger {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        let of_user = self.users.get(&claim.user).copied().unwrap_or(0);
        let of_client = self.clients.get(&claim.client).copied().unwrap_or(0);
        let user_limit = limits.allocations_per_user.min(claim.user_limit.unwrap_or(u32::MAX));
        if of_user >= user_limit {
            return Err(Why::UserQuota);
        }
        if of_client >= limits.allocations_per_client {
            return Err(Why::ClientQuota);
        }
        if self.total >= limits.allocations {
            return Err(Why::TotalQuota);
        }
        self.total += 1;
        self.users.insert(claim.user, of_user + 1);
        self.clients.insert(claim.client, of_client + 1);
        let shares = self.pots.of(claim);
        Ok((Lease { user: claim.user, client: claim.client }, shares))
    }

    fn release(&mut self, lease: Lease) {
        self.total = self.total.saturating_sub(1);
        credit(&mut self.users, &lease.user);
        credit(&mut self.clients, &lease.client);
        if !self.users.contains_key(&lease.user) {
            self.pots.forget_user(lease.user);
        }
        if !self.clients.contains_key(&lease.client) {
            self.pots.forget_client(lease.client);
        }
    }

    fn set_live(&mut self, relayed: RelayedAddr, carried: Carried, live: bool) {
        if live {
            self.live.insert((relayed, carried));
        } else {
            self.live.remove(&(relayed, carried));
        }
    }

    fn is_live(&self, relayed: RelayedAddr, carried: Carried) -> bool {
        self.live.contains(&(relayed, carried))
    }

    fn reserve(&mut self, token: [u8; 8], reservation: Reservation) {
        self.reservations.insert(token, reservation);
    }

    fn redeem(&mut self, now: Instant, token: [u8; 8], user: UserKey) -> Option<RelayedAddr> {
        let kept = self.reservations.get(&token)?;
        if kept.user != user || kept.until <= now {
            return None;
        }
        self.reservations.remove(&token).map(|kept| kept.relayed)
    }

    fn lapse(&mut self, token: [u8; 8]) -> bool {
        self.reservations.remove(&token).is_some()
    }

    fn give_back(&mut self, owner: u16, relayed: RelayedAddr) {
        self.handed_back.entry(owner).or_default().push(relayed);
    }

    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr> {
        self.handed_back.remove(&owner).unwrap_or_default()
    }
}

/// One less; an entry that reaches zero goes, so that the map holds the living only.
fn credit<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        Some(_) => {
            counts.remove(key);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Bandwidth;

    const LIMITS: Limits = Limits {
        allocations: 4,
        allocations_per_user: 2,
        allocations_per_client: 3,
        permissions: 1,
        channels: 1,
        new_peers_per_minute: 256,
        peer_connections: 1,
        peer_connections_waiting: 1,
    };

    fn claim(user: u64, client: [u8; 4], user_limit: Option<u32>) -> Claim {
        let at = crate::now::tests::start().mono;
        Claim {
            user: UserKey(user),
            client: IpAddr::from(client),
            user_limit,
            bandwidth: Bandwidth::UNLIMITED,
            at,
        }
    }

    #[test]
    fn alloc_018_each_quota_is_exact_and_freed_by_release() {
        let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let mut ledger = LocalLedger::new();
        let (first, _) = ledger.lease(&claim(1, a, None), &LIMITS).unwrap();
        let (second, _) = ledger.lease(&claim(1, a, None), &LIMITS).unwrap();
        for (case, who, expected) in [
            ("user", claim(1, b, None), Why::UserQuota),
            ("credential's own limit", claim(2, b, Some(0)), Why::UserQuota),
        ] {
            assert_eq!(ledger.lease(&who, &LIMITS).unwrap_err(), expected, "{case}");
        }
        let (third, _) = ledger.lease(&claim(2, a, None), &LIMITS).unwrap();
        assert_eq!(ledger.lease(&claim(3, a, None), &LIMITS).unwrap_err(), Why::ClientQuota);
        let (fourth, _) = ledger.lease(&claim(3, b, None), &LIMITS).unwrap();
        assert_eq!(ledger.lease(&claim(4, b, None), &LIMITS).unwrap_err(), Why::TotalQuota);
        for lease in [first, second, third, fourth] {
            ledger.release(lease);
        }
        assert_eq!(ledger.charged(), 0);
        assert!(ledger.users.is_empty() && ledger.clients.is_empty(), "nothing stays behind");
        assert!(ledger.lease(&claim(1, a, None), &LIMITS).is_ok());
    }

    #[test]
    fn alloc_014_a_reservation_is_taken_once_and_by_its_owner_only() {
        let mut ledger = LocalLedger::new();
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        let start = crate::now::tests::start().mono;
        let until = start + std::time::Duration::from_secs(30);
        let kept = Reservation { user: UserKey(1), relayed, until };
        ledger.reserve([7; 8], kept);
        assert_eq!(ledger.redeem(start, [7; 8], UserKey(2)), None, "another user");
        assert_eq!(ledger.redeem(start, [8; 8], UserKey(1)), None, "another token");
        assert_eq!(ledger.redeem(until, [7; 8], UserKey(1)), None, "too late");
        assert_eq!(ledger.redeem(start, [7; 8], UserKey(1)), Some(relayed));
        assert_eq!(ledger.redeem(start, [7; 8], UserKey(1)), None, "twice");
        assert!(!ledger.lapse([7; 8]), "nothing left to lapse");
        ledger.reserve([9; 8], kept);
        assert!(ledger.lapse([9; 8]));
    }

    #[test]
    fn a_client_of_ipv6_is_its_64() {
        let (a, b) = ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1");
        assert_eq!(
            Claim::network(a.parse().unwrap()),
            Claim::network(b.parse().unwrap()),
            "one host, one quota"
        );
        assert_eq!(Claim::network(IpAddr::from([10, 0, 0, 1])), IpAddr::from([10, 0, 0, 1]));
    }
}
