//! A verdict on a peer, in words for the operator.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::policy::edge::Edge;
use crate::policy::peers::{Asker, Denial, Entry, Judged, Leave, PeerAcl, readings};
use crate::policy::special::Special;

/// Whether a peer may be reached, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// One or two sentences.
    pub words: String,
}

impl PeerAcl {
    /// Says of an address, and of a port if one is given, whether it may be a peer.
    pub fn explain(
        &self,
        edge: &Edge,
        asker: Asker<'_>,
        ip: IpAddr,
        port: Option<u16>,
    ) -> Explanation {
        let (peer, name) = match port {
            Some(port) => {
                let peer = SocketAddr::new(ip, port);
                (peer, peer.to_string())
            }
            // No port is a listener's or closed.
            None => (SocketAddr::new(ip, 0), ip.to_string()),
        };
        let found = match port {
            Some(_) => self.judge_port(edge, asker, peer),
            None => self.judge(edge, asker, peer),
        };
        let words = match &found {
            Ok((admitted, leave)) => {
                let local = admitted.addr().ip();
                let local = (local != ip).then(|| format!(" It is reached as {local}."));
                format!("{name}: allowed. {leave}.{}", local.unwrap_or_default())
            }
            Err(denial) => format!("{name}: denied. {denial}."),
        };
        Explanation { allowed: found.is_ok(), words: words + &self.inside(ip) }
    }
}

impl PeerAcl {
    /// The canonical form of an address that holds others: those, which are judged as well.
    fn inside(&self, ip: IpAddr) -> String {
        let hidden = readings(ip, &self.nat64)
            .filter_map(|judged| Some(format!("{} ({})", judged.ip, judged.form?.name())));
        let hidden: Vec<_> = hidden.collect();
        if hidden.is_empty() {
            String::new()
        } else {
            format!(" Inside it: {}.", hidden.join(", "))
        }
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hairpin => f.write_str(
                "It is a relay address of this relay, where ports that are live relayed \
                 addresses may be reached, and no others",
            ),
            Self::Pool => f.write_str(
                "It is a relay address of the pool (peers.pool), where relayed ports may be \
                 reached",
            ),
            Self::Allowed(judged, entry) => {
                write!(f, "{} {entry}, the longest range that holds it", In(judged))
            }
            Self::Global => f.write_str("It is globally reachable unicast, and nothing denies it"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortZero => f.write_str("Port 0 is no peer's port"),
            Self::Mapped => f.write_str(
                "It is an IPv4 address written as IPv6 (::ffff:0:0/96, IPv4-mapped Address, IANA \
                 IPv6 special-purpose registry); such a form is never a peer",
            ),
            Self::Listener => f.write_str("Clients of this relay are served there"),
            Self::Service => f.write_str(
                "Something is served there that is not for peers: metrics, or the clients of \
                 another relay",
            ),
            Self::Hairpins => f.write_str(
                "It is a relay address of this relay, and peers.hairpins = false keeps \
                 allocations from each other",
            ),
            Self::RelayPort => f.write_str(
                "It is a relay address of this relay, but the port is none of relay.ports",
            ),
            Self::PoolPort => f.write_str(
                "It is a relay address of the pool, but the port is none of its relayed ports \
                 (peers.pool)",
            ),
            Self::Own(judged) => write!(
                f,
                "{} the addresses of this host or of the pool, of which relayed ports alone may be \
                 reached, under their own names",
                Among(judged)
            ),
            Self::Broadcast(judged) => {
                write!(f, "{} the addresses that stand for a network of this host", Among(judged))
            }
            Self::Nobody(judged) => write!(
                f,
                "{} those that name no single host (unspecified, multicast, broadcast); nothing \
                 opens them",
                Among(judged)
            ),
            Self::Special(judged, special, shorter) => {
                write!(f, "{} {special}. ", In(judged))?;
                match shorter {
                    Some(entry) => write!(f, "{entry} is less specific and does not open it"),
                    None => f.write_str("No entry of peers.allow opens it"),
                }
            }
            Self::Denied(judged, entry, shorter) => {
                write!(f, "{} {entry}, the longest range that holds it", In(judged))?;
                match shorter {
                    Some(entry) => write!(f, ". {entry} is not more specific"),
                    None => Ok(()),
                }
            }
            Self::Port => f.write_str("allow_ports or deny_ports under peers closes the port"),
            Self::Sealed(judged) => write!(f, "{} none of the credential's ranges", In(judged)),
            Self::SealedPort => f.write_str("The credential is not good for the port"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.side.map_or(String::new(), |side| format!("{}.", side.name()));
        let list = if self.allows { "allow" } else { "deny" };
        write!(f, "{} of peers.{side}{list}", self.range)
    }
}

/// Begins a sentence about what an address is in.
struct In<'a>(&'a Judged);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Judged { form: None, .. } => f.write_str("It lies in"),
            Judged { form: Some(form), ip } => {
                write!(f, "It leads to {ip} ({}), which lies in", form.name())
            }
        }
    }
}

/// Begins a sentence about what an address is one of.
struct Among<'a>(&'a Judged);

impl fmt::Display for Among<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Judged { form: None, .. } => f.write_str("It is one of"),
            Judged { form: Some(form), ip } => {
                write!(f, "It leads to {ip} ({}), which is one of", form.name())
            }
        }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.range, self.name, self.registry.name())
    }
}
