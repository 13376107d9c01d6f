//! §9: what a token is needed for, and for how long.

use proto::turn::Config;
use rig::kind;
use rig::site::{self, BEGIN};
use rig::{Draft, Login, Scheme, Token, World};

use crate::{LESSER, SERVER_NAME, STRONG, adopt, allocate, good, tokens, with, world};

#[test]
fn oauth_008_an_allocation_lives_no_longer_than_its_token() {
    for (case, age, lifetime, wanted, granted) in [
        ("two minutes left", 480, 600, None, 125),
        ("of the future", 0, 120, None, 125),
        ("a moment left", 604, 600, Some(3600), 1),
        ("longer than the default", 0, 3000, Some(3600), 3005),
        ("longer than allowed", 0, 80_000, Some(80_000), 3600),
        ("not asked for more", 0, 3000, None, 600),
    ] {
        let token = Token { seconds: BEGIN - age, lifetime, ..good() };
        let mut world = world(8);
        adopt(&mut world, STRONG.0, &token);
        let lifetime = |draft: Draft| match wanted {
            Some(seconds) => draft.raw(kind::LIFETIME, &u32::to_be_bytes(seconds)),
            None => draft,
        };
        let heard = world.client("alice").ask(with(lifetime(Draft::allocate()), &token));
        assert_eq!(heard.expect_success().lifetime(), Some(granted), "{case}: Allocate");
        let refresh = with(lifetime(Draft::request(kind::method::REFRESH)), &token);
        let heard = world.client("alice").ask(refresh);
        assert_eq!(heard.expect_success().lifetime(), Some(granted), "{case}: Refresh");
    }
}

#[test]
fn oauth_008_the_allocation_is_gone_when_its_token_is_over() {
    let token = Token { lifetime: 100, ..good() };
    let mut world = world(8);
    allocate(&mut world, STRONG.0, &token).expect_success();
    world.advance_s(104);
    assert_eq!(world.server.tally().allocations, 1);
    world.advance_s(1);
    assert_eq!(world.server.tally().allocations, 0);
}

#[test]
fn sec_009_a_clock_that_steps_ends_no_call_of_a_token() {
    for step in [3_600, -3_600] {
        let token = Token { lifetime: 900, ..good() };
        let mut world = world(8);
        allocate(&mut world, STRONG.0, &token).expect_success();
        world.step_wall_clock(step);
        let bob = world.peer_address("bob");
        world.client("alice").ask(with(Draft::permit(&[bob]), &token)).expect_success();
        world.advance_s(300);
        let heard = world.client("alice").ask(with(Draft::refresh(900), &token));
        assert_eq!(heard.expect_success().lifetime(), Some(605), "{step}: what is left of it");
        // It opens nothing else, and its own end comes as it would have.
        world.advance_s(604);
        assert_eq!(world.server.tally().allocations, 1);
        world.advance_s(1);
        assert_eq!(world.server.tally().allocations, 0);
        world.client("alice").ask(with(Draft::allocate(), &token)).expect_code(401);
    }
}

#[test]
fn oauth_009_only_allocate_and_refresh_need_a_token() {
    let mut world = world(9);
    let relayed = allocate(&mut world, STRONG.0, &good()).relayed().expect("a success");
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"hello");
    assert_eq!(world.peer("bob").expect(b"hello"), relayed);
    // A token there does no harm.
    let bob = world.peer_address("bob");
    world.client("alice").ask(with(Draft::permit(&[bob]), &good())).expect_success();
    world.client("alice").refresh(600).expect_code(401);
    world.client("alice").refresh(0).expect_code(401);
    world.client("alice").ask(with(Draft::refresh(0), &good())).expect_success();
}

#[test]
fn oauth_009_a_new_token_of_another_key_goes_on_with_the_allocation() {
    let mut world = world(9);
    allocate(&mut world, STRONG.0, &good()).expect_success();
    world.advance_s(300);
    let mac_key = "a quite different key of thirty!".to_owned();
    let fresh = Token { mac_key, ..Token::new(LESSER.1, SERVER_NAME, BEGIN + 300) };
    adopt(&mut world, LESSER.0, &fresh);
    world.client("alice").permit(&["bob"]).expect_code(401);
    let heard = world.client("alice").ask(with(Draft::refresh(900), &fresh));
    assert_eq!(heard.expect_success().lifetime(), Some(900));
    world.client("alice").permit(&["bob"]).expect_success();
    // The old key is forgotten.
    adopt(&mut world, STRONG.0, &good());
    world.client("alice").permit(&["bob"]).expect_code(401);
}

#[test]
fn sec_013_a_connection_is_claimed_with_the_token_that_began_it() {
    let both = |config: &mut Config| {
        tokens(config);
        config.tcp_relays = true;
    };
    let mut world = World::configured(9, both).with_peer("bob");
    for name in ["alice", "data", "eve"] {
        world = world.with_tcp_client(name);
    }
    let other = Token { mac_key: "eve's own key of thirty-two byte".to_owned(), ..good() };
    for (name, token) in [("alice", &good()), ("data", &good()), ("eve", &other)] {
        let mut client = world.client(name);
        client.state().scheme = Scheme::Legacy;
        client.know_the_realm();
        client.state().bearer = Some(token.signer());
        client.state().login = Login { username: STRONG.0.to_owned(), password: String::new() };
    }
    world.client("alice").ask(with(Draft::allocate_tcp(), &good())).expect_success();
    let bob = world.peer_address("bob");
    let heard = world.client("alice").ask(Draft::connect(bob));
    let id = heard.expect_success().connection().expect("CONNECTION-ID");
    world.client("eve").ask(with(Draft::connection_bind(id), &other)).expect_code(441);
    world.client("data").ask(with(Draft::connection_bind(id), &good())).expect_success();
}

#[test]
fn oauth_009_tokens_and_passwords_do_not_share_an_allocation() {
    let mut world = world(9);
    allocate(&mut world, STRONG.0, &good()).expect_success();
    let mut alice = world.client("alice");
    alice.state().bearer = None;
    alice.state().login = site::pool_login("alice", BEGIN + 86_400);
    alice.refresh(0).expect_code(441);
    alice.permit(&["bob"]).expect_code(441);
    adopt(&mut world, STRONG.0, &good());
    world.client("alice").ask(with(Draft::refresh(0), &good())).expect_success();
    let mut alice = world.client("alice");
    alice.state().bearer = None;
    alice.state().login = site::pool_login("alice", BEGIN + 86_400);
    alice.relay();
    adopt(&mut world, STRONG.0, &good());
    world.client("alice").ask(with(Draft::refresh(0), &good())).expect_code(441);
}

#[test]
fn oauth_009_a_reserved_port_is_redeemed_with_another_token() {
    let mut world = world(9).with_client_at("mallory", "81.2.70.1:4000".parse().expect("address"));
    adopt(&mut world, STRONG.0, &good());
    let pair = with(Draft::allocate().raw(kind::EVEN_PORT, &[0x80]), &good());
    let heard = world.client("alice").ask(pair);
    let reservation = heard.expect_success().value(kind::RESERVATION).expect("a token").to_vec();
    let mut other = good();
    other.mac_key = "another key of alice".to_owned();
    let redeem = with(Draft::allocate().raw(kind::RESERVATION, &reservation), &other);
    world.client("mallory").know_the_realm();
    let mut mallory = world.client("mallory");
    mallory.state().scheme = Scheme::Legacy;
    mallory.state().login.username = STRONG.0.to_owned();
    mallory.state().bearer = Some(other.signer());
    mallory.ask(redeem.clone()).expect_code(508);
    adopt(&mut world, STRONG.0, &other);
    let mut alice = world.client("alice");
    alice.state().address.set_port(45_000);
    alice.state().challenge = None;
    alice.know_the_realm();
    alice.ask(redeem).expect_success();
}
