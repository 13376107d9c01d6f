//! Permissions and `CreatePermission` (RFC 8656 §9–10).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::addr::{AllocationId, Family, RelayedAddr};
use crate::dialect::rfc;
use crate::now::Now;
use crate::policy::{AdmittedPeer, Ledger, Reach};
use crate::reject::{Reject, Why};
use crate::request::Reply;
use crate::stun::Message;
use crate::stun::attribute::XorPeerAddress;
use crate::turn::action::{Action, Change};
use crate::turn::brake::Turn;
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;

/// How long a permission lives (RFC 8656 §9).
pub const PERMISSION_LIFETIME: Duration = rfc::RULES.permission;

/// A permission for one peer host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permission {
    /// When it ends unless renewed.
    pub(crate) expires: Instant,
    /// Whose address the host is.
    pub(crate) reach: Reach,
}

impl Permission {
    /// Whether the host is one of our own relay addresses.
    #[inline]
    pub(crate) fn hairpin(&self) -> bool {
        self.reach == Reach::Hairpin
    }
}

impl<L: Ledger> Server<L> {
    /// `CreatePermission`: all peers of the request are permitted, or none.
    pub(super) fn create_permission(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<(), Reject> {
        // §10.2: the allocation, then syntax (400), family (443), policy (403), capacity (508),
        // too many new ones (403).
        let id = self.owned(request)?;
        let peers = message
            .read_all::<XorPeerAddress>()
            .map(|peer| peer.map(|XorPeerAddress(addr)| addr))
            .collect::<Result<Vec<_>, _>>()?;
        if peers.is_empty() {
            return Err(Why::BadAttribute.into());
        }
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        let serves = Family::ALL.map(|family| allocation.relay(family).is_some());
        for peer in &peers {
            same_family(serves, *peer)?;
        }
        // One permission a host, however often the request names it.
        let mut hosts: BTreeMap<IpAddr, AdmittedPeer> = BTreeMap::new();
        for address in peers {
            let asker = self.config.asker(allocation);
            let admitted = self.config.peers.admit(&self.config.edge, asker, address);
            let peer = admitted.map_err(|why| Reject::about(why, address))?;
            hosts.insert(peer.addr().ip(), peer);
        }
        let new = hosts.keys().filter(|ip| allocation.permission(**ip).is_none()).count();
        if allocation.permissions() + new > self.config.limits.permissions {
            return Err(Why::TooManyPermissions.into());
        }
        let turn = Turn { hosts: new, address: None, at: now.mono };
        let limits = &self.config.limits;
        allocation.owner.turns_to(turn, &mut self.ledger, limits).map_err(Why::from)?;
        for peer in hosts.into_values() {
            allocation.permit(now.mono, peer);
            let peer = peer.addr();
            self.actions.push_back(Action::Changed(Change::PermissionSet { id, peer }));
        }
        self.tally.permissions += new as u64;
        self.arm_by(id, now.mono + PERMISSION_LIFETIME);
        self.succeed(&request.exchange, Reply::Done);
        Ok(())
    }
}

impl<L: Ledger> Server<L> {
    /// Permits one peer, unless it is permitted: for requests that do more with it.
    pub(super) fn permit(
        &mut self,
        now: Now,
        id: AllocationId,
        peer: SocketAddr,
    ) -> Result<AdmittedPeer, Why> {
        let allocation = self.table.open(id).ok_or(Why::NoAllocation)?;
        same_family(Family::ALL.map(|family| allocation.relay(family).is_some()), peer)?;
        let asker = self.config.asker(allocation);
        let admitted = self.config.peers.admit_port(&self.config.edge, asker, peer)?;
        let peer = admitted.addr();
        if admitted.hairpin()
            && !self.ledger.is_live(RelayedAddr::new(peer.socket()), allocation.carried())
        {
            return Err(Why::PeerDenied);
        }
        if allocation.permission(peer.ip()).is_some() {
            return Ok(admitted);
        }
        if allocation.permissions() >= self.config.limits.permissions {
            return Err(Why::TooManyPermissions);
        }
        let turn = Turn { hosts: 1, address: None, at: now.mono };
        allocation.owner.turns_to(turn, &mut self.ledger, &self.config.limits)?;
        allocation.permit(now.mono, admitted);
        let lifetime = allocation.dialect.rules().permission;
        self.tally.permissions += 1;
        self.arm_by(id, now.mono + lifetime);
        self.actions.push_back(Action::Changed(Change::PermissionSet { id, peer }));
        Ok(admitted)
    }
}

/// Whether an allocation can reach a peer of this family: 443 if not. An IPv4-mapped IPv6 peer is
/// of no family but refused (PERM-011), which the policy says.
pub(super) fn same_family(serves: [bool; 2], peer: SocketAddr) -> Result<(), Why> {
    let mapped = matches!(peer.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if mapped || serves[Family::of(peer.ip()).index()] { Ok(()) } else { Err(Why::PeerFamily) }
}
