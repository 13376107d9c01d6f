//! §13–§15: what the headers of relayed datagrams say.

use std::num::NonZeroU8;

use proto::addr::Transport;
use proto::marks::Marks;
use proto::policy::{Edge, Listener};
use proto::reject::DropReason;
use rig::{Draft, World, kind};

const SIX: &[u8] = &[2, 0, 0, 0];

/// A client and a peer of each family, and four calls between them: client, peer.
const PAIRINGS: [(&str, &str); 4] =
    [("alice", "bob"), ("alice", "dave"), ("carol", "bob"), ("carol", "dave")];

fn marks(class: u8, hops: u8) -> Marks {
    Marks { class, hops: NonZeroU8::new(hops), dont_fragment: false }
}

/// A world in which this client has a relay of the peer's family and a permission for it.
fn call(seed: u64, client: &str, peer: &str) -> World {
    let mut world = World::seeded(seed)
        .with_client("alice")
        .with_client6("carol")
        .with_peer("bob")
        .with_peer6("dave");
    let draft = Draft::allocate();
    let six = world.peer_address(peer).is_ipv6();
    let draft = if six { draft.raw(kind::FAMILY, SIX) } else { draft };
    world.client(client).allocate_with(draft).expect_success();
    world.client(client).permit(&[peer]).expect_success();
    world
}

/// What peer and client see of datagrams that were sent with these marks, by indication and by
/// channel.
fn seen(world: &mut World, client: &str, peer: &str, sent: Marks) -> [Marks; 4] {
    let relayed = world.client(client).state().relayed.expect("allocated");
    let mut seen = Vec::new();
    for channel in [false, true] {
        world.marks = Marks::PLAIN;
        if channel {
            world.client(client).bind(0x4000, peer).expect_success();
        }
        world.marks = sent;
        if channel {
            world.client(client).send_channel(0x4000, b"up");
        } else {
            world.client(client).send(peer, b"up");
        }
        world.peer(peer).expect(b"up");
        seen.push(world.peer(peer).marks());
        world.peer(peer).send(relayed, b"down");
        world.client(client).take().expect("it came down");
        seen.push(world.client(client).state().marks);
    }
    seen.try_into().expect("four datagrams")
}

#[test]
fn iphdr_001_dscp_is_carried_both_ways_and_between_families() {
    for (client, peer) in PAIRINGS {
        for dscp in [0, 8, 34, 46, 63] {
            let mut world = call(1, client, peer);
            let seen = seen(&mut world, client, peer, marks(dscp << 2, 64));
            assert_eq!(seen.map(|it| it.class >> 2), [dscp; 4], "{client} and {peer}");
        }
    }
}

#[test]
fn iphdr_002_ecn_is_carried_congestion_included() {
    for (client, peer) in PAIRINGS {
        for ecn in 0..4 {
            let mut world = call(2, client, peer);
            let seen = seen(&mut world, client, peer, marks(46 << 2 | ecn, 64));
            assert_eq!(seen.map(|it| it.class & 3), [ecn; 4], "{client} and {peer}");
        }
    }
}

#[test]
fn iphdr_003_df_follows_the_attribute_and_never_the_incoming_bit() {
    let mut world = call(3, "alice", "bob");
    for incoming in [false, true] {
        let sent = Marks { dont_fragment: incoming, ..marks(0, 64) };
        let seen = seen(&mut world, "alice", "bob", sent);
        assert!(seen.iter().all(|it| !it.dont_fragment), "incoming DF {incoming}");
        world.marks = sent;
        let bob = world.peer_address("bob");
        let whole = Draft::send(bob, b"whole").raw(kind::DONT_FRAGMENT, b"").encode();
        world.client("alice").send_bytes(&whole);
        world.settle();
        world.peer("bob").expect(b"whole");
        assert!(world.peer("bob").marks().dont_fragment, "incoming DF {incoming}");
    }
}

#[test]
fn iphdr_005_from_a_stream_nothing_is_carried_but_the_wish_for_df() {
    let mut world = World::configured(5, |config| {
        let streams = config.edge.listeners().iter();
        let streams = streams.map(|it| Listener { transport: Transport::Tcp, ..*it }).collect();
        let relays = proto::addr::Family::ALL.into_iter().flat_map(|f| config.edge.relays(f));
        config.edge = Edge::new(streams, relays.copied().collect(), Vec::new());
    })
    .with_client("alice")
    .with_client6("carol")
    .with_peer("bob")
    .with_peer6("dave");
    let bob = world.peer_address("bob");
    for client in ["alice", "carol"] {
        let draft = Draft::allocate().raw(kind::DONT_FRAGMENT, b"");
        world.client(client).allocate_with(draft).expect_success();
        world.client(client).permit(&["bob"]).expect_success();
        for whole in [false, true] {
            let draft = Draft::send(bob, b"framed");
            let draft = if whole { draft.raw(kind::DONT_FRAGMENT, b"") } else { draft };
            world.client(client).send_bytes(&draft.encode());
            world.settle();
            world.peer("bob").expect(b"framed");
            assert_eq!(world.peer("bob").marks(), Marks { dont_fragment: whole, ..Marks::PLAIN });
        }
    }
    // Toward IPv6 it cannot be kept: what demands it is dropped (§11.2, §15).
    world.client("alice").refresh(0).expect_success();
    world.client("alice").allocate_with(Draft::allocate().raw(kind::FAMILY, SIX)).expect_success();
    world.client("alice").permit(&["dave"]).expect_success();
    let dave = world.peer_address("dave");
    let draft = Draft::send(dave, b"framed").raw(kind::DONT_FRAGMENT, b"");
    assert!(world.client("alice").exchange(draft).is_none());
    world.peer("dave").expect_silence();
    assert_eq!(world.dropped(DropReason::DontFragment), 1);
}

#[test]
fn iphdr_006_into_a_stream_nothing_is_carried_and_a_datagram_is_one_frame() {
    let mut world = World::seeded(6).with_tcp_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    world.marks = Marks { dont_fragment: true, ..marks(0xBB, 2) };
    // What fragments carried arrives here as one datagram, up to the most that UDP carries.
    for size in [1, 1_472, 1_473, 9_000, 65_507 - 36] {
        let payload = world.dice.bytes(size);
        world.peer("bob").send(relayed, &payload);
        world.client("alice").expect_data("bob", &payload);
        assert_eq!(world.client("alice").state().marks, Marks::PLAIN);
    }
    world.marks = Marks::PLAIN;
    world.client("alice").bind(0x4000, "bob").expect_success();
    let payload = world.dice.bytes(65_507);
    world.peer("bob").send(relayed, &payload);
    world.client("alice").expect_channel(0x4000, &payload);
}

#[test]
fn iphdr_007_between_families_hops_are_carried_and_the_wish_for_df_is_ignored() {
    for (client, peer) in &PAIRINGS[1..] {
        let mut world = call(7, client, peer);
        let seen = seen(&mut world, client, peer, marks(0, 64));
        assert_eq!(seen, [marks(0, 63); 4], "{client} and {peer}");
        world.marks = marks(0, 64);
        let address = world.peer_address(peer);
        let draft = Draft::send(address, b"hello").raw(kind::DONT_FRAGMENT, b"");
        world.client(client).send_bytes(&draft.encode());
        world.settle();
        world.peer(peer).expect(b"hello");
        assert_eq!(world.peer(peer).marks(), marks(0, 63), "{client} and {peer}");
    }
}

#[test]
fn iphdr_009_what_has_no_hop_left_ends_here() {
    for (client, peer) in PAIRINGS {
        let mut world = call(9, client, peer);
        let relayed = world.client(client).state().relayed.expect("allocated");
        world.client(client).bind(0x4000, peer).expect_success();
        let seen = seen(&mut world, client, peer, marks(0, 2));
        assert_eq!(seen, [marks(0, 1); 4], "{client} and {peer}");
        world.marks = marks(0, 1);
        world.client(client).send_channel(0x4000, b"too far");
        world.client(client).send(peer, b"too far");
        world.peer(peer).send(relayed, b"too far");
        world.peer(peer).expect_silence();
        world.client(client).expect_silence();
        assert_eq!(world.dropped(DropReason::HopLimit), 3);
        // What is said to the relay itself has arrived.
        world.client(client).refresh(600).expect_success();
    }
}

#[test]
fn iphdr_009_a_circle_of_relays_comes_to_an_end() {
    // Each of two clients is the peer of the other, and sends everything on that it hears.
    let mut world = World::seeded(10).with_client("alice").with_client("erin");
    let to_alice = world.client("alice").relay();
    let to_erin = world.client("erin").relay();
    world.client("alice").bind_address(0x4000, to_erin).expect_success();
    world.client("erin").bind_address(0x4000, to_alice).expect_success();
    let mut hops = marks(0, 64);
    let mut turns = 0;
    let names = ["alice", "erin"];
    loop {
        world.marks = hops;
        world.client(names[turns % 2]).send_channel(0x4000, b"round");
        let hearer = names[(turns + 1) % 2];
        if world.client(hearer).take().is_none() {
            break;
        }
        hops = world.client(hearer).state().marks;
        turns += 1;
    }
    assert_eq!(turns, 31, "two hops a turn: one at each relayed address");
    assert_eq!(world.dropped(DropReason::HopLimit), 1);
}
