//! The edge's own addresses: listeners, relay addresses, and what each is called outside a NAT.
//!
//! A 1:1 NAT gives one host two names. Sockets are bound to the *local* one, clients and peers
//! know the *advertised* one. Inside the core every own address is kept in its local form;
//! translation happens where an address enters or leaves. So is every address of the pool's other
//! relays, which may stand behind the same NAT.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use crate::addr::{Family, ListenerId, PeerAddr, RelayedAddr, Side, Transport};
use crate::policy::discovery::{Corner, Corners};

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
    /// Whether the address is shared with other relays (RFC 8155 §6): clients that want to
    /// allocate are sent elsewhere.
    pub anycast: bool,
}

impl Listener {
    /// The address clients use: the advertised one where there is one.
    pub fn reachable(&self) -> SocketAddr {
        SocketAddr::new(self.advertised.unwrap_or(self.local.ip()), self.local.port())
    }
}

/// One host address that relayed ports are opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Bound address; never the wildcard.
    pub local: IpAddr,
    /// What clients are told; equals `local` without NAT.
    pub advertised: IpAddr,
}

/// An address on which another relay of the pool opens relayed ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRelay {
    /// Where this relay reaches it.
    pub local: IpAddr,
    /// What clients are told; equals `local` unless both relays stand behind one NAT.
    pub advertised: IpAddr,
    /// Its relayed ports.
    pub ports: RangeInclusive<u16>,
}

/// Whose address a peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anybody's.
    Outside,
    /// One of our own relay addresses.
    Hairpin,
    /// A relay address of the pool's other relays.
    Pool,
}

/// Listeners, relay addresses, and every other address of this host.
#[derive(Clone, Debug)]
pub struct Edge {
    listeners: Vec<Listener>,
    relays: Vec<RelayAddress>,
    ports: RangeInclusive<u16>,
    own: Vec<IpAddr>,
    translates: bool,
    corners: Vec<Corners>,
    broadcasts: Vec<IpAddr>,
    services: Vec<SocketAddr>,
    pool: Vec<PoolRelay>,
}

impl Edge {
    /// `own` names every address of the host that is neither in `listeners` nor in `relays`
    /// (interfaces behind a wildcard listener, metrics, control): none may be a peer.
    pub fn new(listeners: Vec<Listener>, relays: Vec<RelayAddress>, own: Vec<IpAddr>) -> Self {
        let translates = relays.iter().any(|relay| relay.local != relay.advertised);
        let (corners, broadcasts) = (Vec::new(), Vec::new());
        let (services, pool) = (Vec::new(), Vec::new());
        let ports = 0..=u16::MAX;
        Self { listeners, relays, ports, own, translates, corners, broadcasts, services, pool }
    }

    /// The same, with listeners where NAT behaviour discovery is served.
    #[must_use]
    pub fn with_corners(self, corners: Vec<Corners>) -> Self {
        Self { corners, ..self }
    }

    /// The same, with the ports that are ever relayed.
    #[must_use]
    pub fn with_ports(self, ports: RangeInclusive<u16>) -> Self {
        Self { ports, ..self }
    }

    /// The same, with addresses that stand for whole networks of this host: none may be a peer.
    #[must_use]
    pub fn with_broadcasts(self, broadcasts: Vec<IpAddr>) -> Self {
        Self { broadcasts, ..self }
    }

    /// The same, with what is served beside listeners, here or at other relays: metrics, control,
    /// where clients are sent on to. None may be a peer, not even where its range is opened.
    #[must_use]
    pub fn with_services(self, services: Vec<SocketAddr>) -> Self {
        Self { services, ..self }
    }

    /// The same, with the pool's other relays.
    #[must_use]
    pub fn with_pool(self, pool: Vec<PoolRelay>) -> Self {
        let translates =
            self.translates || pool.iter().any(|relay| relay.local != relay.advertised);
        Self { translates, pool, ..self }
    }

    /// The corner of NAT behaviour discovery that a listener is.
    pub fn corner(&self, listener: ListenerId) -> Option<Corner> {
        self.corners.iter().find_map(|corners| corners.at(listener))
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
        SocketAddr::new(self.outside(relayed.ip()), relayed.port())
    }

    /// How a peer's address is told to a client: a relay address, ours or the pool's, by its
    /// advertised name, any other as it is.
    pub fn present(&self, peer: PeerAddr) -> PeerAddr {
        if !self.translates {
            return peer;
        }
        PeerAddr::new(SocketAddr::new(self.outside(peer.ip()), peer.port()))
    }

    /// A peer in the form that sockets know, and whose address it has.
    pub fn place(&self, peer: PeerAddr) -> (PeerAddr, Reach) {
        if let Some(own) = self.localise(peer) {
            return (PeerAddr::new(own.socket()), Reach::Hairpin);
        }
        match self.of_pool(peer.ip()) {
            Some(relay) => {
                let local = SocketAddr::new(relay.local, peer.port());
                (PeerAddr::new(local), Reach::Pool)
            }
            None => (peer, Reach::Outside),
        }
    }

    /// Whether an address is a relay address of the pool's other relays, under any of its names.
    pub fn is_of_pool(&self, ip: IpAddr) -> bool {
        self.of_pool(ip).is_some()
    }

    /// Whether it has a port that the pool's other relays relay by.
    pub fn is_relayed_by_pool(&self, peer: PeerAddr) -> bool {
        self.of_pool(peer.ip()).is_some_and(|relay| relay.ports.contains(&peer.port()))
    }

    fn of_pool(&self, ip: IpAddr) -> Option<&PoolRelay> {
        self.pool.iter().find(|relay| relay.advertised == ip || relay.local == ip)
    }

    /// The local form of a peer on one of our relay addresses, advertised or local.
    pub fn localise(&self, peer: PeerAddr) -> Option<RelayedAddr> {
        let ip = peer.ip();
        self.relays
            .iter()
            .find(|relay| relay.advertised == ip || relay.local == ip)
            .map(|relay| RelayedAddr::new(SocketAddr::new(relay.local, peer.port())))
    }

    /// Whether an address belongs to this host, under any of its names.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip)
            || self.relays.iter().any(|relay| relay.local == ip || relay.advertised == ip)
            || self
                .listeners
                .iter()
                .any(|listener| listener.local.ip() == ip || listener.advertised == Some(ip))
    }

    /// Whether an address is one of our listeners, under any of its names.
    pub fn is_listener(&self, addr: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            listener.local.port() == addr.port()
                && (listener.local.ip() == addr.ip()
                    || listener.advertised == Some(addr.ip())
                    || listener.local.ip().is_unspecified() && self.is_own(addr.ip()))
        })
    }

    /// Whether a port of a relay address may ever be a relayed one.
    pub fn relays_by(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Whether an address stands for a whole network of this host.
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        self.broadcasts.contains(&ip)
    }

    /// Whether something is served there that is not for peers. What is served on a wildcard is
    /// served at every loopback address too.
    pub fn is_service(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        self.services.iter().any(|service| {
            service.port() == addr.port()
                && (service.ip() == ip
                    || service.ip().is_unspecified() && (ip.is_loopback() || self.is_own(ip)))
        })
    }

    fn outside(&self, ip: IpAddr) -> IpAddr {
        let own = self.relays.iter().find(|relay| relay.local == ip);
        let own = own.map(|relay| relay.advertised);
        let pool = || self.pool.iter().find(|relay| relay.local == ip);
        own.or_else(|| pool().map(|relay| relay.advertised)).unwrap_or(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> Edge {
        Edge::new(
            vec![Listener {
                local: "0.0.0.0:3478".parse().unwrap(),
                advertised: Some("198.51.100.7".parse().unwrap()),
                transport: Transport::Udp,
                side: Side::External,
                anycast: false,
            }],
            vec![RelayAddress {
                local: "10.0.0.5".parse().unwrap(),
                advertised: "198.51.100.7".parse().unwrap(),
            }],
            vec!["10.0.0.6".parse().unwrap()],
        )
    }

    fn peer(text: &str) -> PeerAddr {
        PeerAddr::new(text.parse().unwrap())
    }

    #[test]
    fn alloc_023_relayed_addresses_are_told_by_their_public_name() {
        let edge = edge();
        let local = RelayedAddr::new("10.0.0.5:50000".parse().unwrap());
        assert_eq!(edge.advertise(local), "198.51.100.7:50000".parse().unwrap());
        for name in ["198.51.100.7:50000", "10.0.0.5:50000"] {
            assert_eq!(edge.localise(peer(name)), Some(local), "{name}");
        }
        assert_eq!(edge.localise(peer("198.51.100.8:50000")), None);
        assert_eq!(edge.present(peer("10.0.0.5:50002")), peer("198.51.100.7:50002"));
        assert_eq!(edge.present(peer("203.0.113.1:9")), peer("203.0.113.1:9"));
    }

    #[test]
    fn own_addresses_are_known_by_every_name() {
        let edge = edge();
        for own in ["10.0.0.5", "10.0.0.6", "198.51.100.7"] {
            assert!(edge.is_own(own.parse().unwrap()), "{own}");
        }
        assert!(!edge.is_own("198.51.100.8".parse().unwrap()));
        for (addr, expected) in [
            ("198.51.100.7:3478", true),
            ("10.0.0.5:3478", true),
            ("10.0.0.6:3478", true),
            ("10.0.0.6:3479", false),
            ("203.0.113.9:3478", false),
        ] {
            assert_eq!(edge.is_listener(addr.parse().unwrap()), expected, "{addr}");
        }
    }
}
