//! Addresses that cannot be mistaken for one another.
//!
//! A `SocketAddr` is never just an address here: it is a client's, a peer's or a relayed one.
//! IPv4-mapped IPv6 sources are reported as IPv4 (RFC 8489 §14.1), scope and flow are dropped.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Address family; the value is the one of the wire (RFC 8489 §14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 1,
    /// IPv6.
    V6 = 2,
}

impl Family {
    /// Both families, in wire order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family with this wire value.
    pub fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }

    /// Position in an array of two.
    pub fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

/// Transport between a client and a listener. Four distinct ones (RFC 8656 §2, five-tuple).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Transport {
    /// UDP.
    Udp = 0,
    /// TCP.
    Tcp = 1,
    /// TLS over TCP.
    Tls = 2,
    /// DTLS over UDP.
    Dtls = 3,
}

impl Transport {
    /// Whether messages come as frames of a stream instead of datagrams.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// The name used in labels, URIs and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls",
        }
    }
}

/// Which leg of the edge a listener stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Side {
    /// The network of the organisation.
    Internal = 0,
    /// The internet.
    External = 1,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Internal, Self::External];

    /// The name used in labels and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

/// A word that names no side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSide;

impl fmt::Display for UnknownSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a side is `internal` or `external`")
    }
}

impl std::error::Error for UnknownSide {}

impl FromStr for Side {
    type Err = UnknownSide;

    /// By its name.
    fn from_str(name: &str) -> Result<Self, UnknownSide> {
        Self::ALL.into_iter().find(|side| side.name() == name).ok_or(UnknownSide)
    }
}

/// Position of a listener in the configuration: fixes server address, transport and side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

impl ListenerId {
    /// Position in the list of listeners.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Canonical form of a socket address: IPv4-mapped becomes IPv4, scope and flow are zero.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(SocketAddr);

        impl $name {
            /// The address in canonical form.
            pub fn new(addr: SocketAddr) -> Self {
                Self(canonical(addr))
            }

            /// As a socket address.
            pub fn socket(self) -> SocketAddr {
                self.0
            }

            /// The host part.
            pub fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port.
            pub fn port(self) -> u16 {
                self.0.port()
            }

            /// The address family.
            pub fn family(self) -> Family {
                Family::of(self.0.ip())
            }
        }

        // One or two integers instead of octet by octet: this hash is on the packet path.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                match self.0.ip() {
                    IpAddr::V4(ip) => {
                        state.write_u64(u64::from(u32::from(ip)) << 16 | u64::from(self.0.port()));
                    }
                    IpAddr::V6(ip) => {
                        state.write_u128(u128::from(ip));
                        state.write_u16(self.0.port());
                    }
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address!(
    /// Where a client's packets come from, as the listener sees it.
    ClientAddr
);
address!(
    /// Where a peer's packets come from, and go to.
    PeerAddr
);
address!(
    /// A relayed transport address in its *local* form: what the socket is bound to. What
    /// clients are told is `policy::edge`'s advertised form.
    RelayedAddr
);

/// What a relayed address relays. A port number of one kind says nothing of the other: what
/// listens there for the other kind is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Carried {
    /// UDP.
    Datagrams = 0,
    /// TCP.
    Streams = 1,
}

/// Names a client's flow: the listener fixes server address and transport (RFC 8656 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FiveTuple {
    /// The listener the client speaks to.
    pub listener: ListenerId,
    /// The client's own transport address.
    pub client: ClientAddr,
}

/// Names an allocation; a stale id finds nothing rather than somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId {
    /// Position in the table of one worker.
    pub slot: u32,
    /// How often that position has been used before.
    pub generation: u32,
}

/// Names the open socket of one relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId {
    /// The allocation it belongs to.
    pub allocation: AllocationId,
    /// Which of the allocation's relayed addresses it is.
    pub family: Family,
}

impl RelayId {
    /// As one integer, for an engine's event token: generation, slot (31 bits), family.
    pub fn to_token(self) -> u64 {
        u64::from(self.allocation.generation) << 32
            | u64::from(self.allocation.slot) << 1
            | self.family.index() as u64
    }

    /// The inverse of [`RelayId::to_token`].
    #[expect(clippy::cast_possible_truncation, reason = "takes the integer's halves apart")]
    pub fn from_token(token: u64) -> Self {
        Self {
            allocation: AllocationId { slot: token as u32 >> 1, generation: (token >> 32) as u32 },
            family: if token & 1 == 0 { Family::V4 } else { Family::V6 },
        }
    }
}

/// Names a TCP connection to a peer (RFC 6062 §6.2.1), in one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    /// One of the ids of a worker, of `of` workers; as unpredictable as `random` is.
    #[expect(clippy::cast_possible_truncation, reason = "below 2^32 by construction")]
    pub fn of_worker(random: u64, worker: u16, of: u16) -> Self {
        let (worker, of) = (u64::from(worker), u64::from(of));
        let each = (1 << 32) / of;
        Self((random % each * of + worker) as u32)
    }

    /// The worker whose id it is.
    #[expect(clippy::cast_possible_truncation, reason = "below a number of 16 bits")]
    pub fn worker(self, of: u16) -> u16 {
        (self.0 % u32::from(of)) as u16
    }
}

/// Which of `workers` serves a client: the same function as the listeners' steering filter.
///
/// `workers` must not be zero. Source port and the last 32 bits of the address are mixed,
/// because ports alone are often even.
pub fn steer(client: ClientAddr, workers: u16) -> u16 {
    let low = match client.ip() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            u32::from_be_bytes([a, b, c, d])
        }
    };
    let mixed = (low ^ u32::from(client.port())).wrapping_mul(STEER_FACTOR) >> 16;
    (mixed % u32::from(workers)) as u16
}

/// Multiplier of [`steer`]: 2³² divided by the golden ratio.
pub const STEER_FACTOR: u32 = 0x9E37_79B1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_ids_survive_the_token() {
        for family in Family::ALL {
            for (slot, generation) in [(0, 0), (1, 7), (u32::MAX >> 1, u32::MAX)] {
                let id = RelayId { allocation: AllocationId { slot, generation }, family };
                assert_eq!(RelayId::from_token(id.to_token()), id);
            }
        }
    }

    #[test]
    fn stun_009_a_mapped_source_is_reported_as_ipv4() {
        let mapped = ClientAddr::new("[::ffff:192.0.2.1]:5000".parse().unwrap());
        assert_eq!(mapped.family(), Family::V4);
        assert_eq!(mapped, ClientAddr::new("192.0.2.1:5000".parse().unwrap()));
    }

    #[test]
    fn steering_spreads_even_ports_over_two_workers() {
        let mut count = [0_u32; 2];
        for port in (10_000..12_000).step_by(2) {
            let client = ClientAddr::new(SocketAddr::from(([192, 0, 2, 7], port)));
            count[usize::from(steer(client, 2))] += 1;
        }
        assert!(count.iter().all(|&n| (400..600).contains(&n)), "{count:?}");
    }
}
