//! §7.2 steps 5 and 8: EVEN-PORT and RESERVATION-TOKEN.

use std::net::SocketAddr;

use proto::reject::Why;
use rig::kind;
use rig::site::{self, BEGIN};
use rig::{Draft, World};

const RESERVE: &[u8] = &[0x80];

/// Allocates an even port and reserves the next; both belong to one user.
fn reserve(world: &mut World, name: &str) -> (SocketAddr, [u8; 8]) {
    let heard = world.client(name).allocate_with(Draft::allocate().raw(kind::EVEN_PORT, RESERVE));
    heard.expect_success();
    let token = heard.value(kind::RESERVATION).expect("a token").try_into().expect("eight bytes");
    (heard.relayed().expect("a relayed address"), token)
}

fn redeem(world: &mut World, name: &str, token: [u8; 8]) -> Result<SocketAddr, u16> {
    let heard = world.client(name).ask(Draft::allocate().raw(kind::RESERVATION, &token));
    heard.code().map_or_else(|| Ok(heard.relayed().expect("a relayed address")), Err)
}

/// Two sockets of one user.
fn two_sockets(seed: u64) -> World {
    let mut world = World::seeded(seed).with_client("rtp").with_client("rtcp");
    for name in ["rtp", "rtcp"] {
        world.client(name).state().login = site::pool_login("alice", BEGIN + 86_400);
    }
    world
}

#[test]
fn alloc_007_a_token_excludes_every_wish() {
    for (case, kind, value) in [
        ("even port", kind::EVEN_PORT, &[0][..]),
        ("even port and the next", kind::EVEN_PORT, RESERVE),
        ("family", kind::FAMILY, &[1, 0, 0, 0]),
        ("additional family", kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]),
    ] {
        let mut world = two_sockets(7);
        let (_, token) = reserve(&mut world, "rtp");
        let draft = Draft::allocate().raw(kind::RESERVATION, &token).raw(kind, value);
        world.client("rtcp").ask(draft).expect_code(400);
        redeem(&mut world, "rtcp", token).unwrap_or_else(|code| panic!("{case} cost it: {code}"));
    }
}

#[test]
fn alloc_008_an_unknown_or_lapsed_token_is_insufficient_capacity() {
    let mut world = two_sockets(8);
    assert_eq!(redeem(&mut world, "rtcp", *b"a guess!"), Err(508));
    let (_, token) = reserve(&mut world, "rtp");
    world.advance_s(120);
    assert_eq!(redeem(&mut world, "rtcp", token), Err(508), "after the hold time");
    assert_eq!(world.rejected(Why::ReservationUnknown), 2);
    assert_eq!(world.books.reservations(), 0);
}

#[test]
fn alloc_011_an_even_port_that_cannot_be_had_is_insufficient_capacity() {
    let mut world =
        World::configured(11, |config| config.ports = 50_001..=50_001).with_client("alice");
    for value in [0, 0x80] {
        let draft = Draft::allocate().raw(kind::EVEN_PORT, &[value]);
        world.client("alice").ask(draft).expect_code(508);
    }
    world.client("alice").allocate().expect_success();
    let mut world = World::seeded(11).with_client("alice");
    let draft =
        Draft::allocate().raw(kind::EVEN_PORT, RESERVE).raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]);
    world.client("alice").ask(draft).expect_code(400);
}

#[test]
fn alloc_012_an_even_port_is_even_and_its_neighbour_may_be_kept() {
    for seed in 0..20 {
        let mut world = two_sockets(seed);
        let even = Draft::allocate().raw(kind::EVEN_PORT, &[0x7F]);
        let heard = world.client("rtcp").allocate_with(even);
        assert_eq!(heard.expect_success().relayed().expect("a relay").port() % 2, 0);
        assert!(!heard.has(kind::RESERVATION), "only the first bit asks for the neighbour");
        world.client("rtcp").refresh(0).expect_success();
        let (rtp, token) = reserve(&mut world, "rtp");
        assert_eq!(rtp.port() % 2, 0);
        let second = redeem(&mut world, "rtcp", token).expect("the token is good");
        assert_eq!((second.ip(), second.port()), (rtp.ip(), rtp.port() + 1));
    }
}

#[test]
fn alloc_013_the_reserved_port_is_held_against_everybody() {
    let mut world = World::configured(13, |config| {
        config.ports = 50_000..=50_005;
        config.limits.allocations_per_user = 100;
    })
    .with_client("rtp")
    .with_client("rtcp");
    for name in ["rtp", "rtcp"] {
        world.client(name).state().login = site::pool_login("alice", BEGIN + 86_400);
    }
    let (rtp, token) = reserve(&mut world, "rtp");
    for n in 0..6 {
        let name = format!("storm{n}");
        let address = format!("81.2.71.{}:4000", 1 + n).parse().expect("an address");
        world = world.with_client_at(&name, address);
        let heard = world.client(&name).allocate();
        assert_eq!(heard.code(), if n < 4 { None } else { Some(508) }, "storm {n}");
        assert_ne!(heard.relayed().map(|at| at.port()), Some(rtp.port() + 1));
    }
    world.advance_s(29);
    let second = redeem(&mut world, "rtcp", token).expect("held for thirty seconds");
    assert_eq!(second.port(), rtp.port() + 1);
}

#[test]
fn alloc_013_a_lapsed_reservation_gives_its_port_back() {
    let mut world = World::configured(13, |config| config.ports = 50_000..=50_001)
        .with_client("rtp")
        .with_client("other");
    reserve(&mut world, "rtp");
    world.client("other").allocate().expect_code(508);
    world.advance_s(180);
    world.client("other").allocate().expect_success();
}

#[test]
fn alloc_013_the_reservation_outlives_the_allocation_that_made_it() {
    let mut world = two_sockets(13);
    let (rtp, token) = reserve(&mut world, "rtp");
    world.client("rtp").refresh(0).expect_success();
    assert_eq!(redeem(&mut world, "rtcp", token).expect("held").port(), rtp.port() + 1);
}

#[test]
fn alloc_018_kept_ports_count_against_their_client_whoever_asks() {
    let mut world = World::configured(18, |config| {
        config.ports = 50_000..=50_099;
        config.limits.allocations_per_client = 4;
    })
    .with_client_at("victim", "81.2.71.1:4000".parse().expect("an address"));
    for n in 0..20_u16 {
        let name = format!("hoarder{n}");
        let address = format!("81.2.70.1:{}", 4000 + n).parse().expect("an address");
        world = world.with_client_at(&name, address);
        let heard =
            world.client(&name).allocate_with(Draft::allocate().raw(kind::EVEN_PORT, RESERVE));
        // Three are kept, and the fourth pair needs two.
        assert_eq!(heard.code(), if n < 3 { None } else { Some(486) }, "{n}");
        if n < 3 {
            world.client(&name).refresh(0).expect_success();
        }
        world.check();
    }
    assert_eq!((world.books.reservations(), world.books.charged()), (3, 3));
    reserve(&mut world, "victim");
    world.client("hoarder19").allocate().expect_success();
    world.advance_s(31);
    assert_eq!((world.books.reservations(), world.books.charged()), (0, 2));
    assert_eq!(world.rejected(Why::ClientQuota), 17);
}

#[test]
fn alloc_018_a_pair_that_fills_every_limit_can_still_be_redeemed() {
    let mut world = World::configured(18, |config| {
        config.limits.allocations = 2;
        config.limits.allocations_per_user = 2;
        config.limits.allocations_per_client = 2;
    })
    .with_client_at("rtp", "81.2.70.1:4000".parse().expect("an address"))
    .with_client_at("rtcp", "81.2.70.1:4001".parse().expect("an address"))
    .with_client("other");
    for name in ["rtp", "rtcp"] {
        world.client(name).state().login = site::pool_login("alice", BEGIN + 86_400);
    }
    let (_, token) = reserve(&mut world, "rtp");
    world.client("other").allocate().expect_code(508);
    redeem(&mut world, "rtcp", token).expect("its room is kept, too");
    assert_eq!((world.books.leases(), world.books.charged()), (2, 2));
    for name in ["rtp", "rtcp"] {
        world.client(name).refresh(0).expect_success();
    }
    assert_eq!(world.books.charged(), 0);
    world.client("other").allocate().expect_success();
}

#[test]
fn alloc_018_a_pair_is_refused_whole_and_charged_nothing() {
    let reserving = || Draft::allocate().raw(kind::EVEN_PORT, RESERVE);
    let mut world =
        World::configured(18, |config| config.limits.allocations_per_user = 1).with_client("alice");
    world.client("alice").ask(reserving()).expect_code(486);
    assert_eq!((world.books.charged(), world.server.tally().ports_used), (0, 0));
    world.client("alice").allocate().expect_success();
    let mut world =
        World::configured(18, |config| config.ports = 50_001..=50_001).with_client("alice");
    world.client("alice").ask(reserving()).expect_code(508);
    assert_eq!(world.books.charged(), 0, "no pair is free");
}

#[test]
fn alloc_014_a_token_is_good_once_and_for_its_user_only() {
    let mut world = two_sockets(14).with_client("mallory");
    let (_, token) = reserve(&mut world, "rtp");
    assert_eq!(redeem(&mut world, "mallory", token), Err(508), "somebody else's");
    redeem(&mut world, "rtcp", token).expect("its owner's");
    world.client("rtcp").refresh(0).expect_success();
    assert_eq!(redeem(&mut world, "rtcp", token), Err(508), "a second time");
    let (_, next) = reserve(&mut world, "mallory");
    assert_ne!(next, token);
}

#[test]
fn alloc_014_a_refused_redemption_does_not_spend_the_token() {
    let mut world = two_sockets(14);
    let (rtp, token) = reserve(&mut world, "rtp");
    // The five-tuple is busy: 437 comes before the token is looked at.
    let draft = Draft::allocate().raw(kind::RESERVATION, &token);
    world.client("rtp").ask(draft).expect_code(437);
    assert_eq!(redeem(&mut world, "rtcp", token).expect("unspent").port(), rtp.port() + 1);
}

#[test]
fn media_007_rtp_and_rtcp_travel_on_neighbouring_ports() {
    let mut world = two_sockets(7).with_peer("bob");
    let (rtp, token) = reserve(&mut world, "rtp");
    let second = redeem(&mut world, "rtcp", token).expect("the token is good");
    for (name, relayed) in [("rtp", rtp), ("rtcp", second)] {
        world.client(name).bind(0x4000, "bob").expect_success();
        world.client(name).send_channel(0x4000, name.as_bytes());
        assert_eq!(world.peer("bob").expect(name.as_bytes()), relayed);
        world.peer("bob").send(relayed, name.as_bytes());
        world.client(name).expect_channel(0x4000, name.as_bytes());
    }
}
