//! The little of rtnetlink (rtnetlink(7)) that next hops need: routes, neighbours, interfaces; and of
//! its generic brother, what drivers can do.
//!
//! Bytes only; nobody needs privileges for this. A request has one answer, which is there when the
//! call that sent it returns.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{NetlinkAddr, bind};
use socket2::{Domain, Protocol, Socket, Type};

/// Groups of changes: interfaces, neighbours, routes of both families.
const CHANGES: u32 = 0x1 | 0x4 | 0x40 | 0x400;

/// The most the kernel says at once.
const LARGEST: usize = 32 * 1024;

/// Far longer than an answer takes.
const PATIENCE: Duration = Duration::from_millis(200);

const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ROUTE: u16 = 24;
const DELETED_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const DELETED_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;

/// A route to a host, not to this one and not to none.
const UNICAST: u8 = 1;

/// Ethernet.
const ETHERNET: u16 = 1;

/// States in which a neighbour's address is good: reachable, stale, delay, probe, permanent.
const KNOWN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

/// Where datagrams to an address leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The interface.
    pub(super) ifindex: u32,
    /// The next hop there.
    pub(super) via: IpAddr,
    /// What the route says of the path's MTU.
    pub(super) mtu: Option<u32>,
}

/// An Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    /// Of a VLAN: the interface that its frames come and go by, and its number.
    pub(super) vlan: Option<(u32, u16)>,
    /// Whether it is one end of a virtual cable (veth).
    pub(super) is_cable: bool,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A neighbour has this address, or none that is good.
    Neighbour { ifindex: u32, ip: IpAddr, mac: Option<[u8; 6]> },
    /// Routes or interfaces: everything may be different.
    Everything,
}

/// Asks the kernel.
#[derive(Debug)]
struct Asker {
    socket: Socket,
    buffer: Box<[u8]>,
    serial: u32,
}

/// Asks the kernel, and hears of changes.
#[derive(Debug)]
pub(super) struct Netlink {
    asker: Asker,
    hears: Socket,
}

impl Netlink {
    /// Opens both sockets.
    pub(super) fn open() -> io::Result<Self> {
        let hears = socket(libc::NETLINK_ROUTE)?;
        hears.set_nonblocking(true)?;
        bind(hears.as_raw_fd(), &NetlinkAddr::new(0, CHANGES))?;
        Ok(Self { asker: Asker::open(libc::NETLINK_ROUTE)?, hears })
    }

    /// The socket that becomes readable when something has changed.
    pub(super) fn hears(&self) -> &Socket {
        &self.hears
    }

    /// How datagrams from one address of ours to a host leave.
    pub(super) fn path(&mut self, from: IpAddr, to: IpAddr) -> io::Result<Option<Path>> {
        let bits = bits(to);
        let head = [family(to), bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let (from, octets) = (octets(from), octets(to));
        let answer = self.asker.ask(GET_ROUTE, &head, &[(1, &octets), (2, &from)])?;
        Ok(answer.filter(|(kind, _)| *kind == NEW_ROUTE).and_then(|(_, body)| route(body, to)))
    }

    /// The hardware address of a neighbour, if it is known and good.
    pub(super) fn neighbour(&mut self, ifindex: u32, ip: IpAddr) -> io::Result<Option<[u8; 6]>> {
        let [a, b, c, d] = ifindex.to_ne_bytes();
        let head = [family(ip), 0, 0, 0, a, b, c, d, 0, 0, 0, 0];
        let answer = self.asker.ask(GET_NEIGHBOUR, &head, &[(1, &octets(ip))])?;
        let found = answer.filter(|(kind, _)| *kind == NEW_NEIGHBOUR);
        Ok(found.and_then(|(_, body)| neighbour(body)).and_then(|(_, _, mac)| mac))
    }

    /// An interface, if it is Ethernet.
    pub(super) fn link(&mut self, ifindex: u32) -> io::Result<Option<Link>> {
        let [a, b, c, d] = ifindex.to_ne_bytes();
        let head = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
        let answer = self.asker.ask(GET_LINK, &head, &[])?;
        Ok(answer.filter(|(kind, _)| *kind == NEW_LINK).and_then(|(_, body)| link(body)))
    }

    /// Whether an interface has a program already.
    pub(super) fn has_program(&mut self, ifindex: u32) -> io::Result<bool> {
        let [a, b, c, d] = ifindex.to_ne_bytes();
        let head = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
        let answer = self.asker.ask(GET_LINK, &head, &[])?;
        let program = answer.and_then(|(_, body)| attribute(body, 16, 43));
        let attached = program.and_then(|program| attribute(program, 0, 2));
        Ok(attached.is_some_and(|attached| attached != [0]))
    }

    /// Tells everything that has changed since it was asked last.
    pub(super) fn news(&mut self, each: &mut dyn FnMut(News)) {
        loop {
            let Asker { buffer, .. } = &mut self.asker;
            let read = match (&self.hears).read(buffer) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Some were lost.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    each(News::Everything);
                    continue;
                }
                Err(_) => return,
            };
            for (kind, _, body) in messages(buffer.get(..read).unwrap_or_default()) {
                match kind {
                    NEW_NEIGHBOUR | DELETED_NEIGHBOUR => {
                        let Some((ifindex, ip, mac)) = neighbour(body) else { continue };
                        let mac = mac.filter(|_| kind == NEW_NEIGHBOUR);
                        each(News::Neighbour { ifindex, ip, mac });
                    }
                    NEW_ROUTE | DELETED_ROUTE | NEW_LINK | DELETED_LINK => each(News::Everything),
                    _ => {}
                }
            }
        }
    }
}

/// What the driver of an interface can do, as `linux/netdev.h` says (`NETDEV_XDP_ACT_…`); `None` where the
/// kernel does not know (before 6.3).
pub(super) fn driver_features(ifindex: u32) -> io::Result<Option<u64>> {
    /// The family that knows families, and of that and the one asked for the command and attributes.
    const CONTROL: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const GET_DEVICE: u8 = 1;
    let mut asker = Asker::open(libc::NETLINK_GENERIC)?;
    let answer = asker.ask(CONTROL, &[GET_FAMILY, 1, 0, 0], &[(2, b"netdev\0")])?;
    let id = answer.and_then(|(_, body)| half(attribute(body, 4, 1)?, 0));
    let Some(id) = id else { return Ok(None) };
    let answer = asker.ask(id, &[GET_DEVICE, 1, 0, 0], &[(1, &ifindex.to_ne_bytes())])?;
    let bits = answer.and_then(|(_, body)| attribute(body, 4, 3)?.try_into().ok());
    Ok(bits.map(u64::from_ne_bytes))
}

fn socket(protocol: libc::c_int) -> io::Result<Socket> {
    Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(protocol)))
}

impl Asker {
    fn open(protocol: libc::c_int) -> io::Result<Self> {
        let socket = socket(protocol)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, buffer: vec![0; LARGEST].into(), serial: 0 })
    }

    /// Sends a request and gives its answer; `None` if the kernel says that there is none.
    fn ask(
        &mut self,
        kind: u16,
        head: &[u8],
        attributes: &[(u16, &[u8])],
    ) -> io::Result<Option<(u16, &[u8])>> {
        self.serial = self.serial.wrapping_add(1);
        (&self.socket).write_all(&request(kind, self.serial, head, attributes))?;
        // Answers to earlier requests, whose time was over, may come before.
        let read = loop {
            let read = (&self.socket).read(&mut self.buffer)?;
            let answers = self.buffer.get(..read).unwrap_or_default();
            if messages(answers).any(|(_, serial, _)| serial == self.serial) {
                break read;
            }
        };
        let mut answers = messages(self.buffer.get(..read).unwrap_or_default());
        let serial = self.serial;
        let answer = answers.find(|(_, of, _)| *of == serial);
        Ok(answer.map(|(kind, _, body)| (kind, body)).filter(|(kind, _)| *kind != ERROR))
    }
}

/// A request's bytes.
fn request(kind: u16, serial: u32, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes.extend_from_slice(head);
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (length, kind) = (length.to_ne_bytes(), kind.to_ne_bytes());
    let start = [&length[..], &kind, &REQUEST.to_ne_bytes(), &serial.to_ne_bytes()].concat();
    bytes.splice(..start.len(), start);
    bytes
}

/// Messages in what was read: kind, serial number, body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(word(bytes, 0)?).ok()?;
        let (kind, serial) = (half(bytes, 4)?, word(bytes, 8)?);
        let body = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, serial, body))
    })
}

/// Attributes behind the fixed part of a body.
fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        // Two bits of the kind say how to read it.
        let (kind, value) = (half(bytes, 2)? & 0x3FFF, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first one of a kind.
fn attribute(body: &[u8], fixed: usize, wanted: u16) -> Option<&[u8]> {
    attributes(body, fixed).find(|(kind, _)| *kind == wanted).map(|it| it.1)
}

fn route(body: &[u8], to: IpAddr) -> Option<Path> {
    if *body.get(7)? != UNICAST {
        return None;
    }
    let (mut ifindex, mut via, mut mtu) = (None, Some(to), None);
    for (kind, value) in attributes(body, 12) {
        match kind {
            4 => ifindex = word(value, 0),
            5 => via = address(value),
            // A next hop of the other family.
            18 => via = None,
            8 => {
                mtu = attribute(value, 0, 2).and_then(|mtu| word(mtu, 0));
            }
            _ => {}
        }
    }
    Some(Path { ifindex: ifindex?, via: via?, mtu: mtu.filter(|mtu| *mtu > 0) })
}

fn neighbour(body: &[u8]) -> Option<(u32, IpAddr, Option<[u8; 6]>)> {
    let (ifindex, state) = (word(body, 4)?, half(body, 8)?);
    let mac = attribute(body, 12, 2).and_then(|mac| mac.try_into().ok());
    Some((ifindex, address(attribute(body, 12, 1)?)?, mac.filter(|_| state & KNOWN != 0)))
}

fn link(body: &[u8]) -> Option<Link> {
    if half(body, 2)? != ETHERNET {
        return None;
    }
    let found = |wanted| attribute(body, 16, wanted);
    let below = found(5).and_then(|index| word(index, 0));
    let elsewhere = found(37).is_some();
    let vlan = found(18).and_then(vlan).zip(below).map(|(number, below)| (below, number));
    let kind = found(18).and_then(|info| attribute(info, 0, 1));
    let is_cable = kind.is_some_and(|kind| kind.starts_with(b"veth\0"));
    let (mac, mtu) = (found(1)?.try_into().ok()?, word(found(4)?, 0)?);
    let link = Link { mac, mtu, vlan, is_cable };
    // What lies below another machine's interface is not ours.
    (vlan.is_none() || !elsewhere).then_some(link)
}

/// The number of a VLAN (802.1Q), if an interface is one.
fn vlan(kind_and_data: &[u8]) -> Option<u16> {
    let data = attribute(kind_and_data, 0, 2)?;
    let is_vlan = attribute(kind_and_data, 0, 1)?.starts_with(b"vlan\0");
    let tagged = attribute(data, 0, 5) == Some(&[0x81, 0]);
    half(attribute(data, 0, 1)?, 0).filter(|_| is_vlan && tagged)
}

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_as_the_kernel_does() {
        let bytes = request(GET_ROUTE, 7, &[2, 32, 0, 0], &[(1, &[10, 0, 0, 1]), (9, &[5])]);
        let all: Vec<_> = messages(&bytes).collect();
        let [(kind, serial, body)] = all[..] else { panic!("{all:?}") };
        assert_eq!((kind, serial, bytes.len() % 4), (GET_ROUTE, 7, 0));
        let attributes: Vec<_> = attributes(body, 4).collect();
        assert_eq!(attributes, [(1, &[10, 0, 0, 1][..]), (9, &[5])]);
    }

    #[test]
    fn what_is_cut_short_says_nothing() {
        let bytes =
            request(NEW_NEIGHBOUR, 1, &[2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0], &[(1, &[9; 4])]);
        let whole = messages(&bytes).next().and_then(|(_, _, body)| neighbour(body));
        assert_eq!(whole, Some((u32::from_ne_bytes([1, 0, 0, 0]), [9; 4].into(), None)));
        for length in 0..bytes.len() {
            assert_eq!(messages(&bytes[..length]).count(), 0, "{length}");
        }
        for length in 0..20 {
            assert_eq!(neighbour(&bytes[16..][..length.min(19)]), None, "{length}");
        }
    }

    #[test]
    fn the_loopback_interface_leads_nowhere() {
        let mut netlink = Netlink::open().unwrap();
        let here = "127.0.0.1".parse().unwrap();
        assert_eq!(netlink.path(here, here).unwrap(), None, "a local route is none");
        assert_eq!(netlink.link(1).unwrap(), None, "no Ethernet");
        assert_eq!(netlink.neighbour(1, here).unwrap(), None);
    }
}
