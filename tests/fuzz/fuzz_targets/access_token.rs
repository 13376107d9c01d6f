//! Any bytes as an access token, sealed and open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::auth::access_token::NONCE;
use proto::auth::{Secret, Token, TokenCipher, TokenKey, TokenTime};
use proto::now::UnixTime;
use proto::stun::MessageKey;
use rig::Token as Draft;

const SERVER: &str = "turn.example.org";

fuzz_target!(|data: &[u8]| {
    for cipher in TokenCipher::ALL {
        let secret = vec![7; cipher.key_len()];
        let key = TokenKey::new("id", cipher, &Secret::new(secret.clone())).expect("its length");
        // Nothing is ever sealed with this one: the fuzzer learns what the other seals.
        let secret_of_nobody = Secret::new(vec![8; cipher.key_len()]);
        let nobodys = TokenKey::new("id", cipher, &secret_of_nobody).expect("its length");
        assert!(nobodys.open(SERVER, data).is_none(), "nobody forges a token");
        let _ = key.open(SERVER, data);
        // The same bytes rightly sealed, so that they reach what reads the inside.
        let draft = Draft::new(&secret, SERVER, 0);
        let Some(token) = key.open(SERVER, &draft.sealed_around(data)) else { continue };
        let said = 14 + token.mac_key.bytes().len() + token.claims.len();
        assert_eq!(data.len(), said, "nothing is left over");
        let _ = token.left(UnixTime(1_800_000_000));
        again(&key, &token);
    }
});

fn again(key: &TokenKey, token: &Token) {
    let sealed = key.seal(SERVER, [9; NONCE], token).expect("short");
    let opened = key.open(SERVER, &sealed).expect("what is sealed opens");
    assert_eq!(opened.mac_key.bytes(), token.mac_key.bytes());
    assert_eq!((opened.stamp, opened.lifetime_s), (token.stamp, token.lifetime_s));
    assert_eq!(opened.claims, token.claims);
    let plain = MessageKey::raw(b"k").expect("short");
    let stamp = TokenTime(token.stamp.0 ^ 1);
    let other = Token { mac_key: plain, stamp, ..token.clone() };
    assert_ne!(key.seal(SERVER, [9; NONCE], &other), Some(sealed));
}
