//! The ledger of a relay with one thread: for one worker, for tests and for the simulation.
//!
//! Ordered maps only, so that a run replays from its seed.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::{Carried, RelayedAddr};
use crate::policy::account::Account;
use crate::policy::bandwidth::{Pots, Shares};
use crate::policy::limits::{
    Claim, Crowded, Lease, Ledger, Limits, PeerLease, Reservation, UserKey,
};
use crate::policy::new_peers::{Encounters, Halt, NewPeers};
use crate::reject::Why;

/// Quotas, live relayed addresses and reservations of one thread.
#[derive(Debug, Default)]
pub struct LocalLedger {
    allocations: Account,
    connections: Account,
    encounters: Encounters,
    pots: Pots,
    live: BTreeSet<(RelayedAddr, Carried)>,
    reservations: BTreeMap<[u8; 8], Reservation>,
    handed_back: BTreeMap<u16, Vec<RelayedAddr>>,
}

impl LocalLedger {
    /// A ledger without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allocations and kept ports charged at this moment.
    pub fn charged(&self) -> u32 {
        self.allocations.all()
    }

    /// Relayed addresses alive at this moment.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}

impl Ledger for LocalLedger {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        self.allocations.held(claim.user, claim.client).leaves_room(claim, limits)?;
        Ok(self.allocations.lease(claim, &mut self.pots))
    }

    fn release(&mut self, lease: Lease) {
        self.allocations.release(&lease, &mut self.pots);
    }

    fn connect(&mut self, lease: &Lease, limits: &Limits) -> Result<PeerLease, Crowded> {
        self.connections.connect(lease, limits)
    }

    fn disconnect(&mut self, lease: PeerLease) {
        self.connections.disconnect(&lease);
    }

    fn meet(&mut self, lease: &Lease, new: NewPeers, limits: &Limits) -> Result<(), Halt> {
        self.encounters.count(lease, new, limits)
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

    fn redeem(
        &mut self,
        token: [u8; 8],
        user: UserKey,
        claim: &Claim,
        limits: &Limits,
    ) -> Result<(RelayedAddr, Lease, Shares), Why> {
        let kept = self.reservations.get(&token).filter(|kept| kept.is_for(user, claim.at));
        let kept = kept.ok_or(Why::ReservationUnknown)?;
        let held = self.allocations.held(claim.user, claim.client);
        held.without(&kept.lease, claim).leaves_room(claim, limits)?;
        let relayed = kept.relayed;
        let (lease, shares) = self.allocations.lease(claim, &mut self.pots);
        self.lapse(token);
        Ok((relayed, lease, shares))
    }

    fn lapse(&mut self, token: [u8; 8]) -> bool {
        let kept = self.reservations.remove(&token);
        kept.map(|kept| self.release(kept.lease)).is_some()
    }

    fn give_back(&mut self, owner: u16, relayed: RelayedAddr) {
        self.handed_back.entry(owner).or_default().push(relayed);
    }

    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr> {
        self.handed_back.remove(&owner).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::Bandwidth;

    const LIMITS: Limits = Limits {
        allocations: 4,
        allocations_per_user: 2,
        allocations_per_client: 3,
        permissions: 1,
        channels: 1,
        new_peers_per_minute: 256,
        new_peers_per_minute_per_user: 1024,
        new_peers_per_minute_per_client: 2048,
        peer_connections: 1,
        peer_connections_waiting: 1,
        peer_connections_per_user: 1,
        peer_connections_per_client: 1,
        peer_connections_total: 1,
    };

    fn claim(user: u64, client: [u8; 4], user_limit: Option<u32>) -> Claim {
        let at = crate::now::tests::start().mono;
        Claim {
            user: UserKey(user),
            client: IpAddr::from(client),
            user_limit,
            charges: 1,
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
        ledger.allocations.check();
        assert!(ledger.lease(&claim(1, a, None), &LIMITS).is_ok());
    }

    #[test]
    fn alloc_014_a_reservation_is_taken_once_and_by_its_owner_only() {
        let mut ledger = LocalLedger::new();
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        let start = crate::now::tests::start().mono;
        let until = start + std::time::Duration::from_secs(30);
        let now = claim(1, [192, 0, 2, 1], None);
        let late = Claim { at: until, ..now };
        let reserve = |ledger: &mut LocalLedger, token| {
            let (lease, _) = ledger.lease(&now, &LIMITS).unwrap();
            ledger.reserve(token, Reservation { user: UserKey(1), relayed, until, lease });
        };
        reserve(&mut ledger, [7; 8]);
        for (case, token, user, claim) in [
            ("another user", [7; 8], UserKey(2), &now),
            ("another token", [8; 8], UserKey(1), &now),
            ("too late", [7; 8], UserKey(1), &late),
        ] {
            let refused = ledger.redeem(token, user, claim, &LIMITS).unwrap_err();
            assert_eq!((refused, ledger.charged()), (Why::ReservationUnknown, 1), "{case}");
        }
        let (taken, lease, _) = ledger.redeem([7; 8], UserKey(1), &now, &LIMITS).unwrap();
        assert_eq!((taken, ledger.charged()), (relayed, 1), "one charge for the other");
        assert!(ledger.redeem([7; 8], UserKey(1), &now, &LIMITS).is_err(), "twice");
        assert!(!ledger.lapse([7; 8]), "nothing left to lapse");
        reserve(&mut ledger, [9; 8]);
        assert!(ledger.lapse([9; 8]));
        ledger.release(lease);
        assert_eq!(ledger.charged(), 0);
    }

    #[test]
    fn alloc_018_a_pair_is_charged_whole_or_not_at_all() {
        let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let pair =
            |user, client, user_limit| Claim { charges: 2, ..claim(user, client, user_limit) };
        for (case, held, wanted, expected) in [
            ("room for both", vec![], pair(1, a, None), Ok(2)),
            ("user", vec![claim(1, b, None)], pair(1, a, None), Err(Why::UserQuota)),
            ("credential's own limit", vec![], pair(1, a, Some(1)), Err(Why::UserQuota)),
            ("client", vec![pair(2, a, None)], pair(1, a, None), Err(Why::ClientQuota)),
            (
                "total",
                vec![pair(2, b, None), claim(3, b, None)],
                pair(1, a, None),
                Err(Why::TotalQuota),
            ),
        ] {
            let mut ledger = LocalLedger::new();
            for claim in &held {
                ledger.lease(claim, &LIMITS).expect(case);
            }
            let before = ledger.charged();
            let granted = ledger.lease(&wanted, &LIMITS).map(|(lease, _)| lease.charges);
            assert_eq!(granted, expected, "{case}");
            assert_eq!(ledger.charged() - before, expected.unwrap_or(0), "{case}");
        }
    }

    #[test]
    fn alloc_013_redeeming_needs_no_room_but_what_the_reservation_takes() {
        let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        for (case, beside, who, expected) in [
            (
                "the relay is full",
                vec![claim(3, b, None), claim(4, b, None)],
                claim(1, a, None),
                None,
            ),
            ("the same user elsewhere", vec![], claim(1, b, None), None),
            ("one who holds as much", vec![], claim(1, a, Some(2)), None),
            ("a narrower name", vec![], claim(1, a, Some(1)), Some(Why::UserQuota)),
            (
                "from a network that holds as much",
                vec![claim(3, b, None), claim(4, b, None)],
                claim(1, b, None),
                Some(Why::ClientQuota),
            ),
        ] {
            let limits = Limits { allocations_per_client: 2, ..LIMITS };
            let mut ledger = LocalLedger::new();
            let pair = Claim { charges: 2, ..claim(1, a, None) };
            let (mut lease, _) = ledger.lease(&pair, &limits).unwrap();
            let kept = lease.split().unwrap();
            let until = who.at + std::time::Duration::from_secs(30);
            ledger.reserve([7; 8], Reservation { user: UserKey(1), relayed, until, lease: kept });
            for claim in &beside {
                ledger.lease(claim, &limits).expect(case);
            }
            let before = ledger.charged();
            let refused = ledger.redeem([7; 8], UserKey(1), &who, &limits).err();
            assert_eq!((refused, ledger.charged()), (expected, before), "{case}");
            assert_eq!(ledger.lapse([7; 8]), expected.is_some(), "{case}: kept if refused");
        }
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
