//! §11: Send and Data indications.

use std::collections::HashSet;

use proto::reject::DropReason;
use rig::kind::{self, method};
use rig::{Draft, Heard, World};

fn call(seed: u64) -> World {
    let mut world = World::seeded(seed).with_client("alice").with_peer("bob");
    world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    world
}

#[test]
fn data_001_a_send_indication_needs_peer_and_data() {
    let mut world = call(1);
    let bob = world.peer_address("bob");
    let empty = || Draft::of_kind(method::SEND | kind::INDICATION);
    for (case, draft) in [
        ("nothing", empty()),
        ("no peer", empty().raw(kind::DATA, b"hello")),
        ("no data", empty().peer(bob)),
        ("broken peer", empty().raw(kind::PEER, &[0, 1]).raw(kind::DATA, b"hello")),
    ] {
        assert!(world.client("alice").exchange(draft).is_none(), "{case}");
        world.peer("bob").expect_silence();
    }
    assert_eq!(world.dropped(DropReason::BadIndication), 4);
    world.client("alice").send("bob", b"");
    world.peer("bob").expect(b"");
}

#[test]
fn data_002_without_permission_or_allocation_it_is_dropped() {
    let mut world = call(2).with_client("idle").with_peer("eve").with_peer6("dave");
    world.client("idle").send("bob", b"hello");
    assert_eq!(world.dropped(DropReason::NoAllocation), 1);
    world.client("alice").send("eve", b"hello");
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    world.client("alice").send("dave", b"hello");
    assert_eq!(world.dropped_in_all(), 3, "another family");
    for name in ["bob", "eve", "dave"] {
        world.peer(name).expect_silence();
    }
    world.client("alice").expect_silence();
}

#[test]
fn data_003_the_peer_gets_the_payload_and_nothing_else() {
    let mut world = call(3);
    let relayed = world.client("alice").state().relayed.expect("allocated");
    for length in [0, 1, 2, 3, 4, 5, 1200, 1472, 8192, 65_400] {
        let payload = world.dice.bytes(length);
        world.client("alice").send("bob", &payload);
        assert_eq!(world.peer("bob").expect(&payload), relayed, "{length} bytes");
    }
    assert_eq!(world.server.tally().via_indication.to_peer.packets, 10);
}

#[test]
fn data_004_dont_fragment_sets_df_on_that_datagram_alone() {
    // Where it can't be kept, nothing is sent: iphdr_005.
    let mut world = call(4);
    let bob = world.peer_address("bob");
    for whole in [false, true, false] {
        let draft = Draft::send(bob, b"hello");
        let draft = if whole { draft.raw(kind::DONT_FRAGMENT, b"") } else { draft };
        assert!(world.client("alice").exchange(draft).is_none());
        world.peer("bob").expect(b"hello");
        assert_eq!(world.peer("bob").marks().dont_fragment, whole);
    }
}

#[test]
fn data_005_the_client_learns_who_sent_it() {
    let mut world = call(5).with_peer6("dave");
    let relayed = world.client("alice").state().relayed.expect("allocated");
    let mut transactions = HashSet::new();
    for n in 0..50 {
        world.peer("bob").send(relayed, &[n]);
        let bytes = world.client("alice").state().inbox.pop_front().expect("an indication");
        let heard = Heard::read(&bytes);
        assert_eq!(heard.kind(), method::DATA | kind::INDICATION);
        assert_eq!(heard.peer(), Some(world.peer_address("bob")));
        assert_eq!(heard.value(kind::DATA), Some(&[n][..]));
        // DATA-008: nothing but what is needed; 36 bytes and the payload.
        assert_eq!(heard.kinds(), [kind::PEER, kind::DATA]);
        assert_eq!(bytes.len(), 36 + 4);
        transactions.insert(heard.transaction());
    }
    assert_eq!(transactions.len(), 50, "a fresh transaction id each time");
    for octet in 0..12 {
        let values: HashSet<_> = transactions.iter().map(|id| id[octet]).collect();
        assert!(values.len() > 10, "octet {octet} is predictable");
    }
}

#[test]
fn data_006_an_empty_datagram_is_a_datagram() {
    let mut world = call(6);
    let relayed = world.client("alice").state().relayed.expect("allocated");
    world.peer("bob").send(relayed, b"");
    world.client("alice").expect_data("bob", b"");
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.peer("bob").send(relayed, b"");
    world.client("alice").expect_channel(0x4000, b"");
}

#[test]
fn data_009_what_does_not_fit_is_dropped_and_never_cut() {
    let mut world = call(9);
    let relayed = world.client("alice").state().relayed.expect("allocated");
    let largest = vec![7; 65_507];
    world.peer("bob").send(relayed, &largest);
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::Oversize), 1);
    let fits = &largest[..65_507 - 36 - 3];
    world.peer("bob").send(relayed, fits);
    world.client("alice").expect_data("bob", fits);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.peer("bob").send(relayed, &largest[..65_504]);
    assert_eq!(world.dropped(DropReason::Oversize), 2);
    world.peer("bob").send(relayed, &largest[..65_503]);
    world.client("alice").expect_channel(0x4000, &largest[..65_503]);
}

#[test]
fn data_008_a_data_indication_adds_36_or_48_bytes() {
    let mut world = call(8).with_client6("carol").with_peer6("dave");
    let ask = Draft::allocate().raw(kind::FAMILY, &[2, 0, 0, 0]);
    let six = world.client("carol").allocate_with(ask).expect_success().relayed().expect("a relay");
    world.client("carol").permit(&["dave"]).expect_success();
    let four = world.client("alice").state().relayed.expect("allocated");
    for (client, peer, relayed, overhead) in
        [("alice", "bob", four, 36), ("carol", "dave", six, 48)]
    {
        world.peer(peer).send(relayed, &[7; 100]);
        world.settle();
        let wire = world.client(client).state().inbox.pop_front().expect("an indication");
        assert_eq!(wire.len(), 100 + overhead, "{client}");
    }
}
