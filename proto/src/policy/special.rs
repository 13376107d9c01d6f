//! Ranges whose addresses are no peers unless an operator says so.
//!
//! Every entry of IANA's two special-purpose registries, by its name there: also the few that are
//! globally reachable, because they serve the network itself and never a call. Beside them what
//! those registries leave to others: multicast, what is not global unicast, old forms of IPv4
//! inside IPv6, and single addresses where clouds keep the secrets of their machines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use Registry::{Cloud, Space, Special4, Special6};

/// A range with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// The range.
    pub range: IpNet,
    /// What it is for.
    pub name: &'static str,
    /// Who says so.
    pub registry: Registry,
}

/// Where a range is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// IANA IPv4 Special-Purpose Address Registry.
    Special4,
    /// IANA IPv6 Special-Purpose Address Registry.
    Special6,
    /// IANA's registries of the address space and of multicast.
    Space,
    /// The documentation of clouds.
    Cloud,
    /// The configuration of this relay.
    Configuration,
}

impl Registry {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Special4 => "IANA IPv4 special-purpose registry",
            Self::Special6 => "IANA IPv6 special-purpose registry",
            Self::Space => "IANA address space registries",
            Self::Cloud => "metadata services of clouds",
            Self::Configuration => "peers.nat64",
        }
    }
}

/// The longest range that an address lies in.
pub fn longest(ip: IpAddr) -> Option<Special> {
    match ip {
        IpAddr::V4(ip) => {
            let holding = V4.iter().filter(|(range, ..)| range.contains(&ip));
            let &(range, name, registry) = holding.max_by_key(|(range, ..)| range.prefix_len())?;
            Some(Special { range: range.into(), name, registry })
        }
        IpAddr::V6(ip) => {
            let holding = V6.iter().filter(|(range, ..)| range.contains(&ip));
            let &(range, name, registry) = holding.max_by_key(|(range, ..)| range.prefix_len())?;
            Some(Special { range: range.into(), name, registry })
        }
    }
}

/// Every range.
pub fn all() -> impl Iterator<Item = Special> {
    let four = V4.iter().map(|&(range, name, registry)| (range.into(), name, registry));
    let six = V6.iter().map(|&(range, name, registry)| (range.into(), name, registry));
    four.chain(six).map(|(range, name, registry)| Special { range, name, registry })
}

const fn four(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

#[expect(clippy::many_single_char_names, reason = "the eight segments of an address")]
const fn six(segments: [u16; 8], len: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), len)
}

/// What a metadata service is called.
const METADATA: &str = "metadata of a cloud's machines";

const V4: [(Ipv4Net, &str, Registry); 34] = [
    (four(0, 0, 0, 0, 8), "\"This network\"", Special4),
    (four(0, 0, 0, 0, 32), "\"This host on this network\"", Special4),
    (four(10, 0, 0, 0, 8), "Private-Use", Special4),
    (four(100, 64, 0, 0, 10), "Shared Address Space", Special4),
    (four(127, 0, 0, 0, 8), "Loopback", Special4),
    (four(169, 254, 0, 0, 16), "Link Local", Special4),
    (four(172, 16, 0, 0, 12), "Private-Use", Special4),
    (four(192, 0, 0, 0, 24), "IETF Protocol Assignments", Special4),
    (four(192, 0, 0, 0, 29), "IPv4 Service Continuity Prefix", Special4),
    (four(192, 0, 0, 8, 32), "IPv4 dummy address", Special4),
    (four(192, 0, 0, 9, 32), "Port Control Protocol Anycast", Special4),
    (four(192, 0, 0, 10, 32), "Traversal Using Relays around NAT Anycast", Special4),
    (four(192, 0, 0, 170, 31), "NAT64/DNS64 Discovery", Special4),
    (four(192, 0, 2, 0, 24), "Documentation (TEST-NET-1)", Special4),
    (four(192, 31, 196, 0, 24), "AS112-v4", Special4),
    (four(192, 52, 193, 0, 24), "AMT", Special4),
    (four(192, 88, 99, 0, 24), "Deprecated (6to4 Relay Anycast)", Special4),
    (four(192, 88, 99, 2, 32), "6a44-relay anycast address", Special4),
    (four(192, 168, 0, 0, 16), "Private-Use", Special4),
    (four(192, 175, 48, 0, 24), "Direct Delegation AS112 Service", Special4),
    (four(198, 18, 0, 0, 15), "Benchmarking", Special4),
    (four(198, 51, 100, 0, 24), "Documentation (TEST-NET-2)", Special4),
    (four(203, 0, 113, 0, 24), "Documentation (TEST-NET-3)", Special4),
    (four(224, 0, 0, 0, 4), "Multicast", Space),
    (four(240, 0, 0, 0, 4), "Reserved", Special4),
    (four(255, 255, 255, 255, 32), "Limited Broadcast", Special4),
    (four(100, 100, 100, 200, 32), METADATA, Cloud), // Alibaba
    (four(168, 63, 129, 16, 32), METADATA, Cloud),   // Azure, in a public range
    (four(169, 254, 0, 23, 32), METADATA, Cloud),    // Tencent
    (four(169, 254, 42, 42, 32), METADATA, Cloud),   // Scaleway
    (four(169, 254, 169, 254, 32), METADATA, Cloud), // nearly all
    (four(169, 254, 170, 2, 32), METADATA, Cloud),   // Amazon, containers
    (four(169, 254, 170, 23, 32), METADATA, Cloud),  // Amazon, pods
    (four(192, 0, 0, 192, 32), METADATA, Cloud),     // Oracle
];

const V6: [(Ipv6Net, &str, Registry); 38] = [
    (six([0; 8], 128), "Unspecified Address", Special6),
    (six([0, 0, 0, 0, 0, 0, 0, 1], 128), "Loopback Address", Special6),
    (six([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped Address", Special6),
    (six([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "IPv4-IPv6 Translat.", Special6),
    (six([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "IPv4-IPv6 Translat.", Special6),
    (six([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "Discard-Only Address Block", Special6),
    (six([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "Dummy IPv6 Prefix", Special6),
    (six([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF Protocol Assignments", Special6),
    (six([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "TEREDO", Special6),
    (six([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), "Port Control Protocol Anycast", Special6),
    (
        six([0x2001, 1, 0, 0, 0, 0, 0, 2], 128),
        "Traversal Using Relays around NAT Anycast",
        Special6,
    ),
    (
        six([0x2001, 1, 0, 0, 0, 0, 0, 3], 128),
        "DNS-SD Service Registration Protocol Anycast",
        Special6,
    ),
    (six([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "Benchmarking", Special6),
    (six([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), "AMT", Special6),
    (six([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), "AS112-v6", Special6),
    (six([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "Deprecated (previously ORCHID)", Special6),
    (six([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), "ORCHIDv2", Special6),
    (
        six([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28),
        "Drone Remote ID Protocol Entity Tags (DETs) Prefix",
        Special6,
    ),
    (six([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "Documentation", Special6),
    (six([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4", Special6),
    (six([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "Direct Delegation AS112 Service", Special6),
    (six([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "Documentation", Special6),
    (six([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "Segment Routing (SRv6) SIDs", Special6),
    (six([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "Unique-Local", Special6),
    (six([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "Link-Local Unicast", Special6),
    (six([0; 8], 96), "Deprecated (IPv4-compatible)", Space),
    (six([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated (RFC 2765)", Space),
    (six([0; 8], 3), "not global unicast", Space),
    (six([0x4000, 0, 0, 0, 0, 0, 0, 0], 2), "not global unicast", Space),
    (six([0x8000, 0, 0, 0, 0, 0, 0, 0], 1), "not global unicast", Space),
    (six([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "Deprecated (site-local)", Space),
    (six([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "Multicast", Space),
    (six([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), METADATA, Cloud), // Scaleway
    (six([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), METADATA, Cloud), // Amazon, pods
    (six([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), METADATA, Cloud), // Amazon
    (six([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), METADATA, Cloud), // Linode
    (six([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), METADATA, Cloud), // Google
    (six([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), METADATA, Cloud), // OpenStack
];
