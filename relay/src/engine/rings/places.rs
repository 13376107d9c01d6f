//! Our own addresses: which ports of them are open, and for what.
//!
//! The kernel program is told by an octet of each port whose it is (`ports` in `relay/xdp/rings.h`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::atomic::Ordering;

use proto::addr::{AllocationId, ListenerId, RelayId, RelayedAddr};

use crate::engine::Origin;
use crate::sys::Mapping;

/// Octets in the kernel's map for the ports of one kind.
const PORTS: usize = 65_536;

/// Those of one address: of its relayed ports, of its listeners.
pub(crate) const OCTETS_OF_ADDRESS: usize = 2 * PORTS;

/// What is open at one address.
#[derive(Debug)]
struct Place {
    ip: IpAddr,
    /// By port, from the first one of the range.
    relays: Vec<Option<RelayId>>,
    listeners: Vec<(u16, ListenerId)>,
}

/// Where a relayed address is, in little room: by the number of its place, and its port.
#[derive(Clone, Copy, Debug)]
struct Whereabouts {
    generation: u32,
    place: u16,
    port: NonZeroU16,
}

/// All of one worker's.
#[derive(Debug)]
pub(crate) struct Places {
    all: Vec<Place>,
    /// The first port that may be relayed.
    first: u16,
    /// By slot and family.
    by_id: Vec<[Option<Whereabouts>; 2]>,
    listeners: Vec<Option<SocketAddr>>,
    owners: Mapping,
    /// What says that a port is this worker's.
    ours: u8,
}

impl Places {
    /// These addresses with nothing open; `owners` is the map.
    pub(crate) fn new(addresses: &[IpAddr], first: u16, owners: Mapping, worker: u8) -> Self {
        let place = |ip: &IpAddr| Place { ip: *ip, relays: Vec::new(), listeners: Vec::new() };
        let all = addresses.iter().map(place).collect();
        let ours = worker.saturating_add(1);
        Self { all, first, by_id: Vec::new(), listeners: Vec::new(), owners, ours }
    }

    /// Opens the port of a listener.
    pub(super) fn open_listener(&mut self, id: ListenerId, at: SocketAddr) {
        if self.listeners.len() <= id.index() {
            self.listeners.resize(id.index() + 1, None);
        }
        self.listeners[id.index()] = Some(at);
        if let Some(place) = self.index(at.ip()) {
            self.all[place].listeners.push((at.port(), id));
            self.mark(place, PORTS, at.port(), self.ours);
        }
    }

    /// Opens a relayed port; false if its address or port is none that may be.
    pub(crate) fn open_relay(&mut self, id: RelayId, at: RelayedAddr) -> bool {
        let at = at.socket();
        let Some(place) = self.index(at.ip()) else { return false };
        let Some(nth) = at.port().checked_sub(self.first).map(usize::from) else { return false };
        let (Ok(number), Ok(port)) = (u16::try_from(place), NonZeroU16::try_from(at.port())) else {
            return false;
        };
        let relays = &mut self.all[place].relays;
        if relays.len() <= nth {
            relays.resize(nth + 1, None);
        }
        relays[nth] = Some(id);
        let slot = id.allocation.slot as usize;
        if self.by_id.len() <= slot {
            self.by_id.resize(slot + 1, [None; 2]);
        }
        let here = Whereabouts { generation: id.allocation.generation, place: number, port };
        self.by_id[slot][id.family.index()] = Some(here);
        self.mark(place, 0, at.port(), self.ours);
        true
    }

    /// Closes it.
    pub(crate) fn close_relay(&mut self, id: RelayId) {
        let Some(at) = self.relay(id) else { return };
        self.by_id[id.allocation.slot as usize][id.family.index()] = None;
        if let Some(place) = self.index(at.ip()) {
            self.mark(place, 0, at.port(), 0);
            self.all[place].relays[usize::from(at.port() - self.first)] = None;
        }
    }

    /// Closes all relayed ports.
    pub(super) fn close_relays(&mut self) {
        let all = self.all.iter().flat_map(|it| &it.relays).flatten();
        let all: Vec<RelayId> = all.copied().collect();
        for id in all {
            self.close_relay(id);
        }
        self.by_id.clear();
    }

    /// Where a relayed address is.
    #[inline]
    pub(super) fn relay(&self, RelayId { allocation, family }: RelayId) -> Option<SocketAddr> {
        let AllocationId { slot, generation } = allocation;
        let here = self.by_id.get(slot as usize)?[family.index()]?;
        let place = self.all.get(usize::from(here.place))?;
        (here.generation == generation).then_some(SocketAddr::new(place.ip, here.port.get()))
    }

    /// Where a listener is.
    #[inline]
    pub(super) fn listener(&self, id: ListenerId) -> Option<SocketAddr> {
        *self.listeners.get(id.index())?
    }

    /// What is open at an address.
    #[inline]
    pub(super) fn at(&self, at: SocketAddr) -> Option<Origin> {
        let place = self.all.iter().find(|place| place.ip == at.ip())?;
        let relay = at.port().checked_sub(self.first).map(usize::from);
        if let Some(&Some(id)) = relay.and_then(|port| place.relays.get(port)) {
            return Some(Origin::Relay(id));
        }
        let mut listeners = place.listeners.iter();
        listeners.find(|(port, _)| *port == at.port()).map(|(_, id)| Origin::Listener(*id))
    }

    /// Whether datagrams may come from an address over a network. The host's stack takes none that
    /// claim to be from the host itself or from nobody in particular.
    #[inline]
    pub(super) fn may_send(&self, ip: IpAddr) -> bool {
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        let is_nobody = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
        !is_broadcast && !is_nobody && self.all.iter().all(|place| place.ip != ip)
    }

    fn index(&self, ip: IpAddr) -> Option<usize> {
        self.all.iter().position(|place| place.ip == ip)
    }

    /// Lets the kernel see whose a port is.
    fn mark(&self, place: usize, kind: usize, port: u16, owner: u8) {
        let at = place * OCTETS_OF_ADDRESS + kind + usize::from(port);
        self.owners.octet(at).store(owner, Ordering::Release);
    }
}

/// Whether a port is free: nobody else on this host may be given what comes there.
pub(super) fn try_port(at: RelayedAddr) -> io::Result<()> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(at.socket()), Type::DGRAM, None)?;
    socket.bind(&at.socket().into())
}

#[cfg(test)]
mod tests {
    use proto::addr::Family;

    use super::*;

    fn id(slot: u32, generation: u32) -> RelayId {
        RelayId { allocation: AllocationId { slot, generation }, family: Family::V4 }
    }

    #[test]
    fn sec_005_nobody_sends_from_our_own_addresses_or_from_none() {
        let ours = "192.0.2.1".parse().unwrap();
        let owners = Mapping::anonymous(OCTETS_OF_ADDRESS).unwrap();
        let places = Places::new(&[ours], 50_000, owners, 0);
        let refused = [
            "192.0.2.1",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "ff02::1",
        ];
        for ip in refused {
            assert!(!places.may_send(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.2.2", "10.0.0.1", "2001:db8::1", "fe80::1"] {
            assert!(places.may_send(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn what_is_open_is_found_and_the_kernel_sees_the_same() {
        let ips = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let owners = Mapping::anonymous(ips.len() * OCTETS_OF_ADDRESS).unwrap();
        let mut places = Places::new(&ips, 50_000, owners, 4);
        let listener: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        let at = |text: &str| RelayedAddr::new(text.parse().unwrap());
        places.open_listener(ListenerId(3), listener);
        assert!(places.open_relay(id(7, 1), at("192.0.2.1:50077")));
        assert!(places.open_relay(id(8, 1), at("[2001:db8::1]:65535")));
        assert!(!places.open_relay(id(9, 1), at("192.0.2.1:49999")), "below the range");
        assert!(!places.open_relay(id(9, 1), at("192.0.2.9:50000")), "of no address of ours");
        assert_eq!(places.at(listener), Some(Origin::Listener(ListenerId(3))));
        let found = |places: &Places, text: &str| places.at(text.parse().unwrap());
        assert_eq!(found(&places, "192.0.2.1:50077"), Some(Origin::Relay(id(7, 1))));
        assert_eq!(found(&places, "[2001:db8::1]:65535"), Some(Origin::Relay(id(8, 1))));
        assert_eq!(found(&places, "[2001:db8::1]:50077"), None);
        let owner = |places: &Places, at: usize| places.owners.octet(at).load(Ordering::Relaxed);
        assert_eq!([50_076, 50_077, 50_078].map(|at| owner(&places, at)), [0, 5, 0]);
        assert_eq!(owner(&places, PORTS + 3_478), 5);
        assert_eq!(owner(&places, OCTETS_OF_ADDRESS + 65_535), 5);
        // A stale id closes nothing of another.
        places.close_relay(id(7, 0));
        assert_eq!(places.relay(id(7, 1)), "192.0.2.1:50077".parse().ok());
        places.close_relay(id(7, 1));
        assert_eq!(found(&places, "192.0.2.1:50077"), None);
        assert_eq!(owner(&places, 50_077), 0);
        places.close_relays();
        assert_eq!(owner(&places, OCTETS_OF_ADDRESS + 65_535), 0);
        assert!(places.at(listener).is_some(), "listeners stay");
    }
}
