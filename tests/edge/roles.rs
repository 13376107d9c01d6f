//! Legs and a 1:1 NAT (ED-13 to ED-22): where clients come in, and what they are told.

use std::net::SocketAddr;

use proto::addr::{ListenerId, Side, Transport};
use proto::policy::{Corners, Edge, Listener, RelayAddress};
use rig::ms::ALTERNATE_SERVER;
use rig::{Draft, World};

/// What the internet calls the external leg.
const PUBLIC: &str = "93.184.216.99";
/// The second public address, for discovery.
const OTHER_PUBLIC: &str = "93.184.216.98";
/// The legs as the host knows them: external, external beside it, internal.
const LEGS: [&str; 3] = ["10.0.1.5", "10.0.1.6", "10.0.2.5"];

const RESPONSE_ORIGIN: u16 = 0x802B;
const OTHER_ADDRESS: u16 = 0x802C;
const REQUESTED_FAMILY: u16 = 0x0017;

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// An edge behind a NAT: four corners outside, one listener inside, IPv6 on both legs.
fn world() -> World {
    World::configured(14, |config| {
        let listen = |ip: &str, port, side, public: Option<&str>| Listener {
            local: at(ip, port),
            advertised: public.map(|ip| ip.parse().expect("an address")),
            transport: Transport::Udp,
            side,
            anycast: false,
        };
        let outside =
            |leg: usize, port, public| listen(LEGS[leg], port, Side::External, Some(public));
        let listeners = vec![
            outside(0, 3478, PUBLIC),
            outside(0, 3479, PUBLIC),
            outside(1, 3478, OTHER_PUBLIC),
            outside(1, 3479, OTHER_PUBLIC),
            listen(LEGS[2], 3478, Side::Internal, None),
            listen("2a02:6b8::34", 3478, Side::External, None),
            listen("fd00::34", 3478, Side::Internal, None),
        ];
        let relay = |local: &str, public: &str| RelayAddress {
            local: local.parse().expect("an address"),
            advertised: public.parse().expect("an address"),
        };
        let relays = vec![relay(LEGS[0], PUBLIC), relay("2a02:6b8::34", "2a02:6b8::34")];
        let id = ListenerId;
        let corners = Corners::new([[id(0), id(1)], [id(2), id(3)]]);
        config.edge = Edge::new(listeners, relays, vec![]).with_corners(vec![corners]);
    })
    .with_client("outside")
    .with_client_at("inside", at("10.0.2.77", 4_000))
    .with_client_at("inside6", at("fd00::77", 4_000))
    .with_client_at("outside6", at("2a01:4f8::77", 4_000))
    .with_peer("bob")
}

/// The client speaks to this listener from now on.
fn turn_to(world: &mut World, client: &str, listener: u16) {
    world.client(client).state().listener = ListenerId(listener);
}

#[test]
fn ed_013_with_one_external_address_services_differ_by_their_ports() {
    // TCP 443 is somebody else's: A/V has 444, as the product then has.
    let world = World::configured(13, |config| {
        config.microsoft = true;
        let public = PUBLIC.parse().expect("an address");
        let listen = |port, transport| Listener {
            local: at(LEGS[0], port),
            advertised: Some(public),
            transport,
            side: Side::External,
            anycast: false,
        };
        let local = LEGS[0].parse().expect("an address");
        let listeners = vec![listen(3_478, Transport::Udp), listen(444, Transport::Tcp)];
        let relays = vec![RelayAddress { local, advertised: public }];
        config.edge = Edge::new(listeners, relays, vec![]);
    });
    let mut world = world.with_client("alice").with_ms_tcp_client("tina").with_peer("bob");
    turn_to(&mut world, "tina", 1);
    for (client, port) in [("alice", 3_478), ("tina", 444)] {
        let heard = world.ms(client).challenge();
        assert_eq!(heard.address(ALTERNATE_SERVER), Some(at(PUBLIC, port)), "{client}");
        let relayed = world.ms(client).relay();
        assert_eq!(relayed.ip(), at(PUBLIC, 0).ip(), "{client}");
        assert!((50_000..=59_999).contains(&relayed.port()), "{client}: {relayed}");
    }
    world.ms("alice").send("bob", b"out");
    world.peer("bob").expect(b"out");
    world.check();
}

#[test]
fn ed_014_whoever_comes_in_anywhere_relays_on_the_external_address() {
    let mut world = world();
    turn_to(&mut world, "inside", 4);
    for client in ["outside", "inside"] {
        let relayed = world.client(client).relay();
        assert_eq!(relayed.ip(), at(PUBLIC, 0).ip(), "{client}");
        assert!((50_000..=59_999).contains(&relayed.port()), "{client}: {relayed}");
        world.client(client).permit(&["bob"]).expect_success();
        world.client(client).send("bob", b"out");
        assert_eq!(world.peer("bob").expect(b"out"), relayed, "{client}");
        world.peer("bob").send(relayed, b"back");
        world.client(client).expect_data("bob", b"back");
    }
    for local in world.open_sockets() {
        assert_eq!(local.ip(), at(LEGS[0], 0).ip(), "the socket is bound to the private address");
    }
}

#[test]
fn ed_015_both_legs_serve_ipv6() {
    let mut world = world();
    for (client, listener) in [("outside6", 5), ("inside6", 6)] {
        turn_to(&mut world, client, listener);
        let draft = Draft::allocate().raw(REQUESTED_FAMILY, &[2, 0, 0, 0]);
        let heard = world.client(client).allocate_with(draft);
        let relayed = heard.expect_success().relayed().expect("an address");
        assert_eq!(relayed.ip(), at("2a02:6b8::34", 0).ip(), "{client}");
    }
}

#[test]
fn ed_016_two_clients_of_one_edge_reach_each_other_by_its_public_address() {
    let mut world = world();
    turn_to(&mut world, "inside", 4);
    let (outside, inside) = (world.client("outside").relay(), world.client("inside").relay());
    world.client("outside").permit_addresses(&[inside]).expect_success();
    world.client("inside").permit_addresses(&[outside]).expect_success();
    world.client("outside").send_to(inside, b"to the office");
    world.client("inside").expect_data_from(outside, b"to the office");
    world.client("inside").send_to(outside, b"to the road");
    world.client("outside").expect_data_from(inside, b"to the road");
    assert_eq!(world.dropped_in_all(), 0);
}

#[test]
fn ed_021_a_nat_changes_the_host_of_an_address_and_nothing_else() {
    let mut world = world();
    let relayed = world.client("outside").relay();
    let bound: Vec<_> = world.open_sockets();
    assert_eq!(bound, [at(LEGS[0], relayed.port())], "the port told is the port bound");
    world.client("outside").permit(&["bob"]).expect_success();
    world.client("outside").send("bob", b"out");
    assert_eq!(world.peer("bob").expect(b"out"), relayed, "and the port that peers see");
    // Who sends to the public address is known by its own.
    world.peer("bob").send(relayed, b"in");
    let bob = world.peer_address("bob");
    world.client("outside").expect_data_from(bob, b"in");
    assert_eq!(world.dropped_in_all(), 0);
}

#[test]
fn ed_022_every_field_that_carries_an_own_address_carries_the_public_one() {
    let mut world = world();
    let heard = world.client("outside").allocate();
    heard.expect_success();
    assert_eq!(heard.relayed().map(|it| it.ip()), Some(at(PUBLIC, 0).ip()), "relayed");
    let client = world.client("outside").state().address;
    assert_eq!(heard.mapped(), Some(client), "what the client is called");
    let found = world.client("outside").bare(Draft::request(rig::kind::method::BINDING));
    for (case, kind, expected) in [
        ("origin", RESPONSE_ORIGIN, at(PUBLIC, 3_478)),
        ("other", OTHER_ADDRESS, at(OTHER_PUBLIC, 3_479)),
    ] {
        let value = found.value(kind).unwrap_or_else(|| panic!("{case}"));
        let (port, ip) = (&value[2..4], &value[4..8]);
        let port = u16::from_be_bytes([port[0], port[1]]);
        let told = SocketAddr::from(([ip[0], ip[1], ip[2], ip[3]], port));
        assert_eq!(told, expected, "{case}");
    }
}
