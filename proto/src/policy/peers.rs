//! Which peers may be reached: globally reachable unicast, plus what the configuration names.
//!
//! One function decides, and every path that opens a way to a peer calls it. It looks at the
//! address as it came, so that an IPv4-mapped one is seen for what it is, and at every IPv4
//! address hidden inside an IPv6 one. What passes is an [`AdmittedPeer`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::addr::{Family, PeerAddr};
use crate::policy::edge::Edge;
use crate::reject::Why;

/// The peer policy (threat model T1). The built-in deny list holds every range that the IANA
/// special-purpose registries call not globally reachable.
///
/// The longest matching range decides. Where an allowed and a denied range are equally long,
/// `deny` beats `allow`, and `allow` beats the built-in list: naming exactly `10.0.0.0/8` opens
/// it, `0.0.0.0/0` does not.
#[derive(Clone, Debug, Default)]
pub struct PeerAcl {
    /// Ranges opened on purpose.
    pub allow: Vec<IpNet>,
    /// Ranges closed beyond the built-in list.
    pub deny: Vec<IpNet>,
    /// Ports of peers that nothing is sent to. Those of our own relay addresses are not meant.
    pub deny_ports: Vec<RangeInclusive<u16>>,
}

/// A peer that the policy lets pass; only [`PeerAcl::admit`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmittedPeer {
    peer: PeerAddr,
    hairpin: bool,
}

impl AdmittedPeer {
    /// The peer, in local form if it is one of our own relay addresses.
    pub fn addr(self) -> PeerAddr {
        self.peer
    }

    /// Its address family.
    pub fn family(self) -> Family {
        self.peer.family()
    }

    /// Whether it lies on one of our own relay addresses: only live relayed ports may be reached
    /// there, which the ledger knows.
    pub fn hairpin(self) -> bool {
        self.hairpin
    }
}

impl PeerAcl {
    /// Judges a peer as the client wrote it. Port zero is left to the caller, because
    /// `CreatePermission` ignores ports.
    pub fn admit(&self, edge: &Edge, peer: SocketAddr) -> Result<AdmittedPeer, Why> {
        if let IpAddr::V6(ip) = peer.ip()
            && ip.to_ipv4_mapped().is_some()
        {
            return Err(Why::PeerDenied);
        }
        let addr = PeerAddr::new(peer);
        if edge.is_listener(addr.socket()) {
            return Err(Why::PeerDenied);
        }
        if let Some(local) = edge.localise(addr) {
            return Ok(AdmittedPeer { peer: PeerAddr::new(local.socket()), hairpin: true });
        }
        let hidden = match addr.ip() {
            IpAddr::V4(_) => Hidden::NONE,
            IpAddr::V6(ip) => Hidden::inside(ip),
        };
        let reachable = |ip: IpAddr| !edge.is_own(ip) && self.reachable(ip);
        if reachable(addr.ip()) && hidden.all(|ip| reachable(IpAddr::V4(ip))) {
            Ok(AdmittedPeer { peer: addr, hairpin: false })
        } else {
            Err(Why::PeerDenied)
        }
    }

    /// Judges the port as well: for all that opens a way to one port of a peer.
    pub fn admit_port(&self, edge: &Edge, peer: SocketAddr) -> Result<AdmittedPeer, Why> {
        let admitted = self.admit(edge, peer)?;
        if admitted.hairpin || self.opens(peer.port()) { Ok(admitted) } else { Err(Why::PeerPort) }
    }

    /// Whether something may be sent to this port of a peer.
    #[inline]
    pub fn opens(&self, port: u16) -> bool {
        !self.deny_ports.iter().any(|ports| ports.contains(&port))
    }

    /// Whether ranges alone permit an address.
    fn reachable(&self, ip: IpAddr) -> bool {
        if never_a_peer(ip) {
            return false;
        }
        let longest = |ranges: &[IpNet]| {
            ranges.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).max()
        };
        let allowed = longest(&self.allow);
        allowed >= built_in(ip) && longest(&self.deny).is_none_or(|denied| allowed > Some(denied))
    }
}

/// Addresses that name no single host: no configuration opens them.
fn never_a_peer(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Length of the longest built-in range that denies an address.
fn built_in(ip: IpAddr) -> Option<u8> {
    match ip {
        IpAddr::V4(ip) => longest(&DENIED_V4, |&(net, len)| {
            ((ip.to_bits() ^ net.to_bits()) >> (32 - len) == 0).then_some(len)
        }),
        IpAddr::V6(ip) => longest(&DENIED_V6, |&(net, len)| {
            ((ip.to_bits() ^ net.to_bits()) >> (128 - len) == 0).then_some(len)
        }),
    }
}

fn longest<T>(ranges: &[T], matching: impl FnMut(&T) -> Option<u8>) -> Option<u8> {
    ranges.iter().filter_map(matching).max()
}

/// IANA IPv4 special-purpose registry: whatever is not globally reachable, the tunnel and
/// protocol ranges, and the metadata service that hides in a public range.
const DENIED_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8),            // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // carrier NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // a cloud's host agent
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, metadata services
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, broadcast
];

/// IANA IPv6 special-purpose registry; everything outside `2000::/3` is not global unicast.
const DENIED_V6: [(Ipv6Addr, u8); 18] = [
    (Ipv6Addr::UNSPECIFIED, 3),                           // not global unicast
    (Ipv6Addr::UNSPECIFIED, 96),                          // unspecified, loopback, compatible
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),     // mapped
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),     // translated
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),  // NAT64
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),  // NAT64, local use
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 48),      // discard, dummy
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),     // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),     // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),     // documentation
    (Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 0), 2),      // not global unicast
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16),     // segment routing
    (Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0), 1),      // not global unicast
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),      // unique local
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),     // link-local
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),     // site-local
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),      // multicast
];

/// The IPv4 addresses an IPv6 address can lead to: at most four readings of one address.
struct Hidden([Option<Ipv4Addr>; 4]);

impl Hidden {
    const NONE: Self = Self([None; 4]);

    fn all(&self, judge: impl Fn(Ipv4Addr) -> bool) -> bool {
        self.0.iter().flatten().all(|ip| judge(*ip))
    }

    /// Mapped and compatible (RFC 4291 §2.5.5), translated (RFC 2765), 6to4 (RFC 3056), Teredo
    /// (RFC 4380 §4), NAT64 (RFC 6052 §2.2, RFC 8215).
    fn inside(ip: Ipv6Addr) -> Self {
        let low = at(ip, 96);
        let one = |ip| Self([Some(ip), None, None, None]);
        match ip.segments() {
            [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
            | [0, 0, 0, 0, 0xffff, 0, _, _]
            | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => one(low),
            [0x2002, ..] => one(at(ip, 16)),
            [0x2001, 0, ..] => {
                Self([Some(at(ip, 32)), Some(Ipv4Addr::from_bits(!low.to_bits())), None, None])
            }
            // The operator chooses the prefix length; bits 64 to 71 are skipped.
            [0x64, 0xff9b, 1, ..] => {
                Self([Some(around(ip, 48)), Some(around(ip, 56)), Some(at(ip, 72)), Some(low)])
            }
            _ => Self::NONE,
        }
    }
}

/// The 32 bits that begin at `bit`.
#[expect(clippy::cast_possible_truncation, reason = "takes 32 bits out of 128")]
fn at(ip: Ipv6Addr, bit: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((ip.to_bits() >> (96 - bit)) as u32)
}

/// The 32 bits that begin at `bit`, leaving out bits 64 to 71.
#[expect(clippy::cast_possible_truncation, reason = "takes 32 bits out of 128")]
fn around(ip: Ipv6Addr, bit: u32) -> Ipv4Addr {
    let bits = ip.to_bits();
    let squeezed = bits >> 64 << 64 | (bits & (u128::MAX >> 72)) << 8;
    Ipv4Addr::from_bits((squeezed >> (96 - bit)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Side, Transport};
    use crate::policy::edge::{Listener, RelayAddress};

    fn edge() -> Edge {
        Edge::new(
            vec![Listener {
                local: "9.9.0.1:3478".parse().unwrap(),
                advertised: None,
                transport: Transport::Udp,
                side: Side::External,
                anycast: false,
            }],
            vec![RelayAddress {
                local: "10.0.0.5".parse().unwrap(),
                advertised: "9.9.0.2".parse().unwrap(),
            }],
            vec!["9.9.0.3".parse().unwrap()],
        )
    }

    fn acl(allow: &[&str], deny: &[&str]) -> PeerAcl {
        let parse = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        PeerAcl { allow: parse(allow), deny: parse(deny), ..PeerAcl::default() }
    }

    fn socket(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 4000)
    }

    #[test]
    fn sec_001_only_global_unicast_is_reachable_by_default() {
        let open = PeerAcl::default();
        for (ip, expected) in [
            ("8.8.8.8", true),
            ("1.1.1.1", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("192.0.1.1", true),
            ("198.20.0.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.255.255.255", false),
            ("100.64.0.1", false),
            ("100.100.100.200", false),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("168.63.129.16", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.192", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("239.255.255.250", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2a00:1450:4001::1", true),
            ("2606:4700::1111", true),
            ("2001:200::1", true),
            ("::", false),
            ("::1", false),
            ("100::1", false),
            ("2001:db8::1", false),
            ("2001:2::1", false),
            ("2001:10::1", false),
            ("3fff::1", false),
            ("4000::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(open.admit(&edge(), socket(ip)).is_ok(), expected, "{ip}");
        }
    }

    #[test]
    fn sec_004_a_hidden_ipv4_address_is_judged_even_where_its_prefix_is_open() {
        let acl = acl(&["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"], &[]);
        for (ip, expected) in [
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::9.9.0.3", false),
            ("2002:808:808::1", true),
            ("2002:7f00:1::1", false),
            ("2002:a00:1::1", false),
            ("2001:0:808:808:0:0:f7f7:f7f7", true),
            ("2001:0:a00:1:0:0:f7f7:f7f7", false),
            ("2001:0:808:808:0:0:80ff:fffe", false),
            ("64:ff9b:1:808:8:808:808:808", true),
            ("64:ff9b:1:808:8:808:7f00:1", false),
            ("64:ff9b:1:7f00:0:100:808:808", false),
        ] {
            assert_eq!(acl.admit(&edge(), socket(ip)).is_ok(), expected, "{ip}");
        }
    }

    #[test]
    fn sec_003_tunnelled_and_translated_forms_are_refused_by_default() {
        for ip in ["2002:808:808::1", "2001:0:808:808::1", "64:ff9b::8.8.8.8", "::8.8.8.8"] {
            assert_eq!(
                PeerAcl::default().admit(&edge(), socket(ip)).unwrap_err(),
                Why::PeerDenied,
                "{ip}"
            );
        }
    }

    #[test]
    fn perm_011_a_mapped_peer_is_refused_rather_than_converted() {
        let acl = acl(&["0.0.0.0/0", "::/0", "::ffff:0:0/96"], &[]);
        for ip in ["::ffff:127.0.0.1", "::ffff:8.8.8.8"] {
            assert_eq!(acl.admit(&edge(), socket(ip)).unwrap_err(), Why::PeerDenied, "{ip}");
        }
    }

    #[test]
    fn the_more_specific_range_decides() {
        for (case, acl, ip, expected) in [
            ("exactly a built-in range", acl(&["10.0.0.0/8"], &[]), "10.1.1.1", true),
            ("less than a built-in range", acl(&["0.0.0.0/0"], &[]), "10.1.1.1", false),
            ("inside a built-in range", acl(&["10.1.0.0/16"], &[]), "10.1.1.1", true),
            ("beside the opened range", acl(&["10.1.0.0/16"], &[]), "10.2.1.1", false),
            ("denied public range", acl(&[], &["8.8.0.0/16"]), "8.8.8.8", false),
            ("hole in a denied range", acl(&["8.8.8.0/24"], &["8.8.0.0/16"]), "8.8.8.8", true),
            ("equal: deny wins", acl(&["8.8.0.0/16"], &["8.8.0.0/16"]), "8.8.8.8", false),
            ("denied inside opened", acl(&["10.0.0.0/8"], &["10.1.0.0/16"]), "10.1.1.1", false),
            ("loopback opened", acl(&["127.0.0.0/8"], &[]), "127.0.0.2", true),
            ("unique local opened", acl(&["fc00::/7"], &[]), "fd00::1", true),
            ("multicast never", acl(&["224.0.0.0/4", "ff00::/8"], &[]), "224.0.0.1", false),
            ("broadcast never", acl(&["255.255.255.255/32"], &[]), "255.255.255.255", false),
            ("unspecified never", acl(&["0.0.0.0/32"], &[]), "0.0.0.0", false),
        ] {
            assert_eq!(acl.admit(&edge(), socket(ip)).is_ok(), expected, "{case}");
        }
    }

    #[test]
    fn sec_005_own_addresses_are_refused_but_for_relayed_ports() {
        let acl = acl(&["9.9.0.0/24", "10.0.0.0/8", "9.9.0.3/32"], &[]);
        assert!(acl.admit(&edge(), "9.9.0.9:1".parse().unwrap()).is_ok(), "a neighbour");
        for own in ["9.9.0.1:3478", "9.9.0.1:9", "9.9.0.3:80"] {
            assert!(acl.admit(&edge(), own.parse().unwrap()).is_err(), "{own}");
        }
        for own in ["9.9.0.2:50000", "10.0.0.5:50000"] {
            let peer = acl.admit(&edge(), own.parse().unwrap()).unwrap();
            assert!(peer.hairpin(), "{own}");
            assert_eq!(peer.addr().socket(), "10.0.0.5:50000".parse().unwrap(), "{own}");
        }
    }
}
