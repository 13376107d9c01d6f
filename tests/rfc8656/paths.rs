//! The threat model's T1: one policy on every path, whoever asks and however.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::addr::{Family, ListenerId, Side};
use proto::auth::{TokenKey, TokenKeys};
use proto::policy::{Edge, PeerAcl, PoolRelay};
use proto::reject::{DropReason, Why};
use proto::turn::Config;
use proto::turn::config::MobilityPolicy;
use rig::site::{BEGIN, KEY_ID, POOL_SECRET, POOL_TOKEN_SECRET, pool_key};
use rig::{Draft, Login, Scheme, Token, World, kind};

/// Peers that the policy admits, by family.
const GOOD: [&str; 2] = ["45.33.32.10:4242", "[2600:3c01::10]:4242"];

/// What nobody may reach: of each kind one, and every way to write an IPv4 address in IPv6.
const FORBIDDEN: &[&str] = &[
    "0.0.0.0:4242",
    "0.1.2.3:4242",
    "10.0.0.1:4242",
    "100.64.0.1:4242",
    "100.100.100.200:4242",
    "127.0.0.1:4242",
    "127.255.255.254:4242",
    "168.63.129.16:4242",
    "169.254.169.254:4242",
    "172.31.255.255:4242",
    "192.0.0.9:4242",
    "192.0.2.1:4242",
    "192.31.196.1:4242",
    "192.52.193.1:4242",
    "192.88.99.1:4242",
    "192.168.0.1:4242",
    "192.175.48.1:4242",
    "198.19.255.255:4242",
    "198.51.100.1:4242",
    "203.0.113.1:4242",
    "224.0.0.251:4242",
    "240.0.0.1:4242",
    "255.255.255.255:4242",
    // Our own: a listener, another address of the host, its network's broadcast.
    "93.184.216.34:3478",
    "93.184.216.40:4242",
    "93.184.216.255:4242",
    "[::]:4242",
    "[::1]:4242",
    "[::10.0.0.1]:4242",
    "[::8.8.8.8]:4242",
    "[::ffff:0:10.0.0.1]:4242",
    "[64:ff9b::10.0.0.1]:4242",
    "[64:ff9b:1::10.0.0.1]:4242",
    "[100::1]:4242",
    "[100:0:0:1::1]:4242",
    "[2001:0:a00:1::1]:4242",
    "[2001:2::1]:4242",
    "[2001:20::1]:4242",
    "[2001:db8::1]:4242",
    "[2002:a00:1::1]:4242",
    "[2600:3c01::5efe:10.0.0.1]:4242",
    "[2600:3c01::200:5efe:169.254.169.254]:4242",
    "[2600:64::10.0.0.1]:4242",
    "[2600:64::8.8.8.8]:4242",
    "[2620:4f:8000::1]:4242",
    "[3fff::1]:4242",
    "[4000::1]:4242",
    "[5f00::1]:4242",
    "[fc00::1]:4242",
    "[fe80::a9fe:a9fe]:4242",
    "[fec0::1]:4242",
    "[ff02::1]:4242",
    "[2a02:6b8::34]:3478",
];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// Every feature that opens a way to a peer.
fn everything(config: &mut Config) {
    config.tcp_relays = true;
    config.microsoft = true;
    config.mobility = MobilityPolicy::Allowed;
    let keys = vec![TokenKey::of_pool(&pool_key()).expect("32 bytes")];
    config.authority.tokens = Some(TokenKeys { server_name: "edge.test".to_owned(), keys });
    let relays = Family::ALL.into_iter().flat_map(|family| config.edge.relays(family).copied());
    let own = "93.184.216.40".parse().expect("an address");
    config.edge = Edge::new(config.edge.listeners().to_vec(), relays.collect(), vec![own])
        .with_broadcasts(vec!["93.184.216.255".parse().expect("an address")]);
    config.peers.nat64 = vec!["2600:64::/96".parse().expect("a prefix")];
}

/// Clients of every kind, each with an allocation of the family, and a peer.
fn world(peer: SocketAddr) -> World {
    let family = if peer.is_ipv4() { 1 } else { 2 };
    let mut world = World::configured(1, everything)
        .with_client("alice")
        .with_client("token")
        .with_client("roamer")
        .with_client("elsewhere")
        .with_client("mary")
        .with_tcp_client("wired")
        .with_peer_at("peer", peer);
    let of_family = |draft: Draft| draft.raw(kind::FAMILY, &[family, 0, 0, 0]);
    world.client("alice").allocate_with(of_family(Draft::allocate())).expect_success();
    world.client("wired").allocate_with(of_family(Draft::allocate_tcp())).expect_success();
    // Another address of one user, who moves there.
    let login = world.client("roamer").state().login.clone();
    world.client("elsewhere").state().login = login;
    let wish = of_family(Draft::allocate()).raw(kind::MOBILITY_TICKET, &[]);
    let heard = world.client("roamer").allocate_with(wish);
    let ticket = heard.expect_success().value(kind::MOBILITY_TICKET).expect("a ticket").to_vec();
    let bring = Draft::refresh(600).raw(kind::MOBILITY_TICKET, &ticket);
    world.client("elsewhere").ask(bring).expect_success();
    // Whoever has a token.
    let token = Token::new(POOL_TOKEN_SECRET, "edge.test", BEGIN);
    let mut client = world.client("token");
    client.state().scheme = Scheme::Legacy;
    client.know_the_realm();
    client.state().bearer = Some(token.signer());
    let username = pool_key().id.to_string();
    client.state().login = Login { username, password: String::new() };
    let allocate = of_family(Draft::allocate()).raw(kind::ACCESS_TOKEN, &token.sealed());
    client.ask(allocate).expect_success();
    world.ms("mary").relay();
    world
}

/// Which ways lead to a peer.
fn ways(peer: SocketAddr) -> Vec<(&'static str, bool)> {
    let mut world = world(peer);
    let good = address(GOOD[usize::from(peer.is_ipv6())]);
    let mut found = Vec::new();
    let ok = |code: Option<u16>| {
        assert!(matches!(code, None | Some(403)), "{peer}: refused with {code:?}");
        code.is_none()
    };
    let permit = world.client("alice").permit_addresses(&[peer]);
    found.push(("CreatePermission", ok(permit.code())));
    let before = world.server.tally().permissions;
    let list = world.client("token").permit_addresses(&[good, peer]);
    found.push(("CreatePermission in a list, with a token", ok(list.code())));
    let added = world.server.tally().permissions - before;
    assert_eq!(added > 0, list.code().is_none(), "{peer}: a list is granted whole or not at all");
    let moved = world.client("elsewhere").permit_addresses(&[peer]);
    found.push(("CreatePermission after a move", ok(moved.code())));
    let bind = world.client("elsewhere").bind_address(0x4000, peer);
    found.push(("ChannelBind after a move", ok(bind.code())));
    let bind = world.client("token").bind_address(0x4000, peer);
    found.push(("ChannelBind with a token", ok(bind.code())));
    for (way, client) in [("Send", "alice"), ("Send with a token", "token")] {
        world.client(client).send_to(peer, b"hello");
        found.push((way, world.peer("peer").take().is_some()));
    }
    let bind = world.client("alice").bind_address(0x4001, peer);
    found.push(("ChannelBind", ok(bind.code())));
    world.client("alice").send_channel(0x4001, b"hello");
    found.push(("ChannelData", world.peer("peer").take().is_some()));
    let relayed = world.client("alice").state().relayed.expect("a relayed address");
    world.peer("peer").send(relayed, b"hello");
    found.push(("a datagram of the peer", world.client("alice").hear().is_some()));
    let calls = world.dials.calls.len();
    let connect = world.client("wired").ask(Draft::connect(peer));
    found.push(("Connect", ok(connect.code())));
    found.push(("a call", world.dials.calls.len() > calls));
    let relayed = world.client("wired").state().relayed.expect("a relayed address");
    world.client("wired").permit_addresses(&[peer]);
    found.push(("a call of the peer", world.peer("peer").connect(relayed).is_some()));
    if peer.is_ipv4() {
        world.ms("mary").send_to(peer, b"hello");
        found.push(("Send of MS-TURN", world.peer("peer").take().is_some()));
        let aim = world.ms("mary").aim_at(peer);
        // MS-TURN knows no 403.
        assert!(matches!(aim.code(), None | Some(500)), "{peer}: {aim:?}");
        found.push(("Set Active Destination", aim.code().is_none()));
        world.ms("mary").send_bytes(b"bare payload");
        found.push(("bare payload", world.peer("peer").take().is_some()));
    }
    found
}

#[test]
fn sec_001_no_way_leads_to_a_forbidden_peer() {
    for peer in FORBIDDEN {
        for (way, open) in ways(address(peer)) {
            assert!(!open, "{peer} by {way}");
        }
    }
}

#[test]
fn sec_001_every_way_leads_to_a_peer_that_is_admitted() {
    for peer in GOOD {
        for (way, open) in ways(address(peer)) {
            assert!(open, "{peer} by {way}");
        }
    }
}

/// A pool credential with claims.
fn narrow(claims: &str) -> Login {
    Login::pool(POOL_SECRET, &format!("{}:{KEY_ID}:{claims}:narrow", BEGIN + 3_600))
}

#[test]
fn sec_006_a_credential_is_good_for_its_own_peers_and_ports_only() {
    // 45.33.32.0/24 and the ports 5000 to 6000.
    let login = narrow("p=GC0hIA,o=5000-6000");
    let mut world = World::configured(6, |config| config.tcp_relays = true)
        .with_client("alice")
        .with_tcp_client("wired");
    for client in ["alice", "wired"] {
        world.client(client).state().login = login.clone();
    }
    world.client("alice").relay();
    world.client("wired").allocate_with(Draft::allocate_tcp()).expect_success();
    for (peer, host, port) in [
        ("45.33.32.10:5000", true, true),
        ("45.33.32.10:4999", true, false),
        ("45.33.33.10:5000", false, true),
        ("10.0.0.1:5000", false, true),
    ] {
        let peer = address(peer);
        let refused = |open: bool| (!open).then_some(403);
        let permit = world.client("alice").permit_addresses(&[peer]);
        assert_eq!(permit.code(), refused(host), "CreatePermission {peer}");
        let before = world.dropped_in_all();
        world.client("alice").send_to(peer, b"x");
        let dropped = world.dropped_in_all() - before;
        assert_eq!(dropped, u64::from(!(host && port)), "Send {peer}");
        let calls = world.dials.calls.len();
        let connect = world.client("wired").ask(Draft::connect(peer));
        // Nobody is there to take the call that is made.
        let code = if host && port { Some(447) } else { Some(403) };
        assert_eq!(connect.code(), code, "Connect {peer}");
        assert_eq!(world.dials.calls.len() - calls, usize::from(host && port), "Connect {peer}");
        let bind = world.client("alice").bind_address(0x4000 + peer.port() % 16, peer);
        assert_eq!(bind.code(), refused(host && port), "ChannelBind {peer}");
    }
    assert_eq!(world.rejected(Why::PeerSealed), 5);
    assert_eq!(world.rejected(Why::PeerDenied), 3, "what is closed anyway");
}

#[test]
fn sec_006_each_side_has_rules_of_its_own() {
    let mut world = World::configured(6, |config| {
        let range = |text: &str| text.parse().expect("a range");
        config.peers.sides[Side::Internal as usize].allow = vec![range("10.0.0.0/8")];
        config.peers.sides[Side::External as usize].deny = vec![range("45.33.0.0/16")];
        config.mobility = MobilityPolicy::Allowed;
    })
    .with_client("inside")
    .with_client("outside");
    let login = world.client("inside").state().login.clone();
    world.client("outside").state().login = login;
    world.client("inside").state().listener = ListenerId(2);
    let wish = Draft::allocate().raw(kind::MOBILITY_TICKET, &[]);
    let heard = world.client("inside").allocate_with(wish);
    let ticket = heard.expect_success().value(kind::MOBILITY_TICKET).expect("a ticket").to_vec();
    let (office, web, other) =
        (address("10.1.1.1:9"), address("45.33.32.10:9"), address("8.8.8.8:9"));
    world.client("inside").permit_addresses(&[office, web, other]).expect_success();
    world.client("inside").bind_address(0x4000, office).expect_success();
    // The client goes out, and what only insiders may reach is behind it.
    let bring = Draft::refresh(600).raw(kind::MOBILITY_TICKET, &ticket);
    world.client("outside").ask(bring).expect_success();
    assert_eq!(world.server.allocations(world.now()).next().map(|it| it.permissions), Some(1));
    for (peer, code) in [(office, Some(403)), (web, Some(403)), (other, None)] {
        let heard = world.client("outside").permit_addresses(&[peer]);
        assert_eq!(heard.code(), code, "{peer}");
    }
    world.client("outside").send_channel(0x4000, b"x");
    assert_eq!(world.dropped(DropReason::NoChannel), 1);
}

#[test]
fn sec_002_a_changed_policy_holds_for_calls_that_go_on() {
    let mut world = World::configured(2, |config| config.tcp_relays = true)
        .with_client("alice")
        .with_client("carol")
        .with_tcp_client("wired")
        .with_peer("bob")
        .with_peer("dave");
    let (alice, carol) = (world.client("alice").relay(), world.client("carol").relay());
    let (bob, dave) = (world.peer_address("bob"), world.peer_address("dave"));
    for (number, peer) in [(0x4000, bob), (0x4001, dave), (0x4002, carol)] {
        world.client("alice").bind_address(number, peer).expect_success();
    }
    world.client("carol").bind_address(0x4000, alice).expect_success();
    world.client("wired").allocate_with(Draft::allocate_tcp()).expect_success();
    world.client("wired").ask(Draft::connect(bob)).expect_success();
    let mut peers = PeerAcl::default();
    peers.both.deny = vec![bob.ip().into()];
    peers.both.deny_ports = vec![dave.port()..=dave.port()];
    world.set_peers(peers.clone());
    assert!(world.dials.open.is_empty(), "the connection to bob ended");
    world.client("alice").send_channel(0x4000, b"to bob");
    world.client("alice").send_to(bob, b"to bob");
    world.peer("bob").send(alice, b"from bob");
    world.client("alice").send_channel(0x4001, b"to dave");
    world.client("alice").send_to(dave, b"to dave");
    world.peer("bob").expect_silence();
    world.peer("dave").expect_silence();
    world.client("alice").expect_silence();
    for reason in [DropReason::NoChannel, DropReason::NoPermission] {
        assert_eq!(world.dropped(reason), 2, "{reason:?}");
    }
    // Nobody else is harmed.
    world.client("alice").send_channel(0x4002, b"to carol");
    world.client("carol").expect_channel(0x4000, b"to carol");
    peers.hairpins = false;
    world.set_peers(peers);
    world.client("alice").send_channel(0x4002, b"to carol");
    world.client("carol").expect_silence();
    world.client("alice").bind_address(0x4002, carol).expect_code(403);
    world.check();
}

#[test]
fn sec_002_what_becomes_a_relay_of_the_pool_is_reached_by_that_rule_alone() {
    let mut world = World::seeded(2).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    world.client("alice").relay();
    world.client("alice").permit_addresses(&[bob]).expect_success();
    world.client("alice").send_to(bob, b"before");
    world.peer("bob").expect(b"before");
    let (mut config, now) = (rig::site::default_config(), world.now());
    let relay = PoolRelay { local: bob.ip(), advertised: bob.ip(), ports: 50_000..=59_999 };
    config.edge = config.edge.with_pool(vec![relay]);
    world.server.reconfigure(now, Arc::new(config), &[7; 32]);
    world.client("alice").send_to(bob, b"after");
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    world.check();
}

#[test]
fn sec_005_two_relays_of_a_pool_reach_each_other_behind_one_nat() {
    // The other relay: 10.0.0.6 here, 93.184.216.77 to the world, which the policy denies and
    // leaves open.
    let local = address("10.0.0.6:50001");
    let told = address("93.184.216.77:50001");
    let mut world = World::configured(5, |config| {
        let relay = proto::policy::RelayAddress {
            local: "10.0.0.5".parse().expect("an address"),
            advertised: "93.184.216.99".parse().expect("an address"),
        };
        config.edge =
            Edge::new(config.edge.listeners().to_vec(), vec![relay], Vec::new()).with_pool(vec![
                PoolRelay { local: local.ip(), advertised: told.ip(), ports: 50_000..=59_999 },
            ]);
    })
    .with_client("alice")
    .with_peer_at("other relay", local);
    let relayed = world.client("alice").relay();
    assert_eq!(relayed.ip(), address("93.184.216.99:1").ip());
    world.client("alice").permit_addresses(&[told]).expect_success();
    world.client("alice").send_to(told, b"hello");
    world.peer("other relay").expect(b"hello");
    world.peer("other relay").send(relayed, b"hello back");
    world.client("alice").expect_data_from(told, b"hello back");
    world.client("alice").bind_address(0x4000, told).expect_success();
    world.client("alice").send_channel(0x4000, b"again");
    world.peer("other relay").expect(b"again");
    // Its listener, and whatever else it serves, is no peer; nor are its neighbours.
    for (number, closed) in
        [(0x4001, "93.184.216.77:3478"), (0x4002, "10.0.0.6:22"), (0x4003, "10.0.0.7:50001")]
    {
        world.client("alice").bind_address(number, address(closed)).expect_code(403);
        let before = world.dropped_in_all();
        world.client("alice").send_to(address(closed), b"x");
        assert_eq!(world.dropped_in_all(), before + 1, "{closed}");
    }
}

#[test]
fn sec_005_a_port_that_relays_udp_is_no_peer_for_tcp_nor_the_other_way_round() {
    let mut world = World::configured(5, |config| config.tcp_relays = true)
        .with_client("alice")
        .with_client("carol")
        .with_tcp_client("wired")
        .with_tcp_client("corded");
    let (alice, carol) = (world.client("alice").relay(), world.client("carol").relay());
    let [wired, corded] = ["wired", "corded"].map(|client| {
        let heard = world.client(client).allocate_with(Draft::allocate_tcp());
        heard.expect_success().relayed().expect("a relayed address")
    });
    // Whatever else of this host has the port for the other transport is not reached.
    world.client("alice").permit_addresses(&[wired]).expect_success();
    for tcp in [wired, corded] {
        world.client("alice").bind_address(0x4000, tcp).expect_code(403);
        let before = world.dropped(DropReason::PeerDenied);
        world.client("alice").send_to(tcp, b"x");
        assert_eq!(world.dropped(DropReason::PeerDenied), before + 1, "{tcp}");
    }
    world.client("alice").bind_address(0x4000, carol).expect_success();
    let calls = world.dials.calls.len();
    for udp in [alice, carol] {
        world.client("wired").ask(Draft::connect(udp)).expect_code(403);
    }
    assert_eq!(world.dials.calls.len(), calls, "nobody was called");
    world.client("wired").ask(Draft::connect(corded));
    assert_eq!(world.dials.calls.len(), calls + 1, "a relay of its own kind is");
}
