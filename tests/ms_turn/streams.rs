//! Allocations over TCP: their relayed addresses are TCP too, and peers' streams travel in messages.

use std::net::SocketAddr;

use proto::addr::ConnectionId;
use proto::reject::DropReason;
use rig::{Manner, MsArrival, World};

use super::world_with;

/// A world with a client on TCP that has an allocation; `features.tcp_relays` is off.
fn relaying(seed: u64) -> (World, SocketAddr) {
    relaying_with(seed, 64)
}

/// The same with another bound of connections.
fn relaying_with(seed: u64, connections: usize) -> (World, SocketAddr) {
    let world = world_with(seed, |config| {
        config.tcp_relays = false;
        config.limits.peer_connections = connections;
    });
    let mut world = world.with_ms_tcp_client("tina");
    let relayed = world.ms("tina").relay();
    (world, relayed)
}

/// The only connection there is.
#[track_caller]
fn only(world: &World) -> ConnectionId {
    let open: Vec<_> = world.dials.open.iter().collect();
    assert_eq!(open.len(), 1);
    *open[0]
}

/// What clients had sent on connections, since it was asked last.
fn chunks(world: &mut World) -> Vec<Vec<u8>> {
    std::mem::take(&mut world.dials.chunks).into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn mst_068_an_allocate_over_tcp_gets_a_tcp_port_without_rfc_6062() {
    let (mut world, relayed) = relaying(68);
    // It listens there: who calls is asked for its permission, and has none.
    assert_eq!(world.peer("bob").connect(relayed), None);
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    world.ms("alice").relay();
    world.check();
}

#[test]
fn mst_090_the_first_send_calls_and_all_of_them_go_the_same_way() {
    let (mut world, relayed) = relaying(90);
    let bob = world.peer_address("bob");
    for payload in [&b"\0\x05first"[..], b"\0\x06second", b""] {
        world.ms("tina").send("bob", payload);
    }
    assert_eq!(world.dials.calls, [(relayed, bob)], "one call, from the relayed address");
    assert_eq!(chunks(&mut world), [&b"\0\x05first"[..], b"\0\x06second", b""], "MST-89");
    let connection = only(&world);
    assert!(world.chunk(connection, b"\0\x02ok"));
    world.ms("tina").expect_data("bob", b"\0\x02ok");
    world.ms("tina").expect_silence();
    // The peer ends it: the next Send calls again.
    world.end_of(connection);
    world.ms("tina").send("bob", b"still there?");
    assert_eq!(world.dials.calls.len(), 2);
    world.check();
}

#[test]
fn mst_085_a_peer_that_cannot_be_reached_is_not_spoken_of() {
    for (manner, calls) in [(Manner::Refuses, 2), (Manner::Silent, 1)] {
        let (mut world, _) = relaying(85);
        world.peer("bob").answers(manner);
        world.ms("tina").send("bob", b"once");
        world.ms("tina").send("bob", b"twice");
        world.ms("tina").expect_silence();
        assert_eq!(world.dials.calls.len(), calls, "{manner:?}: who refused is called again");
        world.check();
    }
}

#[test]
fn mst_099_the_stream_of_the_active_destination_is_bare_and_of_others_is_not() {
    let (mut world, _) = relaying(99);
    world.ms("tina").aim("bob").expect_success();
    world.ms("tina").send_bytes(b"\x80bare");
    let bob = only(&world);
    world.ms("tina").send("dave", b"hello");
    assert_eq!(chunks(&mut world), [&b"\x80bare"[..], b"hello"]);
    let dave = *world.dials.open.iter().find(|it| **it != bob).unwrap();
    assert!(world.chunk(bob, b"\x80back") && world.chunk(dave, b"hi"));
    world.ms("tina").expect_bare(b"\x80back");
    world.ms("tina").expect_data("dave", b"hi");
    world.ms("tina").aim("dave").expect_success();
    assert!(world.chunk(bob, b"still") && world.chunk(dave, b"now bare"));
    world.ms("tina").expect_data("bob", b"still");
    world.ms("tina").expect_bare(b"now bare");
}

#[test]
fn mst_090_a_permitted_peer_may_call_and_its_new_connection_replaces_the_old() {
    let (mut world, relayed) = relaying(91);
    world.peer("bob").answers(Manner::Refuses);
    world.ms("tina").send("bob", b"may call");
    chunks(&mut world);
    let first = world.peer("bob").connect(relayed).expect("a permission");
    world.ms("tina").expect_silence();
    assert!(world.chunk(first, b"me"));
    world.ms("tina").expect_data("bob", b"me");
    world.ms("tina").send("bob", b"you");
    assert_eq!(world.dials.chunks, [(first, b"you".to_vec())], "no call: bob is there");
    let second = world.peer("bob").connect(relayed).expect("a permission");
    assert_eq!(only(&world), second);
    assert!(!world.chunk(first, b"old"));
}

#[test]
fn mst_092_numbers_may_come_twice_over_tcp() {
    let (mut world, _) = relaying(92);
    let bob = world.peer_address("bob");
    for payload in [&b"active"[..], b"passive"] {
        let draft = world.ms("tina").send_draft(1, bob, payload);
        world.ms("tina").send_bytes(&draft.encode());
    }
    assert_eq!(chunks(&mut world), [&b"active"[..], b"passive"]);
}

#[test]
fn mst_112_peers_over_tcp_are_under_the_policy_and_the_bound_of_connections() {
    let (mut world, _) = relaying_with(112, 1);
    world.ms("tina").send_to("10.0.0.1:80".parse().unwrap(), b"inside");
    assert_eq!(world.dropped(DropReason::PeerDenied), 1);
    world.ms("tina").send("bob", b"one");
    world.ms("tina").send("dave", b"one more");
    assert_eq!((chunks(&mut world).len(), world.dials.calls.len()), (1, 1));
    assert_eq!(world.dropped(DropReason::TooManyConnections), 1);
}

#[test]
fn sec_009_peers_over_tcp_count_for_the_user_like_those_of_rfc_6062() {
    let world = world_with(113, |config| {
        config.limits.peer_connections_per_user = 1;
        config.limits.peer_connections_per_client = 9;
    });
    let mut world = world.with_ms_tcp_client("tina");
    let relayed = world.ms("tina").relay();
    world.ms("tina").send("bob", b"one");
    world.ms("tina").send("dave", b"one more");
    assert_eq!((chunks(&mut world).len(), world.dials.calls.len()), (1, 1));
    assert_eq!(world.peer("dave").connect(relayed), None, "a peer that calls is one more as well");
    assert_eq!(world.dropped(DropReason::UserConnections), 2);
    world.client("tina").hang_up();
    assert_eq!(world.books.connections(), 0);
}

#[test]
fn mst_080_with_its_connection_a_client_loses_its_allocation() {
    let (mut world, _) = relaying(80);
    world.ms("tina").send("bob", b"hello");
    let connection = only(&world);
    world.client("tina").hang_up();
    assert_eq!(world.server.tally().allocations, 0);
    assert!(world.dials.open.is_empty(), "and its peers");
    assert!(!world.chunk(connection, b"too late"));
    world.check();
}

#[test]
fn mst_078_an_allocation_over_tcp_lives_as_long_as_its_connection_is_used() {
    let (mut world, _) = relaying(78);
    world.ms("tina").send("bob", b"hello");
    let connection = only(&world);
    for _ in 0..5 {
        world.advance_s(20 * 60);
        assert!(world.chunk(connection, b"from the peer alone"));
    }
    while let Some(MsArrival::Data(..)) = world.ms("tina").take() {}
    world.advance_s(81 * 60);
    assert!(world.dials.open.is_empty(), "a still one ends");
}
