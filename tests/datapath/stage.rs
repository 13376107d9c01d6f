//! The same call in a server and in the kernel program, and both asked about the same frame; the
//! server also by way of the engine on rings.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::ops::Range;

use proto::addr::{ClientAddr, Family, FiveTuple, PeerAddr, RelayId};
use proto::marks::{Datagram, Marks};
use proto::turn::{Change, Route, Verdict, Wrap};
use relay::frame::{self, Found, Leaving};
use relay::offload::{Direction, Entry, Hop, Legs, Mode, Outcome, Program, Room, Terms, Unable};
use rig::{Draft, World, kind};

use crate::frame::{Delivered, ETHERNET, Frame, delivered, half, is_partial, tagged, untagged};

/// The channel of the call.
pub(crate) const CHANNEL: u16 = 0x4001;
/// The largest packet that fits toward the peer, and toward the client.
pub(crate) const MTU: [u16; 2] = [1_400, 1_300];
/// This host's hardware address.
pub(crate) const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Those of the next hops toward the peer, and toward the client.
const NEXT: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
/// The loopback interface, by which test frames come, and one that is not there.
const INTERFACES: [u32; 2] = [1, 2];

/// Room enough for these tests.
pub(crate) const ROOM: Room = Room { legs: 16, over: [16; 2], ways: 16, limits: 8 };

/// The places of the program: each has one of its own.
pub(crate) const MODES: [Mode; 2] = [Mode::Native, Mode::Tc];

/// A server with one call of a client and a peer.
pub(crate) struct Stage {
    world: World,
    relay: RelayId,
    pub(crate) mode: Mode,
    pub(crate) program: Program,
    pub(crate) legs: Legs,
    standing: [Option<Entry>; 2],
    pub(crate) route: Route,
    pub(crate) listener: SocketAddr,
    /// The hardware addresses of the next hops toward the peer, and toward the client.
    pub(crate) next: [[u8; 6]; 2],
    /// Toward the peer, and toward the client; zero for none.
    pub(crate) vlans: [u16; 2],
    /// The indices of the limits; zero for none.
    pub(crate) limits: [u32; 2],
}

/// What the program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// Relayed, byte for byte as the server says.
    Relayed,
    /// Passed up, unchanged.
    PassedUp,
}

impl Stage {
    /// A call between these families, whose legs live for ever.
    pub(crate) fn new(mode: Mode, [client, peer]: [Family; 2]) -> Self {
        let world = World::seeded(6);
        let world = match client {
            Family::V4 => world.with_client("alice"),
            Family::V6 => world.with_client6("alice"),
        };
        let mut world = match peer {
            Family::V4 => world.with_peer("bob"),
            Family::V6 => world.with_peer6("bob"),
        };
        let wish = Draft::allocate().raw(kind::FAMILY, &[peer as u8, 0, 0, 0]);
        world.client("alice").allocate_with(wish);
        world.client("alice").bind(CHANNEL, "bob");
        Self::of(mode, world, [client, peer])
    }

    /// A call of a client of MS-TURN, whose destination is the peer.
    pub(crate) fn aimed(mode: Mode) -> Self {
        let world = World::configured(6, |config| config.microsoft = true);
        let mut world = world.with_client("alice").with_peer("bob");
        world.ms("alice").allocate();
        world.ms("alice").aim("bob").expect_success();
        Self::of(mode, world, [Family::V4; 2])
    }

    /// The first call of a world.
    fn of(mode: Mode, world: World, [client, peer]: [Family; 2]) -> Self {
        let opened = |change: &Change| match change {
            Change::AllocationOpened { id, .. } => Some(*id),
            _ => None,
        };
        let id = world.changes.iter().find_map(opened).expect("an allocation");
        let route = world.server.routes(id).next().expect("a route");
        let listener = rig::site::LISTENERS[client.index()].parse().expect("an address");
        let program = Program::load(mode, ROOM);
        let program = program.expect("a kernel that takes the program: run as root");
        let legs = program.legs(0..ROOM.ways).expect("its legs");
        let relay = RelayId { allocation: id, family: peer };
        let vlans = [0; 2];
        let limits = [0; 2];
        let mut stage = Self {
            world,
            relay,
            mode,
            program,
            legs,
            standing: [None; 2],
            route,
            listener,
            next: NEXT,
            vlans,
            limits,
        };
        stage.install(u64::MAX);
        stage
    }

    /// Puts both legs in, until then.
    pub(crate) fn install(&mut self, expires: u64) {
        for (index, entry) in [0, 1].map(|index| (index, self.entry(index, expires))) {
            self.set(index, Some(entry)).unwrap_or_else(|error| panic!("leg {index}: {error}"));
        }
    }

    /// Takes both legs out.
    pub(crate) fn remove(&mut self) {
        for index in [0, 1] {
            self.set(index, None).unwrap_or_else(|error| panic!("leg {index}: {error}"));
        }
    }

    /// Makes of one of them what is wanted.
    pub(crate) fn set(&mut self, index: usize, wanted: Option<Entry>) -> Result<(), Unable> {
        self.legs.set(self.world.now().mono, &mut self.standing[index], wanted)
    }

    pub(crate) fn entry(&self, index: usize, expires: u64) -> Entry {
        let direction = [Direction::ToPeer, Direction::ToClient][index];
        let slot = 16 + u32::try_from(index).expect("0 or 1");
        Entry::new(
            (&self.route, self.listener),
            direction,
            &self.hop(index),
            Terms { slot, limit: self.limits[index], expires },
        )
    }

    /// The way out toward the peer, or toward the client.
    fn hop(&self, index: usize) -> Hop {
        Hop {
            ifindex: INTERFACES[index],
            from_mac: OURS,
            to_mac: self.next[index],
            vlan: self.vlans[index],
            is_cable: false,
            mtu: MTU[index],
        }
    }

    /// What the program sent up, by reason.
    pub(crate) fn passed(&self) -> Vec<u64> {
        self.program.meter().passed().to_vec()
    }

    /// A datagram of the client to the relay.
    pub(crate) fn of_client(&self, payload: &[u8]) -> Frame {
        datagram_of(self.route.client.client.socket(), self.listener, payload)
    }

    /// A datagram of the peer to the relayed address.
    pub(crate) fn of_peer(&self, payload: &[u8]) -> Frame {
        datagram_of(self.route.peer.socket(), self.route.relayed.socket(), payload)
    }

    /// Shows a frame to all. Panics unless they agree, or the program leaves it to the server.
    pub(crate) fn show(&mut self, case: &str, bytes: &[u8]) -> Did {
        let by_ring = self.show_ring(case, bytes);
        let (outcome, left, _) = self.program.run(bytes, 1).expect("a frame that can be run");
        if outcome == Outcome::Up {
            assert_eq!(left, bytes, "{case}: what goes up is unchanged");
            return Did::PassedUp;
        }
        let bytes = &untagged(bytes)[..];
        let arrived = delivered(bytes);
        let expected = arrived
            .and_then(|it| self.expected(it))
            .unwrap_or_else(|| panic!("{case}: relayed alone"));
        let (index, mut expected) = expected;
        if expected.to.is_ipv4() {
            expected.id = half(&untagged(&left), ETHERNET + 4);
        }
        let udp = expected.udp();
        let mut expected = expected.bytes();
        let unused = bytes[12..14] == [8, 0] && half(bytes, ETHERNET + 26) == 0;
        if unused {
            expected[udp + 6..udp + 8].fill(0);
        }
        // Of a buffer the VLAN stands beside the frame.
        let (vlan, outcomes) = match self.mode {
            Mode::Tc => (0, [Outcome::Across; 2]),
            _ => (self.vlans[index], [Outcome::Back, Outcome::Across]),
        };
        let expected = tagged(&expected, vlan);
        assert_eq!(outcome, outcomes[index], "{case}");
        let (left, behind) = left.split_at(expected.len());
        assert_eq!(left, expected, "{case}: both say the same");
        let whole = match bytes[12..14] {
            [8, 0] => ETHERNET + usize::from(half(bytes, ETHERNET + 2)),
            _ => ETHERNET + 40 + usize::from(half(bytes, ETHERNET + 4)),
        };
        assert_eq!(behind, &bytes[whole..], "{case}: what Ethernet adds stays");
        assert!(by_ring, "{case}: by a ring as well");
        Did::Relayed
    }

    /// Shows a frame to the engine on rings, which finds what a socket would get, and sends what the
    /// server says as the kernel program would; whether it sends something.
    fn show_ring(&mut self, case: &str, bytes: &[u8]) -> bool {
        let Some(Found { from, to, marks, payload }) = found_at_ring(bytes) else { return false };
        let bytes = untagged(bytes);
        let mut socket = delivered(&bytes).unwrap_or_else(|| panic!("{case}: no socket gets it"));
        // The last hop, and none left, are the same.
        socket.2.hops = socket.2.hops.or(NonZeroU8::new(1));
        assert_eq!((from, to, marks, payload), socket, "{case}: what a socket gets");
        let Some((index, expected)) = self.expected(socket) else { return false };
        let hop = self.hop(index);
        let hops = NonZeroU8::new(expected.hops);
        let marks = Marks { hops, dont_fragment: expected.dont_fragment, ..marks };
        let leaving = Leaving { hop: &hop, from: expected.from, to: expected.to, marks };
        if !leaving.fits(expected.payload.len()) {
            return false;
        }
        let mut left = vec![0; leaving.head()];
        left.extend(&expected.payload);
        leaving.write(&mut left, expected.id);
        assert_eq!(left, tagged(&expected.bytes(), hop.vlan), "{case}: by a ring");
        true
    }

    /// Shows the program a frame that no socket would get. A wrong checksum of UDP may be carried on,
    /// so that the receiver drops what a socket of ours would not have got.
    pub(crate) fn show_undeliverable(&self, bytes: &[u8]) {
        assert!(found_at_ring(bytes).is_none(), "read what no socket would get: {bytes:02x?}");
        let (outcome, left, _) = self.program.run(bytes, 1).expect("a frame that can be run");
        if outcome == Outcome::Up {
            assert_eq!(left, bytes, "what goes up is unchanged");
        } else {
            assert_eq!(delivered(&left), None, "relayed what no socket would get: {bytes:02x?}");
        }
    }

    /// The direction and the frame that the server's verdict makes of a datagram.
    fn expected(&mut self, (from, to, marks, payload): Delivered<'_>) -> Option<(usize, Frame)> {
        let (now, datagram) = (self.world.now(), Datagram { marks, bytes: payload });
        let verdict = if to == self.listener {
            let listener = self.route.client.listener;
            let from = FiveTuple { listener, client: ClientAddr::new(from) };
            self.world.server.client_input(now, from, datagram)
        } else if to == self.route.relayed.socket() {
            self.world.server.peer_input(now, self.relay, PeerAddr::new(from), datagram)
        } else {
            return None;
        };
        let (index, from, to, marks, payload) = match verdict {
            Verdict::ToPeer { peer, marks, payload: span, .. } => {
                let span = span.start as usize..(span.start + span.len) as usize;
                (0, self.route.relayed.socket(), peer.socket(), marks, payload[span].to_vec())
            }
            Verdict::ToClient { to, wrap: Wrap::Channel(number), marks, payload: span } => {
                let span: Range<usize> = span.start as usize..(span.start + span.len) as usize;
                let length = u16::try_from(span.len()).expect("a datagram");
                let head = proto::channel_data::header(number, length);
                let dressed = [&head[..], &payload[span]].concat();
                (1, self.listener, to.client.socket(), marks, dressed)
            }
            Verdict::ToClient { to, wrap: Wrap::Raw, marks, payload: span } => {
                assert_eq!((span.start, span.len as usize), (0, payload.len()));
                (1, self.listener, to.client.socket(), marks, payload.to_vec())
            }
            _ => return None,
        };
        let hops = marks.hops.expect("a header was seen").get();
        let frame = Frame {
            macs: [self.next[index], OURS],
            class: marks.class,
            hops,
            dont_fragment: marks.dont_fragment,
            ..datagram_of(from, to, &payload)
        };
        Some((index, frame))
    }
}

/// What the engine on rings finds in a frame, if the kernel program may bring it: nothing that is sent
/// to many. A checksum that is left to hardware is believed, so it is no case for a comparison.
fn found_at_ring(bytes: &[u8]) -> Option<Found<'_>> {
    let to_many = bytes.first().is_some_and(|first| first & 1 == 1);
    let found = frame::read(bytes).ok().filter(|_| !to_many)?;
    (!is_partial(&untagged(bytes))).then_some(found)
}

/// A datagram to this host as networks bring it.
pub(crate) fn datagram_of(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Frame {
    Frame {
        macs: [OURS, [2, 0, 0, 0, 0, 9]],
        from,
        to,
        class: 0xB9,
        hops: 64,
        id: 7,
        dont_fragment: true,
        label: 0,
        payload: payload.to_vec(),
    }
}
