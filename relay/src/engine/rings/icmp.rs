//! What ICMP says of datagrams that relayed ports sent.
//!
//! The kernel tells the owner of a socket; ports without one read the messages themselves. Anybody can
//! forge them: they are hints, and the server bounds how many count.

use std::net::{IpAddr, SocketAddr};

use proto::addr::Family;
use proto::stun::attribute::Icmp;

use super::checksum::{folded, sum};

/// Bytes of ICMP before what it quotes.
const HEAD: usize = 8;

/// The number of UDP, and that of the header of an IPv6 fragment.
const PROTOCOL: u8 = 17;
const FRAGMENT: u8 = 44;

/// Which datagram a message quotes: where it came from, where it went.
pub(super) fn read(family: Family, packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Icmp)> {
    match family {
        Family::V4 => over_ipv4(packet),
        Family::V6 => over_ipv6(packet),
    }
}

/// The socket gives the IP header too, and has not looked at the checksum.
fn over_ipv4(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Icmp)> {
    let message = packet.get(header(packet)?..)?;
    let (&[kind, code, _, _, _, _, m0, m1], quoted) = message.split_first_chunk::<HEAD>()?;
    if folded(sum(message)) != 0xFFFF {
        return None;
    }
    let data = if (kind, code) == (3, 4) { u16::from_be_bytes([m0, m1]).into() } else { 0 };
    // The first piece of a datagram, if it was cut.
    let is_first = u16::from_be_bytes([*quoted.get(6)?, *quoted.get(7)?]) << 3 == 0;
    if *quoted.get(9)? != PROTOCOL || !is_first {
        return None;
    }
    let ip = |at: usize| <[u8; 4]>::try_from(quoted.get(at..at + 4)?).ok().map(IpAddr::from);
    let (from, to) = ports(quoted.get(header(quoted)?..)?)?;
    let ends = (SocketAddr::new(ip(12)?, from), SocketAddr::new(ip(16)?, to));
    Some((ends.0, ends.1, Icmp { kind, code, data }))
}

/// The socket begins with ICMP, whose checksum the kernel has looked at.
fn over_ipv6(message: &[u8]) -> Option<(SocketAddr, SocketAddr, Icmp)> {
    let (&[kind, code, _, _, m0, m1, m2, m3], quoted) = message.split_first_chunk::<HEAD>()?;
    let data = if kind == 2 { u32::from_be_bytes([m0, m1, m2, m3]) } else { 0 };
    let (head, mut rest) = quoted.split_first_chunk::<40>()?;
    let mut next = head[6];
    if next == FRAGMENT {
        let (fragment, behind) = rest.split_first_chunk::<8>()?;
        let is_first = u16::from_be_bytes([fragment[2], fragment[3]]) & 0xFFF8 == 0;
        (next, rest) = (fragment[0], behind);
        if !is_first {
            return None;
        }
    }
    if head[0] >> 4 != 6 || next != PROTOCOL {
        return None;
    }
    let ip = |at: usize| <[u8; 16]>::try_from(head.get(at..at + 16)?).ok().map(IpAddr::from);
    let (from, to) = ports(rest)?;
    let ends = (SocketAddr::new(ip(8)?, from), SocketAddr::new(ip(24)?, to));
    Some((ends.0, ends.1, Icmp { kind, code, data }))
}

/// Bytes of an IPv4 header.
fn header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let len = usize::from(first & 15) * 4;
    (first >> 4 == 4 && len >= 20).then_some(len)
}

fn ports(udp: &[u8]) -> Option<(u16, u16)> {
    let (&[f0, f1, t0, t1], _) = udp.split_first_chunk()?;
    Some((u16::from_be_bytes([f0, f1]), u16::from_be_bytes([t0, t1])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PORTS: [u8; 8] = [0xC3, 0x50, 0, 9, 0, 8, 0, 0];

    fn ipv4(protocol: u8, fragment: u8, from: u8, to: u8) -> Vec<u8> {
        let mut head = vec![0x45, 0, 0, 28, 0, 1, 0, fragment, 64, protocol, 0, 0];
        head.extend([192, 0, 2, from, 192, 0, 2, to]);
        head
    }

    fn v4(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0, 0, 0, 5, 0x14][..], quoted, &PORTS].concat();
        let check = !folded(sum(&message));
        message[2..4].copy_from_slice(&check.to_ne_bytes());
        [ipv4(1, 0, 9, 1), message].concat()
    }

    fn v6(kind: u8, next: u8, between: &[u8]) -> Vec<u8> {
        let mut quoted = vec![0x60, 0, 0, 0, 0, 8, next, 64];
        quoted.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        quoted.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        [&[kind, 4, 0, 0, 0, 0, 5, 0x14][..], &quoted, between, &PORTS].concat()
    }

    #[test]
    fn icmp_004_messages_say_which_datagram_did_not_arrive() {
        let ends = |from: &str, to: &str| Some((from.parse().unwrap(), to.parse().unwrap()));
        let v4_ends = ends("192.0.2.1:50000", "192.0.2.9:9");
        let v6_ends = ends("[2001:db8::1]:50000", "[2001:db8::9]:9");
        let udp = ipv4(PROTOCOL, 0, 1, 9);
        let mut damaged = v4(3, 3, &udp);
        damaged[30] ^= 1;
        for (case, family, packet, wanted, data) in [
            ("a closed port", Family::V4, v4(3, 3, &udp), v4_ends, 0),
            ("too big", Family::V4, v4(3, 4, &udp), v4_ends, 1_300),
            ("no hops left", Family::V4, v4(11, 0, &udp), v4_ends, 0),
            ("about TCP", Family::V4, v4(3, 3, &ipv4(6, 0, 1, 9)), None, 0),
            ("about a later piece", Family::V4, v4(3, 3, &ipv4(PROTOCOL, 1, 1, 9)), None, 0),
            ("damaged", Family::V4, damaged, None, 0),
            ("a closed port", Family::V6, v6(1, PROTOCOL, &[]), v6_ends, 0),
            ("too big", Family::V6, v6(2, PROTOCOL, &[]), v6_ends, 1_300),
            ("a first piece", Family::V6, v6(3, 44, &[17, 0, 0, 1, 0, 0, 0, 7]), v6_ends, 0),
            ("a later piece", Family::V6, v6(3, 44, &[17, 0, 1, 1, 0, 0, 0, 7]), None, 0),
            ("about TCP", Family::V6, v6(1, 6, &[]), None, 0),
        ] {
            let found = read(family, &packet);
            assert_eq!(found.map(|(from, to, _)| (from, to)), wanted, "{case}");
            assert!(found.is_none_or(|(_, _, icmp)| icmp.data == data), "{case}");
            for len in 0..packet.len() - 4 {
                assert_eq!(read(family, &packet[..len]), None, "{case} cut to {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_quoted(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for family in Family::ALL {
                let _ = read(family, &bytes);
                let _ = read(family, &v4(3, 3, &bytes));
            }
        }
    }
}
