//! §6 and §7: Binding at a server with two addresses and two ports.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::addr::{ListenerId, Transport};
use proto::policy::{Corners, Edge, Listener};
use proto::turn::{Rate, Throttle};
use rig::kind::{self, method};
use rig::{Draft, Heard, World};

/// Primary and alternate host, each with both ports, in IPv4 and in IPv6; then TCP at the first.
const PLACES: [&str; 9] = [
    "93.184.216.34:3478",
    "93.184.216.34:3479",
    "93.184.216.35:3478",
    "93.184.216.35:3479",
    "[2a02:6b8::34]:3478",
    "[2a02:6b8::34]:3479",
    "[2a02:6b8::35]:3478",
    "[2a02:6b8::35]:3479",
    "93.184.216.34:3478",
];

const MAPPED_CLEAR: u16 = 0x0001;
const CHANGE_REQUEST: u16 = 0x0003;
const PADDING: u16 = 0x0026;
const RESPONSE_PORT: u16 = 0x0027;
const ORIGIN: u16 = 0x802B;
const OTHER: u16 = 0x802C;

fn place(index: usize) -> SocketAddr {
    PLACES[index].parse().expect("an address")
}

/// A server with discovery in both families, a client of each, and one that is alice's host
/// behind another port.
fn world(seed: u64) -> World {
    World::configured(seed, |config| {
        let model = config.edge.listeners()[0];
        let listen = |index: usize| Listener {
            local: place(index),
            transport: if index == 8 { Transport::Tcp } else { Transport::Udp },
            ..model
        };
        let relays = proto::addr::Family::ALL.into_iter().flat_map(|f| config.edge.relays(f));
        let corners = |base: u16| {
            let id = |n| ListenerId(base + n);
            Corners::new([[id(0), id(1)], [id(2), id(3)]])
        };
        config.edge = Edge::new((0..9).map(listen).collect(), relays.copied().collect(), vec![])
            .with_corners(vec![corners(0), corners(4)]);
    })
    .with_client("alice")
    .with_client6("carol")
    .with_client_at("other port", "81.2.69.10:41000".parse().expect("an address"))
}

/// Speaks to this place from now on.
fn turn_to(world: &mut World, client: &str, place: usize) {
    world.client(client).state().listener = ListenerId(u16::try_from(place).expect("few"));
}

fn ask(world: &mut World, client: &str, draft: Draft) -> Heard {
    world.client(client).bare(draft)
}

fn binding() -> Draft {
    Draft::request(method::BINDING)
}

fn change(flags: u8) -> Draft {
    binding().raw(CHANGE_REQUEST, &[0, 0, 0, flags])
}

/// An address attribute that is not masked, read by hand.
fn clear(heard: &Heard, wanted: u16) -> SocketAddr {
    let value = heard.value(wanted).unwrap_or_else(|| panic!("no attribute {wanted:#06x}"));
    let port = u16::from_be_bytes([value[2], value[3]]);
    match (value[1], value.len()) {
        (1, 8) => {
            let ip: [u8; 4] = value[4..].try_into().expect("four bytes");
            SocketAddr::from((ip, port))
        }
        (2, 20) => {
            let ip: [u8; 16] = value[4..].try_into().expect("sixteen bytes");
            SocketAddr::from((ip, port))
        }
        other => panic!("no address: {other:?}"),
    }
}

#[test]
fn natb_001_other_listeners_know_nothing_of_it() {
    let mut world = World::seeded(1).with_client("alice");
    for draft in [change(4), binding().raw(PADDING, &[0; 8]), binding().raw(RESPONSE_PORT, &[9, 9])]
    {
        ask(&mut world, "alice", draft).expect_code(420);
    }
    let heard = ask(&mut world, "alice", binding());
    assert_eq!(heard.kinds(), [kind::MAPPED]);
}

#[test]
fn natb_002_the_answer_names_both_ends_and_the_opposite_corner() {
    for (client, places) in [("alice", 0..4), ("carol", 4..8)] {
        for at in places.clone() {
            let mut world = world(2);
            turn_to(&mut world, client, at);
            let address = world.client(client).state().address;
            let heard = ask(&mut world, client, binding());
            heard.expect_success();
            assert_eq!(heard.kinds(), [kind::MAPPED, MAPPED_CLEAR, ORIGIN, OTHER]);
            assert_eq!(heard.mapped(), Some(address));
            assert_eq!(clear(&heard, MAPPED_CLEAR), address);
            assert_eq!(clear(&heard, ORIGIN), place(at));
            assert_eq!(clear(&heard, OTHER), place(places.start + ((at - places.start) ^ 3)));
        }
    }
}

#[test]
fn natb_002_behind_a_nat_the_public_names_are_told() {
    let mut world = World::configured(2, |config| {
        let model = config.edge.listeners()[0];
        let listen = |local: &str, public: &str| Listener {
            local: local.parse().expect("an address"),
            advertised: Some(public.parse().expect("an address")),
            ..model
        };
        let listeners = vec![
            listen("10.0.0.5:3478", "93.184.216.34"),
            listen("10.0.0.5:3479", "93.184.216.34"),
            listen("10.0.0.6:3478", "93.184.216.35"),
            listen("10.0.0.6:3479", "93.184.216.35"),
        ];
        let [a, b, c, d] = [0, 1, 2, 3].map(ListenerId);
        config.edge =
            Edge::new(listeners, vec![], vec![]).with_corners(vec![Corners::new([[a, b], [c, d]])]);
    })
    .with_client("alice");
    let heard = ask(&mut world, "alice", change(2));
    assert_eq!(clear(&heard, ORIGIN), place(1));
    assert_eq!(clear(&heard, OTHER), place(3));
}

#[test]
fn natb_003_the_answer_leaves_from_where_the_request_asks() {
    for (client, base) in [("alice", 0_usize), ("carol", 4)] {
        for at in 0..4 {
            // Bit 4 changes the address, bit 2 the port; the others mean nothing.
            for (flags, other) in [(0, 0), (2, 1), (4, 2), (6, 3), (0xF9, 0), (0xFF, 3)] {
                let mut world = world(3);
                turn_to(&mut world, client, base + at);
                let heard = ask(&mut world, client, change(flags));
                let from = world.client(client).state().heard_from.index();
                assert_eq!(from, base + (at ^ other), "flags {flags} at {at}");
                assert_eq!(clear(&heard, ORIGIN), place(from));
                assert_eq!(clear(&heard, OTHER), place(base + (at ^ 3)));
            }
        }
    }
    let mut world = world(3);
    for value in [&[][..], &[6], &[0, 0, 0, 6, 0]] {
        ask(&mut world, "alice", binding().raw(CHANGE_REQUEST, value)).expect_code(400);
    }
}

#[test]
fn natb_004_another_port_of_the_same_host_may_hear_the_answer() {
    let mut world = world(4);
    let alice = world.client("alice").state().address;
    for value in [&41_000_u16.to_be_bytes()[..], &[0xA0, 0x28, 0, 0]] {
        let request = binding().raw(RESPONSE_PORT, value);
        assert!(world.client("alice").exchange(request).is_none(), "alice hears nothing");
        let bytes = world.client("other port").state().inbox.pop_front().expect("the answer");
        let heard = Heard::read(&bytes);
        heard.expect_success();
        assert_eq!(heard.mapped(), Some(alice), "of where the request came from");
        assert_eq!(clear(&heard, ORIGIN), place(0));
    }
    let changed = change(6).raw(RESPONSE_PORT, &41_000_u16.to_be_bytes());
    assert!(world.client("alice").exchange(changed).is_none());
    assert_eq!(world.client("other port").state().heard_from, ListenerId(3), "with both");
    let both = binding().raw(RESPONSE_PORT, &41_000_u16.to_be_bytes()).raw(PADDING, &[0; 64]);
    ask(&mut world, "alice", both).expect_code(400);
    // Services of a host whose address is forged did not ask: chargen, and the last of such ports.
    for value in [&[0, 0][..], &[0, 0, 0, 0], &[0, 19], &[3, 0xFF], &[1], &[0xA0, 0x28, 0]] {
        ask(&mut world, "alice", binding().raw(RESPONSE_PORT, value)).expect_code(400);
    }
}

#[test]
fn natb_005_padding_is_answered_with_padding_and_never_with_more() {
    let mut world = world(5);
    for (sent, expected) in
        [(0, 0), (3, 3), (1_500, 1_500), (2_048, 2_048), (2_049, 2_048), (40_000, 2_048)]
    {
        let heard = ask(&mut world, "alice", binding().raw(PADDING, &vec![7; sent]));
        heard.expect_success();
        assert_eq!(heard.value(PADDING), Some(&vec![0; expected][..]), "{sent} bytes");
        assert_eq!(clear(&heard, OTHER), place(3));
    }
    let heard = ask(&mut world, "alice", change(6).raw(PADDING, &[7; 1_500]));
    assert_eq!(heard.value(PADDING).map(<[u8]>::len), Some(1_500));
    assert_eq!(world.client("alice").state().heard_from, ListenerId(3));
}

#[test]
fn natb_005_strangers_hear_a_limited_number_of_answers() {
    let mut world = world(5);
    let throttle = Throttle::new(Rate { per_s: 10, burst: 20 }, 1, world.now().mono);
    world.server = world.server.throttled(Arc::new(throttle));
    let padded = binding().raw(PADDING, &[7; 1_500]).encode();
    for _ in 0..1_000 {
        world.client("alice").send_bytes(&padded);
    }
    world.settle();
    // The rest is kept for others at this address.
    assert_eq!(world.client("alice").state().inbox.len(), 11);
}

#[test]
fn natb_007_neither_streams_nor_authenticated_requests_may_ask_for_it() {
    let mut world = world(7);
    turn_to(&mut world, "alice", 8);
    let heard = ask(&mut world, "alice", change(6));
    heard.expect_code(420);
    assert_eq!(heard.unknown(), Some(vec![CHANGE_REQUEST]));
    turn_to(&mut world, "alice", 0);
    for wish in [CHANGE_REQUEST, RESPONSE_PORT, PADDING] {
        let draft = Draft::allocate().raw(wish, &[0, 0, 0, 6]);
        let heard = world.client("alice").ask(draft);
        heard.expect_code(420);
        assert_eq!(heard.unknown(), Some(vec![wish]));
    }
    assert_eq!(world.client("alice").state().heard_from, ListenerId(0));
    // A corner serves TURN as any listener.
    turn_to(&mut world, "alice", 3);
    world.client("alice").relay();
}
