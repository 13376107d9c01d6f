//! Refresh, release and the end of allocations (§5.3).

use proto::reject::DropReason;
use proto::turn::CloseReason;
use rig::ms::{ALLOCATE, INTEGRITY, LIFETIME, MAGIC_COOKIE, MAPPED, RELAYED, VERSION};
use rig::site::{BEGIN, pool_key};

use super::world;

#[test]
fn mst_075_another_allocate_refreshes_and_names_the_same_address() {
    let mut world = world(75);
    let relayed = world.ms("alice").relay();
    for _ in 0..5 {
        world.advance_s(540);
        let heard = world.ms("alice").allocate();
        assert_eq!(heard.expect_success().address(RELAYED), Some(relayed));
        assert_eq!(heard.number(LIFETIME), Some(600));
    }
    assert_eq!(world.open_sockets(), [relayed]);
    // Unless nobody does: then the next one opens another.
    world.advance_s(601);
    assert!(world.open_sockets().is_empty());
    let heard = world.ms("alice").allocate();
    world.ms("alice").learn(heard.expect_code(438));
    world.ms("alice").allocate().expect_success();
    world.check();
}

#[test]
fn mst_076_lifetime_zero_releases_and_says_so() {
    let mut world = world(76);
    let relayed = world.ms("alice").relay();
    let mut alice = world.ms("alice");
    let draft = alice.draft(ALLOCATE).number(VERSION, 1).number(LIFETIME, 0);
    let draft = alice.signed(draft);
    let heard = alice.ask(&draft);
    assert_eq!(heard.expect_success().number(LIFETIME), Some(0));
    assert_eq!(heard.address(RELAYED), Some(relayed));
    assert!(world.open_sockets().is_empty());
    assert_eq!(world.server.tally().closed[CloseReason::Released as usize], 1);
    // The answer was lost: once more releases nothing, opens nothing, and is answered alike.
    for _ in 0..2 {
        let again = world.ms("alice").ask(&draft);
        assert_eq!(again, heard, "MST-81");
        world.advance_s(10);
    }
    // Later there is nothing to remember it by, and no error in it.
    let again = world.ms("alice").ask(&draft);
    assert_eq!(again.expect_success().number(LIFETIME), Some(0));
    assert_eq!(again.kinds(), [MAGIC_COOKIE, MAPPED, LIFETIME, VERSION, INTEGRITY]);
    assert!(world.open_sockets().is_empty());
    world.check();
}

#[test]
fn mst_077_the_nonce_of_an_allocation_refreshes_it_for_ever() {
    let mut world = world(77);
    let relayed = world.ms("alice").relay();
    // Hours later, for a nonce lives ten minutes.
    for _ in 0..20 {
        world.advance_s(590);
        let heard = world.ms("alice").allocate();
        assert_eq!(heard.expect_success().address(RELAYED), Some(relayed));
    }
    // Another old nonce does not.
    let own = world.ms("alice").state().nonce.clone();
    world.ms("alice").challenge();
    world.advance_s(599);
    world.ms("alice").allocate().expect_success();
    world.advance_s(599);
    let heard = world.ms("alice").allocate();
    heard.expect_code(438);
    world.ms("alice").state().nonce = own;
    world.ms("alice").allocate_for(Some(0)).expect_success();
}

#[test]
fn mst_079_what_a_client_sends_keeps_its_allocation() {
    let mut world = world(79);
    let relayed = world.ms("alice").relay();
    for _ in 0..10 {
        world.advance_s(590);
        world.ms("alice").send("bob", b"still there");
        world.peer("bob").expect(b"still there");
    }
    // A peer that goes on talking keeps nothing: nobody may be listening.
    for _ in 0..5 {
        world.advance_s(300);
        world.peer("bob").send(relayed, b"hello?");
    }
    assert!(world.open_sockets().is_empty());
    assert_eq!(world.server.tally().closed[CloseReason::Expired as usize], 1);
    world.check();
}

#[test]
fn mst_082_a_token_that_expires_meanwhile_ends_nothing() {
    let mut world = world(82);
    world.ms("alice").state().log_in(&pool_key(), "alice", BEGIN + 60);
    world.ms("alice").relay();
    for _ in 0..10 {
        world.advance_s(500);
        world.ms("alice").allocate().expect_success();
    }
    world.ms("alice").send("bob", b"on");
    world.peer("bob").expect(b"on");
    world.ms("alice").aim("bob").expect_success();
    world.ms("alice").allocate_for(Some(0)).expect_success();
    // But it opens nothing.
    world.ms("alice").state().nonce.clear();
    world.ms("alice").allocate().expect_code(436);
}

#[test]
fn mst_086_permissions_and_the_destination_live_as_long_as_the_allocation() {
    let mut world = world(86);
    let relayed = world.ms("alice").relay();
    world.ms("alice").send("bob", b"in");
    world.ms("alice").aim("dave").expect_success();
    for _ in 0..4 {
        world.advance_s(590);
        world.ms("alice").allocate().expect_success();
    }
    world.peer("bob").send(relayed, b"from bob");
    world.ms("alice").expect_data("bob", b"from bob");
    world.peer("dave").send(relayed, b"from dave");
    world.ms("alice").expect_bare(b"from dave");
    world.ms("alice").allocate_for(Some(0)).expect_success();
    world.ms("alice").state().nonce.clear();
    world.ms("alice").relay();
    for peer in ["bob", "dave"] {
        world.peer(peer).send(relayed, b"late");
    }
    world.ms("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 0, "the old port is closed");
    world.check();
}
