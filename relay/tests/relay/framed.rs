//! MS-TURN over TCP and real sockets: frames, pseudo-TLS, and peers whose streams travel in them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use pool_key::PrivateKey;
use proto::auth::ms_token::{MsCredential, TokenGrant, mint};
use proto::dialect::ms::{Kind, Message, Numbered, Transaction, Type, Writer};
use proto::framing::ms::{self as frames, HEADER_LEN};
use proto::stun::{MessageKey, PasswordAlgorithm};
use tempfile::NamedTempFile;

use crate::site::{PEER, SOON, Site, pattern, soon_to_expire};

/// The record that opens pseudo-TLS.
const DISGUISE: &[u8] = include_bytes!("../../../tests/fuzz/corpus/sniff/pseudo_tls");

/// More than the sockets and the relay hold between one end and the other.
const MUCH: usize = 12 << 20;

/// What the kernel keeps at each of our ends.
const LITTLE: usize = 64 << 10;

/// A relay that speaks the dialect, and the key of its pool.
pub(crate) struct Edge {
    pub(crate) site: Site,
    key: PrivateKey,
    _file: NamedTempFile,
}

impl Edge {
    /// The most that the limits of the dialect can be: who speaks it has some.
    fn open(number: u16) -> Self {
        Self::limited(number, 100_000_000)
    }

    pub(crate) fn limited(number: u16, kbit_per_s: u32) -> Self {
        let key = PrivateKey::generate();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(key.to_pem().as_bytes()).unwrap();
        let keys = format!(
            "pool.key = \"{}\"\nfeatures.microsoft = true\n\
             limits.microsoft_kbit_per_s_per_allocation = {kbit_per_s}\n\
             limits.microsoft_kbit_per_s_per_user = {kbit_per_s}",
            file.path().display()
        );
        Self { site: Site::open_with(number, 2, &keys), key, _file: file }
    }

    fn token(&self, identity: &str) -> MsCredential {
        let grant = TokenGrant { identity, expires: soon_to_expire(), side: None };
        mint(&self.key.pool_key(), &grant, 7).unwrap()
    }
}

/// A client with an allocation.
pub(crate) struct Client {
    pub(crate) line: TcpStream,
    token: MsCredential,
    key: MessageKey,
    numbered: Numbered,
    pub(crate) relayed: SocketAddr,
}

impl Client {
    fn open(edge: &Edge, disguised: bool) -> Self {
        Self::of(edge, "alice", disguised)
    }

    pub(crate) fn of(edge: &Edge, identity: &str, disguised: bool) -> Self {
        let line = dial(edge, disguised);
        let token = edge.token(identity);
        let (algorithm, password) = (PasswordAlgorithm::Md5, &token.password[..]);
        let key = MessageKey::long_term(algorithm, &token.username[..], "example.org", password);
        let numbered = Numbered { connection: [0; 20], number: 0 };
        let mut client = Self { line, token, key, numbered, relayed: edge.site.server };
        client.allocate();
        client
    }

    fn allocate(&mut self) {
        let mut buffer = [0; 600];
        let bare = Writer::new(&mut buffer, Kind::ALLOCATE, Transaction([1; 16])).finish();
        self.say(frames::Kind::Control, bare.unwrap());
        let challenge = self.message();
        let challenge = Message::parse(&challenge).unwrap();
        let nonce = challenge.first(Type::NONCE).unwrap();
        let numbered = self.numbered;
        let request = self.request(Kind::ALLOCATE, |writer| {
            writer.append(Type::REALM, b"example.org").append(Type::NONCE, nonce);
            if numbered.connection != [0; 20] {
                writer.numbered(numbered);
            }
        });
        self.say(frames::Kind::Control, &request);
        let answer = self.message();
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.kind(), Kind::ALLOCATE.success());
        self.relayed = answer.address(Type::MAPPED_ADDRESS).unwrap();
        self.numbered = answer.numbered().unwrap();
    }

    /// Comes back on another connection; the one before.
    fn come_back(&mut self, edge: &Edge, disguised: bool) -> TcpStream {
        let before = std::mem::replace(&mut self.line, dial(edge, disguised));
        self.allocate();
        before
    }

    fn request(&self, kind: Kind, fill: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        let mut writer = Writer::new(&mut buffer, kind, Transaction([2; 16]));
        writer.append(Type::USERNAME, &self.token.username);
        fill(&mut writer);
        writer.sign(&self.key);
        writer.finish().unwrap().to_vec()
    }

    /// A Send or Set Active Destination; the next number is its own.
    fn numbered(&mut self, kind: Kind, peer: SocketAddr, data: Option<&[u8]>) -> Vec<u8> {
        self.numbered.number += 1;
        let numbered = self.numbered;
        self.request(kind, |writer| {
            writer.numbered(numbered).address(Type::DESTINATION_ADDRESS, peer);
            if let Some(data) = data {
                writer.append(Type::DATA, data);
            }
        })
    }

    pub(crate) fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let request = self.numbered(Kind::SEND, peer, Some(data));
        self.say(frames::Kind::Control, &request);
    }

    pub(crate) fn aim(&mut self, peer: SocketAddr) {
        let request = self.numbered(Kind::SET_ACTIVE_DESTINATION, peer, None);
        self.say(frames::Kind::Control, &request);
        let answer = self.message();
        let kind = Message::parse(&answer).unwrap().kind();
        assert_eq!(kind, Kind::SET_ACTIVE_DESTINATION.success());
    }

    pub(crate) fn say(&mut self, kind: frames::Kind, content: &[u8]) {
        let header = frames::header(kind, content.len()).unwrap();
        self.line.write_all(&[&header, content].concat()).unwrap();
    }

    pub(crate) fn hear(&mut self) -> (frames::Kind, Vec<u8>) {
        let mut header = [0; HEADER_LEN];
        self.line.read_exact(&mut header).unwrap();
        let [kind, zero, l0, l1] = header;
        assert_eq!(zero, 0);
        let mut content = vec![0; usize::from(u16::from_be_bytes([l0, l1]))];
        self.line.read_exact(&mut content).unwrap();
        (frames::Kind::starting(kind).unwrap(), content)
    }

    fn message(&mut self) -> Vec<u8> {
        let (kind, content) = self.hear();
        assert_eq!(kind, frames::Kind::Control);
        content
    }

    /// So many bytes of a peer's stream that come in Data Indications.
    fn indicated(&mut self, peer: SocketAddr, len: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        while stream.len() < len {
            let indication = self.message();
            let indication = Message::parse(&indication).unwrap();
            assert_eq!(indication.kind(), Kind::DATA);
            assert_eq!(indication.address(Type::REMOTE_ADDRESS), Some(peer));
            stream.extend_from_slice(indication.first(Type::DATA).unwrap());
        }
        stream
    }

    /// So many bytes of the active destination's stream.
    fn bare(&mut self, len: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        while stream.len() < len {
            let (kind, content) = self.hear();
            assert_eq!(kind, frames::Kind::Data);
            stream.extend_from_slice(&content);
        }
        stream
    }
}

/// A host that listens.
pub(crate) fn host() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((PEER, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

pub(crate) fn accept(listener: &TcpListener, from: SocketAddr) -> TcpStream {
    let (stream, caller) = listener.accept().unwrap();
    assert_eq!(caller, from, "a call leaves from the relayed address");
    stream.set_read_timeout(Some(2 * SOON)).unwrap();
    stream
}

/// A connection that frames may be said on.
fn dial(edge: &Edge, disguised: bool) -> TcpStream {
    let mut line = TcpStream::connect(edge.site.server).unwrap();
    line.set_nodelay(true).unwrap();
    line.set_read_timeout(Some(2 * SOON)).unwrap();
    if disguised {
        line.write_all(DISGUISE).unwrap();
        let mut answer = [0; 83];
        assert_eq!(line.read(&mut answer).unwrap(), 83, "MST-21: all of it at once");
    }
    line
}

fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn mst_090_send_calls_a_peer_and_both_ways_its_stream_travels_in_messages_and_then_bare() {
    for (number, disguised) in [(81, false), (82, true)] {
        let edge = Edge::open(number);
        let mut client = Client::open(&edge, disguised);
        let (listener, peer) = host();
        // MST-89: with or without a length of its own, the relay adds nothing and takes nothing.
        client.send(peer, b"\0\x05hello");
        client.send(peer, b"\0\x05again");
        let mut far = accept(&listener, client.relayed);
        assert_eq!(read(&mut far, 14), b"\0\x05hello\0\x05again");
        far.write_all(b"\0\x02ok").unwrap();
        assert_eq!(client.indicated(peer, 4), b"\0\x02ok");
        client.aim(peer);
        client.say(frames::Kind::Data, b"\x02\0bare");
        assert_eq!(read(&mut far, 6), b"\x02\0bare");
        far.write_all(b"back").unwrap();
        assert_eq!(client.bare(4), b"back");
        // What still comes in a Send goes the same way.
        client.send(peer, b"more");
        assert_eq!(read(&mut far, 4), b"more");
        // MST-80: with its connection the client gives up everything.
        drop(client);
        assert_eq!(far.read(&mut [0; 1]).unwrap_or(0), 0, "the peer hears of the end");
        let alive = || edge.site.metric("av_edge_relay_allocations", &[]);
        assert!((0..400).any(|_| alive() == 0 || pause()), "the allocation ends");
        edge.site.close();
    }
}

#[test]
fn mst_090_peers_may_call_if_they_are_permitted() {
    let edge = Edge::open(83);
    let mut client = Client::open(&edge, false);
    let stranger = TcpStream::connect(client.relayed);
    let refused = stranger.and_then(|mut stranger| {
        stranger.set_read_timeout(Some(2 * SOON))?;
        stranger.read(&mut [0; 1])
    });
    assert!(!matches!(refused, Ok(1..)), "a peer without permission is not heard: {refused:?}");
    // A Send permits the host, even where nobody listens.
    let (listener, closed) = host();
    drop(listener);
    client.send(closed, b"open up");
    client.aim(closed);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(PEER, 0).into()).unwrap();
    socket.connect(&client.relayed.into()).unwrap();
    let mut far = TcpStream::from(socket);
    far.set_read_timeout(Some(2 * SOON)).unwrap();
    let peer = far.local_addr().unwrap();
    far.write_all(b"it is me").unwrap();
    assert_eq!(client.indicated(peer, 8), b"it is me");
    client.send(peer, b"on the connection that is there");
    assert_eq!(read(&mut far, 31), b"on the connection that is there");
    edge.site.close();
}

#[test]
fn mst_090_two_allocations_of_one_relay_call_each_other() {
    let edge = Edge::open(84);
    let (mut one, mut other) = (Client::open(&edge, false), Client::open(&edge, true));
    let (at_one, at_other) = (one.relayed, other.relayed);
    // The other has permitted nobody yet: its relayed address refuses, and is called again.
    one.send(at_other, b"too early");
    one.aim(at_other);
    let refused = || edge.site.metric("av_edge_relay_dropped_total", &["no_permission"]);
    assert!((0..400).any(|_| refused() == 1 || pause()), "the call is refused");
    other.send(at_one, b"hello");
    assert_eq!(one.bare(5), b"hello");
    one.say(frames::Kind::Data, b"hello yourself");
    assert_eq!(other.indicated(at_one, 14), b"hello yourself");
    edge.site.close();
}

#[test]
fn mst_089_no_byte_is_lost_when_an_end_stands_still() {
    let edge = Edge::open(85);
    let mut client = Client::open(&edge, false);
    let (listener, peer) = host();
    client.send(peer, b"!");
    let mut far = accept(&listener, client.relayed);
    assert_eq!(read(&mut far, 1), b"!");
    client.aim(peer);
    for end in [&client.line, &far] {
        let end = socket2::SockRef::from(end);
        end.set_send_buffer_size(LITTLE).unwrap();
        end.set_recv_buffer_size(LITTLE).unwrap();
    }
    let stream = pattern(3, MUCH);
    // The peer reads only when the client can write no more; then all of it has come.
    client.line.set_nonblocking(true).unwrap();
    let framed: Vec<u8> = stream
        .chunks(16_000)
        .flat_map(|part| [&frames::header(frames::Kind::Data, part.len()).unwrap(), part].concat())
        .collect();
    let mut sent = 0;
    stand_still(|| write_some(&mut client.line, &framed, &mut sent));
    assert!(sent < framed.len(), "the client was not held back");
    let mut got = Vec::new();
    far.set_nonblocking(true).unwrap();
    while got.len() < MUCH {
        write_some(&mut client.line, &framed, &mut sent);
        read_some(&mut far, &mut got);
    }
    assert!(got == stream, "client to peer");
    // And the other way round.
    let mut sent = 0;
    stand_still(|| write_some(&mut far, &stream, &mut sent));
    assert!(sent < stream.len(), "the peer was not held back");
    let (mut wire, mut got) = (Vec::new(), Vec::new());
    while got.len() < MUCH {
        write_some(&mut far, &stream, &mut sent);
        read_some(&mut client.line, &mut wire);
        while let frames::Cut::Complete { kind, wire: len } = frames::cut(&wire, frames::LONGEST) {
            assert_eq!(kind, frames::Kind::Data);
            got.extend(wire.drain(..len).skip(HEADER_LEN));
        }
    }
    assert!(got == stream, "peer to client");
    assert_eq!(edge.site.metric("av_edge_relay_stream_dropped_packets_total", &[]), 0);
    edge.site.close();
}

/// Repeats until nothing has moved for a while.
fn stand_still(mut step: impl FnMut() -> usize) {
    let mut idle = 0;
    while idle < 50 {
        idle = if step() > 0 { 0 } else { idle + 1 };
        if idle > 0 {
            pause();
        }
    }
}

/// Lets the relay work; false.
fn pause() -> bool {
    // A read that times out: the one clock of these tests is the kernel's.
    let (listener, _) = host();
    let quiet = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    quiet.set_read_timeout(Some(SOON / 200)).unwrap();
    (&quiet).read(&mut [0; 1]).is_ok()
}

fn write_some(to: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> usize {
    match to.write(&bytes[*sent..]) {
        Ok(written) => {
            *sent += written;
            written
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

fn read_some(from: &mut TcpStream, got: &mut Vec<u8>) {
    let mut room = [0; 16_384];
    match from.read(&mut room) {
        Ok(len) => got.extend_from_slice(&room[..len]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn mst_075_on_another_connection_a_client_takes_its_allocation_along_from_worker_to_worker() {
    let edge = Edge::open(86);
    let mut client = Client::open(&edge, false);
    let relayed = client.relayed;
    // Half of the connections begin at the worker that has the allocation.
    for disguised in [true, false].repeat(4) {
        let mut before = client.come_back(&edge, disguised);
        assert_eq!(client.relayed, relayed);
        assert!(matches!(before.read(&mut [0; 9]), Ok(0) | Err(_)), "it is closed");
        let (listener, peer) = host();
        client.send(peer, b"hello");
        let mut far = accept(&listener, relayed);
        assert_eq!(read(&mut far, 5), b"hello");
        far.write_all(b"welcome").unwrap();
        assert_eq!(client.indicated(peer, 7), b"welcome");
    }
    edge.site.close();
}
