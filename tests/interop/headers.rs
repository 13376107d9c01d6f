//! What stands in the headers below the payload, read from the wire at both ends; and what the
//! network says of datagrams it could not deliver.
//!
//! ```text
//!   client ── internal ── relay ── external ── peer ── narrow ── far
//!                                  10.25.2.2   10.25.3.1     10.25.3.2
//!                                  fd25:2::2   fd25:3::1     fd25:3::2
//! ```
//!
//! The peer's machine routes to one more, over a link of 1,300 bytes.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use client::{AllocateOptions, Event, Family, TurnClient};
use rig::{Arrival, Draft, kind};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::edge::{Home, RelayFile, connect, mint, start_relay};
use crate::netns::{Namespace, cable};
use crate::rings::ringing;
use crate::site::{INTERNAL, INTERNAL6, PEER, PEER6, Site};

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(5);
/// The host behind the narrow link.
const FAR: &str = "10.25.3.2";
/// The same, IPv6.
const FAR6: &str = "fd25:3::2";
/// The MTU of that link.
const NARROW: u32 = 1_300;

/// What a network header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    class: u8,
    hops: u8,
    /// IPv4 only; IPv6 says no.
    dont_fragment: bool,
    /// Bytes behind the shortest possible header that are no UDP: IPv4 options.
    options: usize,
    /// IPv6 only.
    flow: u32,
}

/// Sees every packet of a machine, headers included.
struct Tap(Socket);

impl Tap {
    fn on(machine: &Namespace) -> Self {
        /// `ETH_P_ALL`.
        const EVERYTHING: u16 = 3;
        let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
        let socket = machine
            .enter(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)))
            .expect("a packet socket");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        Self(socket)
    }

    /// The header of the next UDP packet that ends with these bytes, but for padding.
    fn find(&self, ending: &[u8]) -> Header {
        let mut buffer = vec![0; 65_536];
        loop {
            let len = (&self.0).read(&mut buffer).expect("a packet on the wire");
            let packet = &buffer[..len];
            let found = packet.windows(ending.len().max(1)).any(|bytes| bytes == ending);
            if let Some(header) = Header::read(packet).filter(|_| found) {
                return header;
            }
        }
    }
}

impl Header {
    /// Of a UDP packet.
    fn read(packet: &[u8]) -> Option<Self> {
        match packet {
            [first, class, _, _, _, _, flags, _, hops, 17, ..] if first >> 4 == 4 => Some(Self {
                class: *class,
                hops: *hops,
                dont_fragment: flags & 0x40 != 0,
                options: usize::from(first & 15) * 4 - 20,
                flow: 0,
            }),
            [a, b, c, d, _, _, 17, hops, ..] if a >> 4 == 6 => {
                let word = u32::from_be_bytes([*a, *b, *c, *d]);
                Some(Self {
                    class: word.to_be_bytes()[1] >> 4 | word.to_be_bytes()[0] << 4,
                    hops: *hops,
                    dont_fragment: false,
                    options: 0,
                    flow: word & 0xF_FFFF,
                })
            }
            _ => None,
        }
    }
}

/// Gives everything a socket sends this class and this many hops.
fn mark(socket: &UdpSocket, class: u8, hops: u8) {
    let six = socket.local_addr().expect("it is bound").is_ipv6();
    let socket = SockRef::from(socket);
    let (class, hops) = (u32::from(class), u32::from(hops));
    let marked = if six {
        socket.set_tclass_v6(class).and_then(|()| socket.set_unicast_hops_v6(hops))
    } else {
        socket.set_tos_v4(class).and_then(|()| socket.set_ttl_v4(hops))
    };
    marked.expect("a socket that can be marked");
}

/// What is on the wire does not depend on what brings it there: sockets, or rings.
fn by_each_engine(prove: fn(&RelayFile)) {
    prove(&RelayFile::default());
    prove(&ringing(RelayFile::default(), 0));
}

fn host(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An allocation of the family of this peer.
fn allocate(client: &mut TurnClient, peer: IpAddr) -> SocketAddr {
    let family = if peer.is_ipv6() { Family::V6 } else { Family::V4 };
    let wish = AllocateOptions { family: Some(family), ..AllocateOptions::default() };
    client.allocate(&wish).expect("an allocation").relayed
}

/// A Send indication with DONT-FRAGMENT.
fn send_whole(client: &mut TurnClient, peer: SocketAddr, payload: &[u8]) {
    let draft = Draft::send(peer, payload).raw(kind::DONT_FRAGMENT, b"");
    client.send_raw(&draft.encode()).expect("it is sent");
}

#[test]
fn iphdr_008_class_and_hops_are_carried_on_the_wire_in_every_pairing() {
    by_each_engine(carry_class_and_hops);
}

fn carry_class_and_hops(file: &RelayFile) {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, file);
    let credential = mint(&home.path("pool.pem"), "alice");
    for (server, at) in [(INTERNAL, PEER), (INTERNAL6, PEER6), (INTERNAL, PEER6), (INTERNAL6, PEER)]
    {
        let case = format!("{server} to {at}");
        let mut client = site.client.enter(|| connect(server, &credential));
        let relayed = allocate(&mut client, host(at));
        let peer = site.peer.enter(|| UdpSocket::bind((host(at), 0))).expect("a port");
        let address = peer.local_addr().expect("it is bound");
        let channel = client.bind_channel(address).expect("a channel");
        let (at_peer, at_client) = (Tap::on(&site.peer), Tap::on(&site.client));
        // Best effort; voice; the same with ECT(0), with CE; class selector 1 with ECT(1).
        for (class, hops) in [(0, 64), (0xB8, 40), (0xBA, 40), (0xBB, 9), (0x21, 255)] {
            let expected =
                Header { class, hops: hops - 1, dont_fragment: false, options: 0, flow: 0 };
            mark(client.socket().expect("it is UDP"), class, hops);
            mark(&peer, class, hops);
            let payload = format!("up {class} {hops}");
            client.send_channel(channel, payload.as_bytes()).expect("it is sent");
            let seen = at_peer.find(payload.as_bytes());
            assert_eq!(Header { flow: 0, ..seen }, expected, "{case}, up");
            let payload = format!("down {class} {hops}");
            peer.send_to(payload.as_bytes(), relayed).expect("it is sent");
            let from_peer = at_peer.find(payload.as_bytes());
            let seen = at_client.find(payload.as_bytes());
            assert_eq!(Header { flow: 0, ..seen }, expected, "{case}, down");
            let carried = from_peer.flow != 0 && from_peer.flow == seen.flow;
            assert!(!carried, "{case}: the flow label was carried on");
        }
        client.release().expect("the allocation ends");
    }
}

#[test]
fn iphdr_003_df_on_the_wire_follows_the_attribute() {
    by_each_engine(let_df_follow_the_attribute);
}

fn let_df_follow_the_attribute(file: &RelayFile) {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, file);
    let credential = mint(&home.path("pool.pem"), "alice");
    let mut client = site.client.enter(|| connect(INTERNAL, &credential));
    let wish = AllocateOptions { dont_fragment: true, ..AllocateOptions::default() };
    let relayed = client.allocate(&wish).expect("DONT-FRAGMENT is promised").relayed;
    let peer = site.peer.enter(|| UdpSocket::bind((host(PEER), 0))).expect("a port");
    let address = peer.local_addr().expect("it is bound");
    let channel = client.bind_channel(address).expect("a channel");
    let (at_peer, at_client) = (Tap::on(&site.peer), Tap::on(&site.client));
    // Sockets of the test set DF, as Linux does by default: it must not be carried on.
    for round in 0..3 {
        let payload = format!("channel {round}");
        client.send_channel(channel, payload.as_bytes()).expect("it is sent");
        assert!(!at_peer.find(payload.as_bytes()).dont_fragment, "{payload}");
        let payload = format!("whole {round}");
        send_whole(&mut client, address, payload.as_bytes());
        assert!(at_peer.find(payload.as_bytes()).dont_fragment, "{payload}");
        let payload = format!("indication {round}");
        client.send_indication(address, payload.as_bytes()).expect("it is sent");
        assert!(!at_peer.find(payload.as_bytes()).dont_fragment, "{payload}");
        let payload = format!("data {round}");
        peer.send_to(payload.as_bytes(), relayed).expect("it is sent");
        assert!(at_peer.find(payload.as_bytes()).dont_fragment, "{payload}: of the test");
        assert!(!at_client.find(payload.as_bytes()).dont_fragment, "{payload}");
    }
}

/// An IPv4 packet with a UDP datagram and with options: three that do nothing, and the end.
fn packet_with_options(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else {
        panic!("options are of IPv4")
    };
    let datagram = u16::try_from(8 + payload.len()).expect("a short one");
    // The kernel fills in length, identification and checksum; a UDP checksum of 0 is none.
    let mut packet = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([1, 1, 1, 0]);
    for word in [from.port(), to.port(), datagram, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

#[test]
fn iphdr_004_options_are_not_carried_on() {
    by_each_engine(carry_no_options);
}

fn carry_no_options(file: &RelayFile) {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, file);
    let credential = mint(&home.path("pool.pem"), "alice");
    let mut client = site.client.enter(|| connect(INTERNAL, &credential));
    let relayed = allocate(&mut client, host(PEER));
    let peer = site.peer.enter(|| UdpSocket::bind((host(PEER), 0))).expect("a port");
    let address = peer.local_addr().expect("it is bound");
    client.permit(&[address.ip()]).expect("a permission");
    let (at_peer, at_client) = (Tap::on(&site.peer), Tap::on(&site.client));
    let raw = |machine: &Namespace, from, to: SocketAddr, payload: &[u8]| {
        let socket = machine
            .enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)))
            .expect("a raw socket");
        socket.set_header_included_v4(true).expect("headers of our own");
        let packet = packet_with_options(from, to, payload);
        socket.send_to(&packet, &to.into()).expect("it is sent");
    };

    let from = client.local_addr().expect("it is bound");
    let to = client.server_addr().expect("it is connected");
    let indication = Draft::send(address, b"with options up").encode();
    raw(&site.client, from, to, &indication);
    assert_eq!(at_client.find(b"with options up").options, 4, "of the test");
    assert_eq!(at_peer.find(b"with options up").options, 0);

    raw(&site.peer, address, relayed, b"with options down");
    assert_eq!(at_peer.find(b"with options down").options, 4, "of the test");
    assert_eq!(at_client.find(b"with options down").options, 0);
}

/// The site with one more machine behind the peer's, and a relay that may reach it.
fn far_away(file: RelayFile) -> (Site, Namespace, RelayFile) {
    let site = Site::new();
    let far = Namespace::new("far");
    cable((&site.peer, "narrow"), (&far, "peer"));
    site.peer.address("narrow", &["10.25.3.1/24", "fd25:3::1/64"]);
    far.address("peer", &["10.25.3.2/24", "fd25:3::2/64"]);
    site.peer.ip(&format!("link set narrow mtu {NARROW}"));
    far.ip(&format!("link set peer mtu {NARROW}"));
    site.peer.sysctl("net.ipv4.ip_forward", "1");
    site.peer.sysctl("net.ipv6.conf.all.forwarding", "1");
    site.relay.ip("route add 10.25.3.0/24 via 10.25.2.2");
    site.relay.ip("route add fd25:3::/64 via fd25:2::2");
    far.ip("route add default via 10.25.3.1");
    far.ip("route add default via fd25:3::1");
    let allow = r#""10.25.2.0/24", "10.25.3.0/24", "fd25:2::/64", "fd25:3::/64""#;
    (site, far, RelayFile { allow, ..file })
}

/// The report that must come: whom it is about and what it says.
fn report(client: &mut TurnClient) -> (SocketAddr, [u8; 8]) {
    let Some(Event::Other(bytes)) = client.recv(SOON).expect("the socket works") else {
        panic!("a report must come")
    };
    match Arrival::read(&bytes) {
        Arrival::Icmp { peer, value } => (peer, value),
        other => panic!("a report, not {other:?}"),
    }
}

#[test]
fn icmp_004_closed_ports_narrow_links_and_short_lives_are_told_to_the_client() {
    by_each_engine(tell_what_was_not_delivered);
}

fn tell_what_was_not_delivered(file: &RelayFile) {
    let (site, far, file) = far_away(file.clone());
    let file = &file;
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, file);
    let credential = mint(&home.path("pool.pem"), "alice");
    let [_, _, m0, m1] = NARROW.to_be_bytes();
    for (server, at, closed, narrow, expired) in [
        (INTERNAL, FAR, [3, 3], [0, 0, 3, 4, 0, 0, m0, m1], [11, 0]),
        (INTERNAL6, FAR6, [1, 4], [0, 0, 2, 0, 0, 0, m0, m1], [3, 0]),
    ] {
        let mut client = site.client.enter(|| connect(server, &credential));
        let relayed = allocate(&mut client, host(at));
        client.permit(&[host(at)]).expect("a permission");
        let heard = far.enter(|| UdpSocket::bind((host(at), 0))).expect("a port");
        heard.set_read_timeout(Some(SOON)).expect("a timeout");
        let open = heard.local_addr().expect("it is bound");
        let nobody = SocketAddr::new(host(at), 9);

        client.send_indication(nobody, b"knock").expect("it is sent");
        let [number, code] = closed;
        assert_eq!(report(&mut client), (nobody, [0, 0, number, code, 0, 0, 0, 0]), "{at}");

        // Too large for the last link, and nobody may cut it: DF, or IPv6.
        let large = vec![7; 1_400];
        if open.is_ipv4() {
            send_whole(&mut client, open, &large);
        } else {
            client.send_indication(open, &large).expect("it is sent");
        }
        assert_eq!(report(&mut client), (open, narrow), "{at}");

        // One hop for the relay, none left for the router.
        mark(client.socket().expect("it is UDP"), 0, 2);
        client.send_indication(open, b"short").expect("it is sent");
        let [number, code] = expired;
        assert_eq!(report(&mut client), (open, [0, 0, number, code, 0, 0, 0, 0]), "{at}");
        mark(client.socket().expect("it is UDP"), 0, 64);

        // Nothing of that ended anything: the way is open in both directions.
        client.send_indication(open, b"hello").expect("it is sent");
        let mut buffer = [0; 2_000];
        let (len, from) = heard.recv_from(&mut buffer).expect("it arrives");
        assert_eq!((from, &buffer[..len]), (relayed, &b"hello"[..]), "{at}");
        heard.send_to(b"and back", relayed).expect("it is sent");
        let back = client.recv(SOON).expect("the socket works");
        let payload = b"and back".to_vec();
        assert_eq!(back, Some(Event::Data { peer: open, channel: None, payload }), "{at}");
        // Without DF the router cuts it; over IPv6 the relay does, now that it knows.
        client.send_indication(open, &large).expect("it is sent");
        let (len, _) = heard.recv_from(&mut buffer).expect("it arrives in pieces");
        assert!(buffer[..len] == large, "{at}");
        client.release().expect("the allocation ends");
    }
}

#[test]
fn icmp_004_a_narrow_link_of_the_relay_itself_is_told_too() {
    by_each_engine(tell_of_a_narrow_link);
}

fn tell_of_a_narrow_link(file: &RelayFile) {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, file);
    let credential = mint(&home.path("pool.pem"), "alice");
    site.relay.ip(&format!("link set external mtu {NARROW}"));
    let mut client = site.client.enter(|| connect(INTERNAL, &credential));
    allocate(&mut client, host(PEER));
    let peer = site.peer.enter(|| UdpSocket::bind((host(PEER), 0))).expect("a port");
    peer.set_read_timeout(Some(SOON)).expect("a timeout");
    let at = peer.local_addr().expect("it is bound");
    client.permit(&[at.ip()]).expect("a permission");
    send_whole(&mut client, at, &[7; 1_400]);
    let (about, value) = report(&mut client);
    let [_, _, m0, m1] = NARROW.to_be_bytes();
    assert_eq!((about.ip(), value), (at.ip(), [0, 0, 3, 4, 0, 0, m0, m1]));
    assert_eq!(client.recv(Duration::from_millis(200)).expect("the socket works"), None, "once");
    let small = [8; 1_200];
    send_whole(&mut client, at, &small);
    let mut buffer = [0; 2_000];
    let len = peer.recv(&mut buffer).expect("what fits arrives");
    assert!(buffer[..len] == small);
}
