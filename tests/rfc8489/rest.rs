//! §9.2 with time-limited credentials: the TURN REST form and the pool's own.

use std::collections::BTreeSet;

use proto::auth::Secret;
use proto::reject::Why;
use rig::kind::method;
use rig::site::{self, BEGIN, KEY_ID, POOL_SECRET, REST_SECRET};
use rig::{Draft, Login, Scheme, World};

/// The code that an Allocate with this credential gets.
fn judge(login: Login) -> Option<u16> {
    let mut world = World::seeded(1).with_client("alice");
    world.client("alice").state().login = login;
    world.client("alice").allocate().code()
}

#[test]
fn rest_003_user_names_are_parsed_strictly() {
    let expiry = BEGIN + 600;
    for (case, name, code) in [
        ("expiry and user", format!("{expiry}:alice"), None),
        ("expiry alone", format!("{expiry}"), None),
        ("colons in the user", format!("{expiry}:a:b:c"), None),
        ("no number", "soon:alice".to_owned(), Some(401)),
        ("empty expiry", ":alice".to_owned(), Some(401)),
        ("empty", String::new(), Some(401)),
        ("negative", format!("-{expiry}:alice"), Some(401)),
        ("signed", format!("+{expiry}:alice"), Some(401)),
        ("space before", format!(" {expiry}:alice"), Some(401)),
        ("space behind", format!("{expiry} :alice"), Some(401)),
        ("fraction", format!("{expiry}.5:alice"), Some(401)),
        ("hexadecimal", format!("0x{expiry:x}:alice"), Some(401)),
        ("beyond 2^53", format!("{}:alice", (1_u64 << 53) + 1), Some(401)),
        ("beyond 2^64", "18446744073709551616:alice".to_owned(), Some(401)),
        ("other digits", "١٨٠٠٠٠٠٦٠٠:alice".to_owned(), Some(401)),
    ] {
        assert_eq!(judge(Login::rest(REST_SECRET, &name)), code, "{case}");
    }
}

#[test]
fn rest_004_the_password_is_base64_of_hmac_sha1() {
    let expiry = BEGIN + 600;
    assert_eq!(judge(site::rest_login("alice", expiry)), None);
    let mut login = site::rest_login("alice", expiry);
    login.password.pop();
    assert_eq!(judge(login), Some(401), "padding belongs to it");
    let name = format!("{expiry}:alice");
    assert_eq!(judge(Login::pool(REST_SECRET, &name)), Some(401), "SHA-256 is another form");
    assert_eq!(judge(Login::rest(b"somebody else's secret", &name)), Some(401));
}

#[test]
fn rest_005_the_whole_user_name_goes_into_the_key() {
    for scheme in Scheme::ALL {
        let mut world = World::seeded(5).with_client("alice");
        let mut alice = world.client("alice");
        alice.state().scheme = scheme;
        alice.state().login = site::rest_login("alice", BEGIN + 600);
        alice.allocate().expect_success();
        // Another expiry with the same password: signed soundly, but for another name.
        let password = alice.state().login.password.clone();
        let username = format!("{}:alice", BEGIN + 601);
        alice.state().login = Login { username, password };
        alice.refresh(600).expect_code(401);
    }
}

#[test]
fn rest_006_an_expired_credential_allocates_nothing() {
    for login in [site::rest_login, site::pool_login] {
        assert_eq!(judge(login("alice", BEGIN - 1)), Some(401), "a second ago");
        assert_eq!(judge(login("alice", 0)), Some(401), "long ago");
        assert_eq!(judge(login("alice", BEGIN + 1)), None, "a second from now");
    }
}

#[test]
fn rest_007_an_allocation_outlives_its_credential() {
    for login in [site::rest_login, site::pool_login] {
        let mut world = World::seeded(7).with_client("alice").with_peer("bob");
        world.client("alice").state().login = login("alice", BEGIN + 5);
        world.client("alice").relay();
        world.advance_s(10);
        world.client("alice").refresh(900).expect_success();
        world.client("alice").permit(&["bob"]).expect_success();
        world.client("alice").bind(0x4000, "bob").expect_success();
        world.client("alice").refresh(0).expect_success();
        world.client("alice").allocate().expect_code(401);
        assert_eq!(world.rejected(Why::Expired), 1);
    }
}

#[test]
fn rest_007_the_operator_limits_how_long() {
    let mut world = World::seeded(7).with_client("alice");
    world.client("alice").state().login = site::pool_login("alice", BEGIN + 5);
    world.client("alice").relay();
    world.advance_s(500);
    world.client("alice").refresh(600).expect_success();
    world.advance_s(500);
    let refused = world.client("alice").refresh(600);
    assert!(matches!(refused.code(), Some(401 | 403)), "past expiry and grace: {refused:?}");
    world.client("alice").refresh(0).expect_success();
    assert_eq!(world.server.tally().allocations, 0);
}

#[test]
fn rest_008_a_renewed_credential_needs_a_new_allocation() {
    let mut world = World::seeded(8).with_client("alice");
    world.client("alice").state().login = site::rest_login("alice", BEGIN + 600);
    world.client("alice").relay();
    let old = world.client("alice").state().login.clone();
    world.client("alice").state().login = site::rest_login("alice", BEGIN + 1200);
    world.client("alice").refresh(600).expect_code(441);
    let new = std::mem::replace(&mut world.client("alice").state().login, old);
    world.client("alice").refresh(0).expect_success();
    world.client("alice").state().login = new;
    world.client("alice").allocate().expect_success();
}

#[test]
fn rest_009_two_secrets_are_good_at_a_time() {
    let mut world = World::configured(9, |config| {
        config.authority.rest_secrets.push(Secret::new(b"the secret before the last".to_vec()));
    })
    .with_client("alice");
    let name = format!("{}:alice", BEGIN + 600);
    for secret in [REST_SECRET, b"the secret before the last"] {
        world.client("alice").state().login = Login::rest(secret, &name);
        world.client("alice").allocate().expect_success();
        world.client("alice").refresh(600).expect_success();
        world.client("alice").refresh(0).expect_success();
    }
}

#[test]
fn rest_009_a_pool_rolls_its_key_without_a_failed_call() {
    let mut world = World::configured(9, |config| {
        let ring = config.authority.ring.as_mut().expect("the rig has a ring");
        let mut next = site::pool_key();
        next.id = proto::auth::KeyId([1, 2, 3, 4]);
        next.credentials = Secret::new(vec![0x77; 32]);
        ring.previous.push(std::mem::replace(&mut ring.current, next));
    })
    .with_client("alice");
    let old = site::pool_login("alice", BEGIN + 600);
    let new = Login::pool(&[0x77; 32], &format!("{}:01020304::alice", BEGIN + 600));
    let mixed = Login::pool(POOL_SECRET, &new.username);
    for (login, code) in [(old, None), (new, None), (mixed, Some(401))] {
        world.client("alice").state().login = login;
        assert_eq!(world.client("alice").allocate().code(), code);
        if code.is_none() {
            world.client("alice").refresh(0).expect_success();
        }
    }
}

#[test]
fn rest_011_expiries_too_far_ahead_are_refused() {
    for login in [site::rest_login, site::pool_login] {
        assert_eq!(judge(login("alice", BEGIN + 30 * 86_400)), None);
        // A minting host's clock may run ahead of the relay's by a minute.
        assert_eq!(judge(login("alice", BEGIN + 30 * 86_400 + 60)), None);
        assert_eq!(judge(login("alice", BEGIN + 30 * 86_400 + 61)), Some(401));
        assert_eq!(judge(login("alice", BEGIN + 3650 * 86_400)), Some(401));
    }
}

#[test]
fn rest_014_user_ids_may_hold_colons_but_no_control_characters() {
    let expiry = BEGIN + 600;
    for (case, user, code) in [
        ("colons", "a:b".to_owned(), None),
        ("UTF-8", "zoë".to_owned(), None),
        ("508 bytes in all", "u".repeat(508 - 11), None),
        ("509 bytes in all", "u".repeat(509 - 11), Some(401)),
        ("line feed", "a\nb".to_owned(), Some(401)),
        ("NUL", "a\0b".to_owned(), Some(401)),
    ] {
        // stun-rs refuses to make keys of control characters: those are signed for another name.
        let login = site::rest_login(&user, expiry);
        let mut world = World::seeded(14).with_client("alice");
        let mut alice = world.client("alice");
        alice.know_the_realm();
        alice.state().login = login;
        assert_eq!(alice.ask(Draft::allocate()).code(), code, "{case}");
    }
}

#[test]
fn rest_017_quotas_follow_the_user_not_the_user_name() {
    let mut world = World::configured(17, |config| config.limits.allocations_per_user = 2)
        .with_client("one")
        .with_client("two")
        .with_client("three")
        .with_client("other");
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        let code = if n < 2 { None } else { Some(486) };
        world.client(name).state().login = site::rest_login("alice", BEGIN + 600 + n as u64);
        assert_eq!(world.client(name).allocate().code(), code, "{name}");
    }
    world.client("other").state().login = site::rest_login("bob", BEGIN + 600);
    world.client("other").allocate().expect_success();
}

#[test]
fn a_pool_credential_says_its_side_and_its_limit() {
    for (claims, listener, code) in [
        ("", 0, None),
        ("s=e", 0, None),
        ("s=i", 0, Some(403)),
        ("s=i", 2, None),
        ("s=e", 2, Some(403)),
        ("n=0", 0, Some(486)),
        ("n=1", 0, None),
        ("s=e,n=1", 0, None),
        ("x=1", 0, Some(401)),
        ("s=x", 0, Some(401)),
        ("n=-1", 0, Some(401)),
    ] {
        let name = format!("{}:{KEY_ID}:{claims}:alice", BEGIN + 600);
        let mut world = World::seeded(2).with_client("alice");
        world.client("alice").state().listener = proto::addr::ListenerId(listener);
        world.client("alice").state().login = Login::pool(POOL_SECRET, &name);
        assert_eq!(world.client("alice").allocate().code(), code, "{claims:?} at {listener}");
    }
}

#[test]
fn a_flood_of_wrong_passwords_is_counted_by_reason() {
    let mut world = World::seeded(3).with_client("alice");
    world.client("alice").know_the_realm();
    world.client("alice").state().login.password = "guess".to_owned();
    let reasons: BTreeSet<_> = (0..20)
        .filter_map(|_| world.client("alice").ask(Draft::request(method::REFRESH)).code())
        .collect();
    assert_eq!(reasons, BTreeSet::from([401]));
    assert_eq!(world.rejected(Why::WrongPassword), 20);
}
