//! §7.2 step 9, §8, §13: both families, alone, together and across.

use proto::addr::Family;
use proto::policy::{Edge, RelayAddress};
use proto::reject::DropReason;
use rig::kind;
use rig::{Draft, World};

const SIX: &[u8] = &[2, 0, 0, 0];

fn dual() -> Draft {
    Draft::allocate().raw(kind::ADDITIONAL_FAMILY, SIX)
}

#[test]
fn alloc_015_a_dual_allocation_has_one_address_of_each_family() {
    let mut world = World::seeded(15).with_client("alice").with_client("bad");
    let heard = world.client("alice").allocate_with(dual());
    let relayed = heard.expect_success().all_relayed();
    assert_eq!(relayed.iter().filter(|at| at.is_ipv4()).count(), 1);
    assert_eq!(relayed.iter().filter(|at| at.is_ipv6()).count(), 1);
    assert_eq!(world.open_sockets().len(), 2);
    assert_eq!(world.server.tally().allocations, 1);
    let four = Draft::allocate().raw(kind::ADDITIONAL_FAMILY, &[1, 0, 0, 0]);
    world.client("bad").ask(four).expect_code(400);
}

#[test]
fn alloc_016_a_dual_wish_half_met_says_which_half() {
    for (missing, code) in [(Family::V6, 40), (Family::V4, 40)] {
        let mut world = World::configured(16, |config| {
            let present = Family::ALL.into_iter().filter(|&family| family != missing);
            let relays = present.flat_map(|f| config.edge.relays(f)).copied().collect();
            config.edge = Edge::new(config.edge.listeners().to_vec(), relays, Vec::new());
        })
        .with_client("alice");
        let heard = world.client("alice").allocate_with(dual());
        heard.expect_success();
        let relayed = heard.all_relayed();
        assert_eq!(relayed.len(), 1);
        assert_ne!(Family::of(relayed[0].ip()), missing);
        // ATTR-005: family, reserved bits, class, number.
        let value = heard.value(kind::ADDRESS_ERROR).expect("ADDRESS-ERROR-CODE");
        assert_eq!(value[..4], [missing as u8, 0, 4, code]);
    }
}

#[test]
fn alloc_016_a_dual_wish_not_met_at_all_is_insufficient_capacity() {
    let mut world = World::configured(16, |config| config.ports = 50_000..=50_001)
        .with_client("one")
        .with_client("two")
        .with_client("three");
    world.client("one").allocate_with(dual()).expect_success();
    world.client("two").allocate_with(dual()).expect_success();
    world.client("three").allocate_with(dual()).expect_code(508);
}

#[test]
fn attr_005_address_error_code_names_family_class_and_number() {
    let mut world = World::configured(5, |config| config.ports = 50_000..=50_001)
        .with_client("one")
        .with_client("two")
        .with_client("three");
    for name in ["one", "two"] {
        world.client(name).allocate_with(Draft::allocate().raw(kind::FAMILY, SIX)).expect_success();
    }
    let heard = world.client("three").allocate_with(dual());
    assert_eq!(heard.expect_success().all_relayed().len(), 1);
    let value = heard.value(kind::ADDRESS_ERROR).expect("no IPv6 port was left");
    assert_eq!(value[..4], [2, 0, 5, 8], "IPv6, 508");
    assert!(std::str::from_utf8(&value[4..]).expect("a phrase").chars().count() < 128);
}

#[test]
fn alloc_017_each_family_lives_its_own_life() {
    let mut world = World::seeded(17).with_client("alice").with_peer("bob").with_peer6("dave");
    let heard = world.client("alice").allocate_with(dual());
    let relayed = heard.expect_success().all_relayed();
    let four = *relayed.iter().find(|at| at.is_ipv4()).expect("IPv4");
    let six = *relayed.iter().find(|at| at.is_ipv6()).expect("IPv6");
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").bind(0x4001, "dave").expect_success();
    // Only IPv4 is prolonged.
    let prolong = Draft::refresh(3000).raw(kind::FAMILY, &[1, 0, 0, 0]);
    assert_eq!(world.client("alice").ask(prolong).expect_success().lifetime(), Some(3000));
    world.advance_s(599);
    for (channel, peer) in [(0x4000, "bob"), (0x4001, "dave")] {
        world.client("alice").bind(channel, peer).expect_success();
    }
    world.advance_s(1);
    assert_eq!(world.open_sockets(), [four], "IPv6 has expired");
    world.client("alice").send_channel(0x4001, b"late");
    world.peer("dave").expect_silence();
    world.peer("dave").send(six, b"late");
    world.client("alice").expect_silence();
    world.client("alice").send_channel(0x4000, b"on time");
    assert_eq!(world.peer("bob").expect(b"on time"), four);
    world.client("alice").permit(&["dave"]).expect_code(443);
}

#[test]
fn refr_004_a_family_the_allocation_lacks_is_a_mismatch() {
    let mut world = World::seeded(4).with_client("alice");
    world.client("alice").relay();
    world.client("alice").ask(Draft::refresh(600).raw(kind::FAMILY, SIX)).expect_code(443);
    world.client("alice").ask(Draft::refresh(0).raw(kind::FAMILY, SIX)).expect_code(443);
    let four = Draft::refresh(900).raw(kind::FAMILY, &[1, 0, 0, 0]);
    assert_eq!(world.client("alice").ask(four).expect_success().lifetime(), Some(900));
}

#[test]
fn refr_005_the_family_chooses_what_is_refreshed() {
    let mut world = World::seeded(5).with_client("alice").with_peer("bob").with_peer6("dave");
    world.client("alice").allocate_with(dual()).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").bind(0x4001, "dave").expect_success();
    let release = Draft::refresh(0).raw(kind::FAMILY, SIX);
    assert_eq!(world.client("alice").ask(release.clone()).expect_success().lifetime(), Some(0));
    world.client("alice").ask(release).expect_code(443);
    world.client("alice").send_channel(0x4000, b"alive");
    world.peer("bob").expect(b"alive");
    world.client("alice").send_channel(0x4001, b"gone");
    world.peer("dave").expect_silence();
    world.client("alice").refresh(0).expect_success();
    assert_eq!(world.server.tally().allocations, 0);
    world.client("alice").allocate_with(dual()).expect_success();
    world.client("alice").refresh(0).expect_success();
    assert_eq!(world.server.tally().allocations, 0, "without a family both end");
}

#[test]
fn perm_005_a_peer_of_another_family_is_a_mismatch() {
    let mut world = World::seeded(5).with_client("alice").with_peer("bob").with_peer6("dave");
    world.client("alice").relay();
    world.client("alice").permit(&["dave"]).expect_code(443);
    world.client("alice").permit(&["bob", "dave"]).expect_code(443);
    assert_eq!(world.server.tally().permissions, 0, "nothing of a refused list");
    world.client("alice").bind(0x4000, "dave").expect_code(443);
    world.client("alice").refresh(0).expect_success();
    world.client("alice").allocate_with(Draft::allocate().raw(kind::FAMILY, SIX)).expect_success();
    world.client("alice").permit(&["bob"]).expect_code(443);
    world.client("alice").permit(&["dave"]).expect_success();
    world.client("alice").send("bob", b"wrong family");
    assert_eq!(world.dropped(DropReason::PeerFamily), 1);
    world.client("alice").refresh(0).expect_success();
    world.client("alice").allocate_with(dual()).expect_success();
    world.client("alice").permit(&["bob", "dave"]).expect_success();
}

#[test]
fn iphdr_007_every_pairing_of_families_relays() {
    for (client, family) in [("alice", 1), ("alice", 2), ("carol", 1), ("carol", 2)] {
        let mut world = World::seeded(7)
            .with_client("alice")
            .with_client6("carol")
            .with_peer("bob")
            .with_peer6("dave");
        let peer = if family == 1 { "bob" } else { "dave" };
        let draft = Draft::allocate().raw(kind::FAMILY, &[family, 0, 0, 0]);
        let relayed = world.client(client).allocate_with(draft).relayed().expect("a relay");
        world.client(client).permit(&[peer]).expect_success();
        for length in [0, 1, 160, 1200] {
            let payload = world.dice.bytes(length);
            world.client(client).send(peer, &payload);
            assert_eq!(world.peer(peer).expect(&payload), relayed);
            world.peer(peer).send(relayed, &payload);
            world.client(client).expect_data(peer, &payload);
        }
        world.client(client).bind(0x4ABC, peer).expect_success();
        world.client(client).send_channel(0x4ABC, b"channel");
        world.peer(peer).expect(b"channel");
        world.peer(peer).send(relayed, b"back");
        world.client(client).expect_channel(0x4ABC, b"back");
    }
}

#[test]
fn a_relay_address_of_each_family_may_stand_behind_its_own_nat() {
    let mut world = World::configured(1, |config| {
        let at = |local: &str, advertised: &str| RelayAddress {
            local: local.parse().expect("an address"),
            advertised: advertised.parse().expect("an address"),
        };
        let relays = vec![at("10.0.0.5", "93.184.216.99"), at("fd00::5", "2a02:6b8::99")];
        config.edge = Edge::new(config.edge.listeners().to_vec(), relays, Vec::new());
    })
    .with_client("alice")
    .with_peer6("dave");
    let relayed = world.client("alice").allocate_with(dual()).expect_success().all_relayed();
    let six = *relayed.iter().find(|at| at.is_ipv6()).expect("IPv6");
    assert_eq!(six.ip(), "2a02:6b8::99".parse::<std::net::IpAddr>().expect("an address"));
    world.client("alice").permit(&["dave"]).expect_success();
    world.peer("dave").send(six, b"in");
    world.client("alice").expect_data("dave", b"in");
}
