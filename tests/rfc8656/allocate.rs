//! §7.2: receiving an Allocate request, in the order of its steps.

use std::collections::HashSet;

use proto::addr::RelayedAddr;
use proto::policy::{Edge, RelayAddress};
use proto::reject::{DropReason, Why};
use proto::turn::OpenFailure;
use rig::kind::{self, method};
use rig::site::{self, BEGIN};
use rig::{Draft, World};

#[test]
fn alloc_001_a_success_names_relayed_address_lifetime_and_source() {
    let mut world = World::seeded(1).with_client("alice").with_client6("carol");
    for name in ["alice", "carol"] {
        let address = world.client(name).state().address;
        let heard = world.client(name).allocate();
        heard.expect_success();
        let relayed = heard.relayed().expect("XOR-RELAYED-ADDRESS");
        assert!(world.open_sockets().contains(&relayed));
        assert_eq!(heard.lifetime(), Some(600));
        assert_eq!(heard.mapped(), Some(address));
        assert!(!heard.has(kind::RESERVATION), "nothing was reserved");
    }
}

#[test]
fn alloc_003_a_second_allocate_on_the_five_tuple_is_a_mismatch() {
    let mut world = World::seeded(3).with_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").ask(Draft::allocate()).expect_code(437);
    assert_eq!(world.rejected(Why::AllocationExists), 1);
    world.peer("bob").send(relayed, b"untouched");
    world.client("alice").expect_data("bob", b"untouched");
}

#[test]
fn alloc_004_a_retransmission_gets_the_same_success() {
    let mut world = World::seeded(4).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let even = Draft::allocate().raw(kind::EVEN_PORT, &[0x80]).transaction(*b"once is once");
    let signed = alice.state().sign(even);
    let heard: Vec<_> = (0..3).map(|_| alice.bare(signed.clone())).collect();
    for again in &heard {
        again.expect_success();
        assert_eq!(again.relayed(), heard[0].relayed());
        assert_eq!(again.value(kind::RESERVATION), heard[0].value(kind::RESERVATION));
    }
    assert_eq!(world.server.tally().allocations, 1);
    assert_eq!(world.open_sockets().len(), 1);
}

#[test]
fn sec_016_the_same_transaction_over_another_body_is_no_retransmission() {
    let mut world = World::seeded(16).with_client("alice");
    let mut alice = world.client("alice");
    let id = *b"once is once";
    alice.ask(Draft::allocate().transaction(id)).expect_success();
    let other = Draft::allocate().raw(kind::LIFETIME, &[0, 0, 9, 9]).transaction(id);
    alice.ask(other).expect_code(437);
    alice.ask(Draft::allocate().transaction(id)).expect_success();
    assert_eq!(world.server.tally().allocations, 1);
}

#[test]
fn alloc_004_while_the_socket_opens_nothing_starts_twice() {
    for backwards in [false, true] {
        let mut world = World::seeded(4).with_client("alice");
        world.client("alice").know_the_realm();
        world.hold_sockets = true;
        let dual = Draft::allocate().raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]);
        let id = *b"slow sockets";
        let signed = world.client("alice").state().sign(dual.transaction(id));
        for _ in 0..3 {
            assert!(world.client("alice").exchange(signed.clone()).is_none(), "not yet");
        }
        assert_eq!(world.dropped(DropReason::AwaitingSocket), 2);
        assert!(world.open_sockets().is_empty());
        world.open_held(backwards);
        world.settle();
        let bytes = world.client("alice").state().inbox.pop_front().expect("the answer");
        let heard = rig::Heard::read(&bytes);
        assert_eq!(heard.transaction(), id);
        assert_eq!(heard.expect_success().all_relayed().len(), 2);
        world.client("alice").expect_silence();
        assert_eq!(world.client("alice").bare(signed).expect_success().bytes(), &bytes[..]);
    }
}

#[test]
fn alloc_004_a_server_that_shuts_down_meanwhile_leaves_no_socket_open() {
    let mut world = World::seeded(4).with_client("alice");
    world.client("alice").know_the_realm();
    world.hold_sockets = true;
    let signed = world.client("alice").state().sign(Draft::allocate().transaction([1; 12]));
    assert!(world.client("alice").exchange(signed).is_none());
    world.shut_down();
    assert!(world.open_sockets().is_empty());
    assert_eq!((world.books.leases(), world.server.tally().ports_used), (0, 0));
}

#[test]
fn alloc_005_the_requested_transport_must_be_udp() {
    for (case, value, code) in [
        ("UDP", Some(&[17, 0, 0, 0][..]), None),
        ("reserved bytes", Some(&[17, 0xFF, 0xFF, 0xFF]), None),
        ("missing", None, Some(400)),
        ("one byte", Some(&[17]), Some(400)),
        ("SCTP", Some(&[132, 0, 0, 0]), Some(442)),
        ("zero", Some(&[0, 0, 0, 0]), Some(442)),
    ] {
        let mut world = World::seeded(5).with_client("alice");
        let draft = Draft::request(method::ALLOCATE);
        let draft = match value {
            Some(value) => draft.raw(kind::TRANSPORT, value),
            None => draft,
        };
        assert_eq!(world.client("alice").ask(draft).code(), code, "{case}");
    }
    // TCP over UDP: 400 where RFC 6062 is spoken (TCPA-001), 442 where it is not.
    let mut world = World::seeded(5).with_client("alice");
    let tcp = Draft::request(method::ALLOCATE).raw(kind::TRANSPORT, &[6, 0, 0, 0]);
    assert!(matches!(world.client("alice").ask(tcp).code(), Some(400 | 442)));
}

#[test]
fn alloc_006_dont_fragment_is_refused_where_it_cannot_be_kept() {
    let draft = || Draft::allocate().raw(kind::DONT_FRAGMENT, b"");
    for (case, client, draft, kept) in [
        ("IPv4", "alice", draft(), true),
        ("IPv4 by name", "alice", draft().raw(kind::FAMILY, &[1, 0, 0, 0]), true),
        ("even port", "alice", draft().raw(kind::EVEN_PORT, &[0x80]), true),
        ("IPv6", "alice", draft().raw(kind::FAMILY, &[2, 0, 0, 0]), false),
        ("both", "alice", draft().raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]), false),
        ("translated", "carol", draft(), false),
        ("IPv6 for IPv6", "carol", draft().raw(kind::FAMILY, &[2, 0, 0, 0]), false),
        ("a port of any family", "alice", draft().raw(kind::RESERVATION, &[7; 8]), false),
        (
            "refused before its contradiction",
            "alice",
            draft().raw(kind::FAMILY, &[2, 0, 0, 0]).raw(kind::RESERVATION, &[7; 8]),
            false,
        ),
    ] {
        let mut world = World::seeded(6).with_client("alice").with_client6("carol");
        let heard = world.client(client).ask(draft);
        if kept {
            heard.expect_success();
        } else {
            assert_eq!(heard.code(), Some(420), "{case}");
            assert_eq!(heard.unknown(), Some(vec![kind::DONT_FRAGMENT]), "{case}");
            assert_eq!(world.server.tally().allocations, 0, "{case}");
        }
    }
}

#[test]
fn iphdr_011_across_families_dont_fragment_is_never_promised() {
    let mut world = World::seeded(11).with_client("alice").with_client6("carol");
    for (client, family) in [("alice", 2), ("carol", 1)] {
        let draft = Draft::allocate().raw(kind::FAMILY, &[family, 0, 0, 0]);
        let heard = world.client(client).ask(draft.raw(kind::DONT_FRAGMENT, b""));
        heard.expect_code(420);
        assert_eq!(heard.unknown(), Some(vec![kind::DONT_FRAGMENT]));
    }
}

#[test]
fn alloc_009_two_families_at_once_exclude_each_other() {
    let mut world = World::seeded(9).with_client("alice");
    for family in [1, 2] {
        let draft = Draft::allocate()
            .raw(kind::FAMILY, &[family, 0, 0, 0])
            .raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]);
        world.client("alice").ask(draft).expect_code(400);
    }
}

#[test]
fn alloc_010_without_a_family_the_relay_is_ipv4() {
    let mut world = World::seeded(10).with_client6("carol").with_client("alice");
    assert!(world.client("carol").relay().is_ipv4());
    let unknown = Draft::allocate().raw(kind::FAMILY, &[3, 0, 0, 0]);
    world.client("alice").ask(unknown).expect_code(440);
    let six = Draft::allocate().raw(kind::FAMILY, &[2, 0, 0, 0]);
    let heard = world.client("alice").allocate_with(six);
    assert!(heard.expect_success().relayed().expect("a relay").is_ipv6());
}

#[test]
fn alloc_010_a_family_without_relay_address_is_refused() {
    for (only, absent, four, six) in
        [("93.184.216.34", None, None, Some(440)), ("2a02:6b8::34", Some(440), Some(440), None)]
    {
        for (family, code) in [(None, absent), (Some(1), four), (Some(2), six)] {
            let mut world = World::configured(10, |config| {
                let ip = only.parse().expect("an address");
                let relays = vec![RelayAddress { local: ip, advertised: ip }];
                config.edge = Edge::new(config.edge.listeners().to_vec(), relays, Vec::new());
            })
            .with_client("alice");
            let draft = match family {
                Some(family) => Draft::allocate().raw(kind::FAMILY, &[family, 0, 0, 0]),
                None => Draft::allocate(),
            };
            assert_eq!(world.client("alice").ask(draft).code(), code, "{only}, {family:?}");
        }
    }
}

#[test]
fn alloc_018_the_quota_of_a_user_is_exact_and_credited_at_once() {
    let mut world = World::configured(18, |config| config.limits.allocations_per_user = 2)
        .with_client("one")
        .with_client("two")
        .with_client("three");
    for name in ["one", "two", "three"] {
        world.client(name).state().login = site::pool_login("same", BEGIN + 86_400);
    }
    world.client("one").allocate().expect_success();
    world.client("two").allocate().expect_success();
    world.client("three").allocate().expect_code(486);
    assert_eq!(world.rejected(Why::UserQuota), 1);
    world.client("one").refresh(0).expect_success();
    world.client("three").allocate().expect_success();
    world.client("one").allocate().expect_code(486);
    world.advance_s(601);
    world.client("one").allocate().expect_success();
}

#[test]
fn alloc_018_other_quotas_have_their_codes() {
    let mut world = World::configured(18, |config| config.limits.allocations_per_client = 1)
        .with_client_at("one", "81.2.69.7:1111".parse().expect("an address"))
        .with_client_at("two", "81.2.69.7:2222".parse().expect("an address"))
        .with_client("elsewhere");
    world.client("one").allocate().expect_success();
    world.client("two").allocate().expect_code(486);
    world.client("elsewhere").allocate().expect_success();
    assert_eq!(world.rejected(Why::ClientQuota), 1);
    let mut world = World::configured(18, |config| config.limits.allocations = 1)
        .with_client("one")
        .with_client("two");
    world.client("one").allocate().expect_success();
    world.client("two").allocate().expect_code(508);
    assert_eq!(world.rejected(Why::TotalQuota), 1);
}

#[test]
fn alloc_019_without_a_free_port_the_capacity_is_insufficient() {
    let mut world = World::configured(19, |config| config.ports = 50_000..=50_001)
        .with_client("one")
        .with_client("two")
        .with_client("three");
    let ports = HashSet::from([world.client("one").relay(), world.client("two").relay()]);
    assert_eq!(ports.len(), 2);
    world.client("three").allocate().expect_code(508);
    assert_eq!(world.rejected(Why::OutOfPorts), 1);
    world.client("one").refresh(0).expect_success();
    // ALLOC-022: under exhaustion a resting port is better than none, once it has rested.
    world.advance_s(61);
    world.client("three").allocate().expect_success();
    assert_eq!(world.books.leases(), 2, "a refusal is never charged");
}

#[test]
fn alloc_019_a_port_held_by_another_process_is_passed_over() {
    let mut world = World::configured(19, |config| config.ports = 50_000..=50_003)
        .with_client("one")
        .with_client("two");
    for port in [50_000, 50_001, 50_002] {
        world.foreign_sockets.insert(format!("93.184.216.34:{port}").parse().expect("an address"));
    }
    assert_eq!(world.client("one").relay().port(), 50_003);
    world.client("two").allocate().expect_code(508);
}

#[test]
fn alloc_019_a_socket_that_does_not_open_is_told_and_heals() {
    for (failure, code, why) in [
        (OpenFailure::Exhausted, 508, Why::OutOfDescriptors),
        (OpenFailure::Other, 500, Why::ServerError),
        (OpenFailure::PortTaken, 508, Why::OutOfPorts),
    ] {
        let mut world =
            World::configured(19, |config| config.ports = 50_000..=50_007).with_client("alice");
        world.socket_failure = Some(failure);
        world.client("alice").allocate().expect_code(code);
        assert_eq!(world.rejected(why), 1, "{failure:?}");
        assert_eq!((world.books.leases(), world.books.live()), (0, 0), "{failure:?}");
        world.socket_failure = None;
        world.advance_s(120);
        world.client("alice").allocate().expect_success();
    }
}

#[test]
fn alloc_021_relayed_ports_are_unique_in_range_and_not_in_sequence() {
    let mut world = World::configured(21, |config| {
        config.limits.allocations_per_user = 4000;
        config.limits.allocations_per_client = 4000;
    });
    for n in 0..1000_u16 {
        let address = format!("81.2.{}.{}:4000", n / 250, 1 + n % 250);
        world = world.with_client_at(&format!("c{n}"), address.parse().expect("an address"));
    }
    let ports: Vec<u16> =
        (0..1000).map(|n| world.client(&format!("c{n}")).relay().port()).collect();
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len(), "unique");
    assert!(ports.iter().all(|port| (50_000..=59_999).contains(port)), "in range");
    let rising = ports.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!((400..600).contains(&rising), "{rising} of 999 steps rise");
    let next_door = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 2).count();
    assert!(next_door < 20, "{next_door} of 999 are neighbours of the one before");
    let odd = ports.iter().filter(|&&port| port % 2 == 1).count();
    assert!((400..600).contains(&odd), "{odd} of 1000 are odd");
}

#[test]
fn alloc_021_a_worker_gives_out_its_own_share_only() {
    for index in 0..3 {
        let mut world = World::configured(21, |config| {
            config.ports = 50_000..=50_029;
            config.share = proto::turn::config::Share { index, of: 3 };
        });
        for n in 0..11 {
            let address = format!("81.2.69.{}:4000", 1 + n).parse().expect("an address");
            world = world.with_client_at(&format!("c{n}"), address);
        }
        for n in 0..10 {
            let port = world.client(&format!("c{n}")).relay().port();
            assert_eq!((port / 2) % 3, index, "{port}");
        }
        world.client("c10").allocate().expect_code(508);
    }
}

#[test]
fn alloc_022_a_released_port_rests() {
    let mut world = World::configured(22, |config| config.ports = 50_000..=50_003)
        .with_client("alice")
        .with_client("other");
    let first = world.client("alice").relay();
    world.client("alice").refresh(0).expect_success();
    for _ in 0..3 {
        let next = world.client("alice").relay();
        assert_ne!(next, first, "given out again at once");
        world.client("alice").refresh(0).expect_success();
    }
    world.advance_s(61);
    let mut seen = HashSet::new();
    for n in 0..4 {
        let name = format!("late{n}");
        world = world.with_client_at(&name, format!("81.2.70.{n}:9").parse().expect("an address"));
        seen.insert(world.client(&name).relay());
    }
    assert!(seen.contains(&first), "rested enough");
}

#[test]
fn alloc_023_behind_a_nat_clients_are_told_the_public_address() {
    let mut world = World::configured(23, |config| {
        let relay = RelayAddress {
            local: "10.0.0.5".parse().expect("an address"),
            advertised: "93.184.216.99".parse().expect("an address"),
        };
        config.edge = Edge::new(config.edge.listeners().to_vec(), vec![relay], Vec::new());
    })
    .with_client("alice")
    .with_peer("bob");
    let relayed = world.client("alice").relay();
    assert_eq!(relayed.ip(), "93.184.216.99".parse::<std::net::IpAddr>().expect("an address"));
    let local = RelayedAddr::new(world.open_sockets()[0]);
    assert_eq!(local.socket().to_string(), format!("10.0.0.5:{}", relayed.port()));
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").send("bob", b"out");
    assert_eq!(world.peer("bob").expect(b"out"), relayed);
    world.peer("bob").send(relayed, b"in");
    world.client("alice").expect_data("bob", b"in");
}

#[test]
fn alloc_024_the_first_lifetime_lies_between_ten_minutes_and_the_maximum() {
    for (asked, given) in [
        (None, 600),
        (Some(0), 600),
        (Some(30), 600),
        (Some(600), 600),
        (Some(1200), 1200),
        (Some(3600), 3600),
        (Some(3601), 3600),
        (Some(u32::MAX), 3600),
    ] {
        let mut world = World::seeded(24).with_client("alice");
        let draft = match asked {
            Some(seconds) => Draft::allocate().raw(kind::LIFETIME, &u32::to_be_bytes(seconds)),
            None => Draft::allocate(),
        };
        let heard = world.client("alice").allocate_with(draft);
        assert_eq!(heard.expect_success().lifetime(), Some(given), "{asked:?}");
        world.advance_s(u64::from(given) - 1);
        assert_eq!(world.server.tally().allocations, 1, "{asked:?}");
        world.advance_s(1);
        assert_eq!(world.server.tally().allocations, 0, "{asked:?}");
    }
}

#[test]
fn alloc_025_traffic_does_not_keep_an_allocation_alive() {
    let mut world = World::seeded(25).with_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").bind(0x4000, "bob").expect_success();
    for second in 1..600 {
        world.advance_s(1);
        if second == 299 {
            world.client("alice").bind(0x4000, "bob").expect_success();
        }
        world.client("alice").send_channel(0x4000, b"out");
        world.peer("bob").expect(b"out");
        world.peer("bob").send(relayed, b"in");
        if second < 598 {
            world.client("alice").expect_channel(0x4000, b"in");
        }
    }
    world.client("alice").state().inbox.clear();
    world.advance_s(1);
    assert_eq!(world.server.tally().allocations, 0, "ten minutes to the second");
    let tally = world.server.tally();
    assert_eq!((tally.permissions, tally.channels), (0, 0), "everything ends with it");
    assert!(world.open_sockets().is_empty());
    world.client("alice").send_channel(0x4000, b"late");
    world.peer("bob").expect_silence();
    world.peer("bob").send(relayed, b"late");
    world.client("alice").expect_silence();
    world.client("alice").refresh(600).expect_code(437);
}

#[test]
fn alloc_027_a_fresh_allocation_permits_nobody() {
    let mut world = World::seeded(27).with_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.peer("bob").send(relayed, b"hello");
    world.client("alice").expect_silence();
    world.client("alice").send("bob", b"hello");
    world.peer("bob").expect_silence();
    // Nor does one that follows another on the same five-tuple.
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").refresh(0).expect_success();
    let relayed = world.client("alice").relay();
    world.peer("bob").send(relayed, b"hello");
    world.client("alice").send_channel(0x4000, b"hello");
    world.client("alice").expect_silence();
    world.peer("bob").expect_silence();
}

#[test]
fn oauth_002_an_access_token_is_unknown_while_the_feature_is_off() {
    let mut world = World::seeded(7635).with_client("alice");
    let heard = world.client("alice").ask(Draft::allocate().raw(kind::ACCESS_TOKEN, &[0; 40]));
    heard.expect_code(420);
    assert_eq!(heard.unknown(), Some(vec![kind::ACCESS_TOKEN]));
}

#[test]
fn a_mobility_ticket_is_ignored_while_the_feature_is_off() {
    let mut world = World::seeded(8016).with_client("alice");
    let heard = world.client("alice").ask(Draft::allocate().raw(kind::MOBILITY_TICKET, b""));
    assert!(!heard.expect_success().has(kind::MOBILITY_TICKET));
}
