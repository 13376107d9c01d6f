//! §11: clients of RFC 5389 and RFC 3489.

use proto::reject::DropReason;
use rig::kind::method;
use rig::{Draft, Scheme, World};

#[test]
fn old_005_turn_without_the_magic_cookie_is_dropped() {
    for method in [method::ALLOCATE, method::REFRESH, method::CREATE_PERMISSION] {
        let mut world = World::seeded(5).with_client("alice");
        let mut bytes = Draft::request(method).encode();
        bytes[4..8].copy_from_slice(b"old!");
        world.client("alice").send_bytes(&bytes);
        world.client("alice").expect_silence();
        assert_eq!(world.dropped_in_all(), 1);
    }
}

#[test]
fn old_006_shared_secret_requests_are_dropped() {
    let mut world = World::seeded(6).with_client("alice");
    assert!(world.client("alice").exchange(Draft::of_kind(0x0002)).is_none());
    assert_eq!(world.dropped(DropReason::UnexpectedMessage), 1);
}

#[test]
fn old_007_a_client_of_rfc_5389_works_unchanged() {
    let mut world = World::seeded(7).with_client("alice").with_peer("bob");
    world.client("alice").state().scheme = Scheme::Legacy;
    let relayed = world.client("alice").relay();
    world.client("alice").refresh(900).expect_success();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"hello");
    assert_eq!(world.peer("bob").expect(b"hello"), relayed);
    world.peer("bob").send(relayed, b"and back");
    world.client("alice").expect_channel(0x4000, b"and back");
}

#[test]
fn old_008_names_up_to_763_bytes_are_parsed() {
    for (length, code) in [(508, 401), (763, 401), (764, 400)] {
        let mut world = World::seeded(8).with_client("alice");
        let mut alice = world.client("alice");
        alice.know_the_realm();
        alice.state().login.username = "u".repeat(length);
        let signed = alice.state().sign(Draft::allocate());
        assert_eq!(alice.bare(signed).code(), Some(code), "{length} bytes");
    }
}
