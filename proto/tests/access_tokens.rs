//! Access tokens (RFC 7635 §6.2), against tokens that `turnutils_oauth` of coturn sealed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proto::auth::access_token::NONCE;
use proto::auth::{Secret, Token, TokenCipher, TokenKey, TokenTime};
use proto::now::UnixTime;
use proto::stun::MessageKey;

const SERVER: &str = "turn.example.org";
const NONCE_OF_VECTORS: &[u8; NONCE] = b"nonce-of-12b";

/// A token of the tool, and what went into it.
struct Vector {
    cipher: TokenCipher,
    secret: &'static [u8],
    mac_key: &'static [u8],
    stamp: u64,
    lifetime_s: u32,
    /// In base64.
    text: &'static str,
}

const VECTORS: [Vector; 2] = [
    Vector {
        cipher: TokenCipher::A256Gcm,
        secret: b"01234567890123456789012345678901",
        mac_key: b"a mac key of thirty-two bytes !!",
        stamp: 1_800_000_000 << 16,
        lifetime_s: 3600,
        text: "AAxub25jZS1vZi0xMmJKAJ4F9vsNywe+UyKki19laobLWpjiF9L4DxdbQyZ3svaVvk1gMiHWMS1LigiU8pJzEzLezlBy\
         FQh7u5UagA==",
    },
    Vector {
        cipher: TokenCipher::A128Gcm,
        secret: b"0123456789012345",
        mac_key: b"twenty bytes of a ke",
        stamp: (1_800_000_000 << 16) + 32_000,
        lifetime_s: 600,
        text: "AAxub25jZS1vZi0xMmKL3NWrm5kXxPml4ocpM2M7t/UyOoeoEfpG3Ow9qUC/QEHOYO2JP3uuOYNCxJQj90muZA==",
    },
];

fn key(cipher: TokenCipher, bytes: &[u8]) -> TokenKey {
    TokenKey::new("id", cipher, &Secret::new(bytes.to_vec())).unwrap()
}

#[test]
fn oauth_004_tokens_of_another_implementation_open_and_are_sealed_alike() {
    for Vector { cipher, secret, mac_key, stamp, lifetime_s, text } in VECTORS {
        let sealed = STANDARD.decode(text).unwrap();
        let key = key(cipher, secret);
        let token = key.open(SERVER, &sealed).unwrap();
        assert_eq!(token.mac_key.bytes(), mac_key, "{cipher:?}");
        assert_eq!((token.stamp, token.lifetime_s), (TokenTime(stamp), lifetime_s), "{cipher:?}");
        assert_eq!(key.seal(SERVER, *NONCE_OF_VECTORS, &token).unwrap(), sealed, "{cipher:?}");
        assert!(key.open("turn.example.com", &sealed).is_none(), "another server");
    }
}

#[test]
fn oauth_004_a_key_has_the_length_of_its_cipher() {
    for cipher in TokenCipher::ALL {
        for length in [0, 15, 16, 17, 31, 32, 33] {
            let key = TokenKey::new("id", cipher, &Secret::new(vec![7; length]));
            assert_eq!(key.is_some(), length == cipher.key_len(), "{cipher:?}, {length} bytes");
        }
    }
}

#[test]
fn oauth_005_what_is_left_is_lifetime_and_slack_less_the_distance() {
    let at = |stamp, lifetime_s, now| {
        let token = Token {
            mac_key: MessageKey::raw(b"key").unwrap(),
            stamp,
            lifetime_s,
            claims: String::new(),
        };
        token.left(UnixTime(now)).map(|left| left.as_secs())
    };
    let whole = TokenTime::at(UnixTime(1_000));
    let half = TokenTime((1_000 << 16) + 32_000);
    for (case, stamp, lifetime, now, expected) in [
        ("fresh", whole, 600, 1_000, Some(605)),
        ("old", whole, 600, 1_480, Some(125)),
        ("early", whole, 600, 900, Some(505)),
        ("the last second", whole, 600, 1_604, Some(1)),
        ("over", whole, 600, 1_605, None),
        ("half a second left", half, 600, 1_605, Some(0)),
        ("too early", whole, 10, 985, None),
        ("no lifetime at all", whole, 0, 1_004, Some(1)),
        ("the largest numbers", TokenTime(u64::MAX), u32::MAX, u64::MAX, None),
    ] {
        assert_eq!(at(stamp, lifetime, now), expected, "{case}");
    }
}

proptest! {
    #[test]
    fn oauth_004_what_is_sealed_opens(
        secret: [u8; 32],
        nonce: [u8; NONCE],
        mac_key in prop::collection::vec(any::<u8>(), 1..=64),
        stamp: u64,
        lifetime_s: u32,
        server in "[a-z.]{1,255}",
        claims in prop::sample::select(vec!["", "s=i", "n=2,b=64,r=50,p=GAoAAA,o=53+1024-65535"]),
    ) {
        let key = key(TokenCipher::A256Gcm, &secret);
        let mac_key = MessageKey::raw(&mac_key).unwrap();
        let token = Token { mac_key, stamp: TokenTime(stamp), lifetime_s, claims: claims.to_owned() };
        let again = key.open(&server, &key.seal(&server, nonce, &token).unwrap()).unwrap();
        prop_assert_eq!(again.mac_key.bytes(), token.mac_key.bytes());
        prop_assert_eq!((again.stamp, again.lifetime_s, &*again.claims), (token.stamp, lifetime_s, claims));
    }

    #[test]
    fn oauth_006_no_other_bytes_open(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        flipped in any::<prop::sample::Index>(),
    ) {
        let key = key(TokenCipher::A256Gcm, VECTORS[0].secret);
        prop_assert!(key.open(SERVER, &bytes).is_none());
        let mut sealed = STANDARD.decode(VECTORS[0].text).unwrap();
        let bit = flipped.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(key.open(SERVER, &sealed).is_none());
    }
}

#[test]
fn oauth_006_an_empty_or_endless_key_opens_nothing() {
    let Vector { cipher, secret, .. } = VECTORS[0];
    let key = key(cipher, secret);
    for (length, opens) in [(0, false), (1, true), (64, true)] {
        let mac_key = MessageKey::raw(&vec![7; length]).unwrap();
        let token = Token { mac_key, stamp: TokenTime(0), lifetime_s: 1, claims: String::new() };
        let sealed = key.seal(SERVER, *NONCE_OF_VECTORS, &token).unwrap();
        assert_eq!(key.open(SERVER, &sealed).is_some(), opens, "{length} bytes");
    }
}
