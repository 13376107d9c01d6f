//! §12: channels and ChannelData.

use std::net::SocketAddr;

use proto::reject::{DropReason, Why};
use rig::kind::{self, method};
use rig::script::channel_data;
use rig::{Draft, World};

fn call(seed: u64) -> World {
    let mut world = World::seeded(seed).with_client("alice").with_peer("bob").with_peer("eve");
    world.client("alice").relay();
    world.client("alice").refresh(3600).expect_success();
    world
}

fn relayed(world: &mut World) -> SocketAddr {
    world.client("alice").state().relayed.expect("allocated")
}

#[test]
fn chan_001_a_binding_needs_number_and_peer() {
    let mut world = call(1);
    let bob = world.peer_address("bob");
    let empty = || Draft::request(method::CHANNEL_BIND);
    for (case, draft) in [
        ("nothing", empty()),
        ("no number", empty().peer(bob)),
        ("no peer", empty().raw(kind::CHANNEL_NUMBER, &[0x40, 0, 0, 0])),
        ("short number", empty().raw(kind::CHANNEL_NUMBER, &[0x40, 0]).peer(bob)),
        ("broken peer", empty().raw(kind::CHANNEL_NUMBER, &[0x40, 0, 0, 0]).raw(kind::PEER, &[0])),
    ] {
        assert_eq!(world.client("alice").ask(draft).code(), Some(400), "{case}");
    }
    let reserved = empty().raw(kind::CHANNEL_NUMBER, &[0x40, 0, 0xAB, 0xCD]).peer(bob);
    world.client("alice").ask(reserved).expect_success();
    world.client("alice").send_channel(0x4000, b"hello");
    world.peer("bob").expect(b"hello");
}

#[test]
fn chan_002_numbers_outside_0x4000_to_0x4fff_are_refused() {
    for (number, code) in [
        (0x0000, Some(400)),
        (0x3FFF, Some(400)),
        (0x4000, None),
        (0x4FFF, None),
        (0x5000, Some(400)),
        (0x7FFF, Some(400)),
        (0x8000, Some(400)),
        (0xFFFF, Some(400)),
    ] {
        let mut world = call(2);
        assert_eq!(world.client("alice").bind(number, "bob").code(), code, "{number:#06x}");
        assert_eq!(world.rejected(Why::ChannelNumber), u64::from(code.is_some()));
    }
}

#[test]
fn old_009_channels_of_rfc_5766_need_a_switch() {
    for (switch, number, code) in [
        (false, 0x5000, Some(400)),
        (true, 0x4000, None),
        (true, 0x5000, None),
        (true, 0x7FFE, None),
        (true, 0x8000, Some(400)),
        (true, 0x3FFF, Some(400)),
    ] {
        let mut world = World::configured(9, |config| config.compat.rfc5766_channels = switch)
            .with_client("alice")
            .with_peer("bob");
        let relayed = world.client("alice").relay();
        assert_eq!(world.client("alice").bind(number, "bob").code(), code, "{number:#06x}");
        if code.is_none() {
            world.client("alice").send_channel(number, b"hello");
            assert_eq!(world.peer("bob").expect(b"hello"), relayed);
            world.peer("bob").send(relayed, b"back");
            world.client("alice").expect_channel(number, b"back");
        }
    }
}

#[test]
fn chan_003_number_and_peer_are_bound_to_each_other_only() {
    let mut world = call(3);
    let at = relayed(&mut world);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").bind(0x4000, "eve").expect_code(400);
    world.client("alice").bind(0x4001, "bob").expect_code(400);
    assert_eq!(world.rejected(Why::ChannelConflict), 2);
    world.client("alice").send_channel(0x4000, b"out");
    world.peer("bob").expect(b"out");
    world.peer("bob").send(at, b"in");
    world.client("alice").expect_channel(0x4000, b"in");
    world.client("alice").send_channel(0x4001, b"unbound");
    world.peer("eve").expect_silence();
    // Another port of the same host is another peer.
    let other = SocketAddr::new(world.peer_address("bob").ip(), 7777);
    world.client("alice").bind_address(0x4001, other).expect_success();
    assert_eq!(world.server.tally().channels, 2);
    assert_eq!(world.server.tally().permissions, 1, "of one host");
}

#[test]
fn chan_004_binding_again_prolongs_channel_and_permission() {
    let mut world = call(4);
    let at = relayed(&mut world);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.advance_s(599);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.advance_s(299);
    world.peer("bob").send(at, b"permitted");
    world.client("alice").expect_channel(0x4000, b"permitted");
    world.advance_s(300);
    world.client("alice").send_channel(0x4000, b"599 s after the second");
    world.peer("bob").expect(b"599 s after the second");
    world.advance_s(1);
    world.client("alice").send_channel(0x4000, b"late");
    world.peer("bob").expect_silence();
}

#[test]
fn chan_005_a_binding_permits_and_is_refused_like_a_permission() {
    let mut world = World::configured(5, |config| config.limits.channels = 1)
        .with_client("alice")
        .with_peer("bob")
        .with_peer("eve")
        .with_peer6("dave");
    world.client("alice").bind(0x4000, "bob").expect_code(437);
    let relayed = world.client("alice").relay();
    let denied = "192.168.1.1:9".parse().expect("an address");
    world.client("alice").bind_address(0x4000, denied).expect_code(403);
    world.client("alice").bind(0x4000, "dave").expect_code(443);
    assert_eq!(world.server.tally().permissions, 0, "a refusal permits nobody");
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").bind(0x4001, "eve").expect_code(508);
    assert_eq!(world.rejected(Why::TooManyChannels), 1);
    assert_eq!(world.server.tally().permissions, 1, "nor does this one");
    world.peer("bob").send_from_port(1, relayed, b"same host");
    let other = SocketAddr::new(world.peer_address("bob").ip(), 1);
    world.client("alice").expect_data_from(other, b"same host");
}

#[test]
fn chan_006_a_channel_outlives_its_permission() {
    let mut world = call(6);
    let at = relayed(&mut world);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.advance_s(301);
    world.peer("bob").send(at, b"not permitted");
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    world.client("alice").permit(&["bob"]).expect_success();
    world.peer("bob").send(at, b"permitted");
    world.client("alice").expect_channel(0x4000, b"permitted");
    world.advance_s(298);
    world.client("alice").send_channel(0x4000, b"599 s");
    world.peer("bob").expect(b"599 s");
    world.advance_s(1);
    assert_eq!(world.server.tally().channels, 0, "600 s, permission or not");
    world.peer("bob").send(at, b"as an indication now");
    world.client("alice").expect_data("bob", b"as an indication now");
}

#[test]
fn chan_007_an_expired_number_is_free_at_once() {
    let mut world = call(7);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.advance_s(600);
    world.client("alice").bind(0x4000, "eve").expect_success();
    world.client("alice").bind(0x4001, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"for eve");
    world.peer("eve").expect(b"for eve");
}

#[test]
fn chan_008_the_length_field_counts_the_payload() {
    let mut world = call(8);
    let at = relayed(&mut world);
    world.client("alice").bind(0x4000, "bob").expect_success();
    for length in [0, 1, 2, 3, 4, 160, 1200] {
        let payload = world.dice.bytes(length);
        world.client("alice").send_channel(0x4000, &payload);
        world.peer("bob").expect(&payload);
        world.peer("bob").send(at, &payload);
        world.client("alice").expect_channel(0x4000, &payload);
    }
}

#[test]
fn chan_009_short_datagrams_are_dropped_and_padding_ignored() {
    let mut world = call(9);
    world.client("alice").bind(0x4000, "bob").expect_success();
    let sound = channel_data(0x4000, b"hello");
    for cut in 1..sound.len() {
        world.client("alice").send_bytes(&sound[..cut]);
        world.peer("bob").expect_silence();
    }
    let cuts = u64::try_from(sound.len() - 1).expect("a few");
    assert_eq!(world.dropped(DropReason::MalformedChannelData), cuts);
    for padding in [1, 3, 100] {
        let padded = [&sound[..], &vec![0xEE; padding]].concat();
        world.client("alice").send_bytes(&padded);
        world.settle();
        world.peer("bob").expect(b"hello");
    }
}

#[test]
fn chan_012_traffic_prolongs_no_channel() {
    let mut world = call(12);
    world.client("alice").bind(0x4000, "bob").expect_success();
    for _ in 0..599 {
        world.advance_s(1);
        world.client("alice").send_channel(0x4000, b"x");
        world.peer("bob").expect(b"x");
    }
    world.advance_s(1);
    world.client("alice").send_channel(0x4000, b"x");
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::NoChannel), 1);
}

#[test]
fn chan_013_channels_belong_to_one_allocation() {
    let mut world = call(13).with_client("carol");
    let at = relayed(&mut world);
    let other = world.client("carol").relay();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("carol").bind(0x4000, "eve").expect_success();
    world.client("carol").bind(0x4001, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"to bob");
    assert_eq!(world.peer("bob").expect(b"to bob"), at);
    world.client("carol").send_channel(0x4000, b"to eve");
    assert_eq!(world.peer("eve").expect(b"to eve"), other);
    world.peer("bob").send(other, b"to carol");
    world.client("carol").expect_channel(0x4001, b"to carol");
    world.client("alice").refresh(0).expect_success();
    world.client("alice").send_channel(0x4000, b"dead");
    world.peer("bob").expect_silence();
    world.client("carol").send_channel(0x4001, b"alive");
    world.peer("bob").expect(b"alive");
}

#[test]
fn data_007_the_bound_peer_is_heard_on_its_channel_and_others_are_not() {
    let mut world = call(7);
    let at = relayed(&mut world);
    let bob = world.peer_address("bob");
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").send("bob", b"by indication");
    world.peer("bob").expect(b"by indication");
    world.client("alice").send_channel(0x4000, b"by channel");
    world.peer("bob").expect(b"by channel");
    world.peer("bob").send(at, b"bound port");
    world.client("alice").expect_channel(0x4000, b"bound port");
    world.peer("bob").send_from_port(bob.port() + 1, at, b"other port");
    let other = SocketAddr::new(bob.ip(), bob.port() + 1);
    world.client("alice").expect_data_from(other, b"other port");
}

#[test]
fn chan_015_data_right_behind_the_request_is_relayed() {
    let mut world = call(15);
    world.client("alice").know_the_realm();
    let bob = world.peer_address("bob");
    let bind = world.client("alice").state().sign(Draft::bind(0x4000, bob)).encode();
    world.client("alice").send_bytes(&bind);
    world.client("alice").send_channel(0x4000, b"early");
    world.peer("bob").expect(b"early");
    assert_eq!(world.dropped_in_all(), 0);
}
