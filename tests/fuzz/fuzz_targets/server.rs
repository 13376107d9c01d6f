//! The whole server: packets raw, structured and mutated, and time, in any order.
//!
//! The input is a script of operations. Real requests are built and signed by the rig, so that
//! the fuzzer gets behind authentication, then broken byte by byte. After every operation the
//! rig's `World` checks the server's invariants (`Server::check`), and every answer is read by
//! the oracle. The same worlds as in the simulation, driven by libFuzzer instead of dice.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use proto::demux::is_ms;
use proto::turn::OpenFailure;
use rig::ms::{AIM, ALLOCATE, DESTINATION, LIFETIME, NONCE, VERSION};
use rig::script::channel_data;
use rig::{Arrival, Draft, MsArrival, MsDraft, Scheme, World};

const CLIENTS: [&str; 4] = ["alice", "carol", "legacy", MICROSOFT];

/// The client that speaks MS-TURN.
const MICROSOFT: &str = "skype";

const PEERS: [&str; 3] = ["bob", "dave", "private"];

fuzz_target!(|data: &[u8]| {
    let mut script = Script { data, world: world() };
    while !script.data.is_empty() {
        script.step();
    }
    script.world.advance(Duration::from_secs(2 * 3600));
    let tally = script.world.server.tally();
    assert_eq!((tally.allocations, tally.permissions, tally.channels), (0, 0, 0));
    assert_eq!(tally.ports_used, 0);
    assert_eq!(script.world.server.poll_timeout(), None);
});

/// A small world, because it is built anew for each input.
fn world() -> World {
    let mut world = World::configured(1, |config| {
        config.ports = 50_000..=50_007;
        config.limits.allocations = 6;
        config.limits.permissions = 4;
        config.limits.channels = 4;
        config.microsoft = true;
    })
    .with_client("alice")
    .with_client6("carol")
    .with_client("legacy")
    .with_client(MICROSOFT)
    .with_peer("bob")
    .with_peer6("dave")
    .with_peer_at("private", SocketAddr::from(([10, 0, 0, 9], 9000)));
    world.client("legacy").state().scheme = Scheme::Legacy;
    world
}

/// The magic cookie of STUN.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// What is left of the input, and the world it acts upon.
struct Script<'d> {
    data: &'d [u8],
    world: World,
}

impl<'d> Script<'d> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.data.split_first() else { return 0 };
        self.data = rest;
        first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A run of bytes whose length stands before it.
    fn bytes(&mut self) -> &'d [u8] {
        let len = usize::from(self.byte()).min(self.data.len());
        let (run, rest) = self.data.split_at(len);
        self.data = rest;
        run
    }

    fn client(&mut self) -> &'static str {
        CLIENTS[usize::from(self.byte()) % CLIENTS.len()]
    }

    /// A peer by name, a relayed address, or any address at all.
    fn address(&mut self) -> SocketAddr {
        match self.byte() % 6 {
            n @ 0..3 => self.world.peer_address(PEERS[usize::from(n)]),
            3 => {
                let open = self.world.open_sockets();
                let at = usize::from(self.byte());
                if open.is_empty() {
                    SocketAddr::from(([127, 0, 0, 1], 1))
                } else {
                    open[at % open.len()]
                }
            }
            4 => {
                let ip = [self.byte(), self.byte(), self.byte(), self.byte()];
                SocketAddr::from((ip, self.word()))
            }
            _ => {
                let ip = [(); 8].map(|()| self.word());
                SocketAddr::from((ip, self.word()))
            }
        }
    }

    fn step(&mut self) {
        match self.byte() % 12 {
            0 => {
                let (client, bytes) = (self.client(), self.bytes());
                self.world.client(client).send_bytes(bytes);
            }
            1 => {
                let (client, kind, body) = (self.client(), self.word() & 0x3FFF, self.bytes());
                let whole = &body[..body.len() / 4 * 4];
                let bytes = Draft::of_kind(kind).bytes(whole).encode();
                self.world.client(client).send_bytes(&bytes);
            }
            2..5 => self.request(),
            5 => {
                let (client, peer) = (self.client(), self.address());
                let bytes = Draft::send(peer, self.bytes()).encode();
                self.world.client(client).send_bytes(&bytes);
            }
            6 => {
                let (client, number) = (self.client(), 0x4000 | self.word() & 0x0FFF);
                let bytes = channel_data(number, self.bytes());
                self.world.client(client).send_bytes(&bytes);
            }
            7 => {
                let (to, from) = (self.address(), self.address());
                let payload = self.bytes();
                self.world.inject_at_relay(to, from, payload);
            }
            8 => {
                let by = Duration::from_millis(u64::from(self.word()) * 20);
                self.world.advance(by);
            }
            9 => {
                let (client, kind, body) = (self.client(), self.word() & 0x3FFF, self.bytes());
                let id = self.world.dice.bytes(16).try_into().expect("asked for 16 bytes");
                let head = MsDraft::new(kind, id).encode();
                let [high, low] = u16::try_from(8 + body.len()).expect("at most 255").to_be_bytes();
                let bytes = [&head[..2], &[high, low], &head[4..], body].concat();
                self.world.client(client).send_bytes(&bytes);
            }
            10 => self.request_ms(),
            _ => {
                self.world.socket_failure = match self.byte() % 4 {
                    0 => Some(OpenFailure::PortTaken),
                    1 => Some(OpenFailure::Exhausted),
                    2 => Some(OpenFailure::Other),
                    _ => None,
                };
            }
        }
        self.world.settle();
        self.hear();
    }

    /// A request of some kind, with more attributes and a few bytes changed, before or after
    /// signing.
    fn request(&mut self) {
        let client = self.client();
        let mut draft = match self.byte() % 6 {
            0 | 1 => Draft::allocate(),
            2 => Draft::refresh(u32::from(self.word())),
            3 => Draft::permit(&[self.address(), self.address()]),
            4 => Draft::bind(0x4000 | self.word() & 3, self.address()),
            _ => Draft::request(self.word() & 0x0F),
        };
        for _ in 0..self.byte() % 4 {
            let kind = match self.byte() {
                n @ 0..128 => u16::from(n & 0x3F),
                n => 0x8000 | u16::from(n & 0x3F),
            };
            draft = draft.raw(kind, self.bytes());
        }
        let id = self.world.dice.transaction();
        let mut acting = self.world.client(client);
        let draft = draft.transaction(id);
        let draft =
            if acting.state().challenge.is_some() { acting.state().sign(draft) } else { draft };
        let mut bytes = draft.encode();
        for _ in 0..(self.byte() % 8).saturating_sub(4) {
            let at = usize::from(self.word()) % bytes.len();
            bytes[at] ^= self.byte();
        }
        if self.byte() % 16 == 0 {
            bytes.truncate(usize::from(self.byte()));
        }
        self.world.client(client).send_bytes(&bytes);
    }

    /// A request of MS-TURN, with more attributes, a few bytes changed, or repeated.
    fn request_ms(&mut self) {
        let (what, peer, number) = (self.byte(), self.address(), u32::from(self.byte()));
        let (extra, value) = (self.word(), self.bytes());
        let mut ms = self.world.ms(MICROSOFT);
        let plain = |draft: MsDraft| if what & 0x40 == 0 { draft } else { draft.raw(extra, value) };
        let draft = match what % 5 {
            0 | 1 => {
                let draft = plain(ms.draft(ALLOCATE).number(VERSION, 1));
                ms.signed(draft)
            }
            2 => {
                let draft = plain(ms.draft(ALLOCATE).number(LIFETIME, number));
                ms.signed(draft)
            }
            3 => ms.send_draft(number, peer, value),
            _ => {
                let draft = plain(ms.numbered(AIM, number).address(DESTINATION, peer));
                ms.seal(draft)
            }
        };
        let mut bytes = draft.encode();
        if what >= 0xE0 {
            let at = usize::from(self.word()) % bytes.len();
            bytes[at] ^= self.byte();
        }
        for _ in 0..=what >> 4 & 1 {
            self.world.client(MICROSOFT).send_bytes(&bytes);
        }
    }

    /// The client of MS-TURN learns from challenges and from its allocation.
    fn hear_ms(&mut self, client: &str) {
        if let Some(MsArrival::Response(heard)) = self.world.ms(client).take() {
            if heard.value(NONCE).is_some() {
                self.world.ms(client).learn(&heard);
            }
            if let Some((connection, _)) = heard.numbered() {
                self.world.ms(client).state().connection = connection;
            }
        }
    }

    /// Clients learn from challenges; the oracle reads every answer.
    fn hear(&mut self) {
        for client in CLIENTS {
            while let Some(arrived) = self.world.client(client).state().inbox.front() {
                if !arrived.bare && is_ms(arrived) {
                    self.hear_ms(client);
                    continue;
                }
                // A Binding without cookie is answered likewise, which the oracle does not read.
                let classic = matches!(**arrived, [1, 1 | 0x11, _, _, a, b, c, d, ..] if [a, b, c, d] != COOKIE);
                if arrived.bare || classic {
                    self.world.client(client).state().inbox.pop_front();
                    continue;
                }
                let Some(arrival) = self.world.client(client).take() else { break };
                if let Arrival::Response(heard) = arrival
                    && matches!(heard.code(), Some(401 | 438))
                {
                    self.world.client(client).state().learn(&heard);
                }
            }
        }
        for peer in PEERS {
            while self.world.peer(peer).take().is_some() {
                assert_ne!(peer, "private", "a private peer was reached");
            }
        }
    }
}
