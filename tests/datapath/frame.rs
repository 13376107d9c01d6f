//! Frames of Ethernet, IP and UDP: written whole, and judged as a host's network stack would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;

use proto::marks::Marks;

/// Bytes before IP.
pub(crate) const ETHERNET: usize = 14;

/// A datagram and its headers, as far as a relay minds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// To and from.
    pub(crate) macs: [[u8; 6]; 2],
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) class: u8,
    pub(crate) hops: u8,
    /// Of IPv4.
    pub(crate) id: u16,
    /// Of IPv4.
    pub(crate) dont_fragment: bool,
    /// Of IPv6.
    pub(crate) label: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Where UDP begins.
    pub(crate) fn udp(&self) -> usize {
        ETHERNET + if self.to.is_ipv4() { 20 } else { 40 }
    }

    /// Its bytes, with good checksums and nothing behind.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).expect("a datagram's length");
        let mut bytes = self.macs.concat();
        if self.to.is_ipv4() {
            bytes.extend([8, 0, 0x45, self.class]);
            bytes.extend((20 + length).to_be_bytes());
            bytes.extend(self.id.to_be_bytes());
            bytes.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, self.hops, 17, 0, 0]);
        } else {
            bytes.extend([0x86, 0xDD]);
            bytes.extend((6 << 28 | u32::from(self.class) << 20 | self.label).to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend([17, self.hops]);
        }
        for address in [self.from, self.to] {
            match address.ip() {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(&self.payload);
        mend(&mut bytes);
        bytes
    }
}

/// Whether a frame is of IPv4, and where its UDP begins if it has no options.
fn layout(bytes: &[u8]) -> (bool, usize) {
    let v4 = bytes[12..14] == [8, 0];
    (v4, ETHERNET + if v4 { 20 } else { 40 })
}

/// The addresses of a frame.
fn addresses(bytes: &[u8]) -> &[u8] {
    let (v4, udp) = layout(bytes);
    &bytes[udp - if v4 { 8 } else { 32 }..udp]
}

/// Writes all checksums of a frame that is whole and has no options.
pub(crate) fn mend(bytes: &mut [u8]) {
    mend_ip(bytes);
    let (_, udp) = layout(bytes);
    bytes[udp + 6..udp + 8].fill(0);
    let length = usize::from(half(bytes, udp + 4));
    let datagram = &bytes[udp..udp + length];
    let sum = match !sum(&[addresses(bytes), &[0, 17], &datagram[4..6], datagram]) {
        0 => 0xFFFF,
        sum => sum,
    };
    bytes[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the checksum of IPv4 alone.
pub(crate) fn mend_ip(bytes: &mut [u8]) {
    if let (true, udp) = layout(bytes) {
        bytes[ETHERNET + 10..ETHERNET + 12].fill(0);
        let ip = !sum(&[&bytes[ETHERNET..udp]]);
        bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&ip.to_be_bytes());
    }
}

/// Leaves the checksum of UDP as a driver gets it that computes it: the addresses alone.
pub(crate) fn leave_partial(bytes: &mut [u8]) {
    let (_, udp) = layout(bytes);
    let sum = sum(&[addresses(bytes), &[0, 17], &bytes[udp + 4..udp + 6]]);
    bytes[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the checksum of UDP is left so.
pub(crate) fn is_partial(bytes: &[u8]) -> bool {
    let mut left = bytes.to_vec();
    leave_partial(&mut left);
    left == bytes
}

/// What a stack hands to the socket of a datagram: from, to, marks, payload.
pub(crate) type Delivered<'f> = (SocketAddr, SocketAddr, Marks, &'f [u8]);

/// What it hands out of a frame. `None` if that is nothing, or needs other frames first.
pub(crate) fn delivered(bytes: &[u8]) -> Option<Delivered<'_>> {
    if bytes.len() < ETHERNET || bytes[0] & 1 == 1 {
        return None;
    }
    let ip = &bytes[ETHERNET..];
    let (class, hops, pair, udp) = match bytes[12..14] {
        [8, 0] => v4(ip)?,
        [0x86, 0xDD] => v6(ip)?,
        _ => return None,
    };
    let length = usize::from(*udp.get(4)?) << 8 | usize::from(*udp.get(5)?);
    if length < 8 || length > udp.len() {
        return None;
    }
    let unused = udp[6..8] == [0, 0];
    if unused && pair.len() == 32 {
        return None;
    }
    if !unused && sum(&[pair, &[0, 17], &udp[4..6], &udp[..length]]) != 0xFFFF {
        return None;
    }
    let (from, to) = pair.split_at(pair.len() / 2);
    let from = SocketAddr::new(address(from), half(udp, 0));
    let to = SocketAddr::new(address(to), half(udp, 2));
    let marks = Marks { class, hops: NonZeroU8::new(hops), dont_fragment: false };
    Some((from, to, marks, &udp[8..length]))
}

/// Class, hops, addresses, and what is behind the header.
type Read<'a> = (u8, u8, &'a [u8], &'a [u8]);

fn v4(ip: &[u8]) -> Option<Read<'_>> {
    let head = usize::from(*ip.first()? & 0xF) * 4;
    if ip.len() < 20 || head < 20 || ip[0] >> 4 != 4 || ip[9] != 17 || half(ip, 6) & 0x3FFF != 0 {
        return None;
    }
    let behind = ip.get(head..usize::from(half(ip, 2)))?;
    (sum(&[&ip[..head]]) == 0xFFFF).then_some((ip[1], ip[8], &ip[12..20], behind))
}

fn v6(ip: &[u8]) -> Option<Read<'_>> {
    if ip.len() < 40 || ip[0] >> 4 != 6 || ip[6] != 17 {
        return None;
    }
    let behind = ip.get(40..40 + usize::from(half(ip, 4)))?;
    Some((ip[0] << 4 | ip[1] >> 4, ip[7], &ip[8..40], behind))
}

fn address(octets: &[u8]) -> IpAddr {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    v4.unwrap_or_else(|_| Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("16 octets")).into())
}

/// The ones' complement sum (RFC 1071) of pieces, all but the last of even length.
fn sum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let word = |word: &[u8]| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    u16::try_from(sum).expect("folded")
}

/// A number of two octets.
pub(crate) fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A frame in a VLAN; zero is none.
pub(crate) fn tagged(bytes: &[u8], vlan: u16) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if vlan != 0 {
        let [high, low] = vlan.to_be_bytes();
        bytes.splice(12..12, [0x81, 0, high, low]);
    }
    bytes
}

/// The same frame without its VLAN.
pub(crate) fn untagged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.get(12..14) == Some(&[0x81, 0]) {
        bytes.drain(12..16);
    }
    bytes
}
