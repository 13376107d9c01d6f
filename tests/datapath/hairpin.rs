//! Two clients of one relay, whose packets never leave it between their relayed addresses.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use proto::addr::{ClientAddr, Family, FiveTuple, PeerAddr, RelayId};
use proto::marks::Datagram;
use proto::policy::Rates;
use proto::turn::tally::Flow;
use proto::turn::{Change, Route, Verdict, Wrap};
use relay::offload::{Direction, Entry, Hop, Legs, Mode, Outcome, PASSED, Program, Reading, Terms};
use rig::script::channel_data;
use rig::{Draft, World, kind};

use crate::frame::{ETHERNET, Frame, delivered, half};
use crate::stage::{Did, MODES, OURS, ROOM, datagram_of};
use crate::{PAIRINGS, rtp};

/// What each names the other.
const CHANNELS: [u16; 2] = [0x4001, 0x4ABC];
/// The largest packet that fits toward each.
const MTU: u16 = 1_400;
/// Those of the next hops toward each.
const NEXT: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
/// The slots of each client's legs: to the peer, to the client.
const SLOTS: [[u32; 2]; 2] = [[20, 21], [22, 23]];

/// Two clients that are each other's peers.
struct Pair {
    world: World,
    /// What the program says of a frame that goes on.
    on: Outcome,
    program: Program,
    legs: Legs,
    /// Of each client, by direction.
    standing: [[Option<Entry>; 2]; 2],
    routes: [Route; 2],
    listeners: [SocketAddr; 2],
    /// The indices of the limits of each client's legs; zero for none.
    limits: [[u32; 2]; 2],
}

impl Pair {
    /// Clients of these families whose relayed addresses are of another.
    fn new(mode: Mode, clients: [Family; 2], relayed: Family) -> Self {
        let names = ["alice", "bob"];
        let mut world = World::seeded(8);
        for (name, family) in names.iter().zip(clients) {
            world = match family {
                Family::V4 => world.with_client(name),
                Family::V6 => world.with_client6(name),
            };
        }
        let addresses = names.map(|name| {
            let wish = Draft::allocate().raw(kind::FAMILY, &[relayed as u8, 0, 0, 0]);
            world.client(name).allocate_with(wish).relayed().expect("an allocation")
        });
        for (index, name) in names.iter().enumerate() {
            world.client(name).bind_address(CHANNELS[index], addresses[1 - index]);
        }
        let opened = |change: &Change| match change {
            Change::AllocationOpened { id, .. } => Some(*id),
            _ => None,
        };
        let ids: Vec<_> = world.changes.iter().filter_map(opened).collect();
        let route = |index: usize| world.server.routes(ids[index]).next().expect("a route");
        let routes = [route(0), route(1)];
        let listener = |family: Family| rig::site::LISTENERS[family.index()].parse();
        let listeners = clients.map(|family| listener(family).expect("an address"));
        let program = Program::load(mode, ROOM);
        let program = program.expect("a kernel that takes the program: run as root");
        let legs = program.legs(0..ROOM.ways).expect("its legs");
        let limits = [[0; 2]; 2];
        let on = if mode == Mode::Tc { Outcome::Across } else { Outcome::Back };
        let standing = [[None; 2]; 2];
        let mut pair = Self { world, on, program, legs, standing, routes, listeners, limits };
        for index in [0, 1] {
            for direction in [Direction::ToPeer, Direction::ToClient] {
                pair.install(index, direction, u64::MAX);
            }
        }
        pair
    }

    fn entry(&self, index: usize, direction: Direction, expires: u64) -> Entry {
        let hop = match direction {
            Direction::ToPeer => Hop::default(),
            Direction::ToClient => {
                let (from_mac, to_mac) = (OURS, NEXT[index]);
                Hop { ifindex: 1, from_mac, to_mac, mtu: MTU, ..Hop::default() }
            }
        };
        let slot = SLOTS[index][direction as usize];
        let limit = self.limits[index][direction as usize];
        let terms = Terms { slot, limit, expires };
        Entry::new((&self.routes[index], self.listeners[index]), direction, &hop, terms)
    }

    fn install(&mut self, index: usize, direction: Direction, expires: u64) {
        let entry = self.entry(index, direction, expires);
        self.set(index, direction, Some(entry));
    }

    fn remove(&mut self, index: usize, direction: Direction) {
        self.set(index, direction, None);
    }

    fn set(&mut self, index: usize, direction: Direction, wanted: Option<Entry>) {
        let stands = &mut self.standing[index][direction as usize];
        self.legs.set(self.world.now().mono, stands, wanted).expect("room for a leg");
    }

    /// What one of them sends to the relay.
    fn of(&self, index: usize, payload: &[u8]) -> Frame {
        datagram_of(self.routes[index].client.client.socket(), self.listeners[index], payload)
    }

    /// Shows a frame of one of them to the program, and to the server at both allocations.
    fn show(&mut self, case: &str, index: usize, bytes: &[u8]) -> Did {
        let (outcome, left, _) = self.program.run(bytes, 1).expect("a frame that can be run");
        if outcome == Outcome::Up {
            assert_eq!(left, bytes, "{case}: what goes up is unchanged");
            return Did::PassedUp;
        }
        let expected = self.expected(index, bytes);
        let mut expected = expected.unwrap_or_else(|| panic!("{case}: relayed alone"));
        if expected.to.is_ipv4() {
            expected.id = half(&left, ETHERNET + 4);
        }
        assert_eq!(outcome, self.on, "{case}");
        assert_eq!(left, expected.bytes(), "{case}: both say the same");
        Did::Relayed
    }

    fn expected(&mut self, index: usize, bytes: &[u8]) -> Option<Frame> {
        let (from, _, marks, payload) = delivered(bytes)?;
        let [mine, its] = [self.routes[index], self.routes[1 - index]];
        let client = FiveTuple { client: ClientAddr::new(from), ..mine.client };
        let now = self.world.now();
        let up = self.world.server.client_input(now, client, Datagram { marks, bytes: payload });
        let Verdict::ToPeer { peer, marks, payload: span, .. } = up else { return None };
        assert_eq!(peer.socket(), its.relayed.socket(), "it is for the other one");
        let bytes = &payload[span.start as usize..(span.start + span.len) as usize];
        let allocation = self.id(1 - index);
        let at = RelayId { allocation, family: Family::of(its.relayed.ip()) };
        let from = PeerAddr::new(mine.relayed.socket());
        let down = self.world.server.peer_input(now, at, from, Datagram { marks, bytes });
        let Verdict::ToClient { to, wrap: Wrap::Channel(number), marks, payload: span } = down
        else {
            return None;
        };
        assert_eq!((span.start, span.len as usize), (0, bytes.len()));
        let length = u16::try_from(bytes.len()).expect("a datagram");
        let dressed = [&proto::channel_data::header(number, length)[..], bytes].concat();
        let hops = marks.hops.expect("a header was seen").get();
        Some(Frame {
            macs: [NEXT[1 - index], OURS],
            class: marks.class,
            hops,
            dont_fragment: marks.dont_fragment,
            ..datagram_of(self.listeners[1 - index], to.client.socket(), &dressed)
        })
    }

    fn id(&self, index: usize) -> proto::addr::AllocationId {
        let views = self.world.server.allocations(self.world.now());
        let mut of_client = views.filter(|view| view.client == self.routes[index].client);
        of_client.next().expect("an allocation").id
    }

    fn passed(&self, reason: &str) -> u64 {
        let at = PASSED.iter().position(|it| *it == reason).expect("a reason");
        self.program.meter().passed()[at]
    }

    fn carried(&self, index: usize, direction: Direction) -> Flow {
        let reading = self.program.meter().reading(SLOTS[index][direction as usize]);
        reading.since(Reading::default())
    }
}

#[test]
fn clients_of_one_relay_hear_each_other_as_the_server_says() {
    for mode in MODES {
        for relayed in [Family::V4, Family::V6] {
            for clients in PAIRINGS {
                let mut pair = Pair::new(mode, clients, relayed);
                let mut bytes = 0;
                for length in [0, 1, 2, 19, 160, 1_200] {
                    bytes += length as u64;
                    for index in [0, 1] {
                        let payload = channel_data(CHANNELS[index], &rtp(length));
                        let frame = pair.of(index, &payload).bytes();
                        let case = format!("{clients:?} by {relayed:?}: {length} bytes of {index}");
                        assert_eq!(pair.show(&case, index, &frame), Did::Relayed, "{case}");
                    }
                }
                // Both allocations have carried each packet.
                for index in [0, 1] {
                    for direction in [Direction::ToPeer, Direction::ToClient] {
                        let carried = pair.carried(index, direction);
                        assert_eq!((carried.packets, carried.bytes), (6, bytes), "{direction:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_packet_between_clients_passes_two_relayed_addresses() {
    for mode in MODES {
        let mut pair = Pair::new(mode, PAIRINGS[0], Family::V4);
        let frame = pair.of(0, &channel_data(CHANNELS[0], &rtp(160)));
        for (hops, did) in [
            (0, Did::PassedUp),
            (1, Did::PassedUp),
            (2, Did::PassedUp),
            (3, Did::Relayed),
            (255, Did::Relayed),
        ] {
            let bytes = Frame { hops, ..frame.clone() }.bytes();
            let case = format!("{hops} hops");
            assert_eq!(pair.show(&case, 0, &bytes), did, "{case}");
            // A limit of zero looks to the server as if no header had been seen.
            let said = hops > 0 && pair.expected(0, &bytes).is_some();
            assert_eq!(said, did == Did::Relayed, "{case}");
        }
        assert_eq!(pair.passed("hop_limit"), 3);
    }
}

#[test]
fn nothing_passes_to_a_client_that_has_no_leg_back() {
    for mode in MODES {
        let mut pair = Pair::new(mode, PAIRINGS[0], Family::V4);
        let bytes = pair.of(0, &channel_data(CHANNELS[0], &rtp(160))).bytes();
        pair.install(1, Direction::ToClient, 1);
        assert_eq!(pair.show("expired there", 0, &bytes), Did::PassedUp);
        assert_eq!(pair.passed("expired"), 1);
        pair.remove(1, Direction::ToClient);
        assert_eq!(pair.show("none there", 0, &bytes), Did::PassedUp);
        assert_eq!(pair.passed("other_client"), 1);
        pair.install(1, Direction::ToClient, u64::MAX);
        assert_eq!(pair.show("there again", 0, &bytes), Did::Relayed);
        pair.install(0, Direction::ToPeer, 1);
        assert_eq!(pair.show("expired here", 0, &bytes), Did::PassedUp);
        assert_eq!(pair.passed("expired"), 2);
        let carried = [(0, Direction::ToPeer), (1, Direction::ToClient)];
        let carried = carried.map(|(index, direction)| pair.carried(index, direction).packets);
        assert_eq!(carried, [1, 1], "what went up is counted by the relay");
    }
}

#[test]
fn a_packet_between_clients_is_held_to_the_limits_of_both() {
    for mode in MODES {
        let outcome = |pair: &Pair| {
            let frame = pair.of(0, &channel_data(CHANNELS[0], &rtp(160))).bytes();
            pair.program.run(&frame, 1).expect("it can be run").0
        };
        for (case, [inward, outward]) in [("what one sends", [1, 0]), ("what one gets", [0, 2])] {
            let mut pair = Pair::new(mode, PAIRINGS[0], Family::V4);
            // One datagram passes at once, and the next one in nine tenths of a second at the earliest.
            let rates = Rates { bytes: None, packets: NonZeroU64::new(1) };
            for index in [1, 2] {
                pair.program.limit(index, rates, &[]);
            }
            pair.limits = [[inward, 0], [0, outward]];
            pair.install(0, Direction::ToPeer, u64::MAX);
            pair.install(1, Direction::ToClient, u64::MAX);
            assert_eq!([outcome(&pair), outcome(&pair)], [pair.on, Outcome::Dropped], "{case}");
            let held_back = [inward, outward].map(|index| pair.program.held_back(index)).concat();
            assert_eq!(held_back.concat().iter().sum::<u32>(), 1, "{case}: {held_back:?}");
            // What the second client may not get, the first has sent all the same.
            let sent = if outward == 0 { 1 } else { 2 };
            let carried = [(0, Direction::ToPeer), (1, Direction::ToClient)];
            let carried = carried.map(|(index, direction)| pair.carried(index, direction).packets);
            assert_eq!(carried, [sent, 1], "{case}");
        }
    }
}

#[test]
fn nobody_speaks_from_a_relayed_address_but_the_relay() {
    for mode in MODES {
        for relayed in [Family::V4, Family::V6] {
            let pair = Pair::new(mode, PAIRINGS[0], relayed);
            let [from, to] = [0, 1].map(|index| pair.routes[index].relayed.socket());
            for payload in [rtp(160), channel_data(CHANNELS[0], &rtp(160))] {
                let forged = datagram_of(from, to, &payload).bytes();
                let (outcome, left, _) = pair.program.run(&forged, 1).expect("it can be run");
                assert_eq!((outcome, left), (Outcome::Up, forged));
            }
        }
    }
}
