//! The ledger of a simulated relay: exact quotas, live addresses, reservations.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use proto::addr::{Carried, RelayedAddr};
use proto::policy::bandwidth::{Pots, Shares};
use proto::policy::{
    Account, Claim, Crowded, Encounters, Halt, Lease, Ledger, Limits, NewPeers, PeerLease,
    Reservation, UserKey,
};
use proto::reject::Why;

/// One set of books; every clone writes into the same ones.
#[derive(Clone, Debug, Default)]
pub struct Books(Rc<RefCell<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    allocations: Account,
    connections: Account,
    encounters: Encounters,
    pots: Pots,
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
        pages.allocations.check();
        pages.allocations.all()
    }

    /// Connections to peers that are charged at this moment.
    pub fn connections(&self) -> u32 {
        let pages = self.0.borrow();
        pages.connections.check();
        pages.connections.all()
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

impl Pages {
    fn credit(&mut self, lease: &Lease) {
        let held = self.allocations.held(lease.user, lease.client);
        assert!(held.user.min(held.client) >= lease.charges, "only what was charged is credited");
        self.allocations.release(lease, &mut self.pots);
    }
}

impl Ledger for Books {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        let mut pages = self.0.borrow_mut();
        pages.allocations.held(claim.user, claim.client).leaves_room(claim, limits)?;
        pages.leases += 1;
        let Pages { allocations, pots, .. } = &mut *pages;
        Ok(allocations.lease(claim, pots))
    }

    fn release(&mut self, lease: Lease) {
        let mut pages = self.0.borrow_mut();
        pages.leases -= 1;
        pages.credit(&lease);
    }

    fn connect(&mut self, lease: &Lease, limits: &Limits) -> Result<PeerLease, Crowded> {
        self.0.borrow_mut().connections.connect(lease, limits)
    }

    fn disconnect(&mut self, lease: PeerLease) {
        self.0.borrow_mut().connections.disconnect(&lease);
    }

    fn meet(&mut self, lease: &Lease, new: NewPeers, limits: &Limits) -> Result<(), Halt> {
        self.0.borrow_mut().encounters.count(lease, new, limits)
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
        let held = pages.allocations.held(claim.user, claim.client);
        held.without(&kept.lease, claim).leaves_room(claim, limits)?;
        let Pages { allocations, pots, .. } = &mut *pages;
        let (lease, shares) = allocations.lease(claim, pots);
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
