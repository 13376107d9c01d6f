//! The ledger of a simulated relay: exact quotas, live addresses, reservations.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use proto::addr::{Carried, RelayedAddr};
use proto::policy::bandwidth::{Pots, Shares};
use proto::policy::{Claim, Lease, Ledger, Limits, Reservation, UserKey};
use proto::reject::Why;

/// One set of books; every clone writes into the same ones.
#[derive(Clone, Debug, Default)]
pub struct Books(Rc<RefCell<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    users: HashMap<UserKey, u32>,
    clients: HashMap<IpAddr, u32>,
    pots: Pots,
    total: u32,
    live: HashSet<(RelayedAddr, Carried)>,
    reservations: HashMap<[u8; 8], Reservation>,
    returned: Vec<(u16, RelayedAddr)>,
}

impl Books {
    /// Leases out at this moment.
    pub fn leases(&self) -> u32 {
        self.0.borrow().total
    }

    /// Relayed addresses alive at this moment.
    pub fn live(&self) -> usize {
        self.0.borrow().live.len()
    }

    /// Reservations that nobody redeemed yet.
    pub fn reservations(&self) -> usize {
        self.0.borrow().reservations.len()
    }
}

fn one_less<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    let count = counts.get_mut(key).expect("only what was charged is credited");
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}

impl Ledger for Books {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        let mut pages = self.0.borrow_mut();
        let per_user = claim.user_limit.map_or(limits.allocations_per_user, |narrower| {
            narrower.min(limits.allocations_per_user)
        });
        if pages.users.get(&claim.user).is_some_and(|&held| held >= per_user) || per_user == 0 {
            return Err(Why::UserQuota);
        }
        if pages.clients.get(&claim.client).is_some_and(|&n| n >= limits.allocations_per_client) {
            return Err(Why::ClientQuota);
        }
        if pages.total >= limits.allocations {
            return Err(Why::TotalQuota);
        }
        *pages.users.entry(claim.user).or_default() += 1;
        *pages.clients.entry(claim.client).or_default() += 1;
        pages.total += 1;
        let shares = pages.pots.of(claim);
        Ok((Lease { user: claim.user, client: claim.client }, shares))
    }

    fn release(&mut self, lease: Lease) {
        let mut pages = self.0.borrow_mut();
        one_less(&mut pages.users, &lease.user);
        one_less(&mut pages.clients, &lease.client);
        pages.total -= 1;
        if !pages.users.contains_key(&lease.user) {
            pages.pots.forget_user(lease.user);
        }
        if !pages.clients.contains_key(&lease.client) {
            pages.pots.forget_client(lease.client);
        }
    }

    fn set_live(&mut self, relayed: RelayedAddr, carried: Carried, live: bool) {
        let mut pages = self.0.borrow_mut();
        let entry = (relayed, carried);
        let changed = if live { pages.live.insert(entry) } else { pages.live.remove(&entry) };
        assert!(changed, "{relayed} was {} already", if live { "alive" } else { "dead" });
    }

    fn is_live(&self, relayed: RelayedAddr, carried: Carried) -> bool {
        self.0.borrow().live.contains(&(relayed, carried))
    }

    fn reserve(&mut self, token: [u8; 8], reservation: Reservation) {
        let before = self.0.borrow_mut().reservations.insert(token, reservation);
        assert!(before.is_none(), "a token is given out once");
    }

    fn redeem(&mut self, now: Instant, token: [u8; 8], user: UserKey) -> Option<RelayedAddr> {
        let mut pages = self.0.borrow_mut();
        let kept = pages.reservations.get(&token)?;
        if kept.user != user || kept.until <= now {
            return None;
        }
        pages.reservations.remove(&token).map(|reservation| reservation.relayed)
    }

    fn lapse(&mut self, token: [u8; 8]) -> bool {
        self.0.borrow_mut().reservations.remove(&token).is_some()
    }

    fn give_back(&mut self, owner: u16, relayed: RelayedAddr) {
        self.0.borrow_mut().returned.push((owner, relayed));
    }

    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr> {
        let mut pages = self.0.borrow_mut();
        let (mine, others) = pages.returned.drain(..).partition(|(of, _)| *of == owner);
        pages.returned = others;
        mine.into_iter().map(|(_, relayed): (u16, RelayedAddr)| relayed).collect()
    }
}
