//! §21.3: how many peers a minute an allocation may turn to, and all of a user and of a client.

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

/// The clients of a world whose user alice has another device, and whose neighbour is carol.
fn shared(limits: [u32; 3]) -> World {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let mut world = World::configured(10, |config| {
        let [allocation, user, client] = limits;
        config.limits.new_peers_per_minute = allocation;
        config.limits.new_peers_per_minute_per_user = user;
        config.limits.new_peers_per_minute_per_client = client;
    })
    .with_client_at("alice", address("81.2.69.10:40000"))
    .with_client_at("alice elsewhere", address("81.2.70.1:40000"))
    .with_client_at("carol", address("81.2.69.10:41000"))
    .with_client_at("dave", address("81.2.71.1:40000"));
    let login = world.client("alice").state().login.clone();
    world.client("alice elsewhere").state().login = login;
    world
}

/// How many of so many new hosts, each another, a client gets a permission for.
fn scan(world: &mut World, name: &str, hosts: std::ops::Range<u32>) -> usize {
    let hosts: Vec<_> = hosts.map(|n| SocketAddr::from((n.to_be_bytes(), 4_000))).collect();
    let permitted = hosts.chunks(8).filter(|hosts| {
        let code = world.client(name).permit_addresses(hosts).code();
        assert!(code.is_none_or(|code| code == 403), "{code:?}");
        code.is_none()
    });
    permitted.map(<[_]>::len).sum()
}

/// The first host of those scanned, far from any that is refused for itself.
const SCANNED: u32 = u32::from_be_bytes([45, 40, 0, 0]);

#[test]
fn sec_009_who_allocates_again_turns_to_no_more_new_peers_for_it() {
    for (case, user, client, why) in
        [("the user", 64, 1_000, Why::UserNewPeers), ("the client", 1_000, 64, Why::ClientNewPeers)]
    {
        let mut world = shared([16, user, client]);
        let loops = |world: &mut World, first: u32| -> usize {
            let turns = (0..20).map(|turn| {
                world.client("alice").relay();
                let begin = SCANNED + first + turn * 100;
                let permitted = scan(world, "alice", begin..begin + 16);
                world.client("alice").refresh(0).expect_success();
                permitted
            });
            turns.sum()
        };
        assert_eq!(loops(&mut world, 0), 64, "{case}: at once");
        assert_eq!(world.rejected(why), 2 * 16, "{case}: two requests in each of 16 turns");
        assert_eq!(world.rejected(Why::TooManyNewPeers), 0, "{case}");
        assert_eq!(world.books.leases(), 0, "{case}: it outlives the last allocation");
        world.advance_s(30);
        assert_eq!(loops(&mut world, 10_000), 32, "{case}: half a minute later");
        world.advance_s(60);
        assert_eq!(loops(&mut world, 20_000), 64, "{case}: a minute later");
        let carol = why == Why::UserNewPeers;
        world.client("carol").relay();
        let permitted = scan(&mut world, "carol", SCANNED + 30_000..SCANNED + 30_016);
        assert_eq!(permitted, if carol { 16 } else { 0 }, "{case}: at the same address");
        world.client("dave").relay();
        let permitted = scan(&mut world, "dave", SCANNED + 30_000..SCANNED + 30_016);
        assert_eq!(permitted, 16, "{case}: another user at another address");
        world.check();
    }
}

#[test]
fn sec_009_many_allocations_together_turn_to_no_more_new_peers_than_their_user_may() {
    let mut world = World::configured(11, |config| {
        config.limits.new_peers_per_minute = 16;
        config.limits.new_peers_per_minute_per_user = 64;
        config.limits.new_peers_per_minute_per_client = 128;
    });
    let mut permitted = 0;
    for number in 0..16_u16 {
        let name = format!("alice {number}");
        let address = SocketAddr::from(([81, 2, 69, 10], 40_000 + number));
        world = world.with_client_at(&name, address);
        let login = world.client("alice 0").state().login.clone();
        world.client(&name).state().login = login;
        world.client(&name).relay();
        let begin = SCANNED + u32::from(number) * 100;
        permitted += scan(&mut world, &name, begin..begin + 16);
    }
    assert_eq!(permitted, 64);
    let mut elsewhere = world.with_client_at("bob", SocketAddr::from(([81, 2, 70, 1], 40_000)));
    elsewhere.client("bob").relay();
    assert_eq!(scan(&mut elsewhere, "bob", SCANNED..SCANNED + 16), 16);
}

#[test]
fn sec_009_a_user_who_is_braked_speaks_on_to_the_peers_it_has() {
    let mut world = shared([16, 16, 32]);
    world.client("alice").relay();
    world.client("alice elsewhere").relay();
    world.client("alice").permit_addresses(&[port(1)]).expect_success();
    world.client("alice elsewhere").permit_addresses(&[port(1)]).expect_success();
    for number in 1..=16 {
        world.client("alice").send_to(port(number), b"?");
    }
    for number in 1..=10 {
        world.client("alice elsewhere").send_to(port(number), b"too many");
    }
    assert_eq!(world.dropped(DropReason::UserNewPeers), 10);
    world.client("alice elsewhere").bind_address(0x4000, port(1)).expect_code(403);
    for number in 1..=16 {
        world.client("alice").send_to(port(number), b"known");
    }
    world.client("alice elsewhere").permit_addresses(&[port(1)]).expect_success();
    assert_eq!(world.dropped_in_all(), 10);
    world.advance(std::time::Duration::from_millis(3_750));
    world.client("alice elsewhere").send_to(port(1), b"a sixteenth of a minute later");
    assert_eq!(world.dropped_in_all(), 10);
}
