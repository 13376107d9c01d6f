//! §9.2: nonces; what they begin with, whom they belong to, when they end.

use std::collections::HashSet;

use rig::kind;
use rig::{Draft, Scheme, World};

fn nonce(world: &mut World, name: &str) -> String {
    let heard = world.client(name).bare(Draft::allocate());
    heard.text(kind::NONCE).expect("a challenge has NONCE").to_owned()
}

/// The code of an Allocate with the right password and this nonce.
fn judge(world: &mut World, name: &str, nonce: &str) -> Option<u16> {
    let mut client = world.client(name);
    client.know_the_realm();
    nonce.clone_into(&mut client.state().challenge.as_mut().expect("challenged").nonce);
    let signed = client.state().sign(Draft::allocate());
    client.bare(signed).code()
}

#[test]
fn auth_017_the_cookie_says_algorithms_and_no_anonymity() {
    let mut world = World::seeded(17).with_client("alice");
    let heard = world.client("alice").bare(Draft::allocate());
    assert!(heard.has(kind::ALGORITHMS));
    let nonce = stun_rs::attributes::stun::Nonce::new(heard.text(kind::NONCE).expect("a nonce"))
        .expect("the oracle accepts it");
    assert!(nonce.is_nonce_cookie());
    assert_eq!(&nonce.as_str()[9..13], "AAAB", "bit 0 set, bit 1 (USERHASH) clear");
}

#[test]
fn auth_018_nonces_begin_with_the_cookie_and_are_short_quotable_text() {
    let mut world = World::seeded(18).with_client("alice").with_client6("carol");
    for name in ["alice", "carol"] {
        let nonce = nonce(&mut world, name);
        assert!(nonce.starts_with("obMatJos2"), "{nonce}");
        assert!(nonce.len() > 13 + 10 && nonce.len() < 128, "{nonce}");
        let quotable = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        assert!(nonce.chars().all(quotable), "{nonce}");
    }
}

#[test]
fn auth_019_feature_bits_count_from_the_least_significant_end() {
    let mut world = World::seeded(19).with_client("alice");
    assert_eq!(&nonce(&mut world, "alice")[..13], "obMatJos2AAAB");
    // Whatever a client makes of the bits, the server compares with its own nonce only.
    for scheme in Scheme::ALL {
        world.client("alice").state().scheme = scheme;
        world.client("alice").allocate().expect_success();
        world.client("alice").refresh(0).expect_success();
    }
}

#[test]
fn auth_020_a_nonce_is_good_at_one_address_and_port() {
    let mut world = World::seeded(20)
        .with_client("alice")
        .with_client_at("port", "81.2.69.10:40001".parse().expect("an address"))
        .with_client_at("host", "81.2.69.11:40000".parse().expect("an address"));
    let stolen = nonce(&mut world, "alice");
    let mut seen = HashSet::from([stolen.clone()]);
    for other in ["port", "host"] {
        assert!(seen.insert(nonce(&mut world, other)), "never the same for two sources");
        assert_eq!(judge(&mut world, other, &stolen), Some(438), "{other}");
    }
    assert_eq!(judge(&mut world, "alice", &stolen), None, "good where it belongs");
}

#[test]
fn auth_021_an_altered_nonce_is_stale() {
    let mut world = World::seeded(21).with_client("alice");
    let sound = nonce(&mut world, "alice");
    for at in 0..sound.len() {
        let mut altered = sound.clone().into_bytes();
        altered[at] = if altered[at] == b'B' { b'C' } else { b'B' };
        let altered = String::from_utf8(altered).expect("ASCII");
        let code = judge(&mut world, "alice", &altered);
        assert!(code == Some(438), "byte {at} of {sound}: {code:?}");
    }
    for (case, altered) in [
        ("empty", String::new()),
        ("the cookie alone", sound[..13].to_owned()),
        ("one character short", sound[..sound.len() - 1].to_owned()),
        ("one character more", format!("{sound}A")),
        ("somebody else's", "f//499k954d6OL34oL9FSTvy64sA".to_owned()),
        ("127 characters", "n".repeat(127)),
    ] {
        let code = judge(&mut world, "alice", &altered);
        assert!(matches!(code, Some(438 | 400)), "{case}: {code:?}");
    }
    assert_eq!(judge(&mut world, "alice", &sound), None);
}

#[test]
fn auth_022_an_expired_nonce_costs_one_round_trip_and_no_allocation() {
    let mut world = World::seeded(22).with_client("alice").with_peer("bob");
    let relayed = world.client("alice").relay();
    world.client("alice").refresh(3600).expect_success();
    world.advance_s(599);
    let signed = world.client("alice").state().sign(Draft::refresh(3600));
    world.client("alice").bare(signed).expect_success();
    world.advance_s(2);
    let signed = world.client("alice").state().sign(Draft::refresh(3600));
    let heard = world.client("alice").bare(signed);
    heard.expect_code(438);
    world.client("alice").state().learn(&heard);
    world.client("alice").permit(&["bob"]).expect_success();
    world.peer("bob").send(relayed, b"uninterrupted");
    world.client("alice").expect_data("bob", b"uninterrupted");
}

#[test]
fn auth_023_relays_of_one_pool_honour_each_others_nonces() {
    let mut first = World::seeded(23).with_client("alice");
    let mut second = World::seeded(24).with_client("alice");
    let shared = nonce(&mut first, "alice");
    assert_eq!(judge(&mut second, "alice", &shared), None);
}
