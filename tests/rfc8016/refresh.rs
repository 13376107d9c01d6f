//! §3.2: a Refresh from another address.

use proto::addr::{ClientAddr, FiveTuple};
use proto::reject::{DropReason, Why};
use proto::turn::config::MobilityPolicy;
use rig::{World, kind};

use crate::{bring, mobile, ticket, under, wish};

/// Alice with a relayed address and a channel to bob; returns the ticket as well.
fn calling(world: &mut World) -> (std::net::SocketAddr, Vec<u8>) {
    let heard = world.client("alice").allocate_with(wish());
    world.client("alice").bind(0x4000, "bob").expect_success();
    (heard.relayed().expect("a relayed address"), ticket(&heard))
}

/// The five-tuple of a client.
fn five_tuple(world: &mut World, name: &str) -> FiveTuple {
    let mut client = world.client(name);
    let state = client.state();
    FiveTuple { listener: state.listener, client: ClientAddr::new(state.address) }
}

#[test]
fn mob_003_only_a_genuine_ticket_of_a_living_allocation_is_taken() {
    let mut world = mobile(1);
    let (_, good) = calling(&mut world);
    for (case, bad) in [
        ("empty", Vec::new()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("longer", [&good[..], &[0]].concat()),
        ("invented", vec![0x5A; good.len()]),
    ] {
        assert_eq!(world.client("wlan").ask(bring(&bad)).code(), Some(400), "{case}");
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(world.client("wlan").ask(bring(&bad)).code(), Some(400), "bit {bit}");
    }
    world.client("alice").refresh(0).expect_success();
    world.client("wlan").ask(bring(&good)).expect_code(437);
    world.client("alice").relay();
    world.client("wlan").ask(bring(&good)).expect_code(437);
}

#[test]
fn mob_003_a_ticket_of_another_relay_or_another_life_is_a_mismatch() {
    let (_, elsewhere) = calling(&mut mobile(2));
    let mut world = mobile(3);
    calling(&mut world);
    world.client("wlan").ask(bring(&elsewhere)).expect_code(437);
}

#[test]
fn mob_003_the_policy_may_have_changed() {
    let (_, good) = calling(&mut mobile(4));
    let mut world = under(MobilityPolicy::Forbidden, 4);
    world.client("wlan").ask(bring(&good)).expect_code(405);
    let mut world = under(MobilityPolicy::Ignored, 4);
    world.client("wlan").ask(bring(&good)).expect_code(437);
}

#[test]
fn mob_004_a_ticket_is_refused_where_the_allocation_is_already() {
    let mut world = mobile(5);
    let (_, first) = calling(&mut world);
    world.client("alice").ask(bring(&first)).expect_code(400);
    assert_eq!(world.rejected(Why::NotMoved), 1);
    let second = ticket(&world.client("wlan").ask(bring(&first)));
    world.client("wlan").ask(bring(&second)).expect_code(400);
    world.client("alice").refresh(600).expect_success();
}

#[test]
fn mob_005_a_ticket_is_worth_nothing_to_another_user() {
    let mut world = mobile(6);
    let (_, stolen) = calling(&mut world);
    world.client("eve").ask(bring(&stolen)).expect_code(441);
    world.client("eve").refresh(600).expect_code(437);
    ticket(&world.client("wlan").ask(bring(&stolen)));
}

#[test]
fn mob_006_the_allocation_moves_whole_and_with_a_new_ticket() {
    let mut world = mobile(7);
    let (relayed, first) = calling(&mut world);
    let heard = world.client("wlan").ask(bring(&first));
    assert_eq!(heard.expect_success().lifetime(), Some(600));
    assert_ne!(ticket(&heard), first);
    world.client("wlan").send_channel(0x4000, b"from the wlan");
    assert_eq!(world.peer("bob").expect(b"from the wlan"), relayed);
    world.peer("bob").send(relayed, b"still here?");
    world.client("wlan").expect_channel(0x4000, b"still here?");
    world.advance_s(599);
    world.client("wlan").refresh(600).expect_success();
    assert_eq!(world.server.tally().opened, 1);
}

#[test]
fn mob_006_a_ticket_may_also_end_the_allocation() {
    let mut world = mobile(8);
    let (_, first) = calling(&mut world);
    let draft = rig::Draft::refresh(0).raw(kind::MOBILITY_TICKET, &first);
    assert_eq!(world.client("wlan").ask(draft).expect_success().lifetime(), Some(0));
    assert_eq!(world.server.tally().allocations, 0);
    world.client("alice").refresh(600).expect_code(437);
}

#[test]
fn mob_006_an_address_that_has_an_allocation_takes_no_other() {
    let mut world = mobile(9);
    let (_, first) = calling(&mut world);
    world.client("wlan").relay();
    world.client("wlan").ask(bring(&first)).expect_code(437);
    assert_eq!(world.rejected(Why::AllocationExists), 1);
    world.client("alice").refresh(600).expect_success();
}

#[test]
fn mob_007_both_addresses_serve_until_the_new_one_sends_payload() {
    for indication in [false, true] {
        let mut world = mobile(10);
        let (relayed, first) = calling(&mut world);
        ticket(&world.client("wlan").ask(bring(&first)));

        world.peer("bob").send(relayed, b"to the old place");
        world.client("alice").expect_channel(0x4000, b"to the old place");
        world.client("wlan").expect_silence();
        world.client("alice").send_channel(0x4000, b"from the old place");
        world.peer("bob").expect(b"from the old place");
        world.client("alice").refresh(600).expect_success();
        world.client("wlan").permit(&["bob"]).expect_success();
        world.peer("bob").send(relayed, b"requests do not move it");
        world.client("alice").expect_channel(0x4000, b"requests do not move it");

        if indication {
            world.client("wlan").send("bob", b"here");
        } else {
            world.client("wlan").send_channel(0x4000, b"here");
        }
        assert_eq!(world.peer("bob").expect(b"here"), relayed);
        world.peer("bob").send(relayed, b"to the new place");
        world.client("wlan").expect_channel(0x4000, b"to the new place");
        world.client("alice").expect_silence();
        world.client("alice").send_channel(0x4000, b"too late");
        world.peer("bob").expect_silence();
        assert_eq!(world.dropped(DropReason::NoAllocation), 1);
        world.client("alice").refresh(600).expect_code(437);
    }
}

#[test]
fn mob_007_the_old_place_gives_way_when_its_connection_ends() {
    let mut world = mobile(11);
    let (relayed, first) = calling(&mut world);
    ticket(&world.client("wlan").ask(bring(&first)));
    let (now, old) = (world.now(), five_tuple(&mut world, "alice"));
    world.server.client_gone(now, old);
    world.peer("bob").send(relayed, b"to the new place");
    world.client("wlan").expect_channel(0x4000, b"to the new place");
    world.client("alice").refresh(600).expect_code(437);
}

#[test]
fn mob_007_whoever_moves_on_before_speaking_leaves_no_seat_behind() {
    let mut world = mobile(12);
    let (relayed, first) = calling(&mut world);
    let second = ticket(&world.client("wlan").ask(bring(&first)));
    let third = ticket(&world.client("train").ask(bring(&second)));
    world.client("wlan").refresh(600).expect_code(437);
    world.client("wlan").send_channel(0x4000, b"not from here");
    world.peer("bob").expect_silence();
    world.peer("bob").send(relayed, b"old place");
    world.client("alice").expect_channel(0x4000, b"old place");
    // Back to where it came from: as if it had never left, but for the ticket.
    let fourth = ticket(&world.client("alice").ask(bring(&third)));
    world.client("train").refresh(600).expect_code(437);
    world.client("alice").send_channel(0x4000, b"home");
    world.peer("bob").expect(b"home");
    ticket(&world.client("wlan").ask(bring(&fourth)));
}

#[test]
fn mob_008_an_old_ticket_repeats_its_move_and_makes_no_other() {
    for (wait, answered) in [(1, true), (29, true), (60, false)] {
        let mut world = mobile(13);
        let (_, first) = calling(&mut world);
        world.client("wlan").know_the_realm();
        let draft = bring(&first).transaction([9; 12]);
        let signed = world.client("wlan").state().sign(draft);
        let heard = world.client("wlan").bare(signed.clone());
        let second = ticket(&heard);
        world.advance_s(wait);
        let again = world.client("wlan").bare(signed);
        if answered {
            assert_eq!(again.bytes(), heard.bytes(), "after {wait} s");
        } else {
            again.expect_code(400);
        }
        world.client("train").ask(bring(&first)).expect_code(400);
        world.client("alice").ask(bring(&first)).expect_code(400);
        assert_eq!(world.rejected(Why::SpentTicket), 2 + u64::from(!answered));
        ticket(&world.client("train").ask(bring(&second)));
    }
}

#[test]
fn mob_010_a_nonce_of_the_old_address_delays_a_move_by_one_challenge() {
    let mut world = mobile(14);
    let (_, first) = calling(&mut world);
    let challenge = world.client("alice").state().challenge.clone();
    world.client("wlan").state().challenge = challenge;
    let signed = world.client("wlan").state().sign(bring(&first));
    let stale = world.client("wlan").bare(signed);
    stale.expect_code(438);
    world.client("wlan").state().learn(&stale);
    let signed = world.client("wlan").state().sign(bring(&first));
    ticket(&world.client("wlan").bare(signed));
}

#[test]
fn alloc_026_an_allocation_with_a_ticket_outlives_its_connection() {
    let mut world = mobile(15);
    let (relayed, first) = calling(&mut world);
    let (now, gone) = (world.now(), five_tuple(&mut world, "alice"));
    world.server.client_gone(now, gone);
    world.check();
    world.peer("bob").send(relayed, b"anybody?");
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::ClientAway), 1);
    // Somebody else may get the address meanwhile.
    world.client("alice").relay();

    ticket(&world.client("wlan").ask(bring(&first)));
    world.peer("bob").send(relayed, b"there you are");
    world.client("wlan").expect_channel(0x4000, b"there you are");
    world.client("alice").expect_silence();
}

#[test]
fn alloc_026_nobody_comes_back_and_the_allocation_expires() {
    let mut world = mobile(16);
    calling(&mut world);
    let (now, gone) = (world.now(), five_tuple(&mut world, "alice"));
    world.server.client_gone(now, gone);
    world.advance_s(601);
    assert_eq!(world.server.tally().allocations, 0);
    assert!(world.open_sockets().is_empty());
    world.check();
}
