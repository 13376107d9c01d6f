//! The ledger of a simulated relay: exact quotas, live addresses, reservations.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use proto::addr::{Carried, RelayedAddr};
use proto::policy::bandwidth::{Pots, Shares};
use proto::policy::{Claim, Held, Lease, Ledger, Limits, Reservation, UserKey};
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
    leases: u32,
    redeemed: u64,
    live: HashSet<(RelayedAddr, Carried)>,
    reservations: HashMap<[u8; 8], Reservation>,
    returned: Vec<(u16, RelayedAddr)>,
}

impl Books {
    /// Leases of allocations out at this moment.
    pub fn leases(&self) -> u32 {
        self.0.borrow().leases
    }

    /// What is charged at this moment, for allocations and kept ports.
    pub fn charged(&self) -> u32 {
        let pages = self.0.borrow();
        let sums = (pages.users.values().sum::<u32>(), pages.clients.values().sum::<u32>());
        assert_eq!(sums, (pages.total, pages.total), "users, clients and the total agree");
        pages.total
    }

    /// Relayed addresses alive at this moment.
    pub fn live(&self) -> usize {
        self.0.borrow().live.len()
    }

    /// Reservations that became allocations.
    pub fn redeemed(&self) -> u64 {
        self.0.borrow().redeemed
    }

    /// Reservations that nobody redeemed yet.
    pub fn reservations(&self) -> usize {
        self.0.borrow().reservations.len()
    }
}

fn credit<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: &K, charges: u32) {
    let count = counts.get_mut(key).expect("only what was charged is credited");
    *count -= charges;
    if *count == 0 {
        counts.remove(key);
    }
}

impl Pages {
    fn held(&self, claim: &Claim) -> Held {
        Held {
            user: self.users.get(&claim.user).copied().unwrap_or(0),
            client: self.clients.get(&claim.client).copied().unwrap_or(0),
            all: self.total,
        }
    }

    fn charge(&mut self, claim: &Claim) -> (Lease, Shares) {
        *self.users.entry(claim.user).or_default() += claim.charges;
        *self.clients.entry(claim.client).or_default() += claim.charges;
        self.total += claim.charges;
        (Lease::of(claim), self.pots.of(claim))
    }

    fn credit(&mut self, lease: &Lease) {
        credit(&mut self.users, &lease.user, lease.charges);
        credit(&mut self.clients, &lease.client, lease.charges);
        self.total -= lease.charges;
        if !self.users.contains_key(&lease.user) {
            self.pots.forget_user(lease.user);
        }
        if !self.clients.contains_key(&lease.client) {
            self.pots.forget_client(lease.client);
        }
    }
}

impl Ledger for Books {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        let mut pages = self.0.borrow_mut();
        pages.held(claim).leaves_room(claim, limits)?;
        pages.leases += 1;
        Ok(pages.charge(claim))
    }

    fn release(&mut self, lease: Lease) {
        let mut pages = self.0.borrow_mut();
        pages.leases -= 1;
        pages.credit(&lease);
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

    fn redeem(
        &mut self,
        token: [u8; 8],
        user: UserKey,
        claim: &Claim,
        limits: &Limits,
    ) -> Result<(RelayedAddr, Lease, Shares), Why> {
        let mut pages = self.0.borrow_mut();
        let kept = pages.reservations.get(&token).filter(|kept| kept.is_for(user, claim.at));
        let kept = kept.ok_or(Why::ReservationUnknown)?;
        pages.held(claim).without(&kept.lease, claim).leaves_room(claim, limits)?;
        let (lease, shares) = pages.charge(claim);
        pages.leases += 1;
        pages.redeemed += 1;
        let kept = pages.reservations.remove(&token).expect("it was there");
        pages.credit(&kept.lease);
        Ok((kept.relayed, lease, shares))
    }

    fn lapse(&mut self, token: [u8; 8]) -> bool {
        let mut pages = self.0.borrow_mut();
        let kept = pages.reservations.remove(&token);
        kept.map(|kept| pages.credit(&kept.lease)).is_some()
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
