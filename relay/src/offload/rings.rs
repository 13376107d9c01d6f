//! Rings of `AF_XDP`, and what the kernel program must know to bring frames there.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{HashMap, Map, MapData, SockMap, XskMap};
use aya::programs::SkLookup;
use nix::net::if_::if_nametoindex;
use proto::addr::{ClientAddr, Family};
use proto::turn::MOST_DIVERTED;

use super::entry::mapped;
use super::hops::Hops;
use super::program::{Program, Unable};
use super::{Standing, Wish};
use crate::config::Config;
use crate::engine::{Gear, OCTETS_OF_ADDRESS, Outlet, Places, Stack};
use crate::sys::{FrameSocket, Key6, Mapping};

/// Interfaces with rings at most, and queues of each: as `relay/xdp/rings.h` says.
const MOST_INTERFACES: usize = 8;
pub(crate) const MOST_QUEUES: usize = 64;

/// Places for the queues of one interface.
const PLACES: u32 = 64;

/// Double words of the map of ports for one address.
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
const WORDS_OF_ADDRESS: u32 = (OCTETS_OF_ADDRESS / size_of::<u64>()) as u32;

/// Bytes of a link header with a VLAN.
const LINK: usize = 18;

/// What the program's maps are to hold.
#[derive(Debug, Default)]
pub(super) struct RingRoom {
    /// Indices of interfaces, then zeros.
    pub(super) interfaces: [u32; MOST_INTERFACES],
    pub(super) addresses: u32,
    pub(super) workers: u32,
}

impl RingRoom {
    /// Room for what is wished.
    pub(super) fn of(config: &Config, wish: &Wish, standing: &Standing) -> Result<Self, Unable> {
        let mut room = Self { workers: config.workers.into(), ..Self::default() };
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
        self.addresses.saturating_mul(WORDS_OF_ADDRESS).max(1)
    }

    /// Places for rings.
    pub(super) fn rings(&self) -> u32 {
        let count = self.interfaces.iter().take_while(|it| **it != 0).count();
        let queues = u32::try_from(count).unwrap_or(0).saturating_mul(PLACES);
        queues.saturating_mul(self.workers).max(1)
    }

    /// Places for sockets of the stack.
    pub(super) fn sockets(&self) -> u32 {
        self.workers.saturating_mul(2).max(1)
    }

    /// Clients that several workers may have diverted.
    pub(super) fn diverted(&self) -> u32 {
        let each = u32::try_from(MOST_DIVERTED).unwrap_or(u32::MAX);
        if self.addresses > 0 && self.workers > 1 { each.saturating_mul(self.workers) } else { 1 }
    }
}

/// Addresses with ports of ours.
fn addresses(config: &Config) -> Vec<IpAddr> {
    let listeners = config.listeners.iter().map(|it| it.local.ip());
    let all = listeners.chain(config.relays.iter().map(|it| it.local));
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Opens rings at the interfaces where the program stands, if that is wished and possible, and
/// says what came of it: what the engine of each worker is made of.
pub(super) fn open(
    config: &Config,
    wish: &Wish,
    program: &mut Program,
    standing: &mut Standing,
) -> Vec<Gear> {
    if !wish.rings {
        return Vec::new();
    }
    match gear(config, program, standing) {
        Ok(gear) => gear,
        Err(error) => {
            tracing::warn!("media comes by sockets, not by rings: {error}");
            standing.rings = [0; 2];
            Vec::new()
        }
    }
}

fn gear(
    config: &Config,
    program: &mut Program,
    standing: &mut Standing,
) -> Result<Vec<Gear>, Unable> {
    let addresses = addresses(config);
    let workers = config.workers;
    let mut outlets: Vec<Vec<Outlet>> = (0..workers).map(|_| Vec::new()).collect();
    let mut indices = Vec::new();
    let [mut queues, mut zero_copy] = [0; 2];
    // Places are counted whether the program stands there or not, as `RingRoom` does.
    let places = (0..).step_by(PLACES as usize).take(MOST_INTERFACES);
    for (first, (name, _, stands)) in places.zip(&standing.interfaces) {
        if !stands {
            continue;
        }
        match rings_at(name, workers) {
            Ok((ifindex, all)) => {
                indices.push(ifindex);
                let sending = |worker: usize| worker % all.len();
                let sending: Vec<usize> = (0..outlets.len()).map(sending).collect();
                for ((place, queue), sockets) in (first..).zip(0..).zip(all) {
                    queues += 1;
                    zero_copy += usize::from(sockets.iter().any(FrameSocket::is_zero_copy));
                    for (worker, socket) in (0_u32..).zip(sockets) {
                        program.bring_frames(place * u32::from(workers) + worker, &socket)?;
                        let worker = worker as usize;
                        let sends = sending[worker] == queue;
                        outlets[worker].push(Outlet { ifindex, sends, socket });
                    }
                }
            }
            Err(error) => {
                tracing::warn!(interface = name, "media comes by sockets here: {error}");
            }
        }
    }
    if queues == 0 {
        return Err(Unable::Nowhere);
    }
    let mut all = Vec::new();
    for (worker, outlets) in (0..).zip(outlets) {
        let stack = Stack::open(families(config).into_iter())?;
        program.bring_strays(worker, &stack)?;
        let owners = program.open_ports(&addresses)?;
        let number = u8::try_from(worker).unwrap_or(u8::MAX);
        let places = Places::new(&addresses, *config.ports.start(), owners, number);
        let diverted = program.diverted(worker)?;
        all.push(Gear { outlets, places, stack, diverted, hops: Hops::new(&indices)? });
    }
    program.look_up_strays()?;
    standing.rings = [queues, zero_copy];
    tracing::info!(queues, zero_copy, workers, "media comes by rings");
    Ok(all)
}

/// Families of relayed addresses.
fn families(config: &Config) -> BTreeSet<Family> {
    config.relays.iter().map(|it| Family::of(it.local)).collect()
}

/// A socket for each worker at each queue of an interface.
fn rings_at(name: &str, workers: u16) -> std::io::Result<(u32, Vec<Vec<FrameSocket>>)> {
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
    let open = |queue| FrameSocket::open((ifindex, queue), mtu + LINK, workers);
    Ok((ifindex, (0..).take(queues).map(open).collect::<Result<_, _>>()?))
}

impl Program {
    /// Has frames brought to a socket: those of a queue that are a worker's.
    fn bring_frames(&mut self, place: u32, socket: &FrameSocket) -> Result<(), Unable> {
        let map = self.ebpf.map_mut("rings").ok_or(Unable::Lacks("rings"))?;
        XskMap::try_from(map)?.set(place, socket.as_fd().as_raw_fd(), 0)?;
        Ok(())
    }

    /// Tells it our addresses; whose their ports are.
    fn open_ports(&mut self, addresses: &[IpAddr]) -> Result<Mapping, Unable> {
        let map = self.ebpf.map_mut("addresses").ok_or(Unable::Lacks("addresses"))?;
        let mut places = HashMap::<_, [u8; 16], u32>::try_from(map)?;
        for (index, ip) in (0..).zip(addresses) {
            places.insert(mapped(*ip), index * WORDS_OF_ADDRESS, 0)?;
        }
        let Some(Map::Array(ports)) = self.ebpf.map("ports") else {
            return Err(Unable::Lacks("ports"));
        };
        Ok(Mapping::shared(ports.fd().as_fd(), 0, addresses.len() * OCTETS_OF_ADDRESS)?)
    }

    /// Has datagrams that the stack brings to a worker's ports given to these sockets.
    fn bring_strays(&mut self, worker: u32, stack: &Stack) -> Result<(), Unable> {
        let map = self.ebpf.map_mut("sockets").ok_or(Unable::Lacks("sockets"))?;
        let mut sockets = SockMap::try_from(map)?;
        for (family, socket) in stack.receivers() {
            let place = u32::try_from(family.index()).unwrap_or_default();
            sockets.set(2 * worker + place, socket, 0)?;
        }
        Ok(())
    }

    /// Lets it say to which socket they go.
    fn look_up_strays(&mut self) -> Result<(), Unable> {
        let lookup = self.ebpf.program_mut("relay_lookup").ok_or(Unable::Lacks("relay_lookup"))?;
        let lookup: &mut SkLookup = lookup.try_into()?;
        lookup.load()?;
        lookup.attach(fs::File::open("/proc/self/ns/net")?)?;
        Ok(())
    }

    /// A door to the clients that a worker has diverted.
    fn diverted(&self, worker: u32) -> Result<Diverted, Unable> {
        let Some(Map::HashMap(map)) = self.ebpf.map("diverted") else {
            return Err(Unable::Lacks("diverted"));
        };
        let map = MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?)?;
        Ok(Diverted { map: Map::HashMap(map).try_into()?, worker, clients: HashSet::new() })
    }
}

/// Clients whose frames come to a worker although steering means another.
#[derive(Debug)]
pub(crate) struct Diverted {
    map: HashMap<MapData, Key6, u32>,
    worker: u32,
    clients: HashSet<(ClientAddr, SocketAddr)>,
}

impl Diverted {
    /// Begins with a client of the listener at an address; false if the kernel takes no more.
    pub(crate) fn open(&mut self, client: ClientAddr, at: SocketAddr) -> bool {
        let taken = self.map.insert(way(client, at), self.worker, 0).is_ok();
        if taken {
            self.clients.insert((client, at));
        }
        taken
    }

    /// Leaves it to steering again.
    pub(crate) fn close(&mut self, client: ClientAddr, at: SocketAddr) {
        if self.clients.remove(&(client, at)) {
            self.forget(client, at);
        }
    }

    /// Leaves all to steering.
    pub(crate) fn clear(&mut self) {
        for (client, at) in std::mem::take(&mut self.clients) {
            self.forget(client, at);
        }
    }

    /// Takes it out, unless it is another worker's by now.
    fn forget(&mut self, client: ClientAddr, at: SocketAddr) {
        let way = way(client, at);
        if self.map.get(&way, 0).is_ok_and(|worker| worker == self.worker) {
            // Whoever took it out meanwhile wanted the same.
            let _ = self.map.remove(&way);
        }
    }
}

/// How the kernel program finds a client that is diverted.
fn way(client: ClientAddr, at: SocketAddr) -> Key6 {
    let client = client.socket();
    Key6 {
        remote: mapped(client.ip()),
        local: mapped(at.ip()),
        remote_port: client.port().to_be_bytes(),
        local_port: at.port().to_be_bytes(),
        channel: [0; 2],
        zero: [0; 2],
    }
}
