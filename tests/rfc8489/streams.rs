//! §6.2.2: messages over TCP.

use proto::turn::CloseReason;
use rig::kind::method;
use rig::{Arrival, Draft, World};

fn binding() -> Draft {
    Draft::request(method::BINDING)
}

/// Transactions of the answers a client has heard.
fn answered(world: &mut World, client: &str) -> Vec<[u8; 12]> {
    let mut transactions = Vec::new();
    while let Some(arrival) = world.client(client).hear() {
        match arrival {
            Arrival::Response(heard) => transactions.push(heard.transaction()),
            other => panic!("an answer, not {other:?}"),
        }
    }
    transactions
}

#[test]
fn stun_025_messages_are_cut_by_their_own_length_wherever_they_were_split() {
    for seed in 0..32 {
        let mut world = World::seeded(seed).with_tcp_client("alice");
        let ids = [1, 2, 3].map(|n| [n; 12]);
        let requests = ids.map(|id| binding().transaction(id).encode());
        for byte in &requests[0] {
            world.client("alice").write(&[*byte]);
        }
        world.client("alice").write(&requests[1..].concat());
        assert_eq!(answered(&mut world, "alice"), ids);
    }
}

#[test]
fn stun_026_an_idle_stream_with_an_allocation_stays() {
    let mut world = World::seeded(26).with_tcp_client("alice");
    world.client("alice").allocate().expect_success();
    for _ in 0..12 {
        world.advance_s(599);
        world.client("alice").refresh(600).expect_success();
    }
    assert!(world.client("alice").is_connected());
}

#[test]
fn stun_027_a_stream_that_cannot_be_cut_is_closed_and_others_stay() {
    let mut world = World::seeded(27).with_tcp_client("alice").with_tcp_client("other");
    for client in ["alice", "other"] {
        world.client(client).allocate().expect_success();
    }
    world.client("alice").write(&[0xFF]);
    world.settle();
    assert!(!world.client("alice").is_connected());
    assert_eq!(world.server.tally().closed[CloseReason::ClientGone as usize], 1);
    world.client("other").refresh(600).expect_success();
}

#[test]
fn stun_029_binding_and_allocate_over_tcp() {
    let mut world = World::seeded(29).with_tcp_client("alice").with_peer("bob");
    let address = world.client("alice").state().address;
    let heard = world.client("alice").bare(binding());
    assert_eq!(heard.mapped(), Some(address));
    let relayed = world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").send("bob", b"out");
    assert_eq!(world.peer("bob").expect(b"out"), relayed);
    world.peer("bob").send(relayed, b"and in");
    world.client("alice").expect_data("bob", b"and in");
}
