//! Both dialects at one server: told apart, and in one call.

use proto::reject::DropReason;
use rig::ms::{ALLOCATE, RELAYED, VERSION};
use rig::{Draft, MsArrival, World, kind};

use super::world;

#[test]
fn mst_008_a_transaction_that_begins_as_those_of_the_rfcs_is_told_by_the_cookie_attribute() {
    let mut world = world(8);
    let id = [&[0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat().try_into().expect("16 bytes");
    let draft = rig::MsDraft::new(ALLOCATE, id).number(VERSION, 1);
    world.ms("alice").ask(&draft).expect_code(401);
}

#[test]
fn mst_001_a_datagram_is_one_message() {
    let mut world = world(1);
    let mut alice = world.ms("alice");
    let one = alice.draft(ALLOCATE).number(VERSION, 1).encode();
    let two = alice.draft(ALLOCATE).number(VERSION, 1).encode();
    alice.send_bytes(&[one, two].concat());
    alice.expect_silence();
    assert_eq!(world.dropped(DropReason::MalformedMs), 1);
}

#[test]
fn mst_031_the_cookie_is_the_first_attribute_of_every_message() {
    let mut world = world(31);
    // `MsHeard::read` fails on answers where it is not.
    world.ms("alice").relay();
    world.ms("alice").aim("bob").expect_success();
    let mut alice = world.ms("alice");
    let draft = alice.draft(ALLOCATE).number(VERSION, 1).encode();
    let late = [&draft[..20], &draft[28..], &draft[20..28]].concat();
    world.ms("carol").send_bytes(&late);
    world.ms("carol").expect_silence();
}

#[test]
fn mst_008_where_the_dialect_is_not_spoken_its_messages_are_none() {
    let mut world = World::seeded(8).with_client("alice");
    let mut alice = world.ms("alice");
    let draft = alice.draft(ALLOCATE).number(VERSION, 1);
    assert_eq!(alice.exchange(&draft), None);
    alice.send_bytes(b"\x80rtp");
    alice.send_bytes(b"\xFF\x10\x00\x01a");
    alice.send_bytes(&[&[0, 1, 0, 0][..], &[0xA0; 16]].concat());
    alice.expect_silence();
    assert_eq!(world.dropped(DropReason::Unrecognised), 2);
    assert_eq!(world.dropped(DropReason::ClassicStun), 1);
}

#[test]
fn mst_008_clients_of_the_rfcs_notice_nothing() {
    let mut world = world(8);
    let relayed = world.client("alice").relay();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"up");
    assert_eq!(world.peer("bob").expect(b"up"), relayed);
    world.peer("bob").send(relayed, b"down");
    world.client("alice").expect_channel(0x4000, b"down");
    world.client("alice").permit(&["dave"]).expect_success();
    world.client("alice").send("dave", b"up");
    world.peer("dave").expect(b"up");
    world.client("alice").bare(Draft::request(kind::method::BINDING)).expect_success();
    world.client("alice").refresh(0).expect_success();
    world.check();
}

#[test]
fn mst_111_a_call_has_a_client_of_either_dialect_at_its_ends() {
    let mut world = world(111);
    let old = world.ms("alice").relay();
    let new = world.client("carol").relay();
    world.ms("alice").send_to(new, b"check");
    world.client("carol").permit_addresses(&[old]).expect_success();
    world.client("carol").send_to(old, b"check");
    assert_eq!(world.ms("alice").take(), Some(MsArrival::Data(new, b"check".to_vec())));
    world.ms("alice").send_to(new, b"check again");
    world.client("carol").expect_data_from(old, b"check again");
    world.client("carol").bind_address(0x4001, old).expect_success();
    world.ms("alice").aim_at(new).expect_success();
    for media in [&b"\x80voice"[..], &[0x80; 1_000]] {
        world.ms("alice").send_bytes(media);
        world.client("carol").expect_channel(0x4001, media);
        world.client("carol").send_channel(0x4001, media);
        world.ms("alice").expect_bare(media);
    }
    world.check();
}

#[test]
fn mst_072_a_five_tuple_speaks_one_dialect() {
    let mut world = world(72);
    let relayed = world.client("alice").relay();
    world.ms("alice").allocate().expect_code(441);
    world.ms("alice").aim("bob").expect_code(441);
    world.ms("alice").send("bob", b"x");
    assert_eq!(world.dropped(DropReason::NoAllocation), 1);
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"up");
    assert_eq!(world.peer("bob").expect(b"up"), relayed);

    world.ms("carol").relay();
    world.client("carol").allocate().expect_code(437);
    world.client("carol").refresh(0).expect_code(441);
    world.client("carol").bind(0x4000, "bob").expect_code(441);
    world.ms("carol").allocate().expect_success();
    world.check();
}

#[test]
fn mst_069_relayed_ports_are_those_of_the_configuration() {
    let mut world = world(69);
    let port = world.ms("alice").allocate().address(RELAYED).expect("a relayed address").port();
    assert!((50_000..=59_999).contains(&port));
}
