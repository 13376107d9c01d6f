//! §21 and the threat model's T1: which peers may be reached, on every path.

use std::net::SocketAddr;

use proto::reject::{DropReason, Why};
use rig::kind;
use rig::site::LISTENERS;
use rig::{Draft, World};

const DENIED4: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
];

const DENIED6: &[&str] = &[
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "fc00::1",
    "fd00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
];

fn with_port(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), 4242)
}

/// Nothing reaches this peer, by permission, channel or indication.
fn assert_unreachable(family: u8, peer: SocketAddr) {
    let mut world = World::seeded(1).with_client("alice").with_peer_at("victim", peer);
    let draft = Draft::allocate().raw(kind::FAMILY, &[family, 0, 0, 0]);
    world.client("alice").allocate_with(draft).expect_success();
    let permit = world.client("alice").permit_addresses(&[peer]);
    // An embedded IPv4 address may be judged as the IPv4 peer it is: then its family is wrong.
    assert!(matches!(permit.code(), Some(403 | 443)), "CreatePermission {peer}: {permit:?}");
    let bind = world.client("alice").bind_address(0x4000, peer);
    assert_eq!(bind.code(), permit.code(), "ChannelBind {peer}");
    let before = world.dropped_in_all();
    world.client("alice").send_to(peer, b"hello");
    world.client("alice").send_channel(0x4000, b"hello");
    assert_eq!(world.dropped_in_all(), before + 2, "Send and ChannelData to {peer}");
    world.peer("victim").expect_silence();
    let tally = world.server.tally();
    assert_eq!((tally.permissions, tally.channels), (0, 0), "{peer}");
}

#[test]
fn sec_001_special_purpose_addresses_are_no_peers() {
    for ip in DENIED4 {
        assert_unreachable(1, with_port(ip));
    }
    for ip in DENIED6 {
        assert_unreachable(2, with_port(ip));
    }
}

#[test]
fn sec_003_tunnel_addresses_are_no_peers_whatever_they_embed() {
    for ip in ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:808:808::1", "2002:5db8:d822::1"] {
        assert_unreachable(2, with_port(ip));
    }
}

#[test]
fn sec_003_clients_behind_tunnel_addresses_get_no_relay() {
    for source in ["[2002:808:808::1]:5000", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]:5000"] {
        let source = source.parse().expect("an address");
        let mut world = World::seeded(3).with_client_at("tunnelled", source);
        world.client("tunnelled").state().listener = proto::addr::ListenerId(1);
        world.client("tunnelled").allocate().expect_code(403);
    }
}

#[test]
fn perm_011_a_mapped_ipv4_peer_is_refused_not_converted() {
    assert_unreachable(2, with_port("::ffff:127.0.0.1"));
    assert_unreachable(2, with_port("::ffff:45.33.32.10"));
    let mut world = World::seeded(11).with_client("alice");
    world.client("alice").relay();
    let mapped = with_port("::ffff:45.33.32.10");
    let heard = world.client("alice").permit_addresses(&[mapped]);
    assert!(matches!(heard.code(), Some(403 | 443)), "{heard:?}");
}

#[test]
fn sec_001_a_configured_range_opens_itself_and_nothing_else() {
    let mut world = World::configured(1, |config| {
        config.peers.both.allow.push("10.7.0.0/16".parse().expect("a range"));
        config.peers.both.deny.push("10.7.7.0/24".parse().expect("a range"));
        config.peers.both.deny.push("45.33.0.0/16".parse().expect("a range"));
    })
    .with_client("alice")
    .with_peer("bob");
    world.client("alice").relay();
    for (ip, code) in [
        ("10.7.0.1", None),
        ("10.7.7.1", Some(403)),
        ("10.8.0.1", Some(403)),
        ("45.33.32.10", Some(403)),
        ("45.34.0.1", None),
    ] {
        assert_eq!(world.client("alice").permit_addresses(&[with_port(ip)]).code(), code, "{ip}");
    }
}

#[test]
fn sec_004_opening_a_translation_prefix_opens_nothing_behind_it() {
    let open = |range: &str| range.parse().expect("a range");
    for (ip, code) in [
        ("64:ff9b::7f00:1", Some(403)),
        ("64:ff9b::a00:1", Some(403)),
        ("64:ff9b::a9fe:a9fe", Some(403)),
        ("64:ff9b::2d21:200a", None),
        ("2002:7f00:1::1", Some(403)),
        ("2002:c0a8:101::1", Some(403)),
        ("2002:2d21:200a::1", None),
    ] {
        let mut world = World::configured(4, |config| {
            config.peers.both.allow = vec![open("64:ff9b::/96"), open("2002::/16")];
        })
        .with_client("alice");
        let draft = Draft::allocate().raw(kind::FAMILY, &[2, 0, 0, 0]);
        world.client("alice").allocate_with(draft).expect_success();
        assert_eq!(world.client("alice").permit_addresses(&[with_port(ip)]).code(), code, "{ip}");
    }
}

#[test]
fn sec_005_what_claims_to_come_from_a_dead_relayed_address_is_dropped() {
    let mut world = World::seeded(5).with_client("alice").with_client("carol");
    let a = world.client("alice").relay();
    let c = world.client("carol").relay();
    world.client("alice").permit_addresses(&[c]).expect_success();
    world.inject_at_relay(a, c, b"alive");
    world.settle();
    world.client("alice").expect_data_from(c, b"alive");
    world.client("carol").refresh(0).expect_success();
    world.inject_at_relay(a, c, b"dead");
    world.client("alice").expect_silence();
    assert_eq!(world.dropped(DropReason::PeerDenied), 1);
}

#[test]
fn sec_005_our_own_listeners_are_no_peers() {
    for listener in LISTENERS {
        let peer: SocketAddr = listener.parse().expect("an address");
        let family = if peer.is_ipv4() { 1 } else { 2 };
        let mut world = World::seeded(5).with_client("alice");
        let draft = Draft::allocate().raw(kind::FAMILY, &[family, 0, 0, 0]);
        world.client("alice").allocate_with(draft).expect_success();
        world.client("alice").bind_address(0x4000, peer).expect_code(403);
        // A port of ours that is no live relayed address: neither bound nor reached.
        let dead = SocketAddr::new(peer.ip(), 59_998);
        world.client("alice").bind_address(0x4000, dead).expect_code(403);
        // `World` fails when a datagram leaves for one of our listeners.
        let before = world.dropped_in_all();
        world.client("alice").send_to(peer, b"hello");
        assert_eq!(world.dropped_in_all(), before + 1);
    }
}

#[test]
fn sec_005_two_clients_of_one_relay_reach_each_other() {
    for nat in [false, true] {
        let mut world = World::configured(5, |config| {
            if nat {
                let relay = proto::policy::RelayAddress {
                    local: "10.0.0.5".parse().expect("an address"),
                    advertised: "93.184.216.99".parse().expect("an address"),
                };
                let listeners = config.edge.listeners().to_vec();
                config.edge = proto::policy::Edge::new(listeners, vec![relay], Vec::new());
            }
        })
        .with_client("alice")
        .with_client("carol");
        let a = world.client("alice").relay();
        let c = world.client("carol").relay();
        world.client("alice").permit_addresses(&[c]).expect_success();
        world.client("carol").bind_address(0x4000, a).expect_success();
        world.client("alice").send_to(c, b"hello carol");
        world.client("carol").expect_channel(0x4000, b"hello carol");
        world.client("carol").send_channel(0x4000, b"hello alice");
        world.client("alice").expect_data_from(c, b"hello alice");
        world.client("alice").bind_address(0x4001, c).expect_success();
        // When carol hangs up, her address is nobody's, by indication and by channel.
        world.client("carol").refresh(0).expect_success();
        let before = world.dropped_in_all();
        world.client("alice").send_channel(0x4001, b"anybody?");
        assert_eq!(world.dropped(DropReason::PeerDenied), 1, "nat: {nat}");
        let before = before + 1;
        world.client("alice").send_to(c, b"anybody?");
        assert_eq!(world.dropped_in_all(), before + 1, "nat: {nat}");
        world.client("alice").bind_address(0x4002, c).expect_code(403);
    }
}

#[test]
fn chan_014_port_zero_is_no_destination() {
    let mut world = World::seeded(14).with_client("alice").with_peer("bob");
    let nowhere = SocketAddr::new(world.peer_address("bob").ip(), 0);
    world.client("alice").relay();
    world.client("alice").bind_address(0x4000, nowhere).expect_code(400);
    // A permission has no port, so there it means nothing.
    world.client("alice").permit_addresses(&[nowhere]).expect_success();
    world.client("alice").send_to(nowhere, b"hello");
    assert_eq!(world.server.tally().via_indication.to_peer.packets, 0);
}

#[test]
fn data_002_the_policy_is_asked_again_for_each_indication() {
    let mut world = World::seeded(2).with_client("alice").with_peer("bob");
    world.client("alice").relay();
    world.client("alice").send_to(with_port("127.0.0.1"), b"hello");
    world.client("alice").send("bob", b"no permission");
    assert_eq!(world.dropped_in_all(), 2);
    assert_eq!(world.dropped(DropReason::NoPermission) + world.dropped(DropReason::PeerDenied), 2);
}

#[test]
fn sec_012_two_allocations_that_permit_each_other_make_no_loop() {
    let mut world = World::seeded(12).with_client("alice").with_client("carol");
    let alice = world.client("alice").relay();
    let carol = world.client("carol").relay();
    world.client("alice").bind_address(0x4000, carol).expect_success();
    world.client("carol").bind_address(0x4000, alice).expect_success();
    world.client("alice").send_channel(0x4000, b"once");
    world.client("carol").expect_channel(0x4000, b"once");
    world.settle();
    world.client("alice").expect_silence();
    world.client("carol").expect_silence();
    let channel = world.server.tally().via_channel;
    assert_eq!((channel.to_peer.packets, channel.to_client.packets), (1, 1));
}

#[test]
fn sec_006_ports_can_be_closed_on_every_path() {
    let mut world = World::configured(6, |config| {
        config.peers.both.deny_ports = vec![0..=1023, 1900..=1900, 50_000..=59_999];
        config.tcp_relays = true;
    })
    .with_client("alice")
    .with_client("carol")
    .with_tcp_client("wired");
    let host = "45.33.32.10";
    let at = |port: u16| SocketAddr::new(host.parse().expect("an address"), port);
    for name in ["alice", "carol"] {
        world.client(name).relay();
    }
    world.client("wired").allocate_with(Draft::allocate_tcp()).expect_success();
    // A permission knows no port.
    world.client("alice").permit_addresses(&[at(53)]).expect_success();
    for (number, port, open) in
        [(0x4000, 53, false), (0x4001, 1023, false), (0x4002, 1024, true), (0x4003, 1900, false)]
    {
        let code = world.client("alice").bind_address(number, at(port)).code();
        assert_eq!(code, (!open).then_some(403), "ChannelBind to {port}");
        let before = world.dropped(DropReason::PeerDenied);
        world.client("alice").send_to(at(port), b"datagram");
        let dropped = world.dropped(DropReason::PeerDenied) - before;
        assert_eq!(dropped, u64::from(!open), "Send to {port}");
        let relayed = world.client("alice").state().relayed.expect("a relayed address");
        world.inject_at_relay(relayed, at(port), b"datagram");
        world.settle();
        let dropped = world.dropped(DropReason::PeerDenied) - before;
        assert_eq!(dropped, 2 * u64::from(!open), "from {port}");
        let calls = world.dials.calls.len();
        world.client("wired").know_the_realm();
        let connect = Draft::connect(at(port));
        let signed = world.client("wired").state().sign(connect);
        let answer = world.client("wired").exchange(signed);
        // Nobody is there to accept the call that is made.
        let code = if open { 447 } else { 403 };
        assert_eq!(answer.and_then(|it| it.code()), Some(code), "Connect to {port}");
        assert_eq!(world.dials.calls.len() - calls, usize::from(open), "Connect to {port}");
    }
    assert_eq!(world.rejected(Why::PeerPort), 6);
    // Relayed ports of our own are not meant.
    let carol = world.client("carol").state().relayed.expect("a relayed address");
    world.client("alice").bind_address(0x4004, carol).expect_success();
}
