//! Tokens of MRAS: minted, and verified in both dialects.

use std::cell::Cell;

use proptest::prelude::*;
use proto::addr::Side;
use proto::auth::ms_token::{MsToken, TOKEN, TokenGrant, mint};
use proto::auth::{Authority, KeyId, KeyRing, MsCredential, PoolKey, Secret, Term, Verified};
use proto::now::UnixTime;
use proto::reject::Why;
use proto::stun::integrity::equal;
use proto::stun::{MessageKey, PasswordAlgorithm};

const NOW: UnixTime = UnixTime(1_800_000_000);
const REALM: &str = "edge.example.com";
const ALICE: &str = "sip:alice@example.com";

fn pool_key(seed: u8) -> PoolKey {
    let secret = |add: u8| Secret::new(vec![seed.wrapping_add(add); 32]);
    PoolKey {
        id: KeyId([seed, 2, 3, 4]),
        credentials: secret(1),
        nonces: secret(2),
        // One for all pools: only the keys of tokens may tell them apart.
        users: Secret::new(vec![0; 32]),
        tickets: secret(4),
        tokens: secret(5),
        ms_tokens: secret(6),
    }
}

fn authority(current: u8, previous: &[u8]) -> Authority {
    let previous = previous.iter().map(|&seed| pool_key(seed)).collect();
    Authority {
        ring: Some(KeyRing { current: pool_key(current), previous }),
        rest_secrets: vec![Secret::new(vec![1; 16])],
        users: None,
        tokens: None,
        max_lifetime_s: 86_400,
    }
}

fn minted(seed: u8, identity: &str, side: Option<Side>) -> MsCredential {
    let grant = TokenGrant { identity, expires: NOW.plus(28_800), side };
    mint(&pool_key(seed), &grant, 0x1234).expect("a salt fits")
}

/// What the relay says to a client of the dialect of Microsoft.
fn present_bytes(authority: &Authority, credential: &MsCredential) -> Result<Verified, Why> {
    let MsCredential { username, password } = credential;
    let own = MessageKey::long_term(PasswordAlgorithm::Md5, username, REALM, &**password);
    let verify = |key: &MessageKey| equal(key.bytes(), own.bytes());
    authority.derive_ms(username).authenticate(REALM, PasswordAlgorithm::Md5, verify)
}

/// What the relay says to any other client.
fn present_text(
    authority: &Authority,
    credential: &MsCredential,
    algorithm: PasswordAlgorithm,
) -> Result<Verified, Why> {
    let text = credential.text();
    let own = MessageKey::long_term(algorithm, &text.username, REALM, &text.password);
    let verify = |key: &MessageKey| equal(key.bytes(), own.bytes());
    authority.derive(&text.username).authenticate(REALM, algorithm, verify)
}

fn present(authority: &Authority, credential: &MsCredential) -> [Result<Verified, Why>; 3] {
    [
        present_bytes(authority, credential),
        present_text(authority, credential, PasswordAlgorithm::Md5),
        present_text(authority, credential, PasswordAlgorithm::Sha256),
    ]
}

#[test]
fn mras_055_a_token_is_good_as_bytes_and_as_text() {
    let authority = authority(1, &[]);
    for side in [None, Some(Side::Internal), Some(Side::External)] {
        let credential = minted(1, ALICE, side);
        for verified in present(&authority, &credential) {
            let identity = verified.unwrap().identity;
            assert_eq!(identity.term, Term::Until(NOW.plus(28_800)));
            assert_eq!((identity.side, identity.limits.allocations), (side, None));
            assert_eq!(authority.in_time(&identity, NOW), Ok(()));
        }
        let text = credential.text().username;
        assert_eq!(authority.derive_ms(&credential.username).username(), text, "one owner");
        assert_eq!(authority.derive(&text).token(), MsToken::inspect_text(&text).as_ref());
    }
}

#[test]
fn mras_051_all_tokens_of_a_user_are_of_one_user() {
    let authority = authority(1, &[]);
    let user = |identity: &str, side| {
        let verified = present(&authority, &minted(1, identity, side));
        let users = verified.map(|verified| verified.unwrap().identity.user);
        assert!(users.iter().all(|user| *user == users[0]));
        users[0]
    };
    let alice = user(ALICE, None);
    assert_eq!(alice, user("SIP:Alice@Example.com", Some(Side::Internal)));
    assert_ne!(alice, user("sip:bob@example.com", None));
}

#[test]
fn mras_t4_a_token_is_good_on_every_relay_of_its_pool_and_no_other() {
    let credential = minted(1, ALICE, None);
    for verified in present(&authority(1, &[]), &credential) {
        verified.unwrap();
    }
    for verified in present(&authority(2, &[3]), &credential) {
        assert_eq!(verified.unwrap_err(), Why::UnknownUser);
    }
    for at in 0..TOKEN {
        let mut credential = credential.clone();
        credential.username[at] ^= 0x10;
        for verified in present(&authority(1, &[]), &credential) {
            assert_eq!(verified.unwrap_err(), Why::UnknownUser, "byte {at}");
        }
        assert_eq!(authority(1, &[]).derive_ms(&credential.username).token(), None, "byte {at}");
    }
    let mut other = credential.clone();
    other.password[0] ^= 1;
    for verified in present(&authority(1, &[]), &other) {
        assert_eq!(verified.unwrap_err(), Why::WrongPassword);
    }
    for verified in present(&authority(1, &[]), &credential) {
        let late = authority(1, &[]).in_time(&verified.unwrap().identity, NOW.plus(28_800));
        assert_eq!(late, Err(Why::Expired));
    }
}

#[test]
fn mras_052_a_name_nobody_signed_takes_the_work_of_a_wrong_password() {
    let authority = authority(1, &[]);
    let tries = |name: &[u8]| {
        let count = Cell::new(0);
        let verify = |_: &MessageKey| {
            count.set(count.get() + 1);
            false
        };
        let algorithm = PasswordAlgorithm::Md5;
        let why = match std::str::from_utf8(name) {
            Ok(text) => authority.derive(text).authenticate(REALM, algorithm, verify),
            Err(_) => authority.derive_ms(name).authenticate(REALM, algorithm, verify),
        };
        (why.unwrap_err(), count.get())
    };
    let good = minted(1, ALICE, None);
    let foreign = minted(2, ALICE, None);
    for (case, name, why) in [
        ("ours", &good.username[..], Why::WrongPassword),
        ("ours as text", good.text().username.as_bytes(), Why::WrongPassword),
        ("of another pool", &foreign.username, Why::UnknownUser),
        ("of another pool as text", foreign.text().username.as_bytes(), Why::UnknownUser),
        ("too short", &[0xff; 7], Why::UnknownUser),
    ] {
        assert_eq!(tries(name), (why, 1), "{case}");
    }
}

#[test]
fn mras_t5_a_pool_rolls_its_key_without_a_failed_call() {
    let [old, new] = [1, 2].map(|seed| minted(seed, ALICE, None));
    for (case, authority, old_ok, new_ok) in [
        ("before", authority(1, &[]), true, false),
        ("during", authority(2, &[1]), true, true),
        ("after", authority(2, &[]), false, true),
    ] {
        for (old, new) in present(&authority, &old).into_iter().zip(present(&authority, &new)) {
            assert_eq!((old.is_ok(), new.is_ok()), (old_ok, new_ok), "{case}");
        }
    }
}

#[test]
fn mras_054_keys_whose_ids_begin_alike_are_all_tried() {
    let alike = |seed: u8| PoolKey { id: KeyId([7, seed, 0, 0]), ..pool_key(seed) };
    let ring = KeyRing { current: alike(1), previous: vec![alike(2), alike(3)] };
    let authority = Authority { ring: Some(ring), ..authority(1, &[]) };
    for seed in 1..=3 {
        let grant = TokenGrant { identity: ALICE, expires: NOW.plus(60), side: None };
        let credential = mint(&alike(seed), &grant, 0).expect("a salt fits");
        for verified in present(&authority, &credential) {
            verified.unwrap_or_else(|why| panic!("{seed}: {why:?}"));
        }
    }
}

proptest! {
    #[test]
    fn mras_051_no_bytes_and_no_text_are_taken_for_a_token(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        text in ".{0,80}",
    ) {
        let authority = authority(1, &[]);
        let nobody = |_: &MessageKey| false;
        let algorithm = PasswordAlgorithm::Sha256;
        let why = authority.derive_ms(&bytes).authenticate(REALM, algorithm, nobody).unwrap_err();
        prop_assert_eq!(why, Why::UnknownUser);
        prop_assert!(authority.derive(&text).token().is_none());
        prop_assert!(authority.derive(&text).authenticate(REALM, algorithm, nobody).is_err());
    }
}
