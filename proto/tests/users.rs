//! Users whom the configuration names: whose keys are tried, and how often.

use std::cell::Cell;

use proto::auth::{Authority, KeyId, KeyRing, PoolKey, Secret, Term, UserKeys, Users};
use proto::reject::Why;
use proto::stun::integrity::{equal, user_hash};
use proto::stun::{MessageKey, PasswordAlgorithm};

const REALM: &str = "example.org";

fn users() -> Users {
    let user = |name: &str, password: &str| {
        (name.to_owned(), UserKeys::of_password(name, REALM, password))
    };
    let md5_only = UserKeys { sha256: None, ..UserKeys::of_password("old", REALM, "pass") };
    Users::new(REALM, [user("alice", "pass"), user("1800003600", "pass"), ("old".into(), md5_only)])
}

/// Named users, and beside them pool and REST credentials where asked for.
fn authority(pool: bool, rest: bool) -> Authority {
    let secret = |byte| Secret::new(vec![byte; 32]);
    let current = PoolKey {
        id: KeyId([1; 4]),
        credentials: secret(1),
        nonces: secret(2),
        users: secret(3),
        tickets: secret(5),
        tokens: secret(4),
        ms_tokens: secret(5),
    };
    Authority {
        ring: pool.then_some(KeyRing { current, previous: vec![] }),
        rest_secrets: if rest { vec![secret(5), secret(6)] } else { vec![] },
        users: Some(users()),
        tokens: None,
        max_lifetime_s: 86_400,
    }
}

#[test]
fn auth_014_a_named_user_is_proven_by_either_key() {
    for algorithm in [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256] {
        let authority = authority(true, true);
        let own = MessageKey::long_term(algorithm, "alice", REALM, "pass");
        let verify = |key: &MessageKey| equal(key.bytes(), own.bytes());
        let verified = authority.derive("alice").authenticate(REALM, algorithm, verify).unwrap();
        assert_eq!(verified.identity.term, Term::Unlimited, "{algorithm:?}");
        assert!(equal(verified.key.bytes(), own.bytes()), "{algorithm:?}");
    }
}

#[test]
fn auth_024_a_hash_finds_the_name_it_was_made_of() {
    let authority = authority(false, false);
    for (hash, expected) in [
        (user_hash("alice", REALM), "alice"),
        (user_hash("alice", "example.com"), ""),
        (user_hash("bob", REALM), ""),
        ([0; 32], ""),
    ] {
        assert_eq!(authority.derive_hash(&hash).username(), expected);
    }
}

#[test]
fn auth_033_what_is_tried_depends_on_the_form_of_a_name_alone() {
    let algorithm = PasswordAlgorithm::Sha256;
    for (pool, rest) in [(false, false), (true, false), (false, true), (true, true)] {
        let authority = authority(pool, rest);
        let tries = |username: &str| {
            let count = Cell::new(0);
            let outcome = authority.derive(username).authenticate(REALM, algorithm, |_| {
                count.set(count.get() + 1);
                false
            });
            (count.get(), outcome.is_ok())
        };
        for (known, unknown) in
            [("alice", "alicf"), ("alice", ""), ("alice", "old"), ("1800003600", "1800003601")]
        {
            assert!(tries(known).0 > 0);
            assert_eq!(tries(known), tries(unknown), "pool {pool}, rest {rest}: {unknown}");
        }
    }
}

#[test]
fn auth_033_the_decoy_of_named_users_never_authenticates() {
    let authority = authority(true, true);
    for (username, algorithm, expected) in [
        ("nobody", PasswordAlgorithm::Sha256, Why::UnknownUser),
        ("", PasswordAlgorithm::Md5, Why::UnknownUser),
        ("old", PasswordAlgorithm::Sha256, Why::WrongPassword),
    ] {
        let outcome = authority.derive(username).authenticate(REALM, algorithm, |_| true);
        assert_eq!(outcome.unwrap_err(), expected, "{username}");
    }
}
