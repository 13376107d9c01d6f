//! §5.2: Connect.

use std::collections::HashSet;
use std::net::SocketAddr;

use proto::reject::Why;
use proto::turn::ConnectFailure;
use rig::kind::method;
use rig::{Arrival, Draft, Manner, World};

use crate::{TCP, configured, connection, to, world};

/// A world in which alice has a TCP relay.
fn relaying(seed: u64) -> World {
    let mut world = world(seed);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    world
}

/// Sends a signed request that is not answered yet; returns its transaction id.
#[track_caller]
fn begin(world: &mut World, draft: Draft) -> [u8; 12] {
    let id = world.dice.transaction();
    let signed = world.client("alice").state().sign(draft.transaction(id));
    assert!(world.client("alice").exchange(signed).is_none(), "no answer yet");
    id
}

/// The answer that came meanwhile.
#[track_caller]
fn answer(world: &mut World, transaction: [u8; 12]) -> rig::Heard {
    match world.client("alice").hear() {
        Some(Arrival::Response(heard)) => {
            assert_eq!(heard.transaction(), transaction);
            world.client("alice").assert_signed(&heard);
            heard
        }
        other => panic!("an answer, not {other:?}"),
    }
}

#[test]
fn tcpa_005_connect_is_refused_with_the_code_of_its_fault() {
    let bob: SocketAddr = world(1).peer_address("bob");
    let six: SocketAddr = "[2600:3c01::10]:6000".parse().unwrap();
    for (case, draft, code) in [
        ("no peer", Draft::request(method::CONNECT), 400),
        ("half a peer", Draft::request(method::CONNECT).raw(rig::kind::PEER, &[0, 1]), 400),
        ("port 0", Draft::connect(SocketAddr::new(bob.ip(), 0)), 400),
        ("another family", Draft::connect(six), 443),
        ("a private address", Draft::connect("10.0.0.1:80".parse().unwrap()), 403),
        ("our own listener", Draft::connect("93.184.216.34:3478".parse().unwrap()), 403),
        ("our own host", Draft::connect("93.184.216.34:22".parse().unwrap()), 403),
    ] {
        let mut world = relaying(1);
        assert_eq!(world.client("alice").ask(draft).code(), Some(code), "{case}");
        assert!(world.dials.calls.is_empty(), "{case}: nobody was called");
    }
    let mut world = world(1);
    let draft = to(&world, "bob");
    world.client("alice").ask(draft.clone()).expect_code(437);
    world.client("alice").relay();
    world.client("alice").ask(draft).expect_code(403);
    assert_eq!(world.rejected(Why::UdpRelay), 1);
}

#[test]
fn tcpa_005_another_user_of_the_connection_is_told_so() {
    let mut world = relaying(2);
    let draft = to(&world, "bob");
    let login = world.client("eve").state().login.clone();
    world.client("alice").state().login = login;
    world.client("alice").ask(draft).expect_code(441);
}

#[test]
fn tcpa_006_one_connection_by_connect_for_each_peer_at_a_time() {
    let mut world = relaying(3);
    let (bob, dave) = (to(&world, "bob"), to(&world, "dave"));
    // In sequence, waiting to be claimed and claimed.
    let id = connection(&world.client("alice").ask(bob.clone()));
    world.client("alice").ask(bob.clone()).expect_code(446);
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
    world.client("alice").ask(bob.clone()).expect_code(446);
    // In parallel.
    world.peer("dave").answers(Manner::Silent);
    begin(&mut world, dave.clone());
    world.client("alice").ask(dave).expect_code(446);
    world.client("alice").refresh(600).expect_success();
    // Another port of the same host is another peer.
    let other = SocketAddr::new(world.peer_address("bob").ip(), 7);
    world.client("alice").ask(Draft::connect(other)).expect_code(447);
    // Over, and free again.
    let id = *world.dials.joined.keys().next().unwrap();
    world.end_of(id);
    world.client("alice").ask(bob).expect_success();
}

#[test]
fn tcpa_006_a_connection_that_the_peer_began_is_another_matter() {
    let mut world = world(4);
    let relayed = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    world.client("alice").permit(&["bob"]).expect_success();
    assert!(world.peer("bob").connect(relayed).is_some());
    world.client("alice").hear();
    let draft = to(&world, "bob");
    world.client("alice").ask(draft).expect_success();
}

#[test]
fn tcpa_007_a_peer_that_refuses_is_reported_at_once() {
    let mut world = relaying(5);
    world.peer("bob").answers(Manner::Refuses);
    let draft = to(&world, "bob");
    world.client("alice").ask(draft.clone()).expect_code(447);
    world.peer("bob").answers(Manner::Accepts);
    world.client("alice").ask(draft).expect_success();
}

#[test]
fn tcpa_007_a_silent_peer_is_waited_for_half_a_minute_and_nobody_else_waits() {
    let mut world = relaying(6);
    world.peer("bob").answers(Manner::Silent);
    let (bob, dave) = (to(&world, "bob"), to(&world, "dave"));
    let waiting = begin(&mut world, bob.clone());
    for _ in 0..29 {
        world.advance_s(1);
        world.client("alice").refresh(600).expect_success();
    }
    world.client("alice").ask(dave).expect_success();
    world.client("alice").expect_silence();
    world.advance_s(1);
    answer(&mut world, waiting).expect_code(447);
    assert_eq!(world.dials.open.len(), 1, "the call was given up, dave's connection waits");
    // What the shell still reports of it means nothing.
    let waiting = begin(&mut world, bob);
    let call = *world.dials.open.iter().find(|id| !world.dials.joined.contains_key(id)).unwrap();
    world.advance_s(30);
    answer(&mut world, waiting).expect_code(447);
    let now = world.now();
    world.server.peer_connected(now, call, Ok(()));
    assert!(world.server.poll_action().is_none());
}

#[test]
fn tcpa_007_without_descriptors_it_is_our_fault() {
    let mut world = relaying(7);
    world.peer("bob").answers(Manner::Silent);
    let draft = to(&world, "bob");
    let waiting = begin(&mut world, draft);
    let call = *world.dials.open.first().unwrap();
    world.connected(call, Err(ConnectFailure::Exhausted));
    world.advance_s(0);
    world.client("alice").refresh(600).expect_success();
    answer(&mut world, waiting).expect_code(508);
}

#[test]
fn tcpa_008_ids_are_unique_while_in_use() {
    let mut world = configured(8, |config| {
        config.limits.peer_connections = 1_000;
        config.limits.peer_connections_waiting = 1_000;
        config.limits.peer_connections_per_user = 1_000;
        config.limits.peer_connections_per_client = 1_000;
        config.limits.new_peers_per_minute = 1_000;
    });
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    let host = world.peer_address("bob").ip();
    let mut world = (1..=1_000).fold(world, |world, n| {
        world.with_peer_at(&n.to_string(), SocketAddr::new(host, 10_000 + n))
    });
    let mut seen = HashSet::new();
    for n in 1..=1_000_u16 {
        let draft = Draft::connect(SocketAddr::new(host, 10_000 + n));
        let id = connection(&world.client("alice").ask(draft));
        assert!(seen.insert(id), "{id} twice");
    }
    let neighbours = seen.iter().filter(|id| seen.contains(&id.wrapping_add(1))).count();
    assert_eq!(neighbours, 0, "ids in no order");
}

#[test]
fn tcpa_009_connect_needs_no_permission_and_obeys_the_peer_policy() {
    let mut world = relaying(9);
    assert_eq!(world.server.tally().permissions, 0);
    let draft = to(&world, "bob");
    world.client("alice").ask(draft).expect_success();
    let calls = world.dials.calls.len();
    for denied in ["127.0.0.1:80", "10.1.2.3:22", "169.254.169.254:80", "224.0.0.1:7"] {
        let draft = Draft::connect(denied.parse().unwrap());
        assert_eq!(world.client("alice").ask(draft).code(), Some(403), "{denied}");
    }
    assert_eq!(world.dials.calls.len(), calls);
}

#[test]
fn sec_009_waiting_connections_of_an_allocation_are_bounded() {
    let mut world = configured(10, |config| {
        config.limits.peer_connections = 3;
        config.limits.peer_connections_waiting = 2;
    });
    world = world.with_peer("frank").with_peer("grace");
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    let first = to(&world, "bob");
    let first = connection(&world.client("alice").ask(first));
    let draft = to(&world, "dave");
    let second = connection(&world.client("alice").ask(draft));
    let third = to(&world, "frank");
    world.client("alice").ask(third.clone()).expect_code(508);
    for (data, id) in [("data", first), ("more data", second)] {
        assert_eq!(world.client(data).state().listener, TCP);
        world.client(data).ask(Draft::connection_bind(id)).expect_success();
    }
    world.client("alice").ask(third).expect_success();
    let fourth = to(&world, "grace");
    world.client("alice").ask(fourth).expect_code(508);
    assert_eq!(world.rejected(Why::TooManyConnections), 2);
}

#[test]
fn sec_009_connections_of_a_user_of_a_client_and_in_all_are_bounded() {
    for (case, user, client, total, code, why) in [
        ("user", 2, 9, 9, 486, Why::UserConnections),
        ("client", 9, 2, 9, 486, Why::ClientConnections),
        ("all", 9, 9, 2, 508, Why::TotalConnections),
    ] {
        let mut world = configured(11, |config| {
            config.limits.peer_connections_per_user = user;
            config.limits.peer_connections_per_client = client;
            config.limits.peer_connections_total = total;
            config.limits.new_peers_per_minute = 3;
        });
        // Two allocations of one user at one address.
        let home = world.client("alice").state().address;
        world.client("data").state().address = SocketAddr::new(home.ip(), home.port() + 1);
        for name in ["alice", "data", "eve"] {
            world.client(name).allocate_with(Draft::allocate_tcp()).expect_success();
        }
        let (bob, dave) = (to(&world, "bob"), to(&world, "dave"));
        connection(&world.client("alice").ask(bob.clone()));
        connection(&world.client("data").ask(bob.clone()));
        // A refusal is charged to nobody, and is no new peer either.
        for _ in 0..5 {
            world.client("alice").ask(dave.clone()).expect_code(code);
        }
        assert_eq!((world.rejected(why), world.books.connections()), (5, 2), "{case}");
        let others = world.client("eve").ask(bob.clone()).code();
        assert_eq!(others, (why == Why::TotalConnections).then_some(508), "{case}");
        // Whatever ends is credited at once: with its allocation,
        world.client("data").refresh(0).expect_success();
        connection(&world.client("alice").ask(dave.clone()));
        world.client("alice").ask(bob.clone()).expect_code(446);
        // or because nobody claims it.
        world.advance_s(31);
        assert_eq!(world.books.connections(), 0, "{case}");
        connection(&world.client("alice").ask(bob));
        world.check();
    }
}

#[test]
fn sec_009_a_connect_that_fails_is_credited() {
    let mut world = configured(12, |config| config.limits.peer_connections_per_user = 1);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    let host = world.peer_address("bob").ip();
    for port in 1..=5 {
        world.client("alice").ask(Draft::connect(SocketAddr::new(host, port))).expect_code(447);
        assert_eq!(world.books.connections(), 0);
    }
    let draft = to(&world, "bob");
    connection(&world.client("alice").ask(draft));
}

#[test]
fn sec_009_ports_of_a_peer_cannot_be_scanned_by_connect() {
    let mut world = configured(4, |config| config.limits.new_peers_per_minute = 3);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    let host = world.peer_address("bob").ip();
    for port in 1..=3 {
        world.client("alice").ask(Draft::connect(SocketAddr::new(host, port))).expect_code(447);
    }
    let next = Draft::connect(SocketAddr::new(host, 4));
    world.client("alice").ask(next.clone()).expect_code(403);
    assert_eq!(world.rejected(Why::TooManyNewPeers), 1);
    assert_eq!(world.dials.calls.len(), 3, "nobody was called");
    world.advance_s(20);
    world.client("alice").ask(next).expect_code(447);
}

#[test]
fn sec_009_ports_of_a_peer_cannot_be_scanned_by_allocating_again() {
    let mut world = configured(4, |config| {
        config.limits.new_peers_per_minute = 3;
        config.limits.new_peers_per_minute_per_user = 5;
    });
    let host = world.peer_address("bob").ip();
    let mut codes = Vec::new();
    for turn in 0..4 {
        world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
        for port in 1..=3 {
            let draft = Draft::connect(SocketAddr::new(host, turn * 10 + port));
            codes.push(world.client("alice").ask(draft).code());
        }
        world.client("alice").refresh(0).expect_success();
    }
    let called = codes.iter().filter(|code| **code == Some(447)).count();
    let refused = codes.iter().filter(|code| **code == Some(403)).count();
    assert_eq!((called, refused), (5, 7));
    assert_eq!(world.rejected(Why::UserNewPeers), 7);
    assert_eq!((world.dials.calls.len(), world.books.connections()), (5, 0));
}
