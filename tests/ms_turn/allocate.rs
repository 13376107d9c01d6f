//! What an Allocate gets (§5.2), and that it gets it once.

use proto::addr::Family;
use proto::policy::Edge;
use proto::reject::{DropReason, Why};
use rig::ms::{
    ALLOCATE, ALTERNATE_MAPPED, INTEGRITY, LIFETIME, MAGIC_COOKIE, MAPPED, RELAYED, SEQUENCE,
    VERSION,
};
use rig::{MsHeard, World};

use super::{world, world_with};

#[test]
fn mst_065_a_success_says_all_that_clients_need_signed() {
    let mut world = world(65);
    let heard = world.ms("alice").allocate();
    heard.expect_success();
    let expected = [MAGIC_COOKIE, RELAYED, MAPPED, LIFETIME, VERSION, SEQUENCE, INTEGRITY];
    assert_eq!(heard.kinds(), expected);
    let relayed = heard.address(RELAYED).expect("a relayed address");
    assert!(world.open_sockets().contains(&relayed));
    assert_eq!(heard.mapped(), Some(world.client("alice").state().address));
    assert_eq!(heard.number(VERSION), Some(2));
    let key = world.ms("alice").state().key();
    assert_eq!(heard.is_signed_with(&key), Some(true), "MST-45");
}

#[test]
fn mst_045_nobody_else_could_have_signed_a_success() {
    let mut world = world(45);
    let heard = world.ms("alice").allocate();
    let mut other = world.ms("alice").state().clone();
    other.password[3] ^= 1;
    assert_eq!(heard.is_signed_with(&other.key()), Some(false));
}

#[test]
fn mst_066_the_lifetime_is_always_said_and_bounded() {
    for (wanted, granted) in
        [(None, 600), (Some(1), 600), (Some(1_200), 1_200), (Some(u32::MAX), 3_600)]
    {
        let mut world = world(66);
        let heard = world.ms("alice").allocate_for(wanted);
        assert_eq!(heard.expect_success().number(LIFETIME), Some(granted), "{wanted:?}");
    }
}

#[test]
fn mst_068_over_udp_the_relay_is_for_udp() {
    let mut world = world(68);
    let relayed = world.ms("alice").relay();
    assert_eq!(world.open_sockets(), [relayed]);
    world.ms("alice").send("bob", b"udp");
    assert_eq!(world.peer("bob").expect(b"udp"), relayed);
}

/// An Allocate of alice in this version, for this family.
fn of_version(world: &mut World, version: u32, family: Option<u8>) -> MsHeard {
    let mut alice = world.ms("alice");
    alice.challenge();
    let draft = alice.draft(ALLOCATE).number(VERSION, version);
    let draft =
        family.into_iter().fold(draft, |draft, family| draft.raw(0x0017, &[family, 0, 0, 0]));
    let draft = alice.signed(draft);
    alice.ask(&draft)
}

#[test]
fn mst_070_the_address_is_ipv4_unless_a_later_version_asks_for_another_or_none() {
    for (version, family, six, other) in [
        (1, None, false, None),
        (3, Some(2), false, None),
        (3, None, false, None),
        (4, None, false, Some(true)),
        (6, None, false, Some(true)),
        (4, Some(1), false, None),
        (4, Some(2), true, None),
        (6, Some(2), true, None),
        (6, Some(9), false, None),
    ] {
        let mut world = world(70);
        let heard = of_version(&mut world, version, family);
        let case = format!("version {version}, family {family:?}");
        let relayed = heard.expect_success().address(RELAYED).expect("a relayed address");
        assert_eq!(relayed.is_ipv6(), six, "{case}");
        let alternate = heard.address(ALTERNATE_MAPPED).map(|at| at.is_ipv6());
        assert_eq!(alternate, other, "{case}");
        assert_eq!(world.open_sockets().len(), 1 + usize::from(other.is_some()), "{case}");
    }
}

#[test]
fn mst_070_peers_of_both_families_are_reached_from_one_allocation() {
    let mut world = world(170).with_peer6("six");
    let heard = of_version(&mut world, 4, None);
    let [four, six] = [RELAYED, ALTERNATE_MAPPED].map(|kind| heard.address(kind).unwrap());
    world.ms("alice").state().connection = heard.numbered().unwrap().0;
    world.ms("alice").send("bob", b"to bob");
    world.ms("alice").send("six", b"to six");
    assert_eq!(world.peer("bob").expect(b"to bob"), four);
    assert_eq!(world.peer("six").expect(b"to six"), six);
    world.ms("alice").aim("six").expect_success();
    world.peer("six").send(six, b"back");
    world.ms("alice").expect_bare(b"back");
    // Both are refreshed and released as one.
    let again = world.ms("alice").allocate();
    assert_eq!(again.address(ALTERNATE_MAPPED), Some(six));
    world.advance_s(599);
    assert_eq!(world.open_sockets().len(), 2);
    world.ms("alice").allocate_for(Some(0)).expect_success();
    assert!(world.open_sockets().is_empty());
    world.check();
}

#[test]
fn mst_070_where_there_is_one_family_it_is_enough() {
    let mut world = world_with(171, |config| {
        let listeners = config.edge.listeners().to_vec();
        let four = config.edge.relays(Family::V4).copied().collect();
        config.edge = Edge::new(listeners, four, Vec::new());
    });
    let heard = of_version(&mut world, 6, None);
    assert!(heard.expect_success().address(RELAYED).is_some_and(|at| at.is_ipv4()));
    assert_eq!(heard.address(ALTERNATE_MAPPED), None);
    world.check();
}

#[test]
fn mst_071_every_allocation_has_a_connection_of_its_own_whose_count_begins_at_zero() {
    let mut world = world(71);
    let (alice, first) = world.ms("alice").allocate().numbered().expect("a sequence number");
    let (carol, second) = world.ms("carol").allocate().numbered().expect("a sequence number");
    assert_eq!((first, second), (0, 0));
    assert_ne!(alice, carol);
    assert_ne!(alice, [0; 20]);
}

#[test]
fn mst_072_another_user_is_441() {
    let mut world = world(72);
    world.ms("alice").relay();
    let own = world.ms("alice").state().clone();
    let mut mallory = own.clone();
    mallory.username = world.ms("carol").state().username.clone();
    mallory.password = world.ms("carol").state().password.clone();
    *world.ms("alice").state() = mallory;
    world.ms("alice").allocate().expect_code(441);
    world.ms("alice").aim("bob").expect_code(441);
    world.ms("alice").send("bob", b"stolen");
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::UnsignedMs), 1);
    *world.ms("alice").state() = own;
    world.ms("alice").allocate().expect_success();
}

#[test]
fn mst_081_a_repeated_allocate_gets_the_same_answer_and_no_second_port() {
    let mut world = world(81);
    world.hold_sockets = true;
    let mut alice = world.ms("alice");
    alice.challenge();
    let draft = alice.draft(ALLOCATE).number(VERSION, 1);
    let draft = alice.signed(draft);
    // While the socket is opened the repetition waits.
    assert_eq!(alice.exchange(&draft), None);
    assert_eq!(alice.exchange(&draft), None);
    world.open_held(false);
    world.settle();
    let Some(rig::MsArrival::Response(first)) = world.ms("alice").take() else {
        panic!("an answer")
    };
    for _ in 0..20 {
        assert_eq!(world.ms("alice").ask(&draft), first, "byte for byte");
        world.advance(std::time::Duration::from_millis(650));
    }
    assert_eq!(world.open_sockets().len(), 1);
    world.check();
}

#[test]
fn mst_120_bandwidth_attributes_are_ignored_and_none_comes_back() {
    let mut world = world(120);
    let mut alice = world.ms("alice");
    alice.challenge();
    let draft = alice
        .draft(ALLOCATE)
        .number(VERSION, 2)
        .raw(0x8056, &[0, 0, 0, 0])
        .raw(0x8057, &[7; 16])
        .raw(0x8058, &[1; 16])
        .raw(0x8059, &[0, 1, 2, 3, 4, 5, 6, 7])
        .raw(0x805B, &[0; 8])
        .raw(0x8061, b"dialog")
        .raw(0x8062, b"call")
        .raw(0x8068, &[1, 2, 3, 0]);
    let draft = alice.signed(draft);
    let heard = alice.ask(&draft);
    heard.expect_success();
    let plain = alice.allocate();
    assert_eq!(heard.kinds(), plain.kinds());
}

#[test]
fn mst_121_a_reservation_nobody_made_changes_nothing() {
    let mut world = world(121);
    world.ms("alice").relay();
    let mut alice = world.ms("alice");
    // A refresh that commits, with too short an attribute.
    let draft = alice.draft(ALLOCATE).raw(0x8056, &[0, 0, 0, 1]).raw(0x8057, &[9]);
    let draft = alice.signed(draft);
    let heard = alice.ask(&draft);
    assert!(heard.expect_success().kinds().iter().all(|kind| !(0x8056..=0x8068).contains(kind)));
}

#[test]
fn mst_049_we_announce_version_2_and_take_whoever_knows_more() {
    for version in 1..=6 {
        let mut world = world(49);
        let mut alice = world.ms("alice");
        let draft = alice.draft(ALLOCATE).number(VERSION, version);
        let heard = alice.ask(&draft);
        assert_eq!(heard.expect_code(401).number(VERSION), Some(2));
        alice.learn(&heard);
        let draft = alice.draft(ALLOCATE).number(VERSION, version);
        let draft = alice.signed(draft);
        assert_eq!(alice.ask(&draft).expect_success().number(VERSION), Some(2));
    }
}

#[test]
fn mst_059_limits_are_the_same_as_for_other_clients() {
    let mut world = world_with(59, |config| config.limits.allocations_per_user = 1);
    let token = world.ms("alice").state().clone();
    world.ms("alice").relay();
    *world.ms("carol").state() = token;
    world.ms("carol").state().nonce.clear();
    world.ms("carol").allocate().expect_code(500);
    assert_eq!(world.rejected(Why::UserQuota), 1);
    world.ms("alice").allocate_for(Some(0)).expect_success();
    world.ms("carol").allocate().expect_success();
}
