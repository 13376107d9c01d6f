//! Quotas, and what the workers of one relay share to keep them exactly.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::addr::{Carried, RelayedAddr};
use crate::policy::bandwidth::{Bandwidth, Shares};
use crate::policy::new_peers::{Halt, NewPeers};
use crate::reject::{DropReason, Why};

/// A keyed hash of the user-id part of a name: quotas and labels use it, never the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(pub u64);

/// Quotas and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Allocations of the whole relay.
    pub allocations: u32,
    /// Allocations of one user.
    pub allocations_per_user: u32,
    /// Allocations of one client address; of one /64 where the client speaks IPv6.
    pub allocations_per_client: u32,
    /// Permissions of one allocation.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Peers that one allocation may newly turn to in a minute; at least 1.
    pub new_peers_per_minute: u32,
    /// Those of all allocations of one user together, peers of two counting twice; at least 1.
    pub new_peers_per_minute_per_user: u32,
    /// Those of one client address, or /64; at least 1.
    pub new_peers_per_minute_per_client: u32,
    /// TCP connections of one allocation to its peers.
    pub peer_connections: usize,
    /// Those of them that are being made, or wait for the client to claim them.
    pub peer_connections_waiting: usize,
    /// Those of all allocations of one user.
    pub peer_connections_per_user: u32,
    /// Those of one client address, or /64.
    pub peer_connections_per_client: u32,
    /// Those of the whole relay.
    pub peer_connections_total: u32,
}

/// Who wants an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The user.
    pub user: UserKey,
    /// The client's address, or the first of its /64: see [`Claim::network`].
    pub client: IpAddr,
    /// A narrower limit that the credential carries.
    pub user_limit: Option<u32>,
    /// How much is charged: 1, and 1 more if a port is to be kept for another Allocate.
    pub charges: u32,
    /// What it may carry.
    pub bandwidth: Bandwidth,
    /// When.
    pub at: Instant,
}

impl Claim {
    /// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, because a
    /// host chooses the lower half freely.
    pub fn network(client: IpAddr) -> IpAddr {
        match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        }
    }
}

/// A charged allocation, with what is kept beside it; released exactly once.
#[derive(Debug)]
pub struct Lease {
    /// The user charged.
    pub user: UserKey,
    /// The client network charged.
    pub client: IpAddr,
    /// How much.
    pub charges: u32,
}

impl Lease {
    /// What a claim is charged.
    pub fn of(claim: &Claim) -> Self {
        Self { user: claim.user, client: claim.client, charges: claim.charges }
    }

    /// Gives away the charge of what is kept, if there is one.
    pub fn split(&mut self) -> Option<Self> {
        let kept = self.charges.checked_sub(1).filter(|kept| *kept > 0)?;
        self.charges = 1;
        Some(Self { user: self.user, client: self.client, charges: kept })
    }
}

/// A charged connection to a peer; released exactly once.
#[derive(Debug)]
pub struct PeerLease {
    /// The user charged.
    pub user: UserKey,
    /// The client network charged.
    pub client: IpAddr,
}

/// Who has as many connections to peers as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// The allocation, or as many of it wait.
    Allocation,
    /// Its user.
    User,
    /// The network of its client.
    Client,
    /// The relay.
    Relay,
}

impl From<Crowded> for Why {
    fn from(crowded: Crowded) -> Self {
        match crowded {
            Crowded::Allocation => Self::TooManyConnections,
            Crowded::User => Self::UserConnections,
            Crowded::Client => Self::ClientConnections,
            Crowded::Relay => Self::TotalConnections,
        }
    }
}

impl From<Crowded> for DropReason {
    fn from(crowded: Crowded) -> Self {
        match crowded {
            Crowded::Allocation => Self::TooManyConnections,
            Crowded::User => Self::UserConnections,
            Crowded::Client => Self::ClientConnections,
            Crowded::Relay => Self::TotalConnections,
        }
    }
}

/// What is charged already to those whom one more charge would meet.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// To the user.
    pub user: u32,
    /// To the client's network.
    pub client: u32,
    /// To all.
    pub all: u32,
}

impl Held {
    /// The same without a lease that ends when the claim is granted.
    #[must_use]
    pub fn without(self, lease: &Lease, claim: &Claim) -> Self {
        let less = |held: u32, is_charged| {
            if is_charged { held.saturating_sub(lease.charges) } else { held }
        };
        Self {
            user: less(self.user, lease.user == claim.user),
            client: less(self.client, lease.client == claim.client),
            all: less(self.all, true),
        }
    }

    /// Whether all of a claim fits beside it.
    pub fn leaves_room(self, claim: &Claim, limits: &Limits) -> Result<(), Why> {
        let user_limit = limits.allocations_per_user.min(claim.user_limit.unwrap_or(u32::MAX));
        let fits = |held: u32, limit: u32| claim.charges <= limit.saturating_sub(held);
        if !fits(self.user, user_limit) {
            Err(Why::UserQuota)
        } else if !fits(self.client, limits.allocations_per_client) {
            Err(Why::ClientQuota)
        } else if !fits(self.all, limits.allocations) {
            Err(Why::TotalQuota)
        } else {
            Ok(())
        }
    }

    /// Whether one more connection to a peer fits beside what is held of these.
    pub fn leaves_room_for_connection(self, limits: &Limits) -> Result<(), Crowded> {
        if self.user >= limits.peer_connections_per_user {
            Err(Crowded::User)
        } else if self.client >= limits.peer_connections_per_client {
            Err(Crowded::Client)
        } else if self.all >= limits.peer_connections_total {
            Err(Crowded::Relay)
        } else {
            Ok(())
        }
    }
}

/// A relayed port kept for a later Allocate (RFC 8656 §7.2).
#[derive(Debug)]
pub struct Reservation {
    /// Who may redeem it.
    pub user: UserKey,
    /// The reserved address.
    pub relayed: RelayedAddr,
    /// When it lapses.
    pub until: Instant,
    /// It is charged like an allocation.
    pub lease: Lease,
}

impl Reservation {
    /// Whether its token is good for a user, now.
    pub fn is_for(&self, user: UserKey, now: Instant) -> bool {
        self.user == user && now < self.until
    }
}

/// What workers share: quotas, live relayed ports, reservations.
pub trait Ledger {
    /// Charges a claim, and says what bandwidth its allocation shares with others; nothing is
    /// charged on refusal.
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why>;
    /// Credits it again.
    fn release(&mut self, lease: Lease);
    /// Charges a connection to a peer, of the allocation with this lease; nothing is charged on
    /// refusal.
    fn connect(&mut self, lease: &Lease, limits: &Limits) -> Result<PeerLease, Crowded>;
    /// Credits it again.
    fn disconnect(&mut self, lease: PeerLease);
    /// Counts peers that are new to the allocation with this lease, with those of all allocations
    /// of its user and of its client's network; nothing is counted on refusal. Never asked for a
    /// packet to a peer that is known.
    fn meet(&mut self, lease: &Lease, new: NewPeers, limits: &Limits) -> Result<(), Halt>;
    /// Records that a relayed address came to life or ended.
    fn set_live(&mut self, relayed: RelayedAddr, carried: Carried, live: bool);
    /// Whether a relayed address is alive, and relays this.
    fn is_live(&self, relayed: RelayedAddr, carried: Carried) -> bool;
    /// Keeps a reservation.
    fn reserve(&mut self, token: [u8; 8], reservation: Reservation);
    /// Takes a reservation, once, if it is this user's: the claim is charged in its stead, so that
    /// the room it takes is there. Nothing changes on refusal.
    fn redeem(
        &mut self,
        token: [u8; 8],
        user: UserKey,
        claim: &Claim,
        limits: &Limits,
    ) -> Result<(RelayedAddr, Lease, Shares), Why>;
    /// Ends a reservation and credits it: true if nobody redeemed it, so that its port is free again.
    fn lapse(&mut self, token: [u8; 8]) -> bool;
    /// Hands a port back to the worker whose share it is of.
    fn give_back(&mut self, owner: u16, relayed: RelayedAddr);
    /// Collects ports that other workers handed back.
    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr>;
}
