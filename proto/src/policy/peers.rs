//! Which peers may be reached: globally reachable unicast, plus what the configuration names.
//!
//! One function decides, [`PeerAcl::judge`], and every path that opens a way to a peer calls it. It
//! looks at the address as it came, so that an IPv4-mapped one is seen for what it is, and at every
//! IPv4 address hidden inside an IPv6 one. What passes is an [`AdmittedPeer`]; what does not is a
//! [`Denial`], which knows the rule.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv6Net};

use crate::addr::{Family, PeerAddr, Side};
use crate::policy::edge::{Edge, Reach};
use crate::policy::embedded::{self, Form};
use crate::policy::sealed::SealedPeers;
use crate::policy::special::{self, Registry, Special};
use crate::reject::Why;

/// The peer policy (threat model T1). The built-in deny list is [`special`].
///
/// The longest matching range decides. Where an allowed and a denied range are equally long,
/// `deny` beats `allow`, and `allow` beats the built-in list: naming exactly `10.0.0.0/8` opens
/// it, `0.0.0.0/0` does not.
#[derive(Clone, Debug)]
pub struct PeerAcl {
    /// For clients of both sides.
    pub both: Rules,
    /// For clients of one side beside that, by [`Side`].
    pub sides: [Rules; 2],
    /// NAT64 prefixes of the operator's network, each of a length in
    /// [`NAT64_LENGTHS`](embedded::NAT64_LENGTHS); denied, as the well-known one is.
    pub nat64: Vec<Ipv6Net>,
    /// Whether two allocations of one relay may speak with each other.
    pub hairpins: bool,
}

/// Ranges of addresses and ports.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Ranges opened on purpose.
    pub allow: Vec<IpNet>,
    /// Ranges closed beyond the built-in list.
    pub deny: Vec<IpNet>,
    /// The only ports of peers, unless this is empty.
    pub allow_ports: Vec<RangeInclusive<u16>>,
    /// Ports of peers that nothing is sent to. Relayed ports, our own and those of the pool, are
    /// meant by neither.
    pub deny_ports: Vec<RangeInclusive<u16>>,
}

impl Default for PeerAcl {
    fn default() -> Self {
        let sides = [Rules::default(), Rules::default()];
        Self { both: Rules::default(), sides, nat64: Vec::new(), hairpins: true }
    }
}

/// Who asks for a peer.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Where the client stands.
    pub side: Side,
    /// The only peers its credential is good for, if it says so.
    pub peers: Option<&'a SealedPeers>,
}

/// A peer that the policy lets pass; only [`PeerAcl::admit`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmittedPeer {
    peer: PeerAddr,
    reach: Reach,
}

impl AdmittedPeer {
    /// The peer, in local form if it is a relay address of ours or of the pool.
    pub fn addr(self) -> PeerAddr {
        self.peer
    }

    /// Its address family.
    pub fn family(self) -> Family {
        self.peer.family()
    }

    /// Whose address it is.
    pub fn reach(self) -> Reach {
        self.reach
    }

    /// Whether it lies on one of our own relay addresses: only live relayed ports may be reached
    /// there, which the ledger knows.
    pub fn hairpin(self) -> bool {
        self.reach == Reach::Hairpin
    }
}

/// A range that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The range.
    pub range: IpNet,
    /// Whether it is opened.
    pub allows: bool,
    /// The side whose clients alone it is for.
    pub side: Option<Side>,
}

/// An address that is judged: the peer's, or one inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The address.
    pub ip: IpAddr,
    /// How it is held by the peer's; `None`: it is the peer's.
    pub form: Option<Form>,
}

/// By which rule a peer may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It is a relay address of ours.
    Hairpin,
    /// It is a relay address of the pool.
    Pool,
    /// An entry of the configuration opens it.
    Allowed(Judged, Entry),
    /// Nothing denies it.
    Global,
}

/// By which rule a peer may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Nothing is sent to port 0.
    PortZero,
    /// It is written as IPv6, but is IPv4.
    Mapped,
    /// Clients are served there.
    Listener,
    /// Something else is served there that is not for peers: metrics, another relay's clients.
    Service,
    /// It is a relay address of ours, and allocations may not speak with each other.
    Hairpins,
    /// It is a relay address of ours, but no port that is ever relayed.
    RelayPort,
    /// It is a relay address of the pool, but no relayed port.
    PoolPort,
    /// It is an address of this host, or of the pool inside another.
    Own(Judged),
    /// It is the broadcast or network address of a network of this host.
    Broadcast(Judged),
    /// It names no single host: no configuration opens it.
    Nobody(Judged),
    /// It has a special purpose, and no entry as long opens it; the longest that holds it is told.
    Special(Judged, Special, Option<Entry>),
    /// The configuration denies it, and opens it by nothing longer.
    Denied(Judged, Entry, Option<Entry>),
    /// The configuration closes the port.
    Port,
    /// The credential is not for it.
    Sealed(Judged),
    /// The credential is not for the port.
    SealedPort,
}

impl Denial {
    /// What the client and the operator hear.
    pub fn why(self) -> Why {
        match self {
            Self::PortZero => Why::BadAttribute,
            Self::Port => Why::PeerPort,
            Self::Sealed(_) | Self::SealedPort => Why::PeerSealed,
            Self::Mapped
            | Self::Listener
            | Self::Service
            | Self::Hairpins
            | Self::RelayPort
            | Self::PoolPort
            | Self::Own(_)
            | Self::Broadcast(_)
            | Self::Nobody(_)
            | Self::Special(..)
            | Self::Denied(..) => Why::PeerDenied,
        }
    }
}

impl PeerAcl {
    /// Admits a peer as the client wrote it. The port is left to what is sent, because
    /// `CreatePermission` ignores ports.
    pub fn admit(
        &self,
        edge: &Edge,
        asker: Asker<'_>,
        peer: SocketAddr,
    ) -> Result<AdmittedPeer, Why> {
        self.judge(edge, asker, peer).map(|(admitted, _)| admitted).map_err(Denial::why)
    }

    /// Admits the port as well: for all that opens a way to one port of a peer.
    pub fn admit_port(
        &self,
        edge: &Edge,
        asker: Asker<'_>,
        peer: SocketAddr,
    ) -> Result<AdmittedPeer, Why> {
        self.judge_port(edge, asker, peer).map(|(admitted, _)| admitted).map_err(Denial::why)
    }

    /// Whether something may be sent to this port of a peer whose address was admitted.
    pub fn opens(&self, edge: &Edge, asker: Asker<'_>, peer: PeerAddr, reach: Reach) -> bool {
        self.port(edge, asker, AdmittedPeer { peer, reach }).is_ok()
    }

    /// Judges the address of a peer.
    pub fn judge(
        &self,
        edge: &Edge,
        asker: Asker<'_>,
        peer: SocketAddr,
    ) -> Result<(AdmittedPeer, Leave), Denial> {
        if let IpAddr::V6(ip) = peer.ip()
            && ip.to_ipv4_mapped().is_some()
        {
            return Err(Denial::Mapped);
        }
        let peer = PeerAddr::new(peer);
        if edge.is_listener(peer.socket()) {
            return Err(Denial::Listener);
        }
        let (local, reach) = edge.place(peer);
        let admitted = AdmittedPeer { peer: local, reach };
        let leave = match reach {
            Reach::Hairpin | Reach::Pool => self.relayed(edge, asker, admitted)?,
            Reach::Outside => self.outside(edge, asker, peer.ip())?,
        };
        Ok((admitted, leave))
    }

    /// Judges address and port.
    pub fn judge_port(
        &self,
        edge: &Edge,
        asker: Asker<'_>,
        peer: SocketAddr,
    ) -> Result<(AdmittedPeer, Leave), Denial> {
        if peer.port() == 0 {
            return Err(Denial::PortZero);
        }
        let found = self.judge(edge, asker, peer)?;
        self.port(edge, asker, found.0).map(|()| found)
    }

    /// A relay address, ours or another relay's: those are named on purpose, whatever range they
    /// lie in.
    fn relayed(
        &self,
        edge: &Edge,
        asker: Asker<'_>,
        admitted: AdmittedPeer,
    ) -> Result<Leave, Denial> {
        let leave = match admitted.reach {
            Reach::Hairpin if !self.hairpins => return Err(Denial::Hairpins),
            Reach::Hairpin => Leave::Hairpin,
            Reach::Pool | Reach::Outside => Leave::Pool,
        };
        let told = Judged { ip: edge.present(admitted.peer).ip(), form: None };
        match self.longest(asker.side, false, told.ip) {
            Some(entry) if entry.range.prefix_len() == entry.range.max_prefix_len() => {
                Err(Denial::Denied(told, entry, None))
            }
            _ if asker.reaches(told.ip) => Ok(leave),
            _ => Err(Denial::Sealed(told)),
        }
    }

    /// Any other address: as it is, and each that is inside it.
    fn outside(&self, edge: &Edge, asker: Asker<'_>, ip: IpAddr) -> Result<Leave, Denial> {
        let mut leave = Leave::Global;
        for judged in readings(ip, &self.nat64) {
            let ip = judged.ip;
            if edge.is_own(ip) || edge.is_of_pool(ip) {
                return Err(Denial::Own(judged));
            }
            if edge.is_broadcast(ip) {
                return Err(Denial::Broadcast(judged));
            }
            let entry = self.range(asker.side, judged)?;
            if !asker.reaches(ip) {
                return Err(Denial::Sealed(judged));
            }
            if let (Leave::Global, Some(entry)) = (leave, entry) {
                leave = Leave::Allowed(judged, entry);
            }
        }
        Ok(leave)
    }

    /// Whether ranges permit an address; the entry that allows it, if one was needed.
    fn range(&self, side: Side, judged: Judged) -> Result<Option<Entry>, Denial> {
        let ip = judged.ip;
        if never_a_peer(ip) {
            return Err(Denial::Nobody(judged));
        }
        let special = self.special(ip);
        let allowed = self.longest(side, true, ip);
        let denied = self.longest(side, false, ip);
        let length = |entry: Option<Entry>| entry.map(|entry| entry.range.prefix_len());
        let reserved = special.map(|special| special.range.prefix_len());
        if let Some(entry) = denied
            && length(allowed) <= length(denied)
            && length(denied) >= reserved
        {
            return Err(Denial::Denied(judged, entry, allowed));
        }
        match special {
            Some(special) if length(allowed) < reserved => {
                Err(Denial::Special(judged, special, allowed))
            }
            _ => Ok(allowed),
        }
    }

    /// The longest range of the built-in list, of which the operator's NAT64 prefixes are part.
    fn special(&self, ip: IpAddr) -> Option<Special> {
        let own = |prefix: &&Ipv6Net| matches!(ip, IpAddr::V6(ip) if prefix.contains(&ip));
        let own = self.nat64.iter().filter(own).map(|&prefix| Special {
            range: prefix.into(),
            name: "NAT64 of this network",
            registry: Registry::Configuration,
        });
        own.chain(special::longest(ip)).max_by_key(|special| special.range.prefix_len())
    }

    /// The longest range that the configuration opens, or closes, and that holds an address.
    fn longest(&self, side: Side, allows: bool, ip: IpAddr) -> Option<Entry> {
        fn list(rules: &Rules, allows: bool) -> &[IpNet] {
            if allows { &rules.allow } else { &rules.deny }
        }
        let entry = |side| move |&range: &IpNet| Entry { range, allows, side };
        let both = list(&self.both, allows).iter().map(entry(None));
        let beside = list(self.beside(side), allows).iter().map(entry(Some(side)));
        let holding = both.chain(beside).filter(|entry| entry.range.contains(&ip));
        holding.max_by_key(|entry| entry.range.prefix_len())
    }

    fn beside(&self, side: Side) -> &Rules {
        let [internal, external] = &self.sides;
        match side {
            Side::Internal => internal,
            Side::External => external,
        }
    }

    /// Judges the port of a peer whose address was admitted.
    fn port(&self, edge: &Edge, asker: Asker<'_>, peer: AdmittedPeer) -> Result<(), Denial> {
        let socket = peer.peer.socket();
        let port = socket.port();
        match peer.reach {
            Reach::Hairpin if !edge.relays_by(port) => return Err(Denial::RelayPort),
            Reach::Pool if !edge.is_relayed_by_pool(peer.peer) => return Err(Denial::PoolPort),
            Reach::Hairpin | Reach::Pool => {}
            Reach::Outside => {
                let rules = [&self.both, self.beside(asker.side)];
                if !rules.iter().all(|rules| rules.opens(port)) {
                    return Err(Denial::Port);
                }
                if edge.is_service(socket) {
                    return Err(Denial::Service);
                }
            }
        }
        if asker.peers.is_none_or(|sealed| sealed.opens(port)) {
            Ok(())
        } else {
            Err(Denial::SealedPort)
        }
    }
}

impl Rules {
    fn opens(&self, port: u16) -> bool {
        let holds = |list: &[RangeInclusive<u16>]| list.iter().any(|ports| ports.contains(&port));
        !holds(&self.deny_ports) && (self.allow_ports.is_empty() || holds(&self.allow_ports))
    }
}

impl Asker<'_> {
    fn reaches(self, ip: IpAddr) -> bool {
        self.peers.is_none_or(|sealed| sealed.reaches(ip))
    }
}

/// An address, and each that it holds.
pub(super) fn readings(ip: IpAddr, nat64: &[Ipv6Net]) -> impl Iterator<Item = Judged> {
    let six = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    };
    let hidden = six.into_iter().flat_map(|ip| embedded::inside(ip, nat64));
    let hidden = hidden.map(|(form, ip)| Judged { ip: IpAddr::V4(ip), form: Some(form) });
    std::iter::once(Judged { ip, form: None }).chain(hidden)
}

/// Addresses that name no single host: no configuration opens them.
fn never_a_peer(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests;
