//! What a relay owes to media: every byte as it came, nothing understood.

use rig::kind::method;
use rig::{Draft, World};

/// A call with a channel and its relayed address.
fn call(seed: u64) -> (World, std::net::SocketAddr) {
    let mut world = World::seeded(seed).with_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    (world, relayed)
}

/// Relays this payload both ways, by indication and, if bound, by channel.
fn relay_both_ways(world: &mut World, relayed: std::net::SocketAddr, payload: &[u8]) {
    world.client("alice").send("bob", payload);
    assert_eq!(world.peer("bob").expect(payload), relayed);
    world.peer("bob").send(relayed, payload);
    if world.server.tally().channels == 0 {
        world.client("alice").expect_data("bob", payload);
    } else {
        world.client("alice").expect_channel(0x4000, payload);
        world.client("alice").send_channel(0x4000, payload);
        assert_eq!(world.peer("bob").expect(payload), relayed);
    }
    world.client("alice").expect_silence();
    world.peer("bob").expect_silence();
}

#[test]
fn media_001_bytes_lengths_and_boundaries_are_kept() {
    let (mut world, relayed) = call(1);
    for bound in [false, true] {
        if bound {
            world.client("alice").bind(0x4000, "bob").expect_success();
        }
        for length in (0..1500).step_by(7) {
            let mut payload = world.dice.bytes(length);
            let zeros = payload.len() / 3;
            let from = payload.len() - zeros;
            payload[from..].fill(0);
            relay_both_ways(&mut world, relayed, &payload);
        }
    }
    assert_eq!(world.dropped_in_all(), 0);
}

#[test]
fn media_002_payload_is_never_understood() {
    let (mut world, relayed) = call(2);
    world.client("alice").bind(0x4000, "bob").expect_success();
    for payload in [
        Draft::request(method::BINDING).encode(),
        Draft::request(method::BINDING).fingerprint().encode(),
        vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        [0x80, 0x60].iter().chain(&[1; 170]).copied().collect(),
        vec![0x80, 200, 0, 1, 0, 0, 0, 1],
        vec![0x40, 0, 0, 4, 1, 2, 3, 4],
    ] {
        relay_both_ways(&mut world, relayed, &payload);
    }
}

#[test]
fn media_003_a_request_at_the_relayed_port_is_payload() {
    let (mut world, relayed) = call(3);
    let state = |world: &World| {
        let tally = world.server.tally();
        (tally.allocations, tally.permissions, tally.channels, tally.rejected)
    };
    let before = state(&world);
    let signed = world.client("alice").state().sign(Draft::allocate()).encode();
    let release = world.client("alice").state().sign(Draft::refresh(0)).encode();
    for payload in [Draft::allocate().encode(), signed, release] {
        world.peer("bob").send(relayed, &payload);
        world.client("alice").expect_data("bob", &payload);
        world.peer("bob").expect_silence();
        assert_eq!(state(&world), before);
    }
}

#[test]
fn media_004_nothing_is_doubled_or_reordered() {
    let (mut world, relayed) = call(4);
    world.client("alice").bind(0x4000, "bob").expect_success();
    for n in 0..2000_u32 {
        world.client("alice").send_bytes(&rig::script::channel_data(0x4000, &n.to_be_bytes()));
        let bob = world.peer_address("bob");
        world.inject_at_relay(relayed, bob, &n.to_be_bytes());
    }
    world.settle();
    for n in 0..2000_u32 {
        world.peer("bob").expect(&n.to_be_bytes());
        world.client("alice").expect_channel(0x4000, &n.to_be_bytes());
    }
    world.client("alice").expect_silence();
    world.peer("bob").expect_silence();
}

#[test]
fn media_009_keepalives_pass() {
    let (mut world, relayed) = call(9);
    relay_both_ways(&mut world, relayed, b"");
    let indication = Draft::of_kind(method::BINDING | rig::kind::INDICATION).encode();
    assert_eq!(indication.len(), 20);
    relay_both_ways(&mut world, relayed, &indication);
}

#[test]
fn disc_008_payload_may_begin_with_any_byte() {
    let (mut world, relayed) = call(8);
    world.client("alice").bind(0x4000, "bob").expect_success();
    for first in 0..=u8::MAX {
        relay_both_ways(&mut world, relayed, &[first, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[test]
fn sec_014_answers_leak_no_memory() {
    // `Heard::read` checks padding; here the header's reserved bits and address attributes.
    let mut world = World::seeded(14).with_client("alice").with_peer("bob");
    for _ in 0..50 {
        let heard = world.client("alice").allocate();
        for (kind, value) in heard.attributes() {
            if matches!(kind, rig::kind::RELAYED | rig::kind::MAPPED) {
                assert_eq!(value[0], 0, "reserved byte of {kind:#06x}");
            }
        }
        assert_eq!(heard.bytes()[0] & 0xC0, 0);
        world.client("alice").refresh(0).expect_success();
    }
}
