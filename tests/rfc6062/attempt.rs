//! §5.3: a peer connects to the relayed address.

use proto::reject::DropReason;
use rig::Draft;

use crate::{attempt, configured, world};

#[test]
fn tcpa_010_a_peer_is_announced_if_it_is_permitted_and_closed_if_not() {
    let mut world = world(1);
    let relayed = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    world.client("alice").permit(&["bob"]).expect_success();
    assert_eq!(world.peer("dave").connect(relayed), None);
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    let id = world.peer("bob").connect(relayed).expect("accepted");
    assert_eq!(attempt(&mut world, "alice"), (world.peer_address("bob"), id.0));
    world.client("alice").expect_silence();
    // The permission has ended.
    world.advance_s(301);
    assert_eq!(world.peer("bob").connect(relayed), None);
}

#[test]
fn tcpa_011_an_unclaimed_connection_is_closed_after_half_a_minute() {
    for by_connect in [true, false] {
        for (wait, alive) in [(29, true), (31, false)] {
            let mut world = world(2);
            let heard = world.client("alice").allocate_with(Draft::allocate_tcp());
            let relayed = heard.relayed().unwrap();
            let id = if by_connect {
                let draft = crate::to(&world, "bob");
                crate::connection(&world.client("alice").ask(draft))
            } else {
                world.client("alice").permit(&["bob"]).expect_success();
                world.peer("bob").connect(relayed).unwrap();
                attempt(&mut world, "alice").1
            };
            world.client("data").know_the_realm();
            world.advance_s(wait);
            assert_eq!(world.dials.open.len(), usize::from(alive), "after {wait} s");
            let heard = world.client("data").ask(Draft::connection_bind(id));
            assert_eq!(heard.code(), if alive { None } else { Some(400) }, "after {wait} s");
            // Claimed, it is not bound to half a minute any more.
            world.advance_s(100);
            assert_eq!(world.dials.joined.len(), usize::from(alive), "after {wait} s");
        }
    }
}

#[test]
fn sec_009_peers_that_nobody_claims_are_bounded() {
    let mut world = configured(3, |config| config.limits.peer_connections_waiting = 2);
    let relayed = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    world.client("alice").permit(&["bob"]).expect_success();
    assert!(world.peer("bob").connect(relayed).is_some());
    assert!(world.peer("bob").connect(relayed).is_some());
    assert_eq!(world.peer("bob").connect(relayed), None);
    assert_eq!(world.dropped(DropReason::TooManyConnections), 1);
    world.advance_s(31);
    assert!(world.peer("bob").connect(relayed).is_some());
}

#[test]
fn sec_009_peers_beyond_the_limits_of_user_client_and_relay_are_closed_at_once() {
    for (case, user, client, total, reason) in [
        ("user", 1, 9, 9, DropReason::UserConnections),
        ("client", 9, 1, 9, DropReason::ClientConnections),
        ("all", 9, 9, 1, DropReason::TotalConnections),
    ] {
        let mut world = configured(3, |config| {
            config.limits.peer_connections_per_user = user;
            config.limits.peer_connections_per_client = client;
            config.limits.peer_connections_total = total;
        });
        let relayed = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
        world.client("alice").permit(&["bob"]).expect_success();
        assert!(world.peer("bob").connect(relayed).is_some());
        assert_eq!(world.peer("bob").connect(relayed), None, "{case}");
        assert_eq!((world.dropped(reason), world.books.connections()), (1, 1), "{case}");
        world.advance_s(31);
        assert!(world.peer("bob").connect(relayed).is_some(), "{case}");
    }
}

#[test]
fn tcpa_010_a_peer_that_hangs_up_unclaimed_is_forgotten() {
    let mut world = world(4);
    let relayed = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    world.client("alice").permit(&["bob"]).expect_success();
    let id = world.peer("bob").connect(relayed).unwrap();
    world.end_of(id);
    world.client("data").ask(Draft::connection_bind(id.0)).expect_code(400);
    assert_eq!(world.server.tally().connections, 0);
}

#[test]
fn tcpa_010_two_clients_of_one_relay_reach_each_other() {
    let mut world = world(5);
    let alices = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    let eves = world.client("eve").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    world.client("eve").permit_addresses(&[alices]).expect_success();
    world = world.with_peer_at("alice's relay", alices).with_peer_at("eve's relay", eves);
    world.client("alice").ask(Draft::connect(eves)).expect_success();
    assert!(world.peer("alice's relay").connect(eves).is_some());
    assert_eq!(attempt(&mut world, "eve").0, alices);
    // A port of the host that is no relayed address is no peer.
    let nobody = std::net::SocketAddr::new(eves.ip(), 49_999);
    world.client("alice").ask(Draft::connect(nobody)).expect_code(403);
}
