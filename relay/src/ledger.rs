//! Quotas, live relayed ports and reservations: what the workers share.
//!
//! One lock around plain maps. It is taken at Allocate, at close, for a reservation, for a peer
//! that is new to its allocation, and when a connection comes or is no stranger any more, never for
//! a packet to a peer that is known: whether a relayed port is
//! alive is one bit that packets between two clients of this relay look at without a lock
//! (`ports`). Each worker's part is kept apart as well, so that what a failed worker held can be
//! credited.

mod ports;

mod crowd;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proto::addr::{Carried, ClientAddr, RelayedAddr};
use proto::policy::bandwidth::{Pots, Shares};
use proto::policy::{
    Account, Claim, Crowded, Encounters, Halt, Lease, Ledger, Limits, NewPeers, PeerLease,
    Reservation, UserKey,
};
use proto::reject::Why;
use proto::turn::Throttle;

use self::ports::{LivePorts, Servers};
use crate::memory::Memory;
use crate::stream::Refusal;
use crowd::{Crowd, Full};

pub(crate) use crowd::Bounds;

/// One worker's door to the shared ledger.
#[derive(Clone, Debug)]
pub(crate) struct SharedLedger {
    books: Arc<Mutex<Books>>,
    live: Arc<[LivePorts]>,
    memory: Memory,
    /// Counts handshakes of TLS and DTLS.
    handshakes: Option<Arc<Throttle>>,
    worker: u16,
}

/// A port's way from the worker that owns it.
#[derive(Clone, Copy, Debug)]
struct Loan {
    owner: u16,
    borrower: u16,
}

/// Counts of one kind of owner; an owner of nothing has no entry.
#[derive(Debug)]
struct Counts<K>(HashMap<K, u32>);

#[derive(Debug, Default)]
struct Books {
    allocations: Account,
    pots: Pots,
    /// Connections to peers.
    connections: Account,
    /// New peers. Time credits them, whatever becomes of workers.
    encounters: Encounters,
    /// What is charged by worker, so that that of one that failed can be credited.
    held: Counts<(u16, UserKey, IpAddr)>,
    /// The same of connections.
    connected: Counts<(u16, UserKey, IpAddr)>,
    /// By relay address, who serves its live ports.
    servers: HashMap<(IpAddr, Carried), Servers>,
    /// Connections without an allocation.
    strangers: Crowd,
    /// Connections that are passed on to another server.
    passages: Crowd,
    /// With the worker whose port is kept.
    reservations: HashMap<[u8; 8], (u16, Reservation)>,
    /// Ports that were kept by one worker and are used by another.
    lent: HashMap<RelayedAddr, Loan>,
    /// By owner, such ports that are used no more.
    returned: HashMap<u16, Vec<RelayedAddr>>,
}

impl SharedLedger {
    /// An empty ledger of a relay with these addresses.
    pub(crate) fn new(relays: impl IntoIterator<Item = IpAddr>) -> Self {
        let live = relays.into_iter().map(LivePorts::none).collect();
        let memory = Memory::default();
        Self { books: Arc::default(), live, memory, handshakes: None, worker: 0 }
    }

    /// Refuses allocations while memory is tight.
    pub(crate) fn within(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    /// Refuses handshakes that come too often.
    pub(crate) fn with_handshakes(self, throttle: Arc<Throttle>) -> Self {
        Self { handshakes: Some(throttle), ..self }
    }

    /// The door of one worker to the same ledger.
    pub(crate) fn of_worker(&self, worker: u16) -> Self {
        Self { worker, ..self.clone() }
    }

    /// Credits everything this worker holds: its server is gone.
    pub(crate) fn forget(&mut self) {
        let worker = self.worker;
        let mut books = self.books();
        for ((of, user, client), charges) in books.held.of_worker(worker) {
            books.release(of, &Lease { user, client, charges });
        }
        for ((of, user, client), charges) in books.connected.of_worker(worker) {
            for _ in 0..charges {
                books.disconnect(of, &PeerLease { user, client });
            }
        }
        // Its ports are free again in the server that comes after it.
        books.reservations.retain(|_, (of, _)| *of != worker);
        books.returned.remove(&worker);
        books.lent.retain(|_, loan| loan.owner != worker);
        let borrowed: Vec<_> = books.lent.extract_if(|_, loan| loan.borrower == worker).collect();
        for (relayed, loan) in borrowed {
            books.returned.entry(loan.owner).or_default().push(relayed);
        }
        for ((ip, carried), servers) in &mut books.servers {
            for port in servers.forget(worker) {
                let relayed = RelayedAddr::new((*ip, port).into());
                self.mark(relayed, *carried, false);
            }
        }
        books.strangers.forget(worker);
        books.passages.forget(worker);
    }

    /// Whether there is memory for one more allocation.
    fn has_memory(&self) -> Result<(), Why> {
        if self.memory.is_tight() { Err(Why::OutOfMemory) } else { Ok(()) }
    }

    /// Notes that a port lives or not. To be called with the books in hand.
    fn mark(&self, relayed: RelayedAddr, carried: Carried, live: bool) {
        if let Some(ports) = self.ports(relayed.ip()) {
            ports.mark(relayed.port(), carried, live);
        }
    }

    /// The ports of a relay address; there are few addresses.
    fn ports(&self, ip: IpAddr) -> Option<&LivePorts> {
        self.live.iter().find(|ports| ports.ip == ip)
    }

    /// Counts a connection of a client that has no allocation yet; nothing is counted on refusal.
    pub(crate) fn admit_stranger(
        &mut self,
        client: IpAddr,
        bounds: &Bounds,
    ) -> Result<(), Refusal> {
        let worker = self.worker;
        let admitted = self.books().strangers.admit(worker, client, bounds);
        admitted.map_err(|full| match full {
            Full::PerClient => Refusal::PerClient,
            Full::PerNetwork => Refusal::PerNetwork,
            Full::InAll => Refusal::InAll,
        })
    }

    /// Counts a handshake of TLS or DTLS, which costs much more than other strangers do.
    pub(crate) fn admit_handshake(&self, now: Instant, client: ClientAddr) -> Result<(), Refusal> {
        match &self.handshakes {
            Some(handshakes) if !handshakes.lets(now, client) => Err(Refusal::Handshakes),
            Some(_) | None => Ok(()),
        }
    }

    /// Counts one that was dismissed because it went to this worker: nothing can refuse it.
    pub(crate) fn readmit_stranger(&mut self, client: IpAddr) {
        let worker = self.worker;
        self.books().strangers.take_in(worker, client);
    }

    /// Such a connection has an allocation now, or has ended.
    pub(crate) fn dismiss_stranger(&mut self, client: IpAddr) {
        let worker = self.worker;
        self.books().strangers.dismiss(worker, client);
    }

    /// Counts a connection that is to be passed on to another server.
    pub(crate) fn admit_passage(&mut self, client: IpAddr, bounds: &Bounds) -> Result<(), Refusal> {
        let worker = self.worker;
        let admitted = self.books().passages.admit(worker, client, bounds);
        admitted.map_err(|full| match full {
            Full::PerClient => Refusal::PassedPerClient,
            Full::PerNetwork => Refusal::PassedPerNetwork,
            Full::InAll => Refusal::PassedInAll,
        })
    }

    /// Such a connection has ended.
    pub(crate) fn dismiss_passage(&mut self, client: IpAddr) {
        let worker = self.worker;
        self.books().passages.dismiss(worker, client);
    }

    /// The books. A worker that failed while it held them left whole entries behind: every
    /// change below is complete once it begins to show.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for SharedLedger {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        let mut books = self.books();
        books.allocations.held(claim.user, claim.client).leaves_room(claim, limits)?;
        self.has_memory()?;
        books.encounters.sweep(claim.at);
        Ok(books.charge(self.worker, claim))
    }

    fn release(&mut self, lease: Lease) {
        self.books().release(self.worker, &lease);
    }

    fn connect(&mut self, lease: &Lease, limits: &Limits) -> Result<PeerLease, Crowded> {
        let mut books = self.books();
        let charged = books.connections.connect(lease, limits)?;
        books.connected.add((self.worker, lease.user, lease.client), 1);
        Ok(charged)
    }

    fn disconnect(&mut self, lease: PeerLease) {
        self.books().disconnect(self.worker, &lease);
    }

    fn meet(&mut self, lease: &Lease, new: NewPeers, limits: &Limits) -> Result<(), Halt> {
        self.books().encounters.count(lease, new, limits)
    }

    fn set_live(&mut self, relayed: RelayedAddr, carried: Carried, live: bool) {
        let mut books = self.books();
        let servers = books.servers.entry((relayed.ip(), carried)).or_default();
        servers.set(relayed.port(), live.then_some(self.worker));
        self.mark(relayed, carried, live);
    }

    fn is_live(&self, relayed: RelayedAddr, carried: Carried) -> bool {
        self.ports(relayed.ip()).is_some_and(|ports| ports.is_live(relayed.port(), carried))
    }

    fn reserve(&mut self, token: [u8; 8], reservation: Reservation) {
        self.books().reservations.insert(token, (self.worker, reservation));
    }

    fn redeem(
        &mut self,
        token: [u8; 8],
        user: UserKey,
        claim: &Claim,
        limits: &Limits,
    ) -> Result<(RelayedAddr, Lease, Shares), Why> {
        let mut books = self.books();
        let kept = books.reservations.get(&token).filter(|(_, kept)| kept.is_for(user, claim.at));
        let &(owner, ref kept) = kept.ok_or(Why::ReservationUnknown)?;
        let held = books.allocations.held(claim.user, claim.client);
        held.without(&kept.lease, claim).leaves_room(claim, limits)?;
        self.has_memory()?;
        let relayed = kept.relayed;
        let (lease, shares) = books.charge(self.worker, claim);
        books.end_reservation(token);
        if owner != self.worker {
            books.lent.insert(relayed, Loan { owner, borrower: self.worker });
        }
        Ok((relayed, lease, shares))
    }

    fn lapse(&mut self, token: [u8; 8]) -> bool {
        self.books().end_reservation(token)
    }

    fn give_back(&mut self, owner: u16, relayed: RelayedAddr) {
        let mut books = self.books();
        // An owner that failed meanwhile has it already.
        if books.lent.remove(&relayed).is_some_and(|loan| loan.owner == owner) {
            books.returned.entry(owner).or_default().push(relayed);
        }
    }

    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr> {
        self.books().returned.remove(&owner).unwrap_or_default()
    }
}

impl Books {
    fn charge(&mut self, worker: u16, claim: &Claim) -> (Lease, Shares) {
        self.held.add((worker, claim.user, claim.client), claim.charges);
        self.allocations.lease(claim, &mut self.pots)
    }

    /// Credits what a worker holds.
    fn release(&mut self, worker: u16, lease: &Lease) {
        if self.held.remove(&(worker, lease.user, lease.client), lease.charges) {
            self.allocations.release(lease, &mut self.pots);
        }
    }

    /// The same of a connection.
    fn disconnect(&mut self, worker: u16, lease: &PeerLease) {
        if self.connected.remove(&(worker, lease.user, lease.client), 1) {
            self.connections.disconnect(lease);
        }
    }

    /// Credits a reservation; whether it was still there.
    fn end_reservation(&mut self, token: [u8; 8]) -> bool {
        let kept = self.reservations.remove(&token);
        kept.map(|(worker, kept)| self.release(worker, &kept.lease)).is_some()
    }
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl Counts<(u16, UserKey, IpAddr)> {
    /// What a worker has.
    fn of_worker(&self, worker: u16) -> Vec<((u16, UserKey, IpAddr), u32)> {
        let its = self.0.iter().filter(|((of, ..), _)| *of == worker);
        its.map(|(owner, count)| (*owner, *count)).collect()
    }
}

impl<K: std::hash::Hash + Eq> Counts<K> {
    fn of(&self, owner: &K) -> u32 {
        self.0.get(owner).copied().unwrap_or(0)
    }

    fn add(&mut self, owner: K, charges: u32) {
        *self.0.entry(owner).or_default() += charges;
    }

    /// So much less, if there was any.
    fn remove(&mut self, owner: &K, charges: u32) -> bool {
        let Some(count) = self.0.get_mut(owner) else { return false };
        *count = count.saturating_sub(charges);
        if *count == 0 {
            self.0.remove(owner);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    mod new_peers;

    use std::time::Duration;

    use proto::policy::Bandwidth;

    use super::*;

    const LIMITS: Limits = Limits {
        allocations: 3,
        allocations_per_user: 2,
        allocations_per_client: 2,
        permissions: 1,
        channels: 1,
        new_peers_per_minute: 256,
        new_peers_per_minute_per_user: 1024,
        new_peers_per_minute_per_client: 2048,
        peer_connections: 1,
        peer_connections_waiting: 1,
        peer_connections_per_user: 2,
        peer_connections_per_client: 2,
        peer_connections_total: 3,
    };

    /// A ledger of a relay with one address.
    fn ledger() -> SharedLedger {
        SharedLedger::new(["192.0.2.9".parse().unwrap()])
    }

    fn claim(user: u64, client: u8, user_limit: Option<u32>) -> Claim {
        let at = crate::clock::Clock::new().last().mono;
        Claim {
            user: UserKey(user),
            client: IpAddr::from([192, 0, 2, client]),
            user_limit,
            charges: 1,
            bandwidth: Bandwidth::UNLIMITED,
            at,
        }
    }

    #[test]
    fn sec_009_each_quota_refuses_with_its_own_reason_and_is_credited_at_once() {
        for (case, held, wanted, why) in [
            ("user", vec![claim(1, 1, None), claim(1, 2, None)], claim(1, 3, None), Why::UserQuota),
            ("narrower credential", vec![claim(1, 1, None)], claim(1, 2, Some(1)), Why::UserQuota),
            (
                "client",
                vec![claim(1, 1, None), claim(2, 1, None)],
                claim(3, 1, None),
                Why::ClientQuota,
            ),
            (
                "total",
                vec![claim(1, 1, None), claim(2, 2, None), claim(3, 3, None)],
                claim(4, 4, None),
                Why::TotalQuota,
            ),
        ] {
            let mut ledger = ledger();
            let mut leases: Vec<_> =
                held.iter().map(|c| ledger.lease(c, &LIMITS).expect(case)).collect();
            for _ in 0..3 {
                assert_eq!(ledger.lease(&wanted, &LIMITS).unwrap_err(), why, "{case}");
            }
            while let Some((lease, _)) = leases.pop() {
                ledger.release(lease);
            }
            assert!(ledger.lease(&wanted, &LIMITS).is_ok(), "{case}: a refusal was charged");
        }
    }

    #[test]
    fn a_credential_cannot_widen_the_limit_of_the_relay() {
        let mut ledger = ledger();
        for client in 1..=2 {
            ledger.lease(&claim(1, client, Some(9)), &LIMITS).unwrap();
        }
        assert_eq!(ledger.lease(&claim(1, 3, Some(9)), &LIMITS).unwrap_err(), Why::UserQuota);
    }

    #[test]
    fn alloc_013_a_reservation_is_taken_once_in_time_and_by_its_user() {
        let now = crate::clock::Clock::new().last().mono;
        let later = now + Duration::from_secs(30);
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        let token = [7; 8];
        let mut here = ledger();
        let mut there = here.clone();
        let own = Claim { at: now, ..claim(1, 1, None) };
        let (lease, _) = here.lease(&own, &LIMITS).unwrap();
        here.reserve(token, Reservation { user: UserKey(1), relayed, until: later, lease });
        let mut redeem = |user, at| {
            let kept = there.redeem(token, UserKey(user), &Claim { at, ..own }, &LIMITS);
            kept.map(|(relayed, ..)| relayed)
        };
        assert_eq!(redeem(2, now), Err(Why::ReservationUnknown), "another user");
        assert_eq!(redeem(1, later), Err(Why::ReservationUnknown), "too late");
        assert_eq!(redeem(1, now), Ok(relayed), "another worker");
        assert_eq!(redeem(1, now), Err(Why::ReservationUnknown), "twice");
        assert!(!here.lapse(token), "redeemed");
    }

    /// Keeps a port for user 1, charged with an allocation of that user, whose lease is returned.
    fn pair(ledger: &mut SharedLedger, token: [u8; 8]) -> Lease {
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        let claim = Claim { charges: 2, ..claim(1, 1, None) };
        let (mut lease, _) = ledger.lease(&claim, &LIMITS).unwrap();
        let kept = lease.split().unwrap();
        let until = claim.at + Duration::from_secs(30);
        ledger.reserve(token, Reservation { user: UserKey(1), relayed, until, lease: kept });
        lease
    }

    #[test]
    fn alloc_018_a_kept_port_counts_like_an_allocation_until_it_is_redeemed_or_lapses() {
        let mut ledger = ledger();
        let first = pair(&mut ledger, [7; 8]);
        assert_eq!(ledger.lease(&claim(1, 2, None), &LIMITS).unwrap_err(), Why::UserQuota);
        assert_eq!(ledger.lease(&claim(2, 1, None), &LIMITS).unwrap_err(), Why::ClientQuota);
        let (other, _) = ledger.lease(&claim(2, 2, None), &LIMITS).unwrap();
        assert_eq!(ledger.lease(&claim(3, 3, None), &LIMITS).unwrap_err(), Why::TotalQuota);
        let redeemed = ledger.redeem([7; 8], UserKey(1), &claim(1, 1, None), &LIMITS);
        let (_, second, _) = redeemed.expect("its own room is enough");
        assert_eq!(ledger.lease(&claim(1, 2, None), &LIMITS).unwrap_err(), Why::UserQuota);
        for lease in [first, other, second] {
            ledger.release(lease);
        }
        let first = pair(&mut ledger, [8; 8]);
        assert!(ledger.lapse([8; 8]) && !ledger.lapse([8; 8]));
        ledger.release(first);
        let books = ledger.books();
        books.allocations.check();
        assert_eq!(books.allocations.all(), 0);
        assert!(books.held.0.is_empty() && books.reservations.is_empty());
    }

    #[test]
    fn what_a_failed_worker_kept_is_credited_once_and_redeemed_by_nobody() {
        let shared = ledger();
        let (mut failed, mut other) = (shared.of_worker(0), shared.of_worker(1));
        let lost = pair(&mut failed, [7; 8]);
        failed.forget();
        let refused = other.redeem([7; 8], UserKey(1), &claim(1, 1, None), &LIMITS).unwrap_err();
        assert_eq!(refused, Why::ReservationUnknown);
        assert!(!failed.lapse([7; 8]));
        failed.release(lost);
        let kept = pair(&mut other, [8; 8]);
        let taken = failed.redeem([8; 8], UserKey(1), &claim(1, 1, None), &LIMITS);
        assert!(taken.is_ok(), "by the worker that came after");
        assert_eq!(other.lease(&claim(1, 3, None), &LIMITS).unwrap_err(), Why::UserQuota);
        failed.forget();
        other.release(kept);
        assert_eq!(shared.books().allocations.all(), 0);
        assert!(shared.books().held.0.is_empty());
    }

    #[test]
    fn sec_009_connections_of_a_failed_worker_are_credited_and_no_other_s() {
        let shared = ledger();
        let (mut failed, mut other) = (shared.of_worker(0), shared.of_worker(1));
        let (lease, _) = failed.lease(&claim(1, 1, None), &LIMITS).unwrap();
        let lost = failed.connect(&lease, &LIMITS).unwrap();
        let alive = other.connect(&lease, &LIMITS).unwrap();
        assert_eq!(other.connect(&lease, &LIMITS).unwrap_err(), Crowded::User);
        failed.forget();
        failed.disconnect(lost);
        let next = other.connect(&lease, &LIMITS).expect("one was credited");
        assert_eq!(other.connect(&lease, &LIMITS).unwrap_err(), Crowded::User);
        for lease in [alive, next] {
            other.disconnect(lease);
        }
        let books = shared.books();
        books.connections.check();
        assert_eq!((books.connections.all(), books.connected.0.len()), (0, 0));
    }

    #[test]
    fn a_worker_that_failed_is_credited_and_no_other() {
        let shared = ledger();
        let (mut failed, mut other) = (shared.of_worker(0), shared.of_worker(1));
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        failed.lease(&claim(1, 1, None), &LIMITS).unwrap();
        other.lease(&claim(1, 2, None), &LIMITS).unwrap();
        failed.set_live(relayed, Carried::Datagrams, true);
        assert_eq!(other.lease(&claim(1, 3, None), &LIMITS).unwrap_err(), Why::UserQuota);
        failed.forget();
        assert!(!other.is_live(relayed, Carried::Datagrams));
        assert!(other.lease(&claim(1, 3, None), &LIMITS).is_ok());
        assert_eq!(other.lease(&claim(1, 4, None), &LIMITS).unwrap_err(), Why::UserQuota);
    }

    #[test]
    fn what_one_worker_gives_back_its_owner_collects() {
        let relayed = RelayedAddr::new("192.0.2.9:50001".parse().unwrap());
        let shared = ledger();
        let (mut here, mut there) = (shared.of_worker(0), shared.of_worker(1));
        for (case, fails, expected) in [
            ("given back", None, &[relayed][..]),
            ("its user fails", Some(0), &[relayed]),
            ("its owner fails", Some(1), &[]),
        ] {
            let first = pair(&mut there, [7; 8]);
            let (_, second, _) =
                here.redeem([7; 8], UserKey(1), &claim(1, 1, None), &LIMITS).expect(case);
            assert_eq!(there.take_back(1), [], "{case}: in use");
            if let Some(worker) = fails {
                shared.of_worker(worker).forget();
            }
            here.give_back(1, relayed);
            assert_eq!(here.take_back(0), [], "{case}");
            assert_eq!(there.take_back(1), expected, "{case}");
            assert_eq!(there.take_back(1), [], "{case}: once");
            here.release(second);
            there.release(first);
            assert!(shared.books().lent.is_empty(), "{case}");
        }
        here.set_live(relayed, Carried::Datagrams, true);
        assert!(there.is_live(relayed, Carried::Datagrams));
        there.set_live(relayed, Carried::Datagrams, false);
        assert!(!here.is_live(relayed, Carried::Datagrams));
    }

    #[test]
    fn a_port_lives_alone_and_at_its_address_alone() {
        let at = |text: &str| RelayedAddr::new(text.parse().unwrap());
        let mut ledger =
            SharedLedger::new(["192.0.2.9", "2001:db8::9"].map(|ip| ip.parse().unwrap()));
        for port in ["192.0.2.9:1024", "192.0.2.9:50000", "[2001:db8::9]:65535"] {
            ledger.set_live(at(port), Carried::Datagrams, true);
            assert!(ledger.is_live(at(port), Carried::Datagrams), "{port}");
            assert!(!ledger.is_live(at(port), Carried::Streams), "{port}");
        }
        for port in ["192.0.2.9:1025", "192.0.2.9:50001", "192.0.2.9:65535", "192.0.2.8:50000"] {
            assert!(!ledger.is_live(at(port), Carried::Datagrams), "{port}");
        }
        ledger.set_live(at("192.0.2.9:50000"), Carried::Datagrams, false);
        assert!(!ledger.is_live(at("192.0.2.9:50000"), Carried::Datagrams));
        assert!(ledger.is_live(at("192.0.2.9:1024"), Carried::Datagrams));
    }
}
