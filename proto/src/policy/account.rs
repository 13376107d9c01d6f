//! What is charged to users, to the networks of their clients, and to all together.
//!
//! A relay keeps two such accounts: of allocations and ports that are kept, and of connections to
//! peers. Whoever holds nothing has no entry. Ordered maps only, so that a run replays from its seed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use crate::policy::bandwidth::{Pots, Shares};
use crate::policy::limits::{Claim, Crowded, Held, Lease, Limits, PeerLease, UserKey};

/// Charges by user, by client network, and in all.
#[derive(Debug, Default)]
pub struct Account {
    users: BTreeMap<UserKey, u32>,
    clients: BTreeMap<IpAddr, u32>,
    all: u32,
}

impl Account {
    /// What is charged in all.
    pub fn all(&self) -> u32 {
        self.all
    }

    /// What is charged to a user, to a client's network, and to all.
    pub fn held(&self, user: UserKey, client: IpAddr) -> Held {
        let user = self.users.get(&user).copied().unwrap_or(0);
        let client = self.clients.get(&client).copied().unwrap_or(0);
        Held { user, client, all: self.all }
    }

    /// Charges a claim for which there is room.
    pub fn lease(&mut self, claim: &Claim, pots: &mut Pots) -> (Lease, Shares) {
        self.charge(claim.user, claim.client, claim.charges);
        (Lease::of(claim), pots.of(claim))
    }

    /// Credits it again. Who holds nothing any more shares no bandwidth either.
    pub fn release(&mut self, lease: &Lease, pots: &mut Pots) {
        self.credit(lease.user, lease.client, lease.charges);
        let left = self.held(lease.user, lease.client);
        if left.user == 0 {
            pots.forget_user(lease.user);
        }
        if left.client == 0 {
            pots.forget_client(lease.client);
        }
    }

    /// Charges a connection of an allocation, if there is room for it.
    pub fn connect(&mut self, lease: &Lease, limits: &Limits) -> Result<PeerLease, Crowded> {
        let Lease { user, client, .. } = *lease;
        self.held(user, client).leaves_room_for_connection(limits)?;
        self.charge(user, client, 1);
        Ok(PeerLease { user, client })
    }

    /// Credits it again.
    pub fn disconnect(&mut self, lease: &PeerLease) {
        self.credit(lease.user, lease.client, 1);
    }

    /// Verifies that users, clients and all agree.
    ///
    /// # Panics
    /// Where they do not.
    pub fn check(&self) {
        let sums = [self.users.values().sum::<u32>(), self.clients.values().sum()];
        assert_eq!(sums, [self.all; 2], "what users hold, and what clients hold, is all there is");
    }

    fn charge(&mut self, user: UserKey, client: IpAddr, charges: u32) {
        self.all += charges;
        *self.users.entry(user).or_default() += charges;
        *self.clients.entry(client).or_default() += charges;
    }

    fn credit(&mut self, user: UserKey, client: IpAddr, charges: u32) {
        self.all = self.all.saturating_sub(charges);
        credit(&mut self.users, user, charges);
        credit(&mut self.clients, client, charges);
    }
}

/// So much less; an entry that reaches zero goes.
fn credit<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, charges: u32) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(charges);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        allocations: 1,
        allocations_per_user: 1,
        allocations_per_client: 1,
        permissions: 1,
        channels: 1,
        new_peers_per_minute: 1,
        new_peers_per_minute_per_user: 4,
        new_peers_per_minute_per_client: 8,
        peer_connections: 1,
        peer_connections_waiting: 1,
        peer_connections_per_user: 2,
        peer_connections_per_client: 3,
        peer_connections_total: 4,
    };

    fn lease(user: u64, client: u8) -> Lease {
        let client = IpAddr::from([192, 0, 2, client]);
        Lease { user: UserKey(user), client, charges: 1 }
    }

    #[test]
    fn sec_009_connections_are_limited_by_user_by_client_and_in_all() {
        for (case, held, wanted, expected) in [
            ("room", vec![lease(1, 1)], lease(1, 1), None),
            ("user", vec![lease(1, 1), lease(1, 2)], lease(1, 3), Some(Crowded::User)),
            ("another user", vec![lease(1, 1), lease(1, 1)], lease(2, 1), None),
            (
                "client",
                vec![lease(1, 1), lease(1, 1), lease(2, 1)],
                lease(3, 1),
                Some(Crowded::Client),
            ),
            (
                "all",
                vec![lease(1, 1), lease(2, 2), lease(3, 3), lease(4, 4)],
                lease(5, 5),
                Some(Crowded::Relay),
            ),
        ] {
            let mut account = Account::default();
            let connect = |account: &mut Account, lease| account.connect(lease, &LIMITS);
            let charged: Vec<_> =
                held.iter().map(|lease| connect(&mut account, lease).expect(case)).collect();
            for _ in 0..3 {
                let refused = connect(&mut account, &wanted);
                assert_eq!(refused.as_ref().err(), expected.as_ref(), "{case}");
                if let Ok(lease) = refused {
                    account.disconnect(&lease);
                }
                assert_eq!(account.all() as usize, held.len(), "{case}");
                account.check();
            }
            for lease in &charged {
                account.disconnect(lease);
            }
            account.check();
            assert!(account.users.is_empty() && account.clients.is_empty(), "{case}");
            assert!(connect(&mut account, &wanted).is_ok(), "{case}: credited at once");
        }
    }
}
