//! Quotas, and what the workers of one relay share to keep them exactly.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::addr::{Carried, RelayedAddr};
use crate::policy::bandwidth::{Bandwidth, Shares};
use crate::reject::Why;

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
    /// TCP connections of one allocation to its peers.
    pub peer_connections: usize,
    /// Those of them that are being made, or wait for the client to claim them.
    pub peer_connections_waiting: usize,
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

/// A charged allocation; released exactly once.
#[derive(Debug)]
pub struct Lease {
    /// The user charged.
    pub user: UserKey,
    /// The client network charged.
    pub client: IpAddr,
}

/// A relayed port kept for a later Allocate (RFC 8656 §7.2).
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    /// Who may redeem it.
    pub user: UserKey,
    /// The reserved address.
    pub relayed: RelayedAddr,
    /// When it lapses.
    pub until: Instant,
}

/// What workers share: quotas, live relayed ports, reservations.
pub trait Ledger {
    /// Charges one allocation, and says what bandwidth it shares with others; nothing is charged on
    /// refusal.
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why>;
    /// Credits it again.
    fn release(&mut self, lease: Lease);
    /// Records that a relayed address came to life or ended.
    fn set_live(&mut self, relayed: RelayedAddr, carried: Carried, live: bool);
    /// Whether a relayed address is alive, and relays this.
    fn is_live(&self, relayed: RelayedAddr, carried: Carried) -> bool;
    /// Keeps a reservation.
    fn reserve(&mut self, token: [u8; 8], reservation: Reservation);
    /// Takes a reservation, once.
    fn redeem(&mut self, now: Instant, token: [u8; 8], user: UserKey) -> Option<RelayedAddr>;
    /// Ends a reservation: true if nobody redeemed it, so that its port is free again.
    fn lapse(&mut self, token: [u8; 8]) -> bool;
    /// Hands a port back to the worker whose share it is of.
    fn give_back(&mut self, owner: u16, relayed: RelayedAddr);
    /// Collects ports that other workers handed back.
    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr>;
}
