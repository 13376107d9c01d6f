//! What goes in comes out: every byte, in order, both ways at once.
//!
//! Sender and receiver hash what they handle; equal digests of equal counts mean equal streams. A sender has
//! at most [`WINDOW`] datagrams under way, so nothing is lost to a full buffer, however slow the machine is.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use client::{AllocateOptions, Event, Family, TurnClient, wire};
use ring::digest::{Context, SHA256};

use crate::edge::{Home, RelayFile, connect, mint, start_relay};
use crate::site::{INTERNAL, INTERNAL6, PEER, PEER6, Site};

/// Datagrams of one direction under way at a time.
const WINDOW: usize = 32;
/// A datagram not here after this time is lost.
const LOST: Duration = Duration::from_secs(3);
/// The longest UDP payload over IPv4 that a channel can carry: 65,507 less four octets of header.
const LONGEST: usize = 65_503;

/// One stream each way.
struct Case {
    name: &'static str,
    server: &'static str,
    peer: &'static str,
    family: Family,
    way: Way,
    /// Whether some datagrams are longer than a frame.
    fragments: bool,
    /// Datagrams in each direction.
    datagrams: u32,
}

/// How the client's side is dressed.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Channel,
    Indication,
}

const CASES: &[Case] = &[
    Case {
        name: "channel, IPv4",
        server: INTERNAL,
        peer: PEER,
        family: Family::V4,
        way: Way::Channel,
        fragments: true,
        datagrams: 100_000,
    },
    Case {
        name: "channel, IPv6",
        server: INTERNAL6,
        peer: PEER6,
        family: Family::V6,
        way: Way::Channel,
        fragments: true,
        datagrams: 20_000,
    },
    Case {
        name: "indications, IPv4",
        server: INTERNAL,
        peer: PEER,
        family: Family::V4,
        way: Way::Indication,
        fragments: false,
        datagrams: 20_000,
    },
];

#[test]
fn data_payload_arrives_unchanged_in_both_directions() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &RelayFile::default());
    let credential = mint(&home.path("pool.pem"), "alice");
    for case in CASES {
        let mut client = site.client.enter(|| connect(case.server, &credential));
        let address: IpAddr = case.peer.parse().expect("an address");
        let peer = site.peer.enter(|| UdpSocket::bind((address, 0))).expect("a port of the peer");
        case.exchange(&mut client, &peer);
        client.release().expect("the allocation ends");
        let full = [&site.client, &site.peer].map(crate::netns::Namespace::receive_buffer_errors);
        assert_eq!(full, [0, 0], "{}: the test itself read too slowly", case.name);
    }
}

impl Case {
    /// Both streams at once, then the comparison.
    fn exchange(&self, client: &mut TurnClient, peer: &UdpSocket) {
        let wish = AllocateOptions { family: Some(self.family), ..AllocateOptions::default() };
        let relayed = client.allocate(&wish).expect("an allocation").relayed;
        let address = peer.local_addr().expect("it is bound");
        let channel = match self.way {
            Way::Channel => Some(client.bind_channel(address).expect("a channel")),
            Way::Indication => {
                client.permit(&[address.ip()]).expect("a permission");
                None
            }
        };
        peer.set_read_timeout(Some(LOST)).expect("a timeout");
        let up = client.socket().expect("it speaks UDP").try_clone().expect("a second handle");
        let (up_window, up_arrived) = mpsc::sync_channel(WINDOW);
        let (down_window, down_arrived) = mpsc::sync_channel(WINDOW);
        let (sent_up, got_up, sent_down, got_down) = thread::scope(|scope| {
            let sent_up = scope.spawn(|| {
                self.send(1, &up_window, |payload| {
                    up.send(&dress(channel, address, payload)).expect("the client's socket works");
                })
            });
            let got_up = scope
                .spawn(|| self.receive(up_arrived, |digest| self.at_peer(peer, relayed, digest)));
            let sent_down = scope.spawn(|| {
                self.send(2, &down_window, |payload| {
                    peer.send_to(payload, relayed).expect("the peer's socket works");
                })
            });
            let source = (address, channel);
            let got_down =
                self.receive(down_arrived, |digest| self.at_client(client, source, digest));
            (join(sent_up), join(got_up), join(sent_down), got_down)
        });
        let all = self.datagrams;
        assert_eq!((got_up.0, got_down.0), (all, all), "{}: datagrams up, down", self.name);
        assert_eq!(sent_up, got_up.1, "{}: what went up", self.name);
        assert_eq!(sent_down, got_down.1, "{}: what went down", self.name);
    }

    /// Sends the stream; its digest.
    fn send(&self, seed: u32, window: &SyncSender<()>, mut carry: impl FnMut(&[u8])) -> Vec<u8> {
        let mut stream = Stream::new(seed, self.fragments);
        let mut digest = Digest::new();
        for _ in 0..self.datagrams {
            let payload = stream.next();
            if window.send(()).is_err() {
                break;
            }
            digest.add(payload);
            carry(payload);
        }
        digest.finish()
    }

    /// Counts and hashes what `next` brings, until all is here or something is lost.
    fn receive(
        &self,
        window: Receiver<()>,
        mut next: impl FnMut(&mut Digest) -> bool,
    ) -> (u32, Vec<u8>) {
        let mut digest = Digest::new();
        let mut count = 0;
        while count < self.datagrams && next(&mut digest) && window.recv().is_ok() {
            count += 1;
        }
        // After a loss the sender still waits for room: this ends it.
        drop(window);
        (count, digest.finish())
    }

    /// One datagram at the peer; `false` if none comes.
    fn at_peer(&self, peer: &UdpSocket, relayed: SocketAddr, digest: &mut Digest) -> bool {
        let mut bytes = vec![0; 65_536];
        let Ok((length, from)) = peer.recv_from(&mut bytes) else { return false };
        assert_eq!(from, relayed, "{}", self.name);
        digest.add(&bytes[..length]);
        true
    }

    /// One datagram at the client; `false` if none comes.
    fn at_client(
        &self,
        client: &mut TurnClient,
        source: (SocketAddr, Option<u16>),
        digest: &mut Digest,
    ) -> bool {
        let Some(event) = client.recv(LOST).expect("the socket works") else { return false };
        let Event::Data { peer, channel, payload } = event else {
            panic!("{}: neither channel data nor a Data indication: {event:?}", self.name)
        };
        assert_eq!((peer, channel), source, "{}", self.name);
        digest.add(&payload);
        true
    }
}

/// Payload as the client writes it.
fn dress(channel: Option<u16>, peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    match channel {
        Some(number) => {
            let length =
                u16::try_from(payload.len()).expect("a channel carries at most 65,535 octets");
            [&wire::channel_header(number, length), payload].concat()
        }
        None => wire::send_indication(peer, payload).expect("it can be written"),
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Datagrams of mixed sizes that repeat themselves nowhere: xorshift from a seed.
struct Stream {
    state: u64,
    fragments: bool,
    count: u32,
    payload: Vec<u8>,
}

impl Stream {
    fn new(seed: u32, fragments: bool) -> Self {
        let state = u64::from(seed) << 32 | 0x9E37_79B9;
        Self { state, fragments, count: 0, payload: Vec::new() }
    }

    fn next(&mut self) -> &[u8] {
        let draw = usize::try_from(self.random() & 0xFFFF).expect("16 bits fit");
        let length = match self.count % 1000 {
            // Fragmented on the way; the rest fits one frame, nothing at all included.
            500 if self.fragments => 1_473 + draw % 8_000,
            999 if self.fragments => LONGEST - draw % 1_000,
            _ => draw % 1_401,
        };
        self.count += 1;
        self.payload.clear();
        while self.payload.len() < length {
            let eight = self.random().to_le_bytes();
            self.payload.extend_from_slice(&eight);
        }
        self.payload.truncate(length);
        &self.payload
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

/// A hash of a sequence of datagrams: their lengths count, so borders cannot move unseen.
struct Digest(Context);

impl Digest {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, payload: &[u8]) {
        self.0.update(&payload.len().to_le_bytes());
        self.0.update(payload);
    }

    fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}
