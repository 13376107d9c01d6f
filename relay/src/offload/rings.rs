//! Rings of `AF_XDP`, and what the kernel program must know to bring frames there.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{HashMap, Map, SockMap, XskMap};
use aya::programs::SkLookup;
use nix::net::if_::if_nametoindex;
use proto::addr::Family;

use super::hops::Hops;
use super::program::{Program, Unable};
use super::{Standing, Wish};
use crate::config::Config;
use crate::engine::{Gear, Outlet, Places, Stack, WORDS_OF_ADDRESS};
use crate::sys::{FrameSocket, Mapping};

/// Interfaces with rings at most, and queues of each: as `relay/xdp/rings.h` says.
const MOST_INTERFACES: usize = 8;
pub(crate) const MOST_QUEUES: usize = 64;

/// Places for the queues of one interface.
const PLACES: u32 = 64;

/// Bytes of a link header with a VLAN.
const LINK: usize = 18;

/// What the program's maps are to hold.
#[derive(Debug, Default)]
pub(super) struct RingRoom {
    /// Indices of interfaces, then zeros.
    pub(super) interfaces: [u32; MOST_INTERFACES],
    pub(super) addresses: u32,
}

impl RingRoom {
    /// Room for what is wished.
    pub(super) fn of(config: &Config, wish: &Wish, standing: &Standing) -> Result<Self, Unable> {
        let mut room = Self::default();
        if !wish.rings {
            return Ok(room);
        }
        room.addresses = u32::try_from(addresses(config).len()).unwrap_or(u32::MAX);
        for ((name, _, _), place) in standing.interfaces.iter().zip(&mut room.interfaces) {
            *place = if_nametoindex(&**name).map_err(std::io::Error::from)?;
        }
        Ok(room)
    }

    /// Double words of the map of ports.
    pub(super) fn port_words(&self) -> u32 {
        let words = u32::try_from(WORDS_OF_ADDRESS).unwrap_or(u32::MAX);
        self.addresses.saturating_mul(words).max(1)
    }

    /// Places for rings.
    pub(super) fn rings(&self) -> u32 {
        let count = self.interfaces.iter().take_while(|it| **it != 0).count();
        u32::try_from(count).unwrap_or(0).saturating_mul(PLACES).max(1)
    }
}

/// Addresses with ports of ours.
fn addresses(config: &Config) -> Vec<IpAddr> {
    let listeners = config.listeners.iter().map(|it| it.local.ip());
    let all = listeners.chain(config.relays.iter().map(|it| it.local));
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Opens rings at the interfaces where the program stands, if that is wished and possible, and
/// says what came of it.
pub(super) fn open(
    config: &Config,
    wish: &Wish,
    program: &mut Program,
    standing: &mut Standing,
) -> Option<Gear> {
    if !wish.rings {
        return None;
    }
    match gear(config, program, standing) {
        Ok(gear) => Some(gear),
        Err(error) => {
            tracing::warn!("media comes by sockets, not by rings: {error}");
            standing.rings = [0; 2];
            None
        }
    }
}

fn gear(config: &Config, program: &mut Program, standing: &mut Standing) -> Result<Gear, Unable> {
    let addresses = addresses(config);
    let stack = Stack::open(families(config).into_iter())?;
    let mut outlets = Vec::new();
    let mut indices = Vec::new();
    let mut zero_copy = 0;
    // Places are counted whether the program stands there or not, as `RingRoom` does.
    let places = (0..).step_by(PLACES as usize).take(MOST_INTERFACES);
    for (first, (name, _, stands)) in places.zip(&standing.interfaces) {
        if !stands {
            continue;
        }
        match rings_at(name) {
            Ok((ifindex, sockets)) => {
                indices.push(ifindex);
                for (queue, socket) in (first..).zip(sockets) {
                    program.bring_frames(queue, &socket)?;
                    zero_copy += usize::from(socket.is_zero_copy());
                    outlets.push(Outlet { ifindex, socket });
                }
            }
            Err(error) => {
                tracing::warn!(interface = name, "media comes by sockets here: {error}");
            }
        }
    }
    if outlets.is_empty() {
        return Err(Unable::Nowhere);
    }
    let open = program.open_ports(&addresses)?;
    program.bring_strays(&stack)?;
    standing.rings = [outlets.len(), zero_copy];
    tracing::info!(queues = outlets.len(), zero_copy, "media comes by rings");
    let places = Places::new(&addresses, *config.ports.start(), open);
    Ok(Gear { outlets, places, stack, hops: Hops::new(&indices)? })
}

/// Families of relayed addresses.
fn families(config: &Config) -> BTreeSet<Family> {
    config.relays.iter().map(|it| Family::of(it.local)).collect()
}

/// A socket for each queue of an interface.
fn rings_at(name: &str) -> std::io::Result<(u32, Vec<FrameSocket>)> {
    let ifindex = if_nametoindex(name)?;
    let told = fs::read_to_string(format!("/sys/class/net/{name}/mtu"))?;
    let mtu: usize = told.trim().parse().map_err(std::io::Error::other)?;
    let queues = fs::read_dir(format!("/sys/class/net/{name}/queues"))?.flatten();
    let queues = queues.filter(|it| it.file_name().to_string_lossy().starts_with("rx-")).count();
    if queues > MOST_QUEUES {
        return Err(std::io::Error::other(format!(
            "it has {queues} queues; `ethtool -L {name} combined {MOST_QUEUES}` makes them few enough"
        )));
    }
    let open = |queue| FrameSocket::open(ifindex, queue, mtu + LINK);
    Ok((ifindex, (0..).take(queues).map(open).collect::<Result<_, _>>()?))
}

impl Program {
    /// Has frames of a queue brought to a socket.
    fn bring_frames(&mut self, queue: u32, socket: &FrameSocket) -> Result<(), Unable> {
        let map = self.ebpf.map_mut("rings").ok_or(Unable::Lacks("rings"))?;
        XskMap::try_from(map)?.set(queue, socket.as_fd().as_raw_fd(), 0)?;
        Ok(())
    }

    /// Tells it our addresses; the bits of their ports.
    fn open_ports(&mut self, addresses: &[IpAddr]) -> Result<Mapping, Unable> {
        let map = self.ebpf.map_mut("addresses").ok_or(Unable::Lacks("addresses"))?;
        let mut places = HashMap::<_, [u8; 16], u32>::try_from(map)?;
        let words = u32::try_from(WORDS_OF_ADDRESS).unwrap_or(u32::MAX);
        for (index, ip) in (0..).zip(addresses) {
            places.insert(super::entry::mapped(*ip), index * words, 0)?;
        }
        let Some(Map::Array(ports)) = self.ebpf.map("ports") else {
            return Err(Unable::Lacks("ports"));
        };
        let bytes = addresses.len() * WORDS_OF_ADDRESS * size_of::<u64>();
        Ok(Mapping::shared(ports.fd().as_fd(), 0, bytes)?)
    }

    /// Has datagrams that the stack brings to open ports given to these sockets.
    fn bring_strays(&mut self, stack: &Stack) -> Result<(), Unable> {
        let map = self.ebpf.map_mut("sockets").ok_or(Unable::Lacks("sockets"))?;
        let mut sockets = SockMap::try_from(map)?;
        for (family, socket) in stack.receivers() {
            let place = u32::try_from(family.index()).unwrap_or_default();
            sockets.set(place, socket, 0)?;
        }
        let lookup = self.ebpf.program_mut("relay_lookup").ok_or(Unable::Lacks("relay_lookup"))?;
        let lookup: &mut SkLookup = lookup.try_into()?;
        lookup.load()?;
        lookup.attach(fs::File::open("/proc/self/ns/net")?)?;
        Ok(())
    }
}
