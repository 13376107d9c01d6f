//! Streams between clients and the server: bytes in order, in pieces of any size.
//!
//! The server's end is cut by the real deframer, the client's by one written here by hand. A
//! stream begins with the first bytes, ends with [`World::hang_up`] behind everything that was
//! sent, and breaks at once with [`World::break_off`], which loses what is under way. Links delay
//! streams and cut them into pieces; they lose, repeat and reorder nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use proto::addr::{ClientAddr, FiveTuple, ListenerId, Transport};
use proto::demux::is_ms;
use proto::framing::ms;
use proto::framing::pseudo_tls::{CLIENT_LEN, FRESH_LEN, SERVER_LEN, answer};
use proto::framing::sniff::{Opening, sniff};
use proto::framing::turn::{Cut, Rules, cut};

use crate::client::Arrived;
use crate::dice::Dice;
use crate::seen::What;
use crate::world::{Target, World};

/// Every stream there is, and was.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: BTreeMap<FiveTuple, Stream>,
    /// Clients that frame what they say as MS-TURN has it, and are answered so.
    framers: BTreeMap<SocketAddr, Guise>,
    begun: u64,
}

/// What the stream of a client of MS-TURN passes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guise {
    /// Itself.
    Frames,
    /// TLS: two records go before the frames.
    PseudoTls,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    /// Whether the server knows what is spoken, and what that is.
    opening: Option<Opening>,
    /// What the client keeps until it has been greeted; `None` where nobody is waited for.
    kept: Option<Vec<u8>>,
    /// Tells it from an earlier one between the same addresses.
    serial: u64,
    /// Bytes that arrived at the server and are no frame yet.
    at_server: Vec<u8>,
    /// Bytes that arrived at the client and are no message yet.
    at_client: Vec<u8>,
    /// When the last byte in each direction arrives.
    last: [Duration; 2],
}

/// The direction and the moment of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Course {
    client: FiveTuple,
    serial: u64,
    to_server: bool,
}

impl World {
    /// Adds an IPv4 client that speaks to the TCP listener.
    #[must_use]
    pub fn with_tcp_client(self, name: &str) -> Self {
        let n = self.clients.len();
        let mut world = self.with_client(name);
        world.clients[n].listener = crate::site::TCP_LISTENER;
        world
    }

    /// The same for one that speaks MS-TURN, in frames.
    #[must_use]
    pub fn with_ms_tcp_client(self, name: &str) -> Self {
        let n = self.clients.len();
        let mut world = self.with_tcp_client(name);
        let address = world.clients[n].address;
        world.streams.framers.insert(address, Guise::Frames);
        world
    }

    /// The same for one that passes for TLS.
    #[must_use]
    pub fn with_pseudo_tls_client(self, name: &str) -> Self {
        let mut world = self.with_ms_tcp_client(name);
        let address = world.client(name).state().address;
        world.streams.framers.insert(address, Guise::PseudoTls);
        world
    }

    /// What a client says on a stream: with the padding of one dialect, or the frame of the other.
    pub(crate) fn on_wire(&self, from: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        if self.streams.framers.contains_key(&from) {
            framed(bytes, !is_ms(bytes))
        } else {
            padded(bytes)
        }
    }

    /// Writes bytes into the stream of a client as they are, a new one if it has none.
    pub fn write(&mut self, listener: ListenerId, from: SocketAddr, bytes: &[u8]) {
        let client = FiveTuple { listener, client: ClientAddr::new(from) };
        let next = self.streams.begun + 1;
        let disguised = self.streams.framers.get(&from) == Some(&Guise::PseudoTls);
        let stream =
            self.streams.open.entry(client).or_insert_with(|| Stream::new(next, disguised));
        let begins = stream.serial > self.streams.begun;
        self.streams.begun = self.streams.begun.max(stream.serial);
        let course = Course { client, serial: stream.serial, to_server: true };
        if let Some(kept) = &mut stream.kept {
            kept.extend_from_slice(bytes);
            if begins {
                let record = hello(self.dice.bytes(32));
                self.flow(course, &record);
            }
            return;
        }
        self.flow(course, bytes);
    }

    /// A client closes its stream, behind what it has sent.
    pub fn hang_up(&mut self, listener: ListenerId, from: SocketAddr) {
        let client = FiveTuple { listener, client: ClientAddr::new(from) };
        if let Some(Stream { serial, .. }) = self.streams.open.get(&client) {
            let course = Course { client, serial: *serial, to_server: true };
            self.flow(course, &[]);
        }
    }

    /// The stream of a client breaks: what is under way in both directions is lost.
    pub fn break_off(&mut self, listener: ListenerId, from: SocketAddr) {
        self.gone(FiveTuple { listener, client: ClientAddr::new(from) });
    }

    /// Whether a client has a stream.
    pub fn is_connected(&self, listener: ListenerId, from: SocketAddr) -> bool {
        let client = FiveTuple { listener, client: ClientAddr::new(from) };
        self.streams.open.contains_key(&client)
    }

    /// Whether clients of a listener are on streams.
    pub(crate) fn is_stream(&self, listener: ListenerId) -> bool {
        let transport = self.config.edge.listener(listener).map(|listener| listener.transport);
        matches!(transport, Some(Transport::Tcp | Transport::Tls))
    }

    /// What the server says to a client on a stream, padded or framed as its dialect demands.
    pub(crate) fn answer(&mut self, client: FiveTuple, message: &[u8], bare: bool) {
        let Some(Stream { serial, .. }) = self.streams.open.get(&client) else { return };
        let course = Course { client, serial: *serial, to_server: false };
        let frames = self.streams.framers.contains_key(&client.client.socket());
        let wire = if frames { framed(message, bare) } else { padded(message) };
        self.flow(course, &wire);
    }

    /// The server has nothing more to do with a client.
    pub(crate) fn gone(&mut self, client: FiveTuple) {
        if self.streams.open.remove(&client).is_some() {
            let now = self.now();
            let opening = self.books.leases() - u32_of(self.server.tally().allocations);
            self.server.client_gone(now, client);
            let left = self.books.leases() - u32_of(self.server.tally().allocations);
            self.given_up += u64::from(opening - left);
            self.note(|| What::ClientGone(client));
            self.carry_out();
        }
    }

    /// A piece arrives; an empty one is the end.
    pub(crate) fn arrive_on_stream(&mut self, course: Course, bytes: &[u8]) {
        let Some(stream) = self.streams.open.get_mut(&course.client) else { return };
        if stream.serial != course.serial {
            return;
        }
        if course.to_server {
            stream.at_server.extend_from_slice(bytes);
            if bytes.is_empty() {
                self.gone(course.client);
            } else {
                self.serve(course.client);
            }
            return;
        }
        stream.at_client.extend_from_slice(bytes);
        if stream.kept.is_some() {
            if stream.at_client.len() < SERVER_LEN {
                return;
            }
            let greeting: Vec<u8> = stream.at_client.drain(..SERVER_LEN).collect();
            assert!(is_greeting(&greeting), "MST-22: {greeting:02x?}");
            let kept = stream.kept.take().expect("just seen");
            return self.flow(Course { to_server: true, ..course }, &kept);
        }
        let at = course.client.client.socket();
        let messages = if self.streams.framers.contains_key(&at) {
            take_frames(&mut stream.at_client)
        } else {
            take_messages(&mut stream.at_client)
        };
        if let Some(client) = self.clients.iter_mut().find(|client| client.address == at) {
            client.inbox.extend(messages);
        }
    }

    /// What a stream speaks, as its first bytes say where both dialects are served; `None` as long
    /// as they do not. Who passes for TLS is greeted.
    fn opening(&mut self, client: FiveTuple) -> Option<Opening> {
        let stream = self.streams.open.get_mut(&client)?;
        if stream.opening.is_some() {
            return stream.opening;
        }
        let opening = sniff(&stream.at_server, self.config.microsoft);
        let told = !matches!(opening, Opening::NeedMore(_)) || !self.config.microsoft;
        stream.opening = told.then_some(opening);
        if opening == Opening::PseudoTls {
            stream.at_server.drain(..CLIENT_LEN);
            let course = Course { client, serial: stream.serial, to_server: false };
            let fresh: [u8; FRESH_LEN] = self.dice.bytes(FRESH_LEN).try_into().expect("as many");
            self.flow(course, &answer(&fresh));
        }
        told.then_some(opening)
    }

    /// Judges every frame that is complete at the server's end.
    fn serve(&mut self, client: FiveTuple) {
        let Some(opening) = self.opening(client) else { return };
        let frames = matches!(opening, Opening::Ms | Opening::PseudoTls);
        while let Some(stream) = self.streams.open.get_mut(&client) {
            if frames {
                match ms::cut(&stream.at_server, ms::LONGEST) {
                    ms::Cut::NeedMore(_) => return,
                    ms::Cut::Broken(_) => self.gone(client),
                    ms::Cut::Complete { kind, wire } => {
                        let frame = stream.at_server.drain(..wire).skip(ms::HEADER_LEN);
                        let bytes: Vec<u8> = frame.collect();
                        match kind {
                            ms::Kind::Control => self.client_says(client, &bytes),
                            ms::Kind::Data => self.client_pays(client, &bytes),
                        }
                    }
                }
                continue;
            }
            let rules =
                Rules { rfc5766_channels: self.config.compat.rfc5766_channels, ..Rules::default() };
            match cut(&stream.at_server, rules) {
                Cut::NeedMore(_) => return,
                Cut::Broken(_) => self.gone(client),
                Cut::Complete { frame, wire } => {
                    let mut bytes: Vec<u8> = stream.at_server.drain(..wire).collect();
                    bytes.truncate(frame);
                    self.client_says(client, &bytes);
                }
            }
        }
    }

    /// Payload of a client of MS-TURN has arrived in a frame of its own.
    pub(crate) fn client_pays(&mut self, from: FiveTuple, payload: &[u8]) {
        let now = self.now();
        let verdict = self.server.client_payload(now, from, payload);
        self.note(|| What::FromClient(from, payload.to_vec(), verdict));
        self.obey(verdict, payload);
    }

    /// Sends bytes on their way, in pieces that keep their order.
    fn flow(&mut self, course: Course, bytes: &[u8]) {
        let pieces = pieces(&mut self.dice, bytes);
        for piece in pieces {
            let delay = self.link.delay_of_stream(&mut self.dice);
            let arrives = self.elapsed() + delay;
            let Some(stream) = self.streams.open.get_mut(&course.client) else { return };
            let last = &mut stream.last[usize::from(course.to_server)];
            *last = arrives.max(*last);
            let at = *last;
            self.launch(at, Target::Stream(course), piece);
        }
    }
}

impl Stream {
    fn new(serial: u64, disguised: bool) -> Self {
        Self {
            opening: None,
            kept: disguised.then(Vec::new),
            serial,
            at_server: Vec::new(),
            at_client: Vec::new(),
            last: [Duration::ZERO; 2],
        }
    }
}

fn u32_of(count: u64) -> u32 {
    u32::try_from(count).expect("a small number")
}

/// The bytes in pieces: mostly whole, sometimes torn, seldom one by one.
fn pieces(dice: &mut Dice, bytes: &[u8]) -> Vec<Vec<u8>> {
    let size = match dice.below(8) {
        0 => 1,
        1..4 => 1 + dice.index(40),
        _ => bytes.len().max(1),
    };
    if bytes.is_empty() {
        return vec![Vec::new()];
    }
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

/// The record that opens pseudo-TLS (ms-turn.md §2), with this time and randomness.
fn hello(random: Vec<u8>) -> Vec<u8> {
    let mut record = vec![0x16, 3, 1, 0, 0x2D, 1, 0, 0, 0x29, 3, 1];
    record.extend(random);
    record.extend([0, 0, 2, 0, 0x18, 1, 0]);
    record
}

/// Whether libnice would take this for the answer: it looks at all but time, randomness and the
/// session's name (MST-22).
fn is_greeting(record: &[u8]) -> bool {
    record[..11] == [0x16, 3, 1, 0, 0x4E, 2, 0, 0, 0x46, 3, 1]
        && record[43] == 0x20
        && record[76..] == [0, 0x18, 0, 0x0E, 0, 0, 0]
}

/// A message with the padding that follows it in a stream.
pub(crate) fn padded(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message, or bare payload, in a frame of MS-TURN.
fn framed(bytes: &[u8], bare: bool) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short message").to_be_bytes();
    [&[if bare { 3 } else { 2 }, 0, length[0], length[1]], bytes].concat()
}

/// What is in every frame that is complete; the rest stays.
fn take_frames(bytes: &mut Vec<u8>) -> VecDeque<Arrived> {
    let mut contents = VecDeque::new();
    while let [kind, zero, high, low, ..] = bytes[..] {
        assert!(matches!((kind, zero), (2 | 3, 0)), "a stream of frames goes on with {kind:#04x}");
        let whole = 4 + usize::from(high) * 256 + usize::from(low);
        if bytes.len() < whole {
            break;
        }
        let content: Vec<u8> = bytes.drain(..whole).skip(4).collect();
        contents.push_back(Arrived { bare: kind == 3, bytes: content });
    }
    contents
}

/// Every message that is complete, without padding; the rest stays.
fn take_messages(bytes: &mut Vec<u8>) -> VecDeque<Arrived> {
    let mut messages = VecDeque::new();
    while let [first, _, high, low, ..] = bytes[..] {
        let length = usize::from(high) * 256 + usize::from(low);
        let (message, whole) = match first {
            0..4 => (20 + length, 20 + length),
            64..80 => (4 + length, 4 + length.div_ceil(4) * 4),
            _ => panic!("a stream to a client goes on with {first:#04x}"),
        };
        if bytes.len() < whole {
            break;
        }
        let rest = bytes.split_off(whole);
        let mut taken = std::mem::replace(bytes, rest);
        assert!(taken[message..].iter().all(|&byte| byte == 0), "padding is zero");
        taken.truncate(message);
        messages.push_back(Arrived { bare: false, bytes: taken });
    }
    messages
}
