//! Frames: what UDP datagram one holds, and how one is made of a datagram.
//!
//! The kernel program brings only frames that look whole; they are read as if anybody might have
//! written them. A checksum is not checked by anybody else before us, so it is here; one that covers
//! the addresses alone comes from this host or a virtual machine on it, whose kernel leaves the rest
//! to hardware, and nothing was on the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;

use proto::marks::Marks;

use super::checksum::{folded, pseudo, sum};
use crate::offload::Hop;

/// Bytes of a link header without and with a VLAN.
const ETHERNET: usize = 14;
const VLAN: usize = 4;

/// Bytes of headers.
const IPV4: usize = 20;
const IPV6: usize = 40;
pub(super) const UDP: usize = 8;

const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_IPV6: [u8; 2] = [0x86, 0xDD];
const TYPE_VLAN: [u8; 2] = [0x81, 0x00];

/// The number of UDP.
const PROTOCOL: u8 = 17;

/// The hops of what brings none along, as of everything that begins here.
const HOPS: u8 = 64;

/// Do not fragment.
const DF: u8 = 0x40;

/// A datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'f> {
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it came.
    pub to: SocketAddr,
    /// What the header of IP says.
    pub marks: Marks,
    /// What UDP carries.
    pub payload: &'f [u8],
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not a whole UDP datagram over plain IP.
    Foreign,
    /// A checksum is wrong.
    Damaged,
}

/// What the headers of IP say.
struct Network<'f> {
    from: IpAddr,
    to: IpAddr,
    marks: Marks,
    /// What IP carries.
    carried: &'f [u8],
}

/// Reads the datagram in a frame.
pub fn read(frame: &[u8]) -> Result<Found<'_>, Unfit> {
    let (link, rest) = frame.split_first_chunk::<ETHERNET>().ok_or(Unfit::Foreign)?;
    let mut kind = [link[12], link[13]];
    let mut rest = rest;
    if kind == TYPE_VLAN {
        let (vlan, behind) = rest.split_first_chunk::<VLAN>().ok_or(Unfit::Foreign)?;
        (kind, rest) = ([vlan[2], vlan[3]], behind);
    }
    let Network { from, to, marks, carried } = match kind {
        TYPE_IPV4 => ipv4(rest)?,
        TYPE_IPV6 => ipv6(rest)?,
        _ => return Err(Unfit::Foreign),
    };
    let (udp, payload) = carried.split_first_chunk::<UDP>().ok_or(Unfit::Foreign)?;
    let &[f0, f1, t0, t1, l0, l1, c0, c1] = udp;
    let length = u16::from_be_bytes([l0, l1]);
    if usize::from(length) != carried.len() {
        return Err(Unfit::Foreign);
    }
    let check = u16::from_ne_bytes([c0, c1]);
    let before = pseudo(from, to, length);
    let is_good = match check {
        0 => from.is_ipv4(),
        check if check == folded(before) => true,
        _ => folded(before + sum(carried)) == 0xFFFF,
    };
    if !is_good {
        return Err(Unfit::Damaged);
    }
    let from = SocketAddr::new(from, u16::from_be_bytes([f0, f1]));
    let to = SocketAddr::new(to, u16::from_be_bytes([t0, t1]));
    Ok(Found { from, to, marks, payload })
}

fn ipv4(bytes: &[u8]) -> Result<Network<'_>, Unfit> {
    let (head, _) = bytes.split_first_chunk::<IPV4>().ok_or(Unfit::Foreign)?;
    let &[start, class, l0, l1, _, _, o0, o1, hops, protocol, _, _, addresses @ ..] = head;
    // Neither options nor fragments.
    let is_whole = start == 0x45 && (u16::from_be_bytes([o0, o1]) & 0xBFFF) == 0;
    if !is_whole || protocol != PROTOCOL {
        return Err(Unfit::Foreign);
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let carried = bytes.get(IPV4..length).ok_or(Unfit::Foreign)?;
    if folded(sum(head)) != 0xFFFF {
        return Err(Unfit::Damaged);
    }
    let [from, to] = [0, 4].map(|at| Ipv4Addr::from([0, 1, 2, 3].map(|i| addresses[at + i])));
    Ok(Network { from: from.into(), to: to.into(), marks: marks(class, hops), carried })
}

fn ipv6(bytes: &[u8]) -> Result<Network<'_>, Unfit> {
    let (head, rest) = bytes.split_first_chunk::<IPV6>().ok_or(Unfit::Foreign)?;
    let &[s0, s1, _, _, l0, l1, protocol, hops, addresses @ ..] = head;
    if s0 >> 4 != 6 || protocol != PROTOCOL {
        return Err(Unfit::Foreign);
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let carried = rest.get(..length).ok_or(Unfit::Foreign)?;
    let (from, to) = addresses.split_at(16);
    let ip = |octets: &[u8]| {
        <[u8; 16]>::try_from(octets).map(|it| Ipv6Addr::from(it).into()).map_err(|_| Unfit::Foreign)
    };
    let class = s0 << 4 | s1 >> 4;
    Ok(Network { from: ip(from)?, to: ip(to)?, marks: marks(class, hops), carried })
}

fn marks(class: u8, hops: u8) -> Marks {
    // One that arrives with none left is at its end like one with the last.
    Marks { class, hops: NonZeroU8::new(hops.max(1)), dont_fragment: false }
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'h> {
    /// The way out.
    pub hop: &'h Hop,
    /// The address of ours that sends it.
    pub from: SocketAddr,
    /// Where to, of the same family.
    pub to: SocketAddr,
    /// What the header of IP shall say.
    pub marks: Marks,
}

impl Leaving<'_> {
    /// Bytes before the payload.
    pub fn head(&self) -> usize {
        self.link() + self.network() + UDP
    }

    /// Whether a payload of so many bytes fits the path.
    pub fn fits(&self, payload: usize) -> bool {
        self.network() + UDP + payload <= usize::from(self.hop.mtu)
    }

    fn link(&self) -> usize {
        if self.hop.vlan == 0 { ETHERNET } else { ETHERNET + VLAN }
    }

    fn network(&self) -> usize {
        if self.to.is_ipv4() { IPV4 } else { IPV6 }
    }

    /// Writes all headers of a frame, whose payload stands behind them already; `id` tells its
    /// fragments from others' if a router makes some.
    pub fn write(&self, frame: &mut [u8], id: u16) {
        let (link, network) = frame.split_at_mut(self.link());
        link[..6].copy_from_slice(&self.hop.to_mac);
        link[6..12].copy_from_slice(&self.hop.from_mac);
        let kind = if self.to.is_ipv4() { TYPE_IPV4 } else { TYPE_IPV6 };
        let [.., k0, k1] = link else { return };
        [*k0, *k1] = kind;
        if self.hop.vlan != 0 {
            link[12..14].copy_from_slice(&TYPE_VLAN);
            link[14..16].copy_from_slice(&self.hop.vlan.to_be_bytes());
        }
        let whole = narrow(network.len());
        let (head, carried) = network.split_at_mut(self.network());
        let hops = self.marks.hops.map_or(HOPS, NonZeroU8::get);
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let fragment = if self.marks.dont_fragment { DF } else { 0 };
                head[..2].copy_from_slice(&[0x45, self.marks.class]);
                head[2..4].copy_from_slice(&whole.to_be_bytes());
                head[4..6].copy_from_slice(&id.to_be_bytes());
                head[6..12].copy_from_slice(&[fragment, 0, hops, PROTOCOL, 0, 0]);
                head[12..16].copy_from_slice(&from.octets());
                head[16..20].copy_from_slice(&to.octets());
                let check = !folded(sum(head));
                head[10..12].copy_from_slice(&check.to_ne_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let class = self.marks.class;
                head[..4].copy_from_slice(&[0x60 | class >> 4, class << 4, 0, 0]);
                head[4..6].copy_from_slice(&narrow(carried.len()).to_be_bytes());
                head[6..8].copy_from_slice(&[PROTOCOL, hops]);
                head[8..24].copy_from_slice(&from.octets());
                head[24..40].copy_from_slice(&to.octets());
            }
            // No socket sends from one family to the other.
            _ => return,
        }
        write_udp(self.from, self.to, carried);
    }
}

/// Writes the header of a UDP datagram, whose payload stands behind it already.
pub(super) fn write_udp(from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) {
    let length = narrow(datagram.len());
    datagram[..2].copy_from_slice(&from.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&to.port().to_be_bytes());
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    datagram[6..8].copy_from_slice(&[0, 0]);
    let check = !folded(pseudo(from.ip(), to.ip(), length) + sum(datagram));
    let check = if check == 0 { 0xFFFF } else { check };
    datagram[6..8].copy_from_slice(&check.to_ne_bytes());
}

/// What fits a path fits 16 bits.
fn narrow(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where UDP begins in a frame of IPv4 without a VLAN.
    const AT_UDP: usize = ETHERNET + IPV4;

    fn hop(vlan: u16) -> Hop {
        Hop { ifindex: 1, from_mac: [2; 6], to_mac: [4; 6], vlan, is_cable: true, mtu: 1_500 }
    }

    fn ends(is_v4: bool) -> [SocketAddr; 2] {
        let ends = if is_v4 {
            ["192.0.2.1:50000", "198.51.100.7:9"]
        } else {
            ["[2001:db8::1]:50000", "[2001:db8:7::9]:9"]
        };
        ends.map(|it| it.parse().unwrap())
    }

    fn made(is_v4: bool, vlan: u16, marks: Marks, payload: &[u8]) -> Vec<u8> {
        let [from, to] = ends(is_v4);
        let hop = hop(vlan);
        let leaving = Leaving { hop: &hop, from, to, marks };
        let mut frame = [&vec![0xAA; leaving.head()], payload].concat();
        leaving.write(&mut frame, 7);
        frame
    }

    fn mended(mut frame: Vec<u8>) -> Vec<u8> {
        frame[24..26].fill(0);
        let check = !folded(sum(&frame[ETHERNET..AT_UDP]));
        frame[24..26].copy_from_slice(&check.to_ne_bytes());
        frame
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            is_v4: bool, vlan in prop_oneof![Just(0_u16), 1..4_095_u16], class: u8, hops: u8,
            dont_fragment: bool, payload in prop::collection::vec(any::<u8>(), 0..1_400),
        ) {
            let sent = Marks { class, hops: NonZeroU8::new(hops), dont_fragment };
            let frame = made(is_v4, vlan, sent, &payload);
            let found = read(&frame).unwrap();
            let [from, to] = ends(is_v4);
            prop_assert_eq!((found.from, found.to, found.payload), (from, to, &payload[..]));
            prop_assert_eq!(found.marks.class, class);
            prop_assert_eq!(found.marks.hops, sent.hops.or(NonZeroU8::new(HOPS)));
            let df = frame[if vlan == 0 { ETHERNET } else { ETHERNET + VLAN } + 6] & DF != 0;
            prop_assert!(!is_v4 || df == dont_fragment);
        }

        #[test]
        fn no_bit_of_a_datagram_changes_unnoticed(
            is_v4: bool, payload in prop::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index,
            bit in 0..8,
        ) {
            let frame = made(is_v4, 0, Marks::PLAIN, &payload);
            let before = read(&frame).unwrap();
            let mut changed = frame.clone();
            changed[at.index(frame.len())] ^= 1_u8 << bit;
            // Hardware addresses say nothing to us, nor do class, flow and hops of IPv6.
            if let Ok(after) = read(&changed) {
                prop_assert_eq!((after.from, after.to), (before.from, before.to));
                prop_assert_eq!(after.payload, before.payload);
            }
        }

        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for kind in [TYPE_IPV4, TYPE_IPV6, TYPE_VLAN] {
                let frame = [&[0; 12][..], &kind, &bytes].concat();
                let _ = read(&frame);
            }
        }
    }

    /// A change of a good frame of IPv4 with three bytes of payload.
    type Edit = fn(&mut Vec<u8>);

    const EDITS: &[(&str, Edit, Option<Unfit>)] = &[
        ("as it is", |_| {}, None),
        ("padding of Ethernet", |it| it.extend([0xEE; 15]), None),
        ("may be fragmented", |it| it[ETHERNET + 6] = 0, None),
        ("no hops left", |it| it[ETHERNET + 8] = 0, None),
        ("no checksum", |it| it[AT_UDP + 6..][..2].fill(0), None),
        (
            "a checksum left to hardware",
            |it| {
                let [from, to] = ends(true).map(|it| it.ip());
                let partial = folded(pseudo(from, to, 11));
                it[AT_UDP + 6..][..2].copy_from_slice(&partial.to_ne_bytes());
            },
            None,
        ),
        ("a wrong checksum", |it| it[AT_UDP + 7] ^= 1, Some(Unfit::Damaged)),
        ("a wrong byte", |it| it[AT_UDP + 9] ^= 1, Some(Unfit::Damaged)),
        ("a first fragment", |it| it[ETHERNET + 6] = 0x20, Some(Unfit::Foreign)),
        ("a later fragment", |it| it[ETHERNET + 7] = 1, Some(Unfit::Foreign)),
        ("options", |it| it[ETHERNET] = 0x46, Some(Unfit::Foreign)),
        ("TCP", |it| it[ETHERNET + 9] = 6, Some(Unfit::Foreign)),
        ("IP longer than the frame", |it| it[ETHERNET + 3] += 1, Some(Unfit::Foreign)),
        ("IP shorter than its header", |it| it[ETHERNET + 3] = 19, Some(Unfit::Foreign)),
        ("UDP longer than IP", |it| it[AT_UDP + 5] += 1, Some(Unfit::Foreign)),
        ("UDP shorter than IP", |it| it[AT_UDP + 5] -= 1, Some(Unfit::Foreign)),
        ("ARP", |it| it[13] = 6, Some(Unfit::Foreign)),
    ];

    #[test]
    fn what_is_odd_is_not_taken_for_a_datagram() {
        for (case, edit, expected) in EDITS {
            let mut frame = made(true, 0, Marks::PLAIN, &[1, 2, 3]);
            edit(&mut frame);
            assert_eq!(read(&mended(frame)).err(), *expected, "{case}");
        }
        let mut frame = made(true, 0, Marks::PLAIN, &[1, 2, 3]);
        frame[ETHERNET + 10] ^= 1;
        assert_eq!(read(&frame), Err(Unfit::Damaged), "the header's own checksum");
        let mut frame = made(false, 0, Marks::PLAIN, &[1, 2, 3]);
        frame[ETHERNET + IPV6 + 6..][..2].fill(0);
        assert_eq!(read(&frame), Err(Unfit::Damaged), "IPv6 without a checksum");
        for (is_v4, vlan) in [(true, 0), (false, 0), (true, 9)] {
            let frame = made(is_v4, vlan, Marks::PLAIN, &[]);
            for len in 0..frame.len() {
                assert_eq!(read(&frame[..len]), Err(Unfit::Foreign), "{len}");
            }
        }
    }

    #[test]
    fn a_sum_of_zero_is_written_as_its_twin() {
        let zero = (0..=u16::MAX).map(|last| made(true, 0, Marks::PLAIN, &last.to_be_bytes()));
        let checks: Vec<_> = zero.map(|it| [it[AT_UDP + 6], it[AT_UDP + 7]]).collect();
        assert!(checks.contains(&[0xFF; 2]) && !checks.contains(&[0; 2]));
    }

    #[test]
    fn what_is_larger_than_the_path_does_not_fit() {
        for (is_v4, most) in [(true, 1_472), (false, 1_452)] {
            let ([from, to], hop) = (ends(is_v4), hop(3));
            let leaving = Leaving { hop: &hop, from, to, marks: Marks::PLAIN };
            assert!(leaving.fits(most) && !leaving.fits(most + 1), "the tag is no part of IP");
        }
    }
}
