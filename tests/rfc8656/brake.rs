//! §21.3: how many peers a minute one allocation may turn to.

use std::net::SocketAddr;

use proto::reject::{DropReason, Why};
use rig::World;

/// Alice, who may turn to four new peers a minute.
fn braked() -> World {
    let mut world = World::configured(9, |config| config.limits.new_peers_per_minute = 4)
        .with_client("alice")
        .with_peer("bob");
    world.client("alice").relay();
    world
}

fn host(number: u8) -> SocketAddr {
    SocketAddr::from(([45, 33, 40, number], 4_000))
}

fn port(number: u16) -> SocketAddr {
    SocketAddr::from(([45, 33, 40, 1], number))
}

#[test]
fn sec_009_new_hosts_are_refused_beyond_the_limit_and_those_known_are_not_new() {
    let mut world = braked();
    world.client("alice").permit_addresses(&[host(1), host(2), host(3)]).expect_success();
    world.client("alice").permit_addresses(&[host(4), host(5)]).expect_code(403);
    assert_eq!(world.rejected(Why::TooManyNewPeers), 1);
    assert_eq!(world.server.tally().permissions, 3, "all of a request or none");
    world.client("alice").permit_addresses(&[host(4)]).expect_success();
    for _ in 0..3 {
        world.client("alice").permit_addresses(&[host(1), host(2), host(3)]).expect_success();
    }
    world.client("alice").bind_address(0x4000, host(5)).expect_code(403);
    world.client("alice").bind_address(0x4000, host(1)).expect_success();
    world.advance_s(60);
    world.client("alice").bind_address(0x4001, host(5)).expect_success();
}

#[test]
fn sec_009_ports_of_one_host_cannot_be_tried_faster() {
    let mut world = braked();
    world.client("alice").permit_addresses(&[port(1)]).expect_success();
    for number in 1..=2 {
        world.client("alice").bind_address(0x4000 + number, port(number)).expect_success();
    }
    for number in 1..=100 {
        world.client("alice").send_to(port(number), b"?");
    }
    assert_eq!(world.dropped(DropReason::TooManyNewPeers), 96, "two channels, two by Send");
    world.client("alice").bind_address(0x4003, port(50)).expect_code(403);
    // What it speaks to already goes on.
    for number in [1, 2, 3, 4] {
        world.client("alice").send_to(port(number), b"again");
    }
    assert_eq!(world.dropped_in_all(), 96);
    world.advance_s(15);
    world.client("alice").send_to(port(50), b"one more after a quarter of a minute");
    assert_eq!(world.dropped_in_all(), 96);
}

#[test]
fn sec_009_another_allocation_is_not_braked() {
    let mut world = braked().with_client("carol");
    for number in 0..20 {
        world.client("alice").permit_addresses(&[host(number)]);
    }
    assert_eq!(world.rejected(Why::TooManyNewPeers), 16);
    world.client("carol").relay();
    world.client("carol").permit_addresses(&[host(1), host(2)]).expect_success();
}

#[test]
fn sec_009_the_default_lets_all_permissions_and_channels_pass_at_once() {
    let mut world = World::seeded(9).with_client("alice");
    world.client("alice").relay();
    let hosts: Vec<_> = (0..=255).map(host).collect();
    for hosts in hosts.chunks(32) {
        world.client("alice").permit_addresses(hosts).expect_success();
    }
    for number in 0..256 {
        world.client("alice").bind_address(0x4000 + number, port(1_000 + number)).expect_success();
    }
    world.client("alice").bind_address(0x4100, port(2_000)).expect_code(508);
    let one_more = SocketAddr::from(([45, 33, 41, 1], 4_000));
    world.client("alice").permit_addresses(&[one_more]).expect_code(508);
    assert_eq!(world.rejected(Why::TooManyNewPeers), 0);
}
