//! Messages and datagrams as no client of good manners writes them.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::target::SOON;
use crate::netns::Namespace;
use rig::clock;

pub(super) const BINDING: u16 = 0x0001;
pub(super) const ALLOCATE: u16 = 0x0003;
pub(super) const REFRESH: u16 = 0x0004;
pub(super) const CREATE_PERMISSION: u16 = 0x0008;
pub(super) const CHANNEL_BIND: u16 = 0x0009;
pub(super) const CONNECT: u16 = 0x000A;
pub(super) const CONNECTION_BIND: u16 = 0x000B;
/// What is added to a method for another class.
pub(super) const INDICATION: u16 = 0x0010;
pub(super) const SUCCESS: u16 = 0x0100;
pub(super) const ERROR: u16 = 0x0110;

pub(super) const RESPONSE_ADDRESS: u16 = 0x0002;
pub(super) const CHANGE_REQUEST: u16 = 0x0003;
pub(super) const USERNAME: u16 = 0x0006;
pub(super) const INTEGRITY: u16 = 0x0008;
pub(super) const LIFETIME: u16 = 0x000D;
pub(super) const PEER: u16 = 0x0012;
pub(super) const REALM: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const TRANSPORT: u16 = 0x0019;
pub(super) const RESPONSE_PORT: u16 = 0x0027;
pub(super) const CONNECTION_ID: u16 = 0x002A;

pub(super) const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// REQUESTED-TRANSPORT: UDP.
pub(super) const UDP: [u8; 4] = [17, 0, 0, 0];
/// REQUESTED-TRANSPORT: TCP.
pub(super) const TCP: [u8; 4] = [6, 0, 0, 0];

/// A message with a transaction id of its own.
pub(super) fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let head = [&kind.to_be_bytes()[..], &[0; 2], &COOKIE, b"abuse-st", &count].concat();
    attributes.iter().fold(head, |message, (kind, value)| appended(&message, *kind, value))
}

/// A message with one more attribute at its end, whatever stands there.
pub(super) fn appended(message: &[u8], kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("an attribute");
    let padding = [0; 3].get(..value.len().next_multiple_of(4) - value.len()).unwrap_or_default();
    let mut longer = [message, &kind.to_be_bytes(), &len.to_be_bytes(), value, padding].concat();
    let body = u16::try_from(longer.len() - 20).expect("a message");
    longer[2..4].copy_from_slice(&body.to_be_bytes());
    longer
}

/// The type of a message.
pub(super) fn kind(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|kind| u16::from_be_bytes(*kind))
}

/// Where the value of each attribute of a message lies, with its type.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, std::ops::Range<usize>)> {
    let mut at = 20;
    std::iter::from_fn(move || {
        let [k0, k1, l0, l1] = *bytes.get(at..)?.first_chunk()?;
        let value = at + 4..at + 4 + usize::from(u16::from_be_bytes([l0, l1]));
        at = value.end.next_multiple_of(4);
        Some((u16::from_be_bytes([k0, k1]), value))
    })
}

/// The value of the first attribute of a type.
pub(super) fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let (_, value) = attributes(bytes).find(|(found, _)| *found == kind)?;
    bytes.get(value)
}

/// A message without what differs from one to the next: its transaction id and its nonce.
pub(super) fn timeless(bytes: &[u8]) -> Vec<u8> {
    let mut message = bytes.to_vec();
    let nonces = attributes(bytes).filter(|(kind, _)| *kind == NONCE).map(|(_, value)| value);
    for blank in nonces.chain(std::iter::once(8..20)) {
        if let Some(blank) = message.get_mut(blank) {
            blank.fill(0);
        }
    }
    message
}

/// An address as XOR-PEER-ADDRESS writes it.
pub(super) fn xor_address(address: SocketAddrV4) -> [u8; 8] {
    let [p0, p1] = (address.port() ^ 0x2112).to_be_bytes();
    let [a, b, c, d] = address.ip().octets();
    let [m0, m1, m2, m3] = COOKIE;
    [0, 1, p0, p1, a ^ m0, b ^ m1, c ^ m2, d ^ m3]
}

/// The code of an error response.
pub(super) fn code(bytes: &[u8]) -> Option<u16> {
    let message = client::wire::read(bytes).ok()?;
    client::wire::error_code(&message).map(|(code, _)| code)
}

/// Asks, and gives what is answered at once.
pub(super) fn ask(socket: &UdpSocket, request: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    socket.send(request).expect("it is sent");
    let len = socket.recv(&mut buffer).ok()?;
    Some(buffer[..len].to_vec())
}

/// What waits at a socket, or comes soon, one datagram after the other.
pub(super) fn answers(socket: &UdpSocket) -> impl Iterator<Item = Vec<u8>> {
    socket.set_read_timeout(Some(SOON / 4)).expect("a timeout");
    let mut buffer = [0; 2048];
    std::iter::from_fn(move || socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec()))
}

/// How many datagrams that are, and their bytes in all.
pub(super) fn drain(socket: &UdpSocket) -> (usize, usize) {
    answers(socket).fold((0, 0), |(count, bytes), answer| (count + 1, bytes + answer.len()))
}

/// `IPPROTO_RAW`: packets come with their own IP header.
const WITH_HEADER: i32 = 255;

/// A machine's way to send datagrams that claim to come from somewhere else.
pub(super) struct Forger(Socket);

impl Forger {
    pub(super) fn of(machine: &Namespace) -> Self {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(WITH_HEADER)))?;
            socket.set_send_buffer_size(4 << 20)?;
            io::Result::Ok(socket)
        };
        Self(machine.enter(open).expect("a raw socket needs root"))
    }

    /// Sends one.
    pub(super) fn send(&self, from: SocketAddrV4, to: SocketAddr, payload: &[u8]) {
        // A full queue of the attacker's own is the attacker's loss.
        drop(self.0.send_to(&packet(from, to, payload), &to.into()));
    }

    /// Sends these packets over and over, as fast as one core can, until a moment; says how many.
    pub(super) fn pour(&self, packets: &[Vec<u8>], to: SocketAddr, until: Instant) -> usize {
        const AT_ONCE: usize = 64;
        let addresses = [Some(SockaddrStorage::from(to)); AT_ONCE];
        let slices: Vec<_> = packets.iter().map(|packet| [IoSlice::new(packet)]).collect();
        let mut headers = MultiHeaders::preallocate(AT_ONCE, None);
        let mut sent = 0;
        for some in slices.chunks_exact(AT_ONCE).cycle() {
            if clock::now() >= until {
                break;
            }
            let (socket, flags) = (self.0.as_raw_fd(), MsgFlags::empty());
            let results = sendmmsg(socket, &mut headers, some, addresses, [], flags);
            sent += results.map_or(0, Iterator::count);
        }
        sent
    }
}

/// A datagram with its headers; the kernel fills in the checksum of IP, UDP's may be left out.
pub(super) fn packet(from: SocketAddrV4, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!("only IPv4 is forged") };
    let udp_len = u16::try_from(8 + payload.len()).expect("a datagram");
    let total = (20 + udp_len).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    for field in [from.port(), to.port(), udp_len, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}
