//! Send, Data Indication, permissions, sequence numbers (§6).

use proto::reject::DropReason;
use rig::MsArrival;
use rig::ms::{DATA, DESTINATION, REALM_ATTRIBUTE, SEND, USERNAME, VERSION};

use super::{world, world_with};

#[test]
fn mst_085_a_send_is_carried_and_never_answered() {
    let mut world = world(85);
    let relayed = world.ms("alice").relay();
    for payload in [&b"media"[..], b"", b"123", b"1234", &[7; 1_200]] {
        world.ms("alice").send("bob", payload);
        assert_eq!(world.peer("bob").expect(payload), relayed);
    }
    // Nor is one that is wrong.
    let peer = world.peer_address("bob");
    for case in 0..5 {
        let mut alice = world.ms("alice");
        let number = alice.count();
        let draft = alice.numbered(SEND, number);
        let draft = match case {
            0 => draft.raw(DATA, b"x"),
            1 => draft.address(DESTINATION, peer),
            2 => draft.raw(DESTINATION, &[0, 3, 0, 1, 1, 2, 3, 4]).raw(DATA, b"x"),
            3 => draft.address(DESTINATION, peer).raw(DATA, b"x").raw(0x0025, &[]),
            _ => draft.raw(DESTINATION, &[0, 1, 0]).raw(DATA, b"x"),
        };
        let draft = alice.seal(draft);
        assert_eq!(alice.exchange(&draft), None);
        world.peer("bob").expect_silence();
    }
    assert_eq!(world.dropped(DropReason::BadIndication), 5);
    world.ms("carol").send("bob", b"without an allocation");
    world.ms("carol").expect_silence();
    assert_eq!(world.dropped(DropReason::NoAllocation), 1);
}

#[test]
fn mst_043_a_realm_may_be_left_out_but_not_be_another() {
    let mut world = world(43);
    world.ms("alice").relay();
    let peer = world.peer_address("bob");
    let mut alice = world.ms("alice");
    let number = alice.count();
    // The order of genuine clients.
    let draft = alice.numbered(SEND, number).number(VERSION, 1).address(DESTINATION, peer);
    let draft = alice.seal(draft.raw(DATA, b"no realm"));
    assert_eq!(alice.exchange(&draft), None);
    world.peer("bob").expect(b"no realm");
    let mut alice = world.ms("alice");
    let number = alice.count();
    let draft = alice.numbered(SEND, number).address(DESTINATION, peer);
    let draft = alice.seal(draft.raw(REALM_ATTRIBUTE, b"elsewhere.test").raw(DATA, b"x"));
    assert_eq!(alice.exchange(&draft), None);
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::UnsignedMs), 1);
}

#[test]
fn mst_048_sends_are_proven_by_their_integrity_alone() {
    let mut world = world(48);
    world.ms("alice").relay();
    let peer = world.peer_address("bob");
    let mut alice = world.ms("alice");
    let good = alice.send_draft(1, peer, b"good").encode();
    for bit in (0..good.len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        alice.send_bytes(&bad);
        alice.expect_silence();
    }
    // An unsigned one, and one whose user is another.
    let state = alice.state().clone();
    let draft = alice.draft(SEND).raw(USERNAME, &state.username).address(DESTINATION, peer);
    alice.send_bytes(&draft.clone().raw(DATA, b"unsigned").encode());
    let key = state.key();
    let mut other = state.username.clone();
    other[30] ^= 1;
    let draft = alice.draft(SEND).raw(USERNAME, &other).address(DESTINATION, peer);
    alice.send_bytes(&draft.raw(DATA, b"other").sign(&key).encode());
    world.peer("bob").expect_silence();
    // Days later the key still fits, without a nonce.
    world.ms("alice").send_bytes(&good);
    world.peer("bob").expect(b"good");
}

#[test]
fn mst_086_a_send_permits_its_peer_to_answer_and_nobody_else() {
    let mut world = world(86);
    let relayed = world.ms("alice").relay();
    world.peer("bob").send(relayed, b"too early");
    world.ms("alice").expect_silence();
    world.ms("alice").send("bob", b"hello");
    world.peer("bob").send(relayed, b"now");
    world.ms("alice").expect_data("bob", b"now");
    world.peer("dave").send(relayed, b"stranger");
    world.ms("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 2);
    let permissions: Vec<_> = world
        .changes
        .iter()
        .filter(|change| matches!(change, proto::turn::Change::PermissionSet { .. }))
        .collect();
    assert_eq!(permissions.len(), 1);
    world.check();
}

#[test]
fn mst_112_peers_are_those_that_the_policy_admits() {
    let mut world = world_with(112, |config| config.limits.permissions = 2);
    world.ms("alice").relay();
    for denied in ["10.0.0.9:9000", "127.0.0.1:9", "224.0.0.1:9", "45.33.32.10:0"] {
        world.ms("alice").send_to(denied.parse().expect("an address"), b"x");
    }
    assert_eq!(world.dropped(DropReason::PeerDenied), 4);
    world.ms("alice").send_to("[2600:3c01::1]:9".parse().expect("an address"), b"x");
    assert_eq!(world.dropped(DropReason::PeerFamily), 1);
    world.ms("alice").send("bob", b"1");
    world.ms("alice").send("dave", b"2");
    world.ms("alice").send_to("45.33.32.99:9".parse().expect("an address"), b"x");
    assert_eq!(world.dropped(DropReason::TooManyPermissions), 1);
    world.check();
}

#[test]
fn mst_087_payload_of_permitted_peers_comes_in_data_indications() {
    let mut world = world(87);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("bob", b"hello");
    for payload in [&b""[..], b"1", b"12", b"123", b"1234", &[9; 1_300]] {
        world.peer("bob").send(relayed, payload);
        world.ms("alice").expect_data("bob", payload);
    }
    // Permission is for the host.
    world.peer("bob").send_from_port(9_999, relayed, b"another port");
    let arrival = world.ms("alice").take();
    let from = std::net::SocketAddr::new(world.peer_address("bob").ip(), 9_999);
    assert_eq!(arrival, Some(MsArrival::Data(from, b"another port".to_vec())));
}

#[test]
fn mst_088_every_indication_has_a_transaction_of_its_own() {
    let mut world = world(88);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("bob", b"hello");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        world.peer("bob").send(relayed, b"x");
        let bytes = world.client("alice").state().inbox.pop_front().expect("an indication");
        assert!(seen.insert(bytes[4..20].to_vec()));
    }
}

#[test]
fn mst_047_indications_carry_no_integrity() {
    let mut world = world(47);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("bob", b"hello");
    world.peer("bob").send(relayed, b"x");
    let bytes = world.client("alice").state().inbox.pop_front().expect("an indication");
    assert_eq!(bytes.len(), 20 + 8 + 12 + 5, "cookie, peer, payload");
}

#[test]
fn mst_087_what_would_not_fit_is_dropped() {
    let mut world = world(87);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("bob", b"hello");
    world.peer("bob").send(relayed, &vec![1; 65_507 - 44]);
    assert!(matches!(world.ms("alice").take(), Some(MsArrival::Data(..))));
    world.peer("bob").send(relayed, &vec![1; 65_507 - 43]);
    world.ms("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::Oversize), 1);
    world.ms("alice").aim("bob").expect_success();
    world.peer("bob").send(relayed, &vec![1; 65_507]);
    world.ms("alice").expect_bare(&vec![1; 65_507]);
}

#[test]
fn mst_091_a_send_counts_once() {
    let mut world = world(91);
    world.ms("alice").relay();
    let peer = world.peer_address("bob");
    let mut alice = world.ms("alice");
    let draft = alice.send_draft(1, peer, b"once");
    for _ in 0..3 {
        assert_eq!(alice.exchange(&draft), None);
    }
    // Reordered is not repeated.
    for number in [5, 3, 4, 2, 64, 6, 1] {
        let draft = alice.send_draft(number, peer, &number.to_be_bytes());
        assert_eq!(alice.exchange(&draft), None);
    }
    world.peer("bob").expect(b"once");
    for number in [5_u32, 3, 4, 2, 64, 6] {
        world.peer("bob").expect(&number.to_be_bytes());
    }
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::Replayed), 3);
}

#[test]
fn mst_091_a_number_of_another_connection_counts_for_nothing() {
    let mut world = world(91);
    world.ms("alice").relay();
    world.ms("alice").state().connection[7] ^= 1;
    world.ms("alice").send("bob", b"x");
    world.ms("alice").aim("bob").expect_code(437);
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::Replayed), 1);
}

#[test]
fn mst_093_old_clients_send_no_numbers() {
    let mut world = world(93);
    world.ms("alice").relay();
    let peer = world.peer_address("bob");
    let mut alice = world.ms("alice");
    let username = alice.state().username.clone();
    for payload in [b"one", b"two"] {
        let draft = alice.draft(SEND).raw(USERNAME, &username).address(DESTINATION, peer);
        let draft = alice.seal(draft.raw(DATA, payload));
        assert_eq!(alice.exchange(&draft), None);
    }
    world.peer("bob").expect(b"one");
    world.peer("bob").expect(b"two");
}
