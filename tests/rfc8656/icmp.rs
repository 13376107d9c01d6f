//! §11.5 and §18.13: ICMP about what was relayed, told to the client.

use std::net::SocketAddr;

use proto::reject::DropReason;
use proto::stun::attribute::Icmp;
use rig::{Arrival, Draft, World, kind};

const CLOSED: Icmp = Icmp { kind: 3, code: 3, data: 0 };

/// A client with permissions for a peer of each family, and its two relayed addresses.
fn call(seed: u64) -> (World, [SocketAddr; 2]) {
    let mut world = World::seeded(seed).with_client("alice").with_peer("bob").with_peer6("dave");
    let dual = Draft::allocate().raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]);
    let relayed = world.client("alice").allocate_with(dual).expect_success().all_relayed();
    world.client("alice").permit(&["bob", "dave"]).expect_success();
    (world, relayed.try_into().expect("both families"))
}

/// Fails unless the oldest arrival tells of exactly this.
#[track_caller]
fn expect(world: &mut World, about: SocketAddr, expected: [u8; 8]) {
    match world.client("alice").take() {
        Some(Arrival::Icmp { peer, value }) => assert_eq!((peer, value), (about, expected)),
        other => panic!("an ICMP report, not {other:?}"),
    }
}

#[test]
fn icmp_001_only_types_about_delivery_are_told() {
    let (mut world, relayed) = call(1);
    for (family, peer, told) in [(0, "bob", &[3_u8, 11][..]), (1, "dave", &[1, 2, 3][..])] {
        let about = world.peer_address(peer);
        let mut ignored = 0;
        for number in 0..=u8::MAX {
            world.advance_s(1);
            world.unreachable(relayed[family], about, Icmp { kind: number, code: 1, data: 0 });
            if told.contains(&number) {
                expect(&mut world, about, [0, 0, number, 1, 0, 0, 0, 0]);
            } else {
                ignored += 1;
            }
            world.client("alice").expect_silence();
        }
        assert_eq!(ignored, 256 - told.len());
    }
    assert_eq!(world.dropped(DropReason::IrrelevantIcmp), 253 + 254);
    assert_eq!(world.server.tally().icmp_reported, 5);
}

#[test]
fn icmp_002_the_permission_of_the_destination_counts() {
    let (mut world, relayed) = call(2);
    let bob = world.peer_address("bob");
    let other_port = SocketAddr::new(bob.ip(), 9);
    world.unreachable(relayed[0], other_port, CLOSED);
    expect(&mut world, other_port, [0, 0, 3, 3, 0, 0, 0, 0]);
    world.unreachable(relayed[0], "45.33.32.99:9".parse().expect("an address"), CLOSED);
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    world.advance_s(301);
    world.unreachable(relayed[0], bob, CLOSED);
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 2, "the permission is over");
}

#[test]
fn icmp_003_it_is_a_data_indication_without_data_channel_or_not() {
    let (mut world, relayed) = call(3);
    let bob = world.peer_address("bob");
    for bound in [false, true] {
        if bound {
            world.client("alice").bind(0x4000, "bob").expect_success();
        }
        world.unreachable(relayed[0], bob, CLOSED);
        // `Arrival::read` checks that XOR-PEER-ADDRESS and ICMP are all there is.
        expect(&mut world, bob, [0, 0, 3, 3, 0, 0, 0, 0]);
    }
    let unknown = SocketAddr::new(bob.ip(), 0);
    world.unreachable(relayed[0], unknown, CLOSED);
    expect(&mut world, unknown, [0, 0, 3, 3, 0, 0, 0, 0]);
}

#[test]
fn icmp_004_type_and_code_have_eight_bits_each_and_the_mtu_follows() {
    let (mut world, relayed) = call(4);
    let (bob, dave) = (world.peer_address("bob"), world.peer_address("dave"));
    world.unreachable(relayed[0], bob, Icmp { kind: 3, code: 4, data: 1_400 });
    expect(&mut world, bob, [0, 0, 3, 4, 0, 0, 0x05, 0x78]);
    world.unreachable(relayed[1], dave, Icmp { kind: 2, code: 0, data: 0x0001_0500 });
    expect(&mut world, dave, [0, 0, 2, 0, 0, 1, 5, 0]);
    world.unreachable(relayed[0], bob, Icmp { kind: 11, code: 255, data: 0 });
    expect(&mut world, bob, [0, 0, 11, 255, 0, 0, 0, 0]);
}

#[test]
fn icmp_005_a_flood_of_them_is_cut_for_each_allocation_alone() {
    let (mut world, relayed) = call(5);
    let bob = world.peer_address("bob");
    let heard = |world: &mut World| {
        let mut heard = 0;
        while world.client("alice").take().is_some() {
            heard += 1;
        }
        heard
    };
    for _ in 0..1_000 {
        world.unreachable(relayed[0], bob, CLOSED);
    }
    assert_eq!(heard(&mut world), 20);
    assert_eq!(world.dropped(DropReason::ThrottledIcmp), 980);
    world.advance_s(1);
    for _ in 0..1_000 {
        world.unreachable(relayed[0], bob, CLOSED);
    }
    assert_eq!(heard(&mut world), 10);
    let mut world = world.with_client("erin");
    let to_erin = world.client("erin").relay();
    world.client("erin").permit(&["bob"]).expect_success();
    world.unreachable(to_erin, bob, CLOSED);
    assert!(matches!(world.client("erin").take(), Some(Arrival::Icmp { .. })));
}

#[test]
fn icmp_006_it_ends_nothing() {
    let (mut world, relayed) = call(6);
    let bob = world.peer_address("bob");
    world.client("alice").bind(0x4000, "bob").expect_success();
    let before = world.server.allocations(world.now()).next().map(|it| it.expires_in);
    for _ in 0..100 {
        world.unreachable(relayed[0], bob, CLOSED);
    }
    while world.client("alice").take().is_some() {}
    let tally = world.server.tally();
    assert_eq!((tally.allocations, tally.permissions, tally.channels), (1, 2, 1));
    let after = world.server.allocations(world.now()).next().map(|it| it.expires_in);
    assert_eq!(before, after, "and prolongs nothing");
    world.client("alice").send_channel(0x4000, b"still here");
    world.peer("bob").expect(b"still here");
    world.client("alice").send("dave", b"still here");
    world.peer("dave").expect(b"still here");
}
