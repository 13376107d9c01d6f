//! Legs as the kernel program reads them, from routes and next hops.

use std::net::{IpAddr, SocketAddr};

use proto::policy::bandwidth::Direction;
use proto::turn::Route;

use crate::sys::{Key4, Key6, Leg, MOST_WAYS, Way};

/// The way out to one of the two ends of a route; that to another client of this relay has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The interface.
    pub ifindex: u32,
    /// Its own hardware address.
    pub from_mac: [u8; 6],
    /// The next hop's.
    pub to_mac: [u8; 6],
    /// The VLAN there; zero for none.
    pub vlan: u16,
    /// Whether the interface is one end of a virtual cable, whose other end is not told of what is
    /// merely sent back.
    pub is_cable: bool,
    /// The largest IP packet that fits.
    pub mtu: u16,
}

/// What holds for a leg beside where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where it is counted.
    pub slot: u32,
    /// The index of its limit; zero for none.
    pub limit: u32,
    /// When it ends: nanoseconds of the kernel's clock.
    pub expires: u64,
}

/// Between what a leg leads, as `relay/xdp/abi.h` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Course {
    /// From a network to a network.
    Across = 0,
    /// From a network to another client of this relay.
    Inward = 1,
    /// From another client of this relay to a network.
    Outward = 2,
}

/// One direction of a route, in the kernel's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) key: Key,
    /// Without its way.
    leg: Leg,
    pub(super) way: Way,
}

/// How it is found, by the family it arrives over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    V4(Key4),
    V6(Key6),
}

impl Entry {
    /// The leg of a route in one direction: `listener` is the address clients speak to, `hop` the
    /// way out.
    pub fn new(
        (route, listener): (&Route, SocketAddr),
        direction: Direction,
        hop: &Hop,
        Terms { slot, limit, expires }: Terms,
    ) -> Self {
        let (client, peer) = (route.client.client.socket(), route.peer.socket());
        let relayed = route.relayed.socket();
        let number = route.channel.map_or([0; 2], |it| it.number().to_be_bytes());
        let (arrives, goes, was, is) = match direction {
            Direction::ToPeer => ((client, listener), (relayed, peer), number, [0; 2]),
            Direction::ToClient => ((peer, relayed), (listener, client), [0; 2], number),
        };
        let (from, to) = goes;
        let course = match direction {
            _ if !route.hairpin => Course::Across,
            Direction::ToPeer => Course::Inward,
            Direction::ToClient => Course::Outward,
        };
        let way = Way {
            from: mapped(from.ip()),
            ifindex: hop.ifindex,
            from_mac: hop.from_mac,
            to_mac: hop.to_mac,
            mtu: hop.mtu,
            vlan: hop.vlan.to_be_bytes(),
            family: if to.is_ipv4() { 4 } else { 6 },
            redirects: u8::from(hop.is_cable),
            zero: [0; 2],
        };
        let leg = Leg {
            to: mapped(to.ip()),
            expires_way: expires & !WAY_MASK,
            slot,
            limit,
            from_port: from.port().to_be_bytes(),
            to_port: to.port().to_be_bytes(),
            channel: is,
            course: course as u8,
            mixed: u8::from(route.channel.is_none() && direction == Direction::ToPeer),
        };
        Self { key: key(arrives, was), leg, way }
    }

    /// The leg by its way, which stands at an index.
    pub(super) fn leg(&self, way: u32) -> Leg {
        let way = u64::from(way) & WAY_MASK;
        Leg { expires_way: self.leg.expires_way | way, ..self.leg }
    }
}

/// The bits of a leg's end that name its way.
const WAY_MASK: u64 = MOST_WAYS as u64 - 1;

fn key((remote, local): (SocketAddr, SocketAddr), channel: [u8; 2]) -> Key {
    let (remote_port, local_port) = (remote.port().to_be_bytes(), local.port().to_be_bytes());
    match (remote.ip(), local.ip()) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => Key::V4(Key4 {
            remote: remote.octets(),
            local: local.octets(),
            remote_port,
            local_port,
            channel,
            zero: [0; 2],
        }),
        (remote, local) => Key::V6(Key6 {
            remote: mapped(remote),
            local: mapped(local),
            remote_port,
            local_port,
            channel,
            zero: [0; 2],
        }),
    }
}

/// Addresses between which datagrams go in one direction: where they leave, and where to.
pub(super) fn ends(route: &Route, listener: SocketAddr, direction: Direction) -> (IpAddr, IpAddr) {
    match direction {
        Direction::ToPeer => (route.relayed.ip(), route.peer.ip()),
        Direction::ToClient => (listener.ip(), route.client.client.ip()),
    }
}

/// As IPv6, IPv4-mapped if it is none.
pub(super) fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
