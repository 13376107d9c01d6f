//! §4 to §7: the challenge, and what is a good token.

use proto::reject::Why;
use rig::kind::{self, method};
use rig::site::BEGIN;
use rig::{Draft, Scheme, Token, World};

use crate::{LESSER, SERVER_NAME, STRONG, adopt, allocate, good, pool, with, world};

#[test]
fn oauth_001_a_challenge_names_the_server_to_get_tokens_for() {
    let mut world = world(1);
    for draft in [Draft::allocate(), Draft::refresh(600)] {
        let heard = world.client("alice").bare(draft);
        heard.expect_code(401);
        assert_eq!(heard.text(kind::THIRD_PARTY), Some(SERVER_NAME));
        assert!(heard.has(kind::NONCE) && heard.has(kind::REALM), "{:x?}", heard.kinds());
    }
    let mut off = World::seeded(1).with_client("alice");
    let heard = off.client("alice").bare(Draft::allocate());
    heard.expect_code(401);
    assert!(!heard.has(kind::THIRD_PARTY), "nobody who has tokens is invited");
}

#[test]
fn oauth_002_a_token_is_an_unknown_attribute_while_the_feature_is_off() {
    let mut world = World::seeded(2).with_client("alice");
    world.client("alice").state().scheme = Scheme::Legacy;
    adopt(&mut world, STRONG.0, &good());
    let mut alice = world.client("alice");
    let signed = alice.state().sign(with(Draft::allocate(), &good()));
    let heard = alice.bare(signed);
    heard.expect_code(420);
    assert_eq!(heard.unknown(), Some(vec![kind::ACCESS_TOKEN]));
}

#[test]
fn oauth_003_the_user_name_selects_the_key() {
    let lesser = Token::new(LESSER.1, SERVER_NAME, BEGIN);
    let (pool_id, pool_secret) = pool();
    let of_pool = Token::new(&pool_secret, SERVER_NAME, BEGIN);
    for (case, key_id, token, code, why) in [
        ("its own", STRONG.0, &good(), None, None),
        ("the lesser one", LESSER.0, &lesser, None, None),
        ("the pool's", &*pool_id, &of_pool, None, None),
        ("another one", LESSER.0, &good(), Some(401), Some(Why::BadToken)),
        ("an unknown one", "south", &good(), Some(401), Some(Why::UnknownUser)),
        ("none", "", &good(), Some(401), Some(Why::UnknownUser)),
    ] {
        let mut world = world(3);
        assert_eq!(allocate(&mut world, key_id, token).code(), code, "{case}");
        if let Some(why) = why {
            assert_eq!(world.rejected(why), 1, "{case}");
        }
    }
}

#[test]
fn oauth_003_long_term_credentials_work_beside_tokens() {
    let mut world = world(3);
    for scheme in Scheme::ALL {
        world.client("alice").state().scheme = scheme;
        world.client("alice").allocate().expect_success();
        world.client("alice").refresh(0).expect_success();
    }
}

#[test]
fn oauth_004_a_token_has_one_layout_and_one_server() {
    let sealed = |change: fn(&mut Token)| {
        let mut token = good();
        change(&mut token);
        token.sealed()
    };
    let around = |inner: &[u8]| good().sealed_around(inner);
    let whole = good().sealed();
    let stamp = (BEGIN << 16).to_be_bytes();
    let mut key_too_long = vec![0, 99];
    key_too_long.extend([b'k'; 20]);
    key_too_long.extend(stamp);
    key_too_long.extend([0, 0, 14, 16]);
    for (case, value, code) in [
        ("as it should be", whole.clone(), None),
        ("another server", sealed(|token| token.server_name.push('x')), Some(401)),
        ("no server", sealed(|token| token.server_name.clear()), Some(401)),
        ("a nonce of eleven bytes", sealed(|token| token.nonce.truncate(11)), Some(401)),
        ("a nonce of thirteen bytes", sealed(|token| token.nonce.push(0)), Some(401)),
        ("no nonce", sealed(|token| token.nonce.clear()), Some(401)),
        ("empty", Vec::new(), Some(401)),
        ("a length alone", vec![0, 12], Some(401)),
        ("cut short", whole[..whole.len() - 1].to_vec(), Some(401)),
        ("a byte more", [&whole[..], b"\0"].concat(), Some(401)),
        ("nothing sealed", around(b""), Some(401)),
        ("a key longer than the token", around(&key_too_long), Some(401)),
        ("garbage of full size", vec![0xFF; 76], Some(401)),
        ("far too long", vec![0; 1_000], Some(401)),
    ] {
        let mut world = world(4);
        adopt(&mut world, STRONG.0, &good());
        let draft = Draft::allocate().raw(kind::ACCESS_TOKEN, &value);
        assert_eq!(world.client("alice").ask(draft).code(), code, "{case}");
    }
}

#[test]
fn oauth_005_a_token_is_good_from_its_stamp_for_its_lifetime() {
    // |now - stamp| must be below lifetime + 5 s; the simulated clock shows whole seconds.
    for (case, seconds, fraction, code) in [
        ("now", BEGIN, 0, None),
        ("a little old", BEGIN - 104, 0, None),
        ("old by lifetime and slack", BEGIN - 105, 0, Some(401)),
        ("half a second younger", BEGIN - 105, 32_000, None),
        ("far too old", BEGIN - 86_400, 0, Some(401)),
        ("of the future", BEGIN + 104, 0, None),
        ("half a second below the slack", BEGIN + 104, 32_000, None),
        ("of a far future", BEGIN + 105, 0, Some(401)),
        ("of the beginning of time", 0, 0, Some(401)),
        ("of the end of time", (1 << 48) - 1, u16::MAX, Some(401)),
    ] {
        let token = Token { seconds, fraction, lifetime: 100, ..good() };
        let mut world = world(5);
        assert_eq!(allocate(&mut world, STRONG.0, &token).code(), code, "{case}");
        assert_eq!(world.rejected(Why::Expired), u64::from(code.is_some()), "{case}");
    }
}

#[test]
fn oauth_005_a_token_that_would_live_for_years_is_refused() {
    let token = Token { lifetime: u32::MAX, ..good() };
    let mut world = world(5);
    allocate(&mut world, STRONG.0, &token).expect_code(401);
    assert_eq!(world.rejected(Why::TooFarAhead), 1);
}

#[test]
fn oauth_006_a_flipped_bit_or_another_key_is_a_wrong_credential() {
    let whole = good().sealed();
    let mut world = world(6);
    adopt(&mut world, STRONG.0, &good());
    for place in 0..whole.len() {
        let mut broken = whole.clone();
        broken[place] ^= 1 << (place % 8);
        let draft = Draft::allocate().raw(kind::ACCESS_TOKEN, &broken);
        world.client("alice").ask(draft).expect_code(401);
    }
    let other = Token { mac_key: "another twenty bytes".to_owned(), ..good() };
    world.client("alice").state().bearer = Some(other.signer());
    let heard = world.client("alice").ask(with(Draft::allocate(), &good()));
    heard.expect_code(401);
    assert!(!heard.has(kind::INTEGRITY), "nobody signs for a stranger");
    assert_eq!(world.rejected(Why::WrongPassword), 1);
    world.client("alice").state().bearer = Some(good().signer());
    world.client("alice").ask(with(Draft::allocate(), &good())).expect_success();
}

#[test]
fn oauth_007_the_key_in_the_token_signs_as_it_is() {
    // `ask` proves that every answer is signed with the token's key.
    for (length, scheme) in
        [(20, Scheme::Legacy), (32, Scheme::Legacy), (20, Scheme::Sha256), (64, Scheme::Legacy)]
    {
        let token = Token { mac_key: "k".repeat(length), ..good() };
        let mut world = world(7);
        world.client("alice").state().scheme = scheme;
        allocate(&mut world, STRONG.0, &token).expect_success();
        let heard = world.client("alice").ask(Draft::request(method::CREATE_PERMISSION));
        heard.expect_code(400);
    }
}

#[test]
fn oauth_007_a_client_that_signs_with_16_bytes_of_a_longer_key_is_understood() {
    for (length, code) in [(16, None), (15, Some(401)), (19, Some(401))] {
        let token = Token { mac_key: "twenty bytes of key!".to_owned(), ..good() };
        let cut = Token { mac_key: token.mac_key[..length].to_owned(), ..good() };
        let mut world = world(7);
        adopt(&mut world, STRONG.0, &token);
        world.client("alice").state().scheme = Scheme::Legacy;
        world.client("alice").state().bearer = Some(cut.signer());
        let heard = world.client("alice").ask(with(Draft::allocate(), &token));
        assert_eq!(heard.code(), code, "{length} bytes");
    }
}

#[test]
fn oauth_010_the_attribute_holds_the_binary_token() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let mut world = world(10);
    adopt(&mut world, STRONG.0, &good());
    let text = STANDARD.encode(good().sealed());
    let draft = Draft::allocate().raw(kind::ACCESS_TOKEN, text.as_bytes());
    world.client("alice").ask(draft).expect_code(401);
}
