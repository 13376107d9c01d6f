//! §8: Refresh.

use rig::kind::method;
use rig::{Draft, World};

#[test]
fn refr_001_the_new_lifetime_is_zero_or_between_ten_minutes_and_the_maximum() {
    for (asked, given) in [
        (Some(0), 0),
        (Some(1), 600),
        (Some(599), 600),
        (Some(601), 601),
        (Some(1_000_000_000), 3600),
        (None, 600),
    ] {
        let mut world = World::seeded(1).with_client("alice");
        world.client("alice").relay();
        world.client("alice").refresh(3000).expect_success();
        let draft = asked.map_or_else(|| Draft::request(method::REFRESH), Draft::refresh);
        let heard = world.client("alice").ask(draft);
        assert_eq!(heard.expect_success().lifetime(), Some(given), "{asked:?}");
        if given > 0 {
            world.advance_s(u64::from(given) - 1);
            assert_eq!(world.server.tally().allocations, 1, "{asked:?}");
            world.advance_s(1);
        }
        assert_eq!(world.server.tally().allocations, 0, "{asked:?}");
    }
}

#[test]
fn refr_002_lifetime_zero_ends_everything_at_once() {
    let mut world = World::seeded(2).with_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").bind(0x4000, "bob").expect_success();
    assert_eq!(world.client("alice").refresh(0).expect_success().lifetime(), Some(0));
    assert!(world.open_sockets().is_empty());
    let tally = world.server.tally();
    assert_eq!((tally.allocations, tally.permissions, tally.channels), (0, 0, 0));
    world.peer("bob").send(relayed, b"late");
    world.client("alice").send_channel(0x4000, b"late");
    world.client("alice").expect_silence();
    world.peer("bob").expect_silence();
    assert_ne!(world.client("alice").relay(), relayed);
}

#[test]
fn refr_003_without_an_allocation_refresh_is_a_mismatch() {
    let mut world = World::seeded(3).with_client("alice");
    world.client("alice").refresh(600).expect_code(437);
    world.client("alice").refresh(0).expect_code(437);
    world.client("alice").relay();
    world.client("alice").refresh(0).expect_success();
    world.client("alice").refresh(0).expect_code(437);
}

#[test]
fn refr_006_refresh_prolongs_neither_permission_nor_channel() {
    let mut world = World::seeded(6).with_client("alice").with_peer("bob").with_peer("eve");
    let relayed = world.client("alice").relay();
    world.client("alice").permit(&["eve"]).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.advance_s(299);
    world.client("alice").refresh(3600).expect_success();
    world.peer("eve").send(relayed, b"in time");
    world.client("alice").expect_data("eve", b"in time");
    world.advance_s(1);
    world.peer("eve").send(relayed, b"late");
    world.client("alice").expect_silence();
    world.advance_s(299);
    world.client("alice").refresh(3600).expect_success();
    world.client("alice").send_channel(0x4000, b"in time");
    world.peer("bob").expect(b"in time");
    world.advance_s(1);
    world.client("alice").send_channel(0x4000, b"late");
    world.peer("bob").expect_silence();
}

#[test]
fn refr_007_a_stale_nonce_takes_nothing_from_the_allocation() {
    let mut world = World::seeded(7).with_client("alice");
    world.client("alice").relay();
    world.client("alice").refresh(1800).expect_success();
    world.advance_s(700);
    let mut alice = world.client("alice");
    for draft in [Draft::refresh(0), Draft::refresh(600)] {
        let signed = alice.state().sign(draft);
        let heard = alice.bare(signed);
        heard.expect_code(438);
    }
    world.advance_s(1099);
    assert_eq!(world.server.tally().allocations, 1, "neither released nor shortened");
    world.client("alice").refresh(600).expect_success();
}
