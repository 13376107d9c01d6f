//! §9–§10: permissions and `CreatePermission`.

use proto::reject::{DropReason, Why};
use rig::kind::{self, method};
use rig::{Draft, World};

fn call(seed: u64) -> World {
    let mut world = World::seeded(seed).with_client("alice").with_peer("bob").with_peer("eve");
    world.client("alice").relay();
    world.client("alice").refresh(3600).expect_success();
    world
}

#[test]
fn perm_001_a_permission_is_for_a_host_and_for_300_seconds() {
    let mut world = call(1);
    let relayed = world.client("alice").state().relayed.expect("allocated");
    let bob = world.peer_address("bob");
    world.client("alice").permit(&["bob"]).expect_success();
    world.peer("bob").send_from_port(1, relayed, b"any port");
    let other_port = std::net::SocketAddr::new(bob.ip(), 1);
    world.client("alice").expect_data_from(other_port, b"any port");
    world.advance_s(299);
    world.peer("bob").send(relayed, b"in time");
    world.client("alice").expect_data("bob", b"in time");
    world.client("alice").send("bob", b"in time");
    world.peer("bob").expect(b"in time");
    world.advance_s(1);
    world.peer("bob").send(relayed, b"late");
    world.client("alice").expect_silence();
    world.client("alice").send("bob", b"late");
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 2);
    assert_eq!(world.server.tally().permissions, 0);
}

#[test]
fn perm_001_create_permission_and_channel_bind_reset_it() {
    for bind in [false, true] {
        let mut world = call(1);
        let relayed = world.client("alice").state().relayed.expect("allocated");
        world.client("alice").permit(&["bob"]).expect_success();
        for _ in 0..3 {
            world.advance_s(299);
            let heard = if bind {
                world.client("alice").bind(0x4000, "bob")
            } else {
                world.client("alice").permit(&["bob"])
            };
            heard.expect_success();
        }
        world.advance_s(299);
        world.peer("bob").send(relayed, b"in time");
        assert!(world.client("alice").take().is_some(), "bind: {bind}");
        world.advance_s(1);
        world.peer("bob").send(relayed, b"late");
        world.client("alice").expect_silence();
    }
}

#[test]
fn perm_002_traffic_does_not_prolong_a_permission() {
    let mut world = call(2);
    let relayed = world.client("alice").state().relayed.expect("allocated");
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").permit(&["eve"]).expect_success();
    for _ in 0..299 {
        world.advance_s(1);
        world.client("alice").send("eve", b"x");
        world.client("alice").send_channel(0x4000, b"x");
        world.peer("bob").send(relayed, b"x");
        world.peer("eve").send(relayed, b"x");
    }
    assert_eq!(world.dropped_in_all(), 0);
    world.advance_s(1);
    world.client("alice").send("eve", b"x");
    world.peer("bob").send(relayed, b"x");
    world.peer("eve").send(relayed, b"x");
    assert_eq!(world.dropped(DropReason::NoPermission), 3);
}

#[test]
fn perm_003_a_list_without_or_with_a_broken_peer_is_a_bad_request() {
    let mut world = call(3);
    let bob = world.peer_address("bob");
    for (case, draft) in [
        ("no peer", Draft::request(method::CREATE_PERMISSION)),
        ("one truncated", Draft::permit(&[bob]).raw(kind::PEER, &[0, 1, 2, 3])),
        (
            "truncated first",
            Draft::request(method::CREATE_PERMISSION).raw(kind::PEER, &[]).peer(bob),
        ),
        ("unknown family", Draft::permit(&[bob]).raw(kind::PEER, &[0, 3, 0, 9, 1, 2, 3, 4])),
    ] {
        assert_eq!(world.client("alice").ask(draft).code(), Some(400), "{case}");
        assert_eq!(world.server.tally().permissions, 0, "{case}");
    }
}

#[test]
fn perm_004_a_list_is_installed_whole_or_not_at_all() {
    let mut world = call(4);
    let (bob, eve) = (world.peer_address("bob"), world.peer_address("eve"));
    let denied = "127.0.0.1:9".parse().expect("an address");
    world.client("alice").permit_addresses(&[bob, denied, eve]).expect_code(403);
    assert_eq!(world.server.tally().permissions, 0);
    world.client("alice").permit(&["bob", "eve"]).expect_success();
    assert_eq!(world.server.tally().permissions, 2);
    // A refused list does not prolong what it names either.
    world.advance_s(200);
    world.client("alice").permit_addresses(&[bob, denied]).expect_code(403);
    world.advance_s(100);
    assert_eq!(world.server.tally().permissions, 0);
}

#[test]
fn perm_006_denied_peers_and_full_lists_have_their_codes() {
    let mut world = World::configured(6, |config| config.limits.permissions = 2)
        .with_client("alice")
        .with_peer("one")
        .with_peer("two")
        .with_peer("three");
    world.client("alice").relay();
    world.client("alice").permit_addresses(&["10.1.2.3:9".parse().expect("one")]).expect_code(403);
    assert_eq!(world.rejected(Why::PeerDenied), 1);
    world.client("alice").permit(&["one"]).expect_success();
    world.client("alice").permit(&["two", "three"]).expect_code(508);
    assert_eq!(world.server.tally().permissions, 1, "nothing of the refused list");
    world.client("alice").permit(&["one", "two", "two", "one"]).expect_success();
    world.client("alice").permit(&["three"]).expect_code(508);
    world.client("alice").bind(0x4000, "three").expect_code(508);
    world.client("alice").permit(&["one"]).expect_success();
    world.client("alice").bind(0x4000, "one").expect_success();
    assert_eq!(world.rejected(Why::TooManyPermissions), 3);
    world.advance_s(301);
    world.client("alice").permit(&["three"]).expect_success();
}

#[test]
fn perm_007_without_an_allocation_it_is_a_mismatch() {
    let mut world = World::seeded(7).with_client("alice").with_peer("bob");
    world.client("alice").permit(&["bob"]).expect_code(437);
    world.client("alice").bind(0x4000, "bob").expect_code(437);
    // The other half of the row, 441 for another user, is AUTH-028.
}

#[test]
fn perm_008_the_success_says_no_more_than_that() {
    let mut world = call(8);
    let heard = world.client("alice").permit(&["bob"]);
    assert_eq!(heard.expect_success().kinds(), [kind::INTEGRITY_SHA256]);
}

#[test]
fn perm_009_a_datagram_without_permission_is_dropped_in_silence() {
    let mut world = call(9);
    let relayed = world.client("alice").state().relayed.expect("allocated");
    world.client("alice").permit(&["eve"]).expect_success();
    world.peer("bob").send(relayed, b"hello");
    world.client("alice").expect_silence();
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
}

#[test]
fn perm_010_permissions_belong_to_one_allocation() {
    let mut world = call(10).with_client("carol");
    let relayed = world.client("carol").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    world.peer("bob").send(relayed, b"hello");
    world.client("carol").expect_silence();
    world.client("carol").send("bob", b"hello");
    world.peer("bob").expect_silence();
}
