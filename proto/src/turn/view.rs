//! What an observer sees of allocations.

use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{AllocationId, Family, FiveTuple, PeerAddr};
use crate::dialect::Dialect;
use crate::media::MediaReport;
use crate::now::Now;
use crate::policy::Ledger;
use crate::turn::allocation::Allocation;
use crate::turn::channel::Way;
use crate::turn::server::Server;
use crate::turn::tally::AllocationView;

/// Everything about one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationDetail {
    /// In a few numbers.
    pub view: AllocationView,
    /// What its client speaks.
    pub dialect: Dialect,
    /// Whom it may reach, and how.
    pub peers: Vec<PeerView>,
    /// How well its media arrives, stream by stream; `None` if that is not measured.
    pub media: Option<MediaReport>,
}

/// A peer of an allocation, under the address that the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The host.
    pub ip: IpAddr,
    /// How long its permission lives; `None` without one.
    pub permission: Option<Duration>,
    /// What leads to it; `None` for a permission alone, which is for the whole host.
    pub bond: Option<Bond>,
}

/// What an allocation has with one port of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// The port.
    pub port: u16,
    /// What kind it is.
    pub kind: BondKind,
    /// How long it lives unless renewed; `None` for a connection.
    pub expires_in: Option<Duration>,
}

/// How payload travels between a client and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondKind {
    /// Under a channel number.
    Channel(u16),
    /// Bare, to the active destination of MS-TURN.
    Destination,
    /// Through a TCP connection.
    Connection,
}

impl<L: Ledger> Server<L> {
    /// Every allocation as an observer sees it, in order of its slot.
    pub fn allocations(&self, now: Now) -> impl Iterator<Item = AllocationView> + '_ {
        self.allocations_from(now, 0)
    }

    /// The same from a slot on, so that who takes a few at a time need not begin anew.
    pub fn allocations_from(
        &self,
        now: Now,
        first: u32,
    ) -> impl Iterator<Item = AllocationView> + '_ {
        self.table.iter_from(first).map(move |(id, allocation)| self.view_of(now, id, allocation))
    }

    /// One allocation as an observer sees it; `None` if it is over.
    pub fn allocation(&self, now: Now, id: AllocationId) -> Option<AllocationView> {
        Some(self.view_of(now, id, self.table.get(id)?))
    }

    /// The allocation of a client, if it is open.
    pub fn allocation_of(&self, client: FiveTuple) -> Option<AllocationId> {
        self.table.id_of(client)
    }

    /// Everything about one allocation; `None` if it is over.
    pub fn detail(&self, now: Now, id: AllocationId) -> Option<AllocationDetail> {
        let allocation = self.table.get(id)?;
        Some(AllocationDetail {
            view: self.view_of(now, id, allocation),
            dialect: allocation.dialect,
            peers: self.peers_of(now, allocation),
            media: allocation.media_report(now.mono),
        })
    }

    fn view_of(&self, now: Now, id: AllocationId, allocation: &Allocation) -> AllocationView {
        let relay = |family| allocation.relay(family);
        let expires = allocation.relays().map(|(_, relay)| relay.expires).max();
        let meter = allocation.meter.as_ref();
        AllocationView {
            id,
            client: allocation.client,
            transport: self.transport(allocation.client),
            user: allocation.owner.lease.user,
            relayed: Family::ALL
                .map(|family| relay(family).map(|it| self.config.edge.advertise(it.addr()))),
            age: now.mono.saturating_duration_since(allocation.owner.opened),
            expires_in: expires
                .map(|at| at.saturating_duration_since(now.mono))
                .unwrap_or_default(),
            permissions: allocation.permissions(),
            channels: allocation.channels(),
            usage: allocation.usage,
            beside: allocation.owner.beside,
            pressure: meter.map(|meter| meter.pressure(now.mono)).unwrap_or_default(),
            media: allocation.media_summary(now.mono),
        }
    }

    /// A line for each port that something leads to, and one for each host without such a port.
    fn peers_of(&self, now: Now, allocation: &Allocation) -> Vec<PeerView> {
        let until = |at| std::time::Instant::saturating_duration_since(&at, now.mono);
        let channels = allocation.bound().map(|(way, channel)| {
            let kind = match way {
                Way::Number(number) => BondKind::Channel(number.number()),
                Way::Bare => BondKind::Destination,
            };
            (channel.peer, kind, Some(until(channel.expires)))
        });
        let connections = allocation.owner.connections.iter();
        let connections = connections.filter_map(|id| self.connections.find(*id));
        let connections = connections.map(|it| (it.peer, BondKind::Connection, None));
        let mut peers: Vec<_> = channels
            .chain(connections)
            .map(|(peer, kind, expires_in)| {
                let permission = allocation.permission(peer.ip()).map(|it| until(it.expires));
                let peer = self.config.edge.present(peer);
                let bond = Bond { port: peer.port(), kind, expires_in };
                PeerView { ip: peer.ip(), permission, bond: Some(bond) }
            })
            .collect();
        for (host, permission) in allocation.permits() {
            let ip = self.config.edge.present(PeerAddr::new((host, 0).into())).ip();
            if !peers.iter().any(|peer| peer.ip == ip) {
                let permission = Some(until(permission.expires));
                peers.push(PeerView { ip, permission, bond: None });
            }
        }
        peers
    }
}
