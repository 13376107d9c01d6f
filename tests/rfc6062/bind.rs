//! §5.4, §5.5: `ConnectionBind`, and how connections end.

use proto::addr::{ClientAddr, ConnectionId, FiveTuple, ListenerId};
use proto::reject::Why;
use proto::turn::tally::{Flow, Usage};
use rig::{Draft, World, kind};

use crate::{DTLS, TCP, TLS, connection, to, world};

/// Alice has a TCP relay and a connection to bob that nobody has claimed.
fn unclaimed(seed: u64) -> (World, u32) {
    let mut world = world(seed);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    let draft = to(&world, "bob");
    let id = connection(&world.client("alice").ask(draft));
    (world, id)
}

/// The five-tuple of a client.
fn five_tuple(world: &mut World, name: &str) -> FiveTuple {
    let mut client = world.client(name);
    let state = client.state();
    FiveTuple { listener: state.listener, client: ClientAddr::new(state.address) }
}

#[test]
fn tcpa_012_connection_bind_is_for_streams() {
    for (case, listener, expected) in [
        ("UDP", ListenerId(0), Some(400)),
        ("TCP", TCP, None),
        ("TLS", TLS, None),
        ("DTLS", DTLS, Some(400)),
    ] {
        let (mut world, id) = unclaimed(1);
        world.client("data").state().listener = listener;
        let heard = world.client("data").ask(Draft::connection_bind(id));
        assert_eq!(heard.code(), expected, "{case}");
        assert_eq!(world.dials.joined.len(), usize::from(expected.is_none()), "{case}");
    }
}

#[test]
fn tcpa_012_the_connection_must_wait_for_this_very_claim() {
    let (mut world, id) = unclaimed(2);
    let bare = Draft::request(kind::method::CONNECTION_BIND);
    world.client("data").ask(bare.clone()).expect_code(400);
    world.client("data").ask(bare.raw(kind::CONNECTION_ID, &[1, 2])).expect_code(400);
    world.client("data").ask(Draft::connection_bind(id ^ 1)).expect_code(400);
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
    world.client("more data").ask(Draft::connection_bind(id)).expect_code(400);
    assert_eq!(world.rejected(Why::UnknownConnection), 2);
}

#[test]
fn tcpa_012_a_connection_being_made_cannot_be_claimed() {
    let mut world = world(3);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    world.peer("bob").answers(rig::Manner::Silent);
    let draft = to(&world, "bob");
    let signed = world.client("alice").state().sign(draft);
    assert!(world.client("alice").exchange(signed).is_none());
    let ConnectionId(id) = *world.dials.open.first().unwrap();
    world.client("data").ask(Draft::connection_bind(id)).expect_code(400);
}

#[test]
fn tcpa_012_only_the_owner_claims_a_connection() {
    let (mut world, id) = unclaimed(4);
    world.client("eve").ask(Draft::connection_bind(id)).expect_code(441);
    world.client("data").know_the_realm();
    let honest = world.client("data").state().login.clone();
    world.client("data").state().login.password = "wrong".into();
    world.client("data").ask(Draft::connection_bind(id)).expect_code(401);
    world.client("data").state().login = honest;
    world.client("data").bare(Draft::connection_bind(id)).expect_code(401);
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
}

#[test]
fn tcpa_012_a_control_connection_stays_one() {
    let (mut world, id) = unclaimed(5);
    world.client("alice").ask(Draft::connection_bind(id)).expect_code(400);
    assert_eq!(world.rejected(Why::ControlConnection), 1);
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
    world.client("alice").refresh(600).expect_success();
}

#[test]
fn tcpa_013_the_success_is_signed_and_joins_the_two_connections() {
    let (mut world, id) = unclaimed(6);
    // `ask` verifies the integrity of the answer.
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
    let data = five_tuple(&mut world, "data");
    assert_eq!(world.dials.joined.get(&ConnectionId(id)), Some(&data));
}

#[test]
fn tcpa_015_a_pipe_that_ends_leaves_nothing_behind() {
    let (mut world, id) = unclaimed(7);
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
    assert_eq!(world.server.tally().connections, 1);
    world.end_of(ConnectionId(id));
    assert_eq!(world.server.tally().connections, 0);
    assert_eq!(world.server.tally().allocations, 1);
    world.client("more data").ask(Draft::connection_bind(id)).expect_code(400);
}

#[test]
fn tcpa_015_connections_end_with_their_allocation() {
    for (case, end) in [
        ("released", (|world| drop(world.client("alice").refresh(0))) as fn(&mut World)),
        ("shut down", World::shut_down),
        ("the control connection ended", |world| {
            let (now, gone) = (world.now(), five_tuple(world, "alice"));
            world.server.client_gone(now, gone);
            world.advance_s(0);
            world.client("eve").refresh(0);
        }),
    ] {
        let (mut world, id) = unclaimed(8);
        world.client("data").ask(Draft::connection_bind(id)).expect_success();
        let draft = to(&world, "dave");
        world.client("alice").ask(draft).expect_success();
        assert_eq!(world.dials.open.len(), 2, "{case}");
        end(&mut world);
        assert_eq!(world.dials.open.len(), 0, "{case}");
        assert_eq!(world.server.tally().allocations, 0, "{case}");
    }
}

#[test]
fn tcpa_015_a_connect_that_waits_is_answered_when_the_allocation_ends() {
    let mut world = world(9);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    world.peer("bob").answers(rig::Manner::Silent);
    let draft = to(&world, "bob");
    let signed = world.client("alice").state().sign(draft.transaction([5; 12]));
    assert!(world.client("alice").exchange(signed).is_none());
    world.client("alice").refresh(0).expect_success();
    match world.client("alice").hear() {
        Some(rig::Arrival::Response(heard)) => {
            assert_eq!(heard.transaction(), [5; 12]);
            heard.expect_code(447);
        }
        other => panic!("an answer, not {other:?}"),
    }
}

#[test]
fn tcpa_016_data_connections_live_while_the_control_connection_refreshes() {
    let (mut world, id) = unclaimed(10);
    world.client("data").ask(Draft::connection_bind(id)).expect_success();
    for _ in 0..3 {
        world.advance_s(500);
        world.client("alice").refresh(600).expect_success();
    }
    assert_eq!(world.dials.joined.len(), 1);
    // Bytes alone keep nothing alive.
    for _ in 0..59 {
        world.advance_s(10);
        let flow = Flow { packets: 1, bytes: 1_000 };
        let usage = Usage { to_peer: flow, to_client: flow };
        world.server.connection_carried(ConnectionId(id), usage);
    }
    assert_eq!(world.dials.joined.len(), 1);
    let now = world.now();
    let view = world.server.allocations(now).next().expect("alive");
    assert_eq!(view.usage.to_peer.bytes, 59_000, "data connections count");
    assert_eq!(world.server.tally().via_connection.to_client.packets, 59);
    world.advance_s(11);
    assert_eq!(world.dials.open.len(), 0);
    assert_eq!(world.server.tally().allocations, 0);
}
