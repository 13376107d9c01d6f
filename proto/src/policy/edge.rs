//! The edge's own addresses: listeners, relay addresses, and what each is called outside a NAT.

use std::net::{IpAddr, SocketAddr};

use crate::addr::{Family, ListenerId, PeerAddr, RelayedAddr, Side, Transport};

/// One socket address clients speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Bound address; the port is never zero, the host may be the wildcard.
    pub local: SocketAddr,
    /// What it is called outside a 1:1 NAT, if it stands behind one.
    pub advertised: Option<IpAddr>,
    /// Transport.
    pub transport: Transport,
    /// Which leg of the edge it stands on.
    pub side: Side,
}

/// One host address that relayed ports are opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Bound address; never the wildcard.
    pub local: IpAddr,
    /// What clients are told; equals `local` without NAT.
    pub advertised: IpAddr,
}

/// Listeners, relay addresses, and every other address of this host.
#[derive(Clone, Debug)]
pub struct Edge {
    listeners: Vec<Listener>,
    relays: Vec<RelayAddress>,
    own: Vec<IpAddr>,
}

impl Edge {
    /// `own` names every address of the host that is neither in `listeners` nor in `relays`
    /// (interfaces behind a wildcard listener, metrics, control): none may be a peer.
    pub fn new(listeners: Vec<Listener>, relays: Vec<RelayAddress>, own: Vec<IpAddr>) -> Self {
        Self { listeners, relays, own }
    }

    /// The listener of this id.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.index())
    }

    /// Every listener, in order of its id.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Relay addresses of one family.
    pub fn relays(&self, family: Family) -> impl Iterator<Item = &RelayAddress> {
        self.relays.iter().filter(move |relay| Family::of(relay.local) == family)
    }

    /// What clients are told of a relayed address.
    pub fn advertise(&self, relayed: RelayedAddr) -> SocketAddr {
        relayed.socket()
    }

    /// The local form of a peer on one of our relay addresses, advertised or local.
    pub fn localise(&self, _peer: PeerAddr) -> Option<RelayedAddr> {
        None
    }

    /// Whether an address belongs to this host, under any of its names.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip)
    }
}
