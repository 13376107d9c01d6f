//! Next hops, as the kernel's own routing has them.
//!
//! Only interfaces that the program is attached to count, and VLANs on them. A neighbour that the kernel does not know
//! yet will be known once the relay has sent to it: [`Hops::news`] tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::entry::Hop;
use super::netlink::{Link, Netlink, News, Path};

/// Neighbours that are remembered; with more of them all are asked for again.
const REMEMBERED: usize = 16_384;

/// What one worker knows of the networks around it.
#[derive(Debug)]
pub(crate) struct Hops {
    netlink: Netlink,
    /// Where the program stands.
    interfaces: BTreeSet<u32>,
    /// Interfaces by which a path led; `None` if it is not one of ours.
    links: BTreeMap<u32, Option<Link>>,
    neighbours: BTreeMap<(u32, IpAddr), Option<[u8; 6]>>,
    /// Whether some were forgotten, so that their news would not be understood.
    forgot: bool,
}

/// What news mean for routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    /// Those by this neighbour lead elsewhere now.
    Neighbour(u32, IpAddr),
    /// All may.
    Everything,
}

/// The interfaces that the frames of these go by: below a VLAN another one.
pub(crate) fn below(names: Vec<String>) -> io::Result<BTreeSet<String>> {
    let mut netlink = Netlink::open()?;
    let below = |name: String| {
        let link = netlink.link(if_nametoindex(&*name)?)?;
        let Some((below, _)) = link.and_then(|link| link.vlan) else { return Ok(name) };
        Ok(if_indextoname(below)?.to_string_lossy().into_owned())
    };
    names.into_iter().map(below).collect()
}

/// Whether an interface is one end of a virtual cable.
pub(super) fn is_cable(name: &str) -> io::Result<bool> {
    let link = Netlink::open()?.link(if_nametoindex(name)?)?;
    Ok(link.is_some_and(|link| link.is_cable))
}

impl Hops {
    /// Knows nothing yet, and heeds these interfaces only.
    pub(crate) fn new(interfaces: &[u32]) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            interfaces: interfaces.iter().copied().collect(),
            links: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            forgot: false,
        })
    }

    /// Has a poll wake for news.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let descriptor = self.netlink.hears().as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    /// The path between two addresses, if it leaves by one of our interfaces.
    pub(crate) fn path(&mut self, (from, to): (IpAddr, IpAddr)) -> Option<Path> {
        let path = self.netlink.path(from, to).ok().flatten()?;
        self.link(path.ifindex).map(|_| path)
    }

    /// The hop at the beginning of a path, if the neighbour is known.
    pub(crate) fn hop(&mut self, path: &Path) -> Option<Hop> {
        let link = self.link(path.ifindex)?;
        let to_mac = self.neighbour(path.ifindex, path.via)?;
        let mtu = self.mtu(path)?;
        let (ifindex, vlan) = link.vlan.unwrap_or((path.ifindex, 0));
        Some(Hop { ifindex, from_mac: link.mac, to_mac, vlan, is_cable: link.is_cable, mtu })
    }

    /// The largest IP packet that fits a path.
    pub(crate) fn mtu(&mut self, path: &Path) -> Option<u16> {
        let link = self.link(path.ifindex)?;
        let mtu = path.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
        Some(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Tells what has shifted since it was asked last.
    pub(crate) fn news(&mut self, each: &mut dyn FnMut(Shift)) {
        let Self { netlink, links, neighbours, forgot, .. } = self;
        if std::mem::take(forgot) {
            each(Shift::Everything);
        }
        netlink.news(&mut |news| match news {
            News::Neighbour { ifindex, ip, mac } => {
                if let Some(known) = neighbours.get_mut(&(ifindex, ip))
                    && *known != mac
                {
                    *known = mac;
                    each(Shift::Neighbour(ifindex, ip));
                }
            }
            News::Everything => {
                links.clear();
                neighbours.clear();
                each(Shift::Everything);
            }
        });
    }

    fn link(&mut self, ifindex: u32) -> Option<Link> {
        if let Some(known) = self.links.get(&ifindex) {
            return *known;
        }
        let stands = |link: &Link| {
            let below = link.vlan.map_or(ifindex, |(below, _)| below);
            self.interfaces.contains(&below)
        };
        let mut link = self.netlink.link(ifindex).ok().flatten().filter(stands);
        if let Some(link) = &mut link
            && let Some((below, _)) = link.vlan
        {
            let below = self.netlink.link(below).ok().flatten();
            link.is_cable = below.is_some_and(|below| below.is_cable);
        }
        self.links.insert(ifindex, link);
        link
    }

    fn neighbour(&mut self, ifindex: u32, ip: IpAddr) -> Option<[u8; 6]> {
        if let Some(known) = self.neighbours.get(&(ifindex, ip)) {
            return *known;
        }
        if self.neighbours.len() >= REMEMBERED {
            self.neighbours.clear();
            self.forgot = true;
        }
        let mac = self.netlink.neighbour(ifindex, ip).ok().flatten();
        self.neighbours.insert((ifindex, ip), mac);
        mac
    }
}
