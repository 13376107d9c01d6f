//! §2, §5: the five-tuple names the allocation.

use proto::addr::ListenerId;
use proto::reject::DropReason;
use rig::{Draft, World};

#[test]
fn alloc_002_the_local_address_belongs_to_the_five_tuple() {
    let mut world = World::seeded(2).with_client("alice").with_peer("bob");
    let first = world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    // The same socket of the client, towards another port of the server.
    world.client("alice").state().listener = ListenerId(2);
    world.client("alice").refresh(600).expect_code(437);
    let second = world.client("alice").relay();
    assert_ne!(first, second);
    world.client("alice").send("bob", b"no permission here");
    world.peer("bob").expect_silence();
    world.client("alice").refresh(0).expect_success();
    world.client("alice").state().listener = ListenerId(0);
    world.client("alice").send("bob", b"still there");
    assert_eq!(world.peer("bob").expect(b"still there"), first);
}

#[test]
fn alloc_002_clients_that_differ_in_port_or_host_are_different() {
    let mut world = World::seeded(2)
        .with_client("alice")
        .with_client_at("port", "81.2.69.10:40001".parse().expect("an address"))
        .with_client_at("host", "81.2.69.11:40000".parse().expect("an address"));
    let relayed = world.client("alice").relay();
    for other in ["port", "host"] {
        world.client(other).refresh(0).expect_code(437);
        assert_ne!(world.client(other).relay(), relayed);
    }
    assert_eq!(world.server.tally().allocations, 3);
}

#[test]
fn chan_011_channel_data_without_a_binding_is_dropped() {
    let mut world = World::seeded(11).with_client("alice").with_client("idle").with_peer("bob");
    world.client("idle").send_channel(0x4000, b"hello");
    assert_eq!(world.dropped(DropReason::NoAllocation), 1, "no allocation");
    world.client("alice").relay();
    world.client("alice").bind(0x4000, "bob").expect_success();
    for (number, reason) in [(0x4001, DropReason::NoChannel), (0x4FFF, DropReason::NoChannel)] {
        let before = world.dropped(reason);
        world.client("alice").send_channel(number, b"hello");
        assert_eq!(world.dropped(reason), before + 1, "{number:#06x}");
    }
    let before = world.dropped_in_all();
    for number in [0x5000, 0x7FFF, 0x8000, 0xFFFF] {
        world.client("alice").send_channel(number, b"hello");
    }
    assert_eq!(world.dropped_in_all(), before + 4);
    world.client("alice").expect_silence();
    world.peer("bob").expect_silence();
}

#[test]
fn sec_018_a_draining_server_keeps_what_it_has() {
    let mut world = World::seeded(18).with_client("alice").with_client("late").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.server.drain();
    assert!(!world.server.is_drained());
    // ALLOC-020: 403 is what a refusal by policy looks like.
    world.client("late").allocate().expect_code(403);
    world.client("alice").permit(&["bob"]).expect_success();
    world.peer("bob").send(relayed, b"still served");
    world.client("alice").expect_data("bob", b"still served");
    world.client("alice").refresh(600).expect_success();
    world.client("alice").refresh(0).expect_success();
    assert!(world.server.is_drained());
}

#[test]
fn a_shut_down_closes_every_socket() {
    let mut world = World::seeded(19).with_client("alice").with_client("second");
    world.client("alice").relay();
    world.client("second").ask(Draft::allocate()).expect_success();
    world.shut_down();
    assert!(world.open_sockets().is_empty());
    assert_eq!(world.books.leases(), 0);
}
