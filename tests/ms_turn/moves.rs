//! An Allocate that comes with the connection of an allocation from another five-tuple (MST-75).

use proto::reject::{DropReason, Why};
use proto::turn::CloseReason;
use rig::ms::{ALLOCATE, LIFETIME, MAPPED, RELAYED, SEQUENCE, VERSION};
use rig::site::{BEGIN, pool_key};
use rig::{MsHeard, World};

use super::world;

/// A client that has what another one knows of its allocation, and a nonce of its own.
fn become_of(world: &mut World, before: &str, after: &str) {
    let known = world.ms(before).state().clone();
    *world.ms(after).state() = known;
    world.ms(after).challenge();
}

/// An Allocate that brings the connection it knows.
#[track_caller]
fn bring(world: &mut World, name: &str, lifetime: Option<u32>) -> MsHeard {
    let mut client = world.ms(name);
    let state = client.state().clone();
    let sequence = [&state.connection[..], &state.number.to_be_bytes()].concat();
    let draft = client.draft(ALLOCATE).number(VERSION, 1).raw(SEQUENCE, &sequence);
    let draft = lifetime.into_iter().fold(draft, |draft, it| draft.number(LIFETIME, it));
    let draft = client.signed(draft);
    client.ask(&draft)
}

#[test]
fn mst_075_an_allocation_follows_its_connection_to_another_address() {
    let mut world = world(751);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("bob", b"one");
    world.ms("alice").aim("dave").expect_success();
    world.peer("bob").expect(b"one");
    become_of(&mut world, "alice", "carol");
    let heard = bring(&mut world, "carol", None);
    assert_eq!(heard.expect_success().address(RELAYED), Some(relayed), "the same address");
    assert_eq!(heard.mapped(), Some(world.client("carol").state().address));
    assert_eq!(heard.number(LIFETIME), Some(600), "a new lifetime");
    assert!(heard.value(MAPPED).is_some());
    let connection = world.ms("alice").state().connection;
    assert_eq!(heard.numbered(), Some((connection, 2)), "and the numbers go on");
    assert_eq!(heard.is_signed_with(&world.ms("carol").state().key()), Some(true));
    // Payload, permissions, and destination are where the client is now.
    world.peer("bob").send(relayed, b"to the new place");
    world.ms("carol").expect_data("bob", b"to the new place");
    world.peer("dave").send(relayed, b"bare");
    world.ms("carol").expect_bare(b"bare");
    world.ms("carol").send_bytes(b"\x80back");
    assert_eq!(world.peer("dave").expect(b"\x80back"), relayed);
    world.ms("carol").send("bob", b"three");
    world.peer("bob").expect(b"three");
    // And nowhere else.
    world.ms("alice").expect_silence();
    world.ms("alice").send("bob", b"late");
    world.ms("alice").send_bytes(b"\x80late");
    world.peer("bob").expect_silence();
    world.peer("dave").expect_silence();
    assert_eq!(world.dropped(DropReason::NoAllocation), 1);
    // What was said before the move counts as it did.
    let bob = world.peer_address("bob");
    let again = world.ms("carol").send_draft(1, bob, b"one");
    world.ms("carol").send_bytes(&again.encode());
    assert_eq!(world.dropped(DropReason::Replayed), 1);
    assert_eq!((world.server.tally().opened, world.open_sockets().len()), (1, 1));
    world.check();
}

#[test]
fn mst_075_the_nonce_that_moved_it_refreshes_it_for_ever() {
    let mut world = world(752);
    let relayed = world.ms("alice").relay();
    // The token's time is over meanwhile: that ends no allocation, here or there (MST-82).
    world.ms("alice").state().log_in(&pool_key(), "alice", BEGIN + 60);
    world.ms("alice").allocate_for(Some(0)).expect_code(441);
    world.ms("alice").state().log_in(&pool_key(), "alice", BEGIN + 28_800);
    world.advance_s(500);
    become_of(&mut world, "alice", "carol");
    for _ in 0..10 {
        let heard = bring(&mut world, "carol", None);
        assert_eq!(heard.expect_success().address(RELAYED), Some(relayed));
        world.advance_s(590);
    }
    let heard = world.ms("carol").allocate();
    assert_eq!(heard.expect_success().address(RELAYED), Some(relayed), "by the five-tuple as well");
    world.check();
}

#[test]
fn mst_075_a_connection_alone_moves_nothing() {
    let mut world = world(753);
    let relayed = world.ms("alice").relay();
    // Another user, who knows it.
    let connection = world.ms("alice").state().connection;
    world.ms("carol").challenge();
    world.ms("carol").state().connection = connection;
    bring(&mut world, "carol", None).expect_code(441);
    assert_eq!(world.rejected(Why::OtherUser), 1);
    bring(&mut world, "carol", Some(0)).expect_code(441);
    // A request that was overheard, from another address: its nonce was for alice's.
    let nonce = world.ms("alice").state().nonce.clone();
    become_of(&mut world, "alice", "carol");
    world.ms("carol").state().nonce = nonce;
    bring(&mut world, "carol", None).expect_code(438);
    // Or nobody's at all.
    let sequence = [&connection[..], &[0; 4]].concat();
    let draft = world.ms("carol").draft(ALLOCATE).raw(SEQUENCE, &sequence);
    world.ms("carol").ask(&draft).expect_code(401);
    world.peer("bob").send(relayed, b"nobody moved");
    world.ms("carol").expect_silence();
    world.ms("alice").allocate().expect_success();
    world.check();
}

#[test]
fn mst_075_a_connection_that_nobody_has_opens_an_allocation() {
    let mut world = world(754);
    let relayed = world.ms("alice").relay();
    become_of(&mut world, "alice", "carol");
    for bit in 0..160 {
        let mut guess = world.ms("alice").state().connection;
        guess[bit / 8] ^= 1 << (bit % 8);
        world.ms("carol").state().connection = guess;
        let heard = bring(&mut world, "carol", None);
        let other = heard.expect_success().address(RELAYED);
        assert_ne!(other, Some(relayed), "bit {bit}");
        world.ms("carol").allocate_for(Some(0)).expect_success();
    }
    // Whoever has an allocation refreshes that, whatever connection it names.
    let own = world.ms("carol").relay();
    world.ms("carol").state().connection = world.ms("alice").state().connection;
    assert_eq!(bring(&mut world, "carol", None).address(RELAYED), Some(own));
    world.ms("alice").allocate().expect_success();
    world.check();
}

#[test]
fn mst_076_lifetime_zero_releases_from_elsewhere_too() {
    let mut world = world(755);
    let relayed = world.ms("alice").relay();
    become_of(&mut world, "alice", "carol");
    let heard = bring(&mut world, "carol", Some(0));
    assert_eq!(heard.expect_success().number(LIFETIME), Some(0));
    assert_eq!(heard.address(RELAYED), Some(relayed));
    assert!(world.open_sockets().is_empty());
    assert_eq!(world.server.tally().closed[CloseReason::Released as usize], 1);
    // Its connection went with it.
    bring(&mut world, "carol", Some(0)).expect_success();
    assert_ne!(bring(&mut world, "carol", None).address(RELAYED), Some(relayed));
    world.check();
}

#[test]
fn mst_075_between_streams_the_old_one_ends_and_peers_call_anew() {
    let mut world = world(756).with_ms_tcp_client("wired").with_ms_tcp_client("wlan");
    let relayed = world.ms("wired").relay();
    world.ms("wired").send("bob", b"hello");
    assert_eq!(world.dials.open.len(), 1);
    become_of(&mut world, "wired", "wlan");
    assert_eq!(bring(&mut world, "wlan", None).address(RELAYED), Some(relayed));
    assert!(!world.client("wired").is_connected(), "it has nothing to say any more");
    assert!(world.dials.open.is_empty(), "a stream with a hole is none");
    assert!(world.peer("bob").connect(relayed).is_some(), "bob may call again");
    world.ms("wlan").send("bob", b"hello again");
    assert_eq!(world.dials.chunks.len(), 2);
    // A relay for streams is none for datagrams (MST-68).
    become_of(&mut world, "wlan", "alice");
    assert_ne!(bring(&mut world, "alice", None).address(RELAYED), Some(relayed));
    assert!(world.client("wlan").is_connected());
    world.check();
}
