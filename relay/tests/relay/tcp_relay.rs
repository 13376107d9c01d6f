//! TCP relays over real sockets: who connects to whom, and what a pipe carries.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use proto::addr::ConnectionId as Id;
use proto::stun::attribute::{
    ConnectionId, Lifetime, PROTOCOL_TCP, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use proto::stun::{AttributeType, Class, Message, Method, Writer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::raw::{Speaker, code, value};
use crate::site::{PEER, SOON, pattern};
use crate::tls::Secure;

/// How a client reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Tls,
}

/// A client's connection, in the clear or not.
pub(crate) enum Line {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Line {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(line) => line.read(room),
            Self::Tls(line) => line.read(room),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(line) => line.write(bytes),
            Self::Tls(line) => line.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(line) => line.flush(),
            Self::Tls(line) => line.flush(),
        }
    }
}

impl Line {
    fn open(site: &Secure, over: Over) -> Self {
        let socket = TcpStream::connect(site.server).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(2 * SOON)).unwrap();
        if over == Over::Tcp {
            return Self::Tcp(socket);
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(site.pem("turn.example.org")).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("turn.example.org").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        Self::Tls(Box::new(StreamOwned::new(session, socket)))
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(line) => line,
            Self::Tls(line) => &line.sock,
        }
    }

    /// Sends no more.
    fn finish(&mut self) {
        if let Self::Tls(line) = self {
            line.conn.send_close_notify();
            line.flush().unwrap();
        }
        self.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// The next STUN message.
    fn message(&mut self) -> Vec<u8> {
        let mut message = vec![0; 20];
        self.read_exact(&mut message).unwrap();
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        message.resize(20 + length, 0);
        self.read_exact(&mut message[20..]).unwrap();
        message
    }
}

/// A user with a TCP relay.
pub(crate) struct Caller<'s> {
    site: &'s Secure,
    over: Over,
    speaker: Speaker,
    control: Line,
    attempts: VecDeque<Vec<u8>>,
    relayed: SocketAddr,
}

impl<'s> Caller<'s> {
    fn new(site: &'s Secure, over: Over) -> Self {
        Self::of(site, "alice", over)
    }

    pub(crate) fn of(site: &'s Secure, user: &str, over: Over) -> Self {
        let control = Line::open(site, over);
        let relayed = site.server;
        let speaker = Speaker::new(user);
        let mut caller = Self { site, over, speaker, control, attempts: VecDeque::new(), relayed };
        let answer = caller.ask(Method::ALLOCATE, |writer| {
            writer.add(&RequestedTransport(PROTOCOL_TCP));
        });
        caller.relayed = Message::parse(&answer).unwrap().require::<XorRelayedAddress>().unwrap().0;
        caller
    }

    fn ask(&mut self, method: Method, fill: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
        let Self { speaker, control, attempts, .. } = self;
        let answer = speaker.ask(method, fill, |request| {
            control.write_all(request).unwrap();
            loop {
                let message = control.message();
                match Message::parse(&message).unwrap().class() {
                    Class::Indication => attempts.push_back(message),
                    _ => return message,
                }
            }
        });
        assert_eq!(code(&answer), 0, "refused");
        answer
    }

    fn permit(&mut self, peer: SocketAddr) {
        self.ask(Method::CREATE_PERMISSION, |writer| {
            writer.add(&XorPeerAddress(peer));
        });
    }

    /// Connects to a peer; returns the id, and the peer's end.
    fn connect(&mut self, peer: &TcpListener) -> (u32, TcpStream) {
        let at = peer.local_addr().unwrap();
        let answer = self.ask(Method::CONNECT, |writer| {
            writer.add(&XorPeerAddress(at));
        });
        let (stream, from) = peer.accept().unwrap();
        assert_eq!(from, self.relayed, "a call leaves from the relayed address");
        (id(&answer), stream)
    }

    /// The next peer that connected.
    fn attempt(&mut self) -> (SocketAddr, u32) {
        let attempt = self.attempts.pop_front().unwrap_or_else(|| self.control.message());
        let message = Message::parse(&attempt).unwrap();
        assert_eq!(message.method(), Method::CONNECTION_ATTEMPT);
        (message.require::<XorPeerAddress>().unwrap().0, id(&attempt))
    }

    /// Claims a connection over a new one, with payload right behind the request.
    fn claim(&mut self, connection: u32, early: &[u8]) -> Line {
        let mut line = Line::open(self.site, self.over);
        let bind = |writer: &mut Writer<'_>| {
            writer.add(&ConnectionId(connection));
        };
        // Its address is a new one, so the nonce of the control connection is not for it.
        line.write_all(&self.speaker.request(Method::CONNECTION_BIND, bind)).unwrap();
        let challenge = line.message();
        assert_eq!(code(&challenge), 438);
        self.speaker.learn(&challenge);
        let request = self.speaker.request(Method::CONNECTION_BIND, bind);
        line.write_all(&[&request, early].concat()).unwrap();
        let answer = line.message();
        assert_eq!(code(&answer), 0, "the claim was refused");
        let message = Message::parse(&answer).unwrap();
        assert!(message.has(AttributeType::MESSAGE_INTEGRITY), "the answer is signed");
        line
    }

    /// A pipe through the relay: the client's end and the peer's.
    pub(crate) fn pipe(&mut self) -> (Line, TcpStream) {
        let peer = TcpListener::bind((PEER, 0)).unwrap();
        let (connection, far) = self.connect(&peer);
        far.set_read_timeout(Some(2 * SOON)).unwrap();
        (self.claim(connection, &[]), far)
    }
}

fn id(message: &[u8]) -> u32 {
    let bytes = if Message::parse(message).unwrap().class() == Class::Indication {
        Message::parse(message).unwrap().first(AttributeType::CONNECTION_ID).unwrap().to_vec()
    } else {
        value(message, AttributeType::CONNECTION_ID)
    };
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// A relay on TCP and TLS that relays TCP.
fn site(number: u16) -> Secure {
    Secure::open(number, "[features]\ntcp_relays = true\n")
}

/// Reads exactly these bytes.
#[track_caller]
fn expect(from: &mut impl Read, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    from.read_exact(&mut found).unwrap();
    assert!(found == expected, "{} bytes arrive as they were", expected.len());
}

/// Whether a stream ends within a while: in order, or by a reset.
fn ends(from: &mut impl Read) -> bool {
    let mut room = [0; 4_096];
    loop {
        match from.read(&mut room) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                );
            }
        }
    }
}

#[test]
fn tcpa_004_calls_leave_from_where_the_relay_listens() {
    let site = site(60);
    for over in [Over::Tcp, Over::Tls] {
        let mut alice = Caller::new(&site, over);
        let peer = TcpListener::bind((PEER, 0)).unwrap();
        let (called, mut far) = alice.connect(&peer);
        alice.permit(peer.local_addr().unwrap());
        let mut stranger = socket_at_peer(alice.relayed);
        let (from, calling) = alice.attempt();
        assert_eq!(from, stranger.local_addr().unwrap());
        let (mut one, mut two) = (alice.claim(called, b"one"), alice.claim(calling, b"two"));
        expect(&mut far, b"one");
        expect(&mut stranger, b"two");
        far.write_all(b"eno").unwrap();
        stranger.write_all(b"owt").unwrap();
        expect(&mut one, b"eno");
        expect(&mut two, b"owt");
    }
    site.close();
}

/// Connects to a relayed address from the peers' host.
fn socket_at_peer(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(PEER, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(2 * SOON)).unwrap();
    socket.into()
}

#[test]
fn tcpa_010_a_peer_without_permission_is_accepted_and_closed() {
    let site = site(61);
    let alice = Caller::new(&site, Over::Tcp);
    assert!(ends(&mut socket_at_peer(alice.relayed)));
    assert_eq!(site.metric("av_edge_relay_dropped_total", &["no_permission"]), 1);
    site.close();
}

#[test]
fn tcpa_013_a_pipe_carries_bytes_and_nothing_else() {
    let site = site(62);
    for over in [Over::Tcp, Over::Tls] {
        let mut alice = Caller::new(&site, over);
        // Connections are taken by any worker, and come together at one.
        for round in 0..8 {
            let peer = TcpListener::bind((PEER, 0)).unwrap();
            let (connection, mut far) = alice.connect(&peer);
            far.set_read_timeout(Some(2 * SOON)).unwrap();
            assert!(Id(connection).worker(2) < 2);
            let before = pattern(round, 3_000);
            far.write_all(&before).unwrap();
            // It looks like STUN, ChannelData and half a message, and is none of them.
            let early = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[0x40, 0, 0, 9, 1]].concat();
            let mut near = alice.claim(connection, &early);
            expect(&mut near, &before);
            expect(&mut far, &early);
            for len in [1, 3, 70_000, 500_000] {
                let bytes = pattern(len, len);
                near.write_all(&bytes).unwrap();
                expect(&mut far, &bytes);
                far.write_all(&bytes).unwrap();
                expect(&mut near, &bytes);
            }
        }
        // The control connection is none the worse.
        alice.ask(Method::REFRESH, |writer| {
            writer.add(&Lifetime(600));
        });
    }
    let carried = site.metric("av_edge_relay_framed_bytes_total", &["framing=\"connection\""]);
    assert_eq!(carried, 16 * (3_000 + 13 + 2 * 570_004));
    site.close();
}

#[test]
fn media_011_framing_inside_a_data_connection_is_opaque() {
    let site = site(63);
    let mut alice = Caller::new(&site, Over::Tcp);
    let (mut near, mut far) = alice.pipe();
    // RFC 4571: a length of 16 bits before each packet, byte by byte.
    for packet in [&b"\x80\x60media"[..], &b""[..], &[0x40, 0, 0, 1]] {
        let framed = [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat();
        for byte in &framed {
            near.write_all(&[*byte]).unwrap();
        }
        expect(&mut far, &framed);
        far.write_all(&framed).unwrap();
        expect(&mut near, &framed);
    }
    site.close();
}

#[test]
fn tcpa_014_what_a_peer_sends_unasked_is_bounded_and_not_lost() {
    let site = site(64);
    let mut alice = Caller::new(&site, Over::Tcp);
    let peer = TcpListener::bind((PEER, 0)).unwrap();
    let (connection, mut far) = alice.connect(&peer);
    far.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = pattern(7, 64 * 1024);
    let mut sent = 0;
    let stopped = loop {
        match far.write(&chunk[sent % chunk.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(error) => break error.kind(),
        }
        assert!(sent < 100 << 20, "the relay takes whatever comes");
    };
    assert!(matches!(stopped, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    let mut near = alice.claim(connection, &[]);
    let expected: Vec<u8> = chunk.iter().copied().cycle().take(sent).collect();
    expect(&mut near, &expected);
    site.close();
}

#[test]
fn tcpa_014_a_client_that_does_not_read_stops_its_peer_and_nobody_else() {
    let site = site(65);
    let mut alice = Caller::new(&site, Over::Tcp);
    let (mut slow, mut far) = alice.pipe();
    far.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = pattern(9, 64 * 1024);
    let mut sent = 0;
    while let Ok(bytes) = far.write(&chunk[sent % chunk.len()..]) {
        sent += bytes;
        assert!(sent < 100 << 20, "the relay takes whatever comes");
    }
    let (mut near, mut other) = alice.pipe();
    other.write_all(b"by the way").unwrap();
    expect(&mut near, b"by the way");
    let expected: Vec<u8> = chunk.iter().copied().cycle().take(sent).collect();
    expect(&mut slow, &expected);
    site.close();
}

#[test]
fn tcpa_015_both_connections_of_a_pipe_close_together() {
    let site = site(66);
    for over in [Over::Tcp, Over::Tls] {
        let mut alice = Caller::new(&site, over);
        let (mut near, far) = alice.pipe();
        drop(far);
        assert!(ends(&mut near), "{over:?}: the peer closed");
        let (near, mut far) = alice.pipe();
        drop(near);
        assert!(ends(&mut far), "{over:?}: the client closed");
        let (mut near, far) = alice.pipe();
        socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        assert!(ends(&mut near), "{over:?}: the peer reset");
        let (near, mut far) = alice.pipe();
        socket2::SockRef::from(near.socket()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(near);
        assert!(ends(&mut far), "{over:?}: the client reset");
        let (mut near, mut far) = alice.pipe();
        alice.ask(Method::REFRESH, |writer| {
            writer.add(&Lifetime(0));
        });
        assert!(ends(&mut near) && ends(&mut far), "{over:?}: the allocation ended");
    }
    site.close();
}

#[test]
fn tcpa_015_the_end_of_the_control_connection_ends_its_pipes() {
    let site = site(67);
    let mut alice = Caller::new(&site, Over::Tcp);
    let (mut near, mut far) = alice.pipe();
    drop(alice);
    assert!(ends(&mut near) && ends(&mut far));
    site.close();
}

#[test]
fn tcpa_018_a_half_closed_pipe_delivers_everything_and_goes_on_the_other_way() {
    let site = site(68);
    for over in [Over::Tcp, Over::Tls] {
        let mut alice = Caller::new(&site, over);
        let (mut near, mut far) = alice.pipe();
        let bytes = pattern(1, 900_000);
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || {
                far.write_all(&bytes).unwrap();
                far.shutdown(Shutdown::Write).unwrap();
                far
            }
        });
        expect(&mut near, &bytes);
        assert!(ends(&mut near), "{over:?}");
        let mut far = writer.join().unwrap();
        near.write_all(b"not yet over").unwrap();
        expect(&mut far, b"not yet over");
        near.finish();
        assert!(ends(&mut far), "{over:?}");

        // The other way round.
        let (mut near, mut far) = alice.pipe();
        near.write_all(b"a question").unwrap();
        near.finish();
        expect(&mut far, b"a question");
        assert!(ends(&mut far), "{over:?}");
        far.write_all(&bytes).unwrap();
        drop(far);
        expect(&mut near, &bytes);
        assert!(ends(&mut near), "{over:?}");
    }
    site.close();
}

#[test]
fn tcpa_007_a_peer_that_refuses_is_told_at_once() {
    let site = site(69);
    let mut alice = Caller::new(&site, Over::Tcp);
    let closed = TcpListener::bind((PEER, 0)).unwrap().local_addr().unwrap();
    let Caller { speaker, control, .. } = &mut alice;
    let answer = speaker.ask(
        Method::CONNECT,
        |writer| {
            writer.add(&XorPeerAddress(closed));
        },
        |request| {
            control.write_all(request).unwrap();
            control.message()
        },
    );
    assert_eq!(code(&answer), 447);
    site.close();
}
