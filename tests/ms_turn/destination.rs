//! Set Active Destination, and payload that travels bare.

use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use proto::reject::DropReason;
use rig::ms::{AIM, DESTINATION, INTEGRITY, MAGIC_COOKIE, SEQUENCE, USERNAME};
use rig::{Draft, MsArrival, kind};

use super::{world, world_with};

#[test]
fn mst_095_a_destination_takes_bare_payload_and_sends_bare_payload() {
    let mut world = world(95);
    let relayed = world.ms("alice").relay();
    world.ms("alice").aim("bob").expect_success();
    for payload in [&b"\x80rtp"[..], &b"\xFFany"[..], &[0x80; 1_200]] {
        world.ms("alice").send_bytes(payload);
        assert_eq!(world.peer("bob").expect(payload), relayed);
        world.peer("bob").send(relayed, payload);
        world.ms("alice").expect_bare(payload);
    }
    world.check();
}

#[test]
fn mst_009_everything_but_messages_of_the_dialect_is_payload() {
    let mut world = world(9);
    let relayed = world.ms("alice").relay();
    world.ms("alice").aim("bob").expect_success();
    let binding = Draft::request(kind::method::BINDING).encode();
    let allocate = Draft::allocate().encode();
    let classic = [&[0, 1, 0, 0][..], &[0xA0; 16]].concat();
    for (case, payload) in [
        ("a connectivity check", &binding[..]),
        ("a request of the other dialect", &allocate),
        ("a Binding request of old", &classic),
        ("what begins as ChannelData", b"\x40\x01\x00\x02ab"),
        ("what begins as broken ChannelData", b"\x40\x01\x00\xFFab"),
        ("DTLS", b"\x16\xFE\xFD\x00"),
        ("RTP", b"\x80\x60\x00\x01"),
        ("a multiplexed frame", b"\xFF\x10\x00\x01\x00"),
        ("a byte", b"\x00"),
        ("nothing", b""),
    ] {
        world.ms("alice").send_bytes(payload);
        assert_eq!(world.peer("bob").expect(payload), relayed, "{case}");
        world.ms("alice").expect_silence();
    }
    // Messages of the dialect stay messages, broken ones too.
    world.ms("alice").allocate().expect_success();
    let mut broken = world.ms("alice").draft(AIM).encode();
    broken[3] ^= 1;
    world.ms("alice").send_bytes(&broken);
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::MalformedMs), 1);
}

#[test]
fn mst_009_without_a_destination_bare_payload_is_dropped() {
    let mut world = world(9);
    world.ms("alice").relay();
    for (bytes, reason) in [
        (&b"\x80rtp"[..], DropReason::Unrecognised),
        (b"\xFF\x10\x00\x04data", DropReason::Multiplexed),
        (b"\x40\x01\x00\x01a", DropReason::NoChannel),
        (b"\x00\x01", DropReason::MalformedStun),
    ] {
        let before = world.dropped(reason);
        world.ms("alice").send_bytes(bytes);
        assert_eq!(world.dropped(reason), before + 1, "{reason:?}");
    }
    // Where the framing says that it is payload, the reason is another.
    let (listener, address) = (ListenerId(0), world.client("alice").state().address);
    let now = world.now();
    let from = FiveTuple { listener, client: ClientAddr::new(address) };
    let verdict = world.server.client_payload(now, from, b"payload");
    assert_eq!(verdict, proto::turn::Verdict::Dropped(DropReason::NoDestination));
}

#[test]
fn mst_007_multiplexed_sessions_are_not_offered() {
    let mut world = world(7);
    let frame = [&[0xFF, 0x10, 0, 12][..], &[1; 12]].concat();
    world.ms("alice").send_bytes(&frame);
    world.ms("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::Multiplexed), 1);
}

#[test]
fn mst_096_the_destination_changes_at_once_and_stays_when_it_cannot() {
    let mut world = world(96);
    let relayed = world.ms("alice").relay();
    world.ms("alice").aim("bob").expect_success();
    world.ms("alice").aim("dave").expect_success();
    world.ms("alice").send_bytes(b"\x80to dave");
    world.peer("dave").expect(b"\x80to dave");
    world.peer("bob").expect_silence();
    // The old one is a peer like others now.
    world.peer("bob").send(relayed, b"from bob");
    world.ms("alice").expect_data("bob", b"from bob");
    world.peer("dave").send(relayed, b"from dave");
    world.ms("alice").expect_bare(b"from dave");
    for denied in ["10.0.0.9:9000", "[2600:3c01::1]:9", "127.0.0.1:80"] {
        let denied = denied.parse().expect("an address");
        world.ms("alice").aim_at(denied).expect_code(500);
    }
    world.ms("alice").send_bytes(b"\x80still");
    world.peer("dave").expect(b"\x80still");
    assert_eq!(world.server.tally().channels, 1);
    world.check();
}

#[test]
fn mst_096_a_first_destination_that_cannot_be_leaves_none() {
    let mut world = world_with(96, |config| config.limits.permissions = 0);
    world.ms("alice").relay();
    world.ms("alice").aim("bob").expect_code(500);
    world.ms("alice").send_bytes(b"\x80nowhere");
    assert_eq!(world.dropped(DropReason::Unrecognised), 1);
}

#[test]
fn mst_097_there_is_no_time_between_two_destinations() {
    let mut world = world(97);
    world.ms("alice").relay();
    for turn in 0..20 {
        let peer = if turn % 2 == 0 { "bob" } else { "dave" };
        world.ms("alice").aim(peer).expect_success();
        world.ms("alice").send_bytes(b"\x80now");
        world.peer(peer).expect(b"\x80now");
    }
    world.check();
}

#[test]
fn mst_098_the_answer_repeats_the_number_signed() {
    let mut world = world(98);
    world.ms("alice").relay();
    let mut alice = world.ms("alice");
    alice.state().number = 41;
    let heard = alice.aim("bob");
    assert_eq!(heard.expect_success().kinds(), [MAGIC_COOKIE, SEQUENCE, INTEGRITY]);
    let state = alice.state().clone();
    assert_eq!(heard.numbered(), Some((state.connection, 42)));
    assert_eq!(heard.is_signed_with(&state.key()), Some(true));
}

#[test]
fn mst_099_other_peers_still_come_in_data_indications() {
    let mut world = world(99);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("dave", b"hello");
    world.ms("alice").aim("bob").expect_success();
    world.peer("dave").send(relayed, b"beside");
    world.ms("alice").expect_data("dave", b"beside");
    world.peer("bob").send_from_port(7, relayed, b"another port");
    assert!(matches!(world.ms("alice").take(), Some(MsArrival::Data(..))));
    world.ms("alice").send("dave", b"beside, too");
    world.peer("dave").expect(b"hello");
    world.peer("dave").expect(b"beside, too");
}

#[test]
fn mst_100_without_allocation_437_without_destination_400() {
    let mut world = world(100);
    world.ms("alice").challenge();
    world.ms("alice").aim("bob").expect_code(437);
    world.ms("alice").relay();
    for destination in
        [None, Some(vec![0, 3, 0, 1, 1, 2, 3, 4]), Some(vec![0, 1, 0, 0, 45, 33, 32, 10])]
    {
        let mut alice = world.ms("alice");
        let number = alice.count();
        let draft = alice.numbered(AIM, number);
        let draft = destination.iter().fold(draft, |draft, value| draft.raw(DESTINATION, value));
        let draft = alice.seal(draft);
        alice.ask(&draft).expect_code(400);
    }
    let mut alice = world.ms("alice");
    let number = alice.count();
    let username = alice.state().username.clone();
    let draft = alice.draft(AIM).raw(USERNAME, &username);
    alice.ask(&draft).expect_code(401);
    let draft = alice.numbered(AIM, number).raw(0x0025, &[]);
    let draft = alice.seal(draft);
    alice.ask(&draft).expect_code(420);
    // The product counts every one of these, be it the client's fault or not.
    let denied = world.ms("alice").aim_at("10.0.0.9:9".parse().unwrap());
    denied.expect_code(500);
    assert_eq!(world.server.listeners()[0].demand.destination_errors, 7);
}

#[test]
fn mst_081_a_repeated_request_gets_the_same_answer() {
    let mut world = world(81);
    world.ms("alice").relay();
    let peer = world.peer_address("bob");
    let draft = world.ms("alice").aim_draft(7, peer);
    let first = world.ms("alice").ask(&draft);
    first.expect_success();
    for _ in 0..16 {
        world.advance(std::time::Duration::from_millis(650));
        assert_eq!(world.ms("alice").ask(&draft), first);
    }
    // The same number in another request is a replay.
    let other = world.ms("alice").aim_draft(7, world_peer("dave"));
    assert_eq!(world.ms("alice").exchange(&other), None);
    assert_eq!(world.dropped(DropReason::Replayed), 1);
    world.ms("alice").send_bytes(b"\x80bob");
    world.peer("bob").expect(b"\x80bob");
}

#[test]
fn mst_091_requests_and_sends_count_together() {
    let mut world = world(91);
    world.ms("alice").relay();
    let peer = world.peer_address("bob");
    world.ms("alice").send("bob", b"one");
    let draft = world.ms("alice").aim_draft(1, peer);
    assert_eq!(world.ms("alice").exchange(&draft), None);
    assert_eq!(world.dropped(DropReason::Replayed), 1);
    let draft = world.ms("alice").aim_draft(2, peer);
    world.ms("alice").ask(&draft).expect_success();
}

/// Where the second peer of every world is.
fn world_peer(name: &str) -> std::net::SocketAddr {
    world(0).peer_address(name)
}
