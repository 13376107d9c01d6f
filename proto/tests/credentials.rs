//! Credentials: who may have signed a name, and what a verified name proves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;

use proptest::prelude::*;
use proto::addr::Side;
use proto::auth::authority::CLOCK_SKEW_S;
use proto::auth::credential::{EXPIRY_MAX, Name, NameError, Password, inspect, mint_rest};
use proto::auth::{
    Authority, Credential, Grant, GrantError, KeyId, KeyRing, PoolKey, Secret, Term, Verified, mint,
};
use proto::now::UnixTime;
use proto::policy::{SealedLimits, UserKey};
use proto::reject::Why;
use proto::stun::{
    Class, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId, Writer,
};
use subtle::ConstantTimeEq;

const NOW: UnixTime = UnixTime(1_800_000_000);
const REALM: &str = "example.org";

fn pool_key(seed: u8) -> PoolKey {
    let secret = |add: u8| Secret::new(vec![seed.wrapping_add(add); 32]);
    PoolKey {
        id: KeyId([seed; 4]),
        credentials: secret(1),
        nonces: secret(2),
        users: secret(3),
        tickets: secret(4),
        tokens: secret(4),
        ms_tokens: secret(5),
    }
}

fn ring(current: u8, previous: &[u8]) -> KeyRing {
    KeyRing {
        current: pool_key(current),
        previous: previous.iter().map(|&seed| pool_key(seed)).collect(),
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

fn authority(ring: Option<KeyRing>, secrets: &[&str]) -> Authority {
    let rest_secrets = secrets.iter().map(|text| secret(text)).collect();
    Authority { ring, rest_secrets, users: None, tokens: None, max_lifetime_s: 86_400 }
}

fn grant(user: &str) -> Grant {
    Grant::new(user, NOW.plus(3600))
}

/// What the authority says to a message signed with this credential.
fn present(authority: &Authority, credential: &Credential) -> Result<Verified, Why> {
    let algorithm = PasswordAlgorithm::Sha256;
    let Credential { username, password } = credential;
    let key = MessageKey::long_term(algorithm, username, REALM, password);
    let mut buffer = [0; 600];
    let id = TransactionId([9; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, id);
    writer.sign(&key, Integrity::Sha256);
    let bytes = writer.finish().unwrap();
    let message = Message::parse(bytes).unwrap();
    let verify = |key: &MessageKey| message.verify(key, Integrity::Sha256);
    authority.derive(username).authenticate(REALM, algorithm, verify)
}

fn refused(authority: &Authority, username: &str, password: &str) -> Why {
    let credential = Credential { username: username.into(), password: password.to_owned().into() };
    present(authority, &credential).expect_err(username)
}

#[test]
fn a_pool_credential_verifies_with_its_key_and_says_its_limits() {
    let authority = authority(Some(ring(1, &[])), &[]);
    let limits = SealedLimits { allocations: Some(3), ..SealedLimits::default() };
    let grant = Grant { side: Some(Side::External), limits, ..grant("alice:laptop") };
    let credential = mint(&pool_key(1), &grant).unwrap();
    assert_eq!(credential.username, "1800003600:01010101:s=e,n=3:alice:laptop");
    assert_eq!(credential.password.len(), 44);
    let Verified { identity, key } = present(&authority, &credential).unwrap();
    assert_eq!(identity.term, Term::Until(NOW.plus(3600)));
    assert_eq!((identity.side, identity.limits), (Some(Side::External), limits));
    let Credential { username, password } = &credential;
    let own = MessageKey::long_term(PasswordAlgorithm::Sha256, username, REALM, password);
    assert!(bool::from(key.ct_eq(&own)), "the key that signs the answer is the client's");
}

#[test]
fn rest_009_a_pool_rolls_its_key_without_a_failed_call() {
    let old = mint(&pool_key(1), &grant("alice")).unwrap();
    let new = mint(&pool_key(2), &grant("alice")).unwrap();
    let before = authority(Some(ring(1, &[])), &[]);
    let during = authority(Some(ring(2, &[1])), &[]);
    let after = authority(Some(ring(2, &[])), &[]);
    for (case, authority, old_ok, new_ok) in [
        ("before", before, true, false),
        ("during", during, true, true),
        ("after", after, false, true),
    ] {
        assert_eq!(present(&authority, &old).is_ok(), old_ok, "{case}, old credential");
        assert_eq!(present(&authority, &new).is_ok(), new_ok, "{case}, new credential");
    }
}

#[test]
fn rest_009_two_shared_secrets_verify_at_a_time() {
    let secrets = ["a secret of now, 16+", "a secret of before"];
    let both = authority(None, &secrets);
    for text in secrets {
        let credential = mint_rest(&secret(text), "alice", NOW.plus(60)).unwrap();
        present(&both, &credential).expect(text);
    }
    let other = mint_rest(&secret("a third secret, 16+"), "alice", NOW.plus(60)).unwrap();
    assert_eq!(present(&both, &other).unwrap_err(), Why::WrongPassword);
}

#[test]
fn auth_005_a_name_of_no_form_or_key_is_an_unknown_user() {
    let pool = authority(Some(ring(1, &[])), &[]);
    let foreign = mint(&pool_key(9), &grant("alice")).unwrap();
    assert_eq!(present(&pool, &foreign).unwrap_err(), Why::UnknownUser);
    for username in ["", "alice", "1800003600", "1800003600:alice", "1800003600:01010101"] {
        assert_eq!(refused(&pool, username, "password"), Why::UnknownUser, "{username}");
    }
    let rest = authority(None, &["a secret of 16 bytes"]);
    for username in ["", "alice", "12x:alice"] {
        assert_eq!(refused(&rest, username, "password"), Why::UnknownUser, "{username}");
    }
}

#[test]
fn auth_006_a_wrong_password_is_told_from_an_unknown_user_inside_only() {
    let authority = authority(Some(ring(1, &[])), &["a secret of 16 bytes"]);
    let pool = mint(&pool_key(1), &grant("alice")).unwrap();
    assert_eq!(refused(&authority, &pool.username, "wrong"), Why::WrongPassword);
    assert_eq!(refused(&authority, "1800003600:alice", "wrong"), Why::WrongPassword);
    assert_eq!(Why::WrongPassword.code(), Why::UnknownUser.code());
}

#[test]
fn auth_033_an_unknown_user_costs_as_many_tries_as_a_wrong_password() {
    let two = ["a secret of now, 16+", "a secret of before"];
    for (case, authority, known, unknown) in [
        ("pool", authority(Some(ring(1, &[2])), &[]), "1800003600:02020202::u", "nobody"),
        ("shared secrets", authority(None, &two), "1800003600:u", "nobody"),
    ] {
        let tries = |username: &str| {
            let count = Cell::new(0);
            let outcome = authority.derive(username).authenticate(
                REALM,
                PasswordAlgorithm::Md5,
                |_: &MessageKey| {
                    count.set(count.get() + 1);
                    false
                },
            );
            assert!(outcome.is_err());
            count.get()
        };
        assert!(tries(known) > 0, "{case}");
        assert_eq!(tries(known), tries(unknown), "{case}");
    }
}

#[test]
fn auth_033_the_decoy_never_authenticates() {
    let pool = authority(Some(ring(1, &[])), &[]);
    let rest = authority(None, &["a secret of 16 bytes"]);
    for (authority, username) in [
        (&pool, ""),
        (&pool, "1800003600:alice"),
        (&pool, "1800003600:01010101:x=1:alice"),
        (&rest, ""),
        (&rest, "nobody"),
        (&rest, "9999999999999999999:alice"),
    ] {
        let outcome =
            authority.derive(username).authenticate(REALM, PasswordAlgorithm::Md5, |_| true);
        assert_eq!(outcome.unwrap_err(), Why::UnknownUser, "{username}");
    }
}

#[test]
fn an_unknown_or_broken_claim_refuses_a_rightly_signed_name() {
    let authority = authority(Some(ring(1, &[])), &["a secret of 16 bytes"]);
    for claims in [
        "x=1",
        "s",
        "s=",
        "s=x",
        "s=i,s=e",
        "n=",
        "n=-1",
        "n=+1",
        "n=4294967296",
        "n=1,n=1",
        ",",
        "s=i,",
    ] {
        let username = format!("1800003600:01010101:{claims}:alice");
        let password = Password::of_pool(&pool_key(1), &username);
        assert_eq!(refused(&authority, &username, password.text()), Why::UnknownUser, "{claims}");
        assert_eq!(inspect(&username), Err(NameError::Claim), "{claims}");
        let rest = Password::of_secret(&secret("a secret of 16 bytes"), &username);
        assert_eq!(refused(&authority, &username, rest.text()), Why::UnknownUser, "{claims}");
    }
    for claims in ["", "s=i", "s=e", "n=0", "n=4294967295", "n=1,s=i"] {
        let username = format!("1800003600:01010101:{claims}:alice");
        let password = Password::of_pool(&pool_key(1), &username).text().to_owned();
        present(&authority, &Credential { username, password: password.into() }).expect(claims);
    }
}

#[test]
fn rest_003_malformed_timestamps_are_refused() {
    let authority = authority(None, &["a secret of 16 bytes"]);
    let max = EXPIRY_MAX.0;
    for (case, name, valid) in [
        ("timestamp and user", "1800003600:alice".to_owned(), true),
        ("timestamp alone", "1800003600".into(), true),
        ("timestamp and colon", "1800003600:".into(), true),
        ("leading zero", "01800003600:alice".into(), true),
        ("largest", format!("{max}:alice"), true),
        ("one more", format!("{}:alice", max + 1), false),
        ("empty", String::new(), false),
        ("empty timestamp", ":alice".into(), false),
        ("negative", "-1:alice".into(), false),
        ("plus sign", "+1800003600:alice".into(), false),
        ("hex", "0x10:alice".into(), false),
        ("fraction", "1.5:alice".into(), false),
        ("space", " 1800003600:alice".into(), false),
        ("other digits", "\u{0661}\u{0662}:alice".into(), false),
        ("beyond 64 bits", "99999999999999999999:alice".into(), false),
        ("user first", "alice:1800003600".into(), false),
    ] {
        let password = Password::of_secret(&secret("a secret of 16 bytes"), &name);
        let credential = Credential { username: name, password: password.text().to_owned().into() };
        let outcome = present(&authority, &credential).map(|_| ());
        assert_eq!(outcome, if valid { Ok(()) } else { Err(Why::UnknownUser) }, "{case}");
    }
}

#[test]
fn rest_005_the_key_counts_the_whole_name() {
    let authority = authority(None, &["a secret of 16 bytes"]);
    let credential = mint_rest(&secret("a secret of 16 bytes"), "alice", NOW).unwrap();
    for username in ["1800000001:alice", "1800000000:alicf", "1800000000"] {
        assert_eq!(refused(&authority, username, &credential.password), Why::WrongPassword);
    }
}

#[test]
fn rest_006_expiry_is_asked_for_apart() {
    let authority = authority(None, &["a secret of 16 bytes"]);
    for (case, expires, outcome) in [
        ("a second ago", NOW.0 - 1, Err(Why::Expired)),
        ("now", NOW.0, Err(Why::Expired)),
        ("in a second", NOW.0 + 1, Ok(())),
        ("as far ahead as allowed", NOW.0 + 86_400, Ok(())),
        ("minted by a clock that runs ahead", NOW.0 + 86_400 + CLOCK_SKEW_S, Ok(())),
        ("a second further", NOW.0 + 86_401 + CLOCK_SKEW_S, Err(Why::TooFarAhead)),
        ("in ten years", NOW.0 + 315_576_000, Err(Why::TooFarAhead)),
    ] {
        let secret = secret("a secret of 16 bytes");
        let credential = mint_rest(&secret, "alice", UnixTime(expires)).unwrap();
        let verified = present(&authority, &credential).expect(case);
        assert_eq!(authority.in_time(&verified.identity, NOW), outcome, "{case}");
    }
}

#[test]
fn rest_011_the_limit_of_lifetimes_holds_for_pool_credentials_too() {
    let authority = authority(Some(ring(1, &[])), &[]);
    let far = Grant { expires: NOW.plus(86_401 + CLOCK_SKEW_S), ..grant("alice") };
    let verified = present(&authority, &mint(&pool_key(1), &far).unwrap()).unwrap();
    assert_eq!(authority.in_time(&verified.identity, NOW), Err(Why::TooFarAhead));
}

#[test]
fn rest_014_names_are_bounded_and_hold_no_control_characters() {
    let authority = authority(None, &["a secret of 16 bytes"]);
    let named = |user: &str| {
        let username = format!("1800003600:{user}");
        let password = Password::of_secret(&secret("a secret of 16 bytes"), &username);
        present(&authority, &Credential { username, password: password.text().to_owned().into() })
            .map(|_| ())
    };
    assert_eq!(named("a:b"), Ok(()));
    assert_eq!(named("ü€𝄞"), Ok(()), "UTF-8 counts byte for byte");
    assert_eq!(named(&"a".repeat(508 - 11)), Ok(()));
    assert_eq!(named(&"a".repeat(509 - 11)), Err(Why::UnknownUser));
    for control in ["\0", "\n", "\u{7F}", "\u{85}"] {
        assert_eq!(named(&format!("a{control}b")), Err(Why::UnknownUser), "{control:?}");
    }
}

#[test]
fn rest_012_mint_refuses_what_cannot_be_a_user_id() {
    let key = pool_key(1);
    for (case, user, outcome) in [
        ("empty", String::new(), Some(GrantError::User)),
        ("255 bytes", "a".repeat(255), None),
        ("256 bytes", "a".repeat(256), Some(GrantError::User)),
        ("line break", "a\nb".into(), Some(GrantError::User)),
    ] {
        assert_eq!(mint(&key, &grant(&user)).err(), outcome, "{case}");
    }
    let never = Grant { expires: EXPIRY_MAX.plus(1), ..grant("alice") };
    assert_eq!(mint(&key, &never).err(), Some(GrantError::Expiry));
    assert_eq!(mint_rest(&secret("s"), "a\0", NOW).err(), Some(GrantError::User));
}

#[test]
fn rest_017_one_user_is_one_quota_whatever_the_credential() {
    let authority = authority(Some(ring(2, &[1])), &["a secret of 16 bytes"]);
    let secret = secret("a secret of 16 bytes");
    let user = |credential: &Credential| present(&authority, credential).unwrap().identity.user;
    let first = user(&mint(&pool_key(1), &grant("alice")).unwrap());
    let later = Grant { expires: NOW.plus(7200), ..grant("alice") };
    assert_eq!(user(&mint(&pool_key(2), &later).unwrap()), first, "other key, other expiry");
    assert_eq!(user(&mint_rest(&secret, "alice", NOW).unwrap()), first, "other form");
    assert_ne!(user(&mint(&pool_key(2), &grant("bob")).unwrap()), first);
    let nameless = user(&mint_rest(&secret, "", NOW).unwrap());
    assert_ne!(user(&mint_rest(&secret, "", NOW.plus(1)).unwrap()), nameless, "no user id");
    let elsewhere = user_in_another_pool(&mint(&pool_key(1), &grant("alice")).unwrap());
    assert_ne!(elsewhere, first, "the hash is keyed by the pool");
}

/// The user of a credential where another key is current.
fn user_in_another_pool(credential: &Credential) -> UserKey {
    let authority = authority(Some(ring(5, &[1])), &[]);
    present(&authority, credential).unwrap().identity.user
}

#[test]
fn the_second_field_decides_between_the_forms() {
    let authority = authority(Some(ring(1, &[])), &["a secret of 16 bytes"]);
    let secret = secret("a secret of 16 bytes");
    for user in ["02020202::alice", "0101010:alice", "0101010A:alice", "alice"] {
        let credential = mint_rest(&secret, user, NOW.plus(60)).unwrap();
        present(&authority, &credential).expect(user);
    }
    let posing = mint_rest(&secret, "01010101::alice", NOW.plus(60)).unwrap();
    assert_eq!(present(&authority, &posing).unwrap_err(), Why::WrongPassword);
}

#[test]
fn inspect_needs_no_key() {
    let minted = mint(&pool_key(0xAB), &Grant { side: Some(Side::Internal), ..grant("a:b") });
    let username = minted.unwrap().username;
    let Ok(Name::Pool(name)) = inspect(&username) else { panic!("{username}") };
    assert_eq!((name.key, name.user), (KeyId([0xAB; 4]), "a:b"));
    assert_eq!((name.expires, name.claims.side), (NOW.plus(3600), Some(Side::Internal)));
    let rest = |username| match inspect(username) {
        Ok(Name::Rest(name)) => (name.expires.0, name.user),
        other => panic!("{username}: {other:?}"),
    };
    assert_eq!(rest("17:a:b"), (17, Some("a:b")));
    assert_eq!(rest("17:"), (17, None));
    assert_eq!(rest("17:abababab"), (17, Some("abababab")));
    assert_eq!(inspect("17:abababab::"), Err(NameError::User));
    assert_eq!(inspect("x"), Err(NameError::Expiry));
    assert_eq!(inspect("1\n"), Err(NameError::Control));
    assert_eq!(inspect(&"1".repeat(509)), Err(NameError::TooLong));
}

proptest! {
    #[test]
    fn rest_003_what_is_minted_is_recognised(
        user in "\\PC{1,60}",
        lifetime in 1_u64..86_400,
        side in prop_oneof![Just(None), Just(Some(Side::Internal)), Just(Some(Side::External))],
        allocations in any::<Option<u32>>(),
    ) {
        let limits = SealedLimits { allocations, ..SealedLimits::default() };
        let grant = Grant { side, limits, ..Grant::new(user, NOW.plus(lifetime)) };
        let credential = mint(&pool_key(1), &grant).unwrap();
        let Ok(Name::Pool(name)) = inspect(&credential.username) else {
            return Err(TestCaseError::fail(credential.username));
        };
        prop_assert_eq!((name.user, name.claims.side), (&grant.user[..], side));
        prop_assert_eq!((name.expires, name.claims.limits), (grant.expires, limits));
        let authority = authority(Some(ring(1, &[])), &[]);
        let identity = present(&authority, &credential).unwrap().identity;
        prop_assert_eq!((identity.side, identity.limits), (side, limits));
        prop_assert_eq!(authority.in_time(&identity, NOW), Ok(()));
    }

    #[test]
    fn auth_005_no_name_makes_the_grammar_panic(name in ".{0,80}", digits in any::<bool>()) {
        let name = if digits { format!("1800000000:01010101:{name}") } else { name };
        let authority = authority(Some(ring(1, &[])), &["a secret of 16 bytes"]);
        let outcome = authority.derive(&name).authenticate(REALM, PasswordAlgorithm::Md5, |_| false);
        prop_assert!(outcome.is_err());
    }
}
