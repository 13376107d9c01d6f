//! §12.5 and what becomes of an allocation whose stream ends.

use proto::turn::{Change, CloseReason};
use rig::World;
use rig::script::channel_data;

#[test]
fn chan_010_channel_data_on_a_stream_is_padded_and_the_padding_is_not_counted() {
    for seed in 0..32 {
        let mut world = World::seeded(seed).with_tcp_client("alice").with_peer("bob");
        let relayed = world.client("alice").relay();
        world.client("alice").bind(0x4000, "bob").expect_success();
        let payloads: Vec<Vec<u8>> = (0..8_u8).map(|len| vec![0xE0 | len; len.into()]).collect();
        let mut stream = Vec::new();
        for payload in &payloads {
            stream.extend(channel_data(0x4000, payload));
            // What padding holds is nobody's business.
            stream.resize(stream.len().next_multiple_of(4), 0xFF);
        }
        world.client("alice").write(&stream);
        world.settle();
        for payload in &payloads {
            assert_eq!(world.peer("bob").expect(payload), relayed);
            // The rig's client insists on padding, and on zeros.
            world.peer("bob").send(relayed, payload);
            world.client("alice").expect_channel(0x4000, payload);
        }
    }
}

#[test]
fn alloc_026_an_allocation_ends_with_its_stream() {
    let mut world = World::seeded(26).with_tcp_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").hang_up();
    assert_eq!(world.server.tally().allocations, 0);
    assert!(world.open_sockets().is_empty());
    let closed = world.changes.iter().any(|change| {
        matches!(change, Change::AllocationClosed { reason: CloseReason::ClientGone, .. })
    });
    assert!(closed, "{:?}", world.changes);
    world.peer("bob").send(relayed, b"to nobody");
    world.client("alice").expect_silence();
    // The same port of the client, connected anew, begins anew.
    world.client("alice").relay();
    assert_eq!(world.server.tally().allocations, 1);
}

#[test]
fn alloc_026_a_stream_that_ends_while_its_socket_is_opened_leaves_nothing() {
    let mut world = World::seeded(27).with_tcp_client("alice");
    world.client("alice").know_the_realm();
    world.hold_sockets = true;
    let request = world.client("alice").state().sign(rig::Draft::allocate().transaction([7; 12]));
    world.client("alice").send_bytes(&request.encode());
    world.settle();
    world.client("alice").hang_up();
    world.open_held(false);
    world.settle();
    assert_eq!((world.server.tally().allocations, world.books.leases()), (0, 0));
    assert_eq!(world.server.tally().ports_used, 0);
    assert!(world.open_sockets().is_empty());
}

#[test]
fn data_008_a_stream_carries_what_a_datagram_could_not() {
    let mut world = World::seeded(8).with_tcp_client("alice").with_client("udp").with_peer("bob");
    let payload = vec![7; 65_480];
    for (client, fits) in [("alice", true), ("udp", false)] {
        let relayed = world.client(client).relay();
        world.client(client).permit(&["bob"]).expect_success();
        world.peer("bob").send(relayed, &payload);
        if fits {
            world.client(client).expect_data("bob", &payload);
        } else {
            world.client(client).expect_silence();
        }
    }
}
