//! The tokens that A/V authentication (MRAS) hands out.
//!
//! A user name is 56 bytes: a blob that says until when, who and where, and a keyed hash over it;
//! the password is a keyed hash of the user name, so that any relay of the pool recomputes it. To
//! clients both are opaque (`mras.md` §6). The dialect of Microsoft sends the bytes as they are,
//! other clients send their base64 text (MRAS-55). Knows no clock and draws no salt. Its bytes are
//! all spoken for and as many as MRAS clients expect, so a token carries a side but neither ranges
//! of peers nor rates: those of its users are the configuration's (`limits.microsoft_…`, `peers`).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::addr::Side;
use crate::auth::credential::Credential;
use crate::auth::pool_key::PoolKey;
use crate::now::UnixTime;
use crate::stun::integrity::equal;

/// Bytes of a user name.
pub const TOKEN: usize = BLOB + MAC;

/// Bytes of a password.
pub const PASSWORD: usize = MAC;

/// Bytes before the keyed hash.
const BLOB: usize = 36;

/// Bytes that are kept of every keyed hash (MRAS-52): as many as SHA-1 has.
const MAC: usize = 20;

/// Versions 2 and 0, and the size of the blob.
const HEAD: [u8; 4] = [2, 0, 0, 36];

/// Characters of a user name in base64.
const TEXT: usize = TOKEN.div_ceil(3) * 4;

/// What the blob of a token says (MRAS-51).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsToken {
    /// When it expires.
    pub expires: UnixTime,
    /// Stands for the user.
    pub client: ClientId,
    /// The only side of the edge it is good on; `None`: both.
    pub side: Option<Side>,
    /// First byte of the id of the key that signed it.
    pub key: u8,
    /// Means nothing; see [`mint`].
    pub salt: u16,
}

/// A keyed hash of the user's SIP URI, the same in all its tokens of a pool key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(pub [u8; MAC]);

/// The beginning alone, as it may stand in a log (MRAS-56).
impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self}..)")
    }
}

impl ClientId {
    /// Of a SIP URI, whose case means nothing here.
    pub fn of(key: &PoolKey, identity: &str) -> Self {
        let identity = identity.to_lowercase();
        Self(keyed::<Hmac<Sha256>>(&*expand(key, CLIENT_LABEL), identity.as_bytes()))
    }
}

impl MsToken {
    /// Takes a user name apart without any key; `None` if it has not the form of a token.
    pub fn inspect(username: &[u8]) -> Option<Self> {
        Some(Self::read(username)?.0)
    }

    /// The token behind a user name in base64.
    pub fn inspect_text(username: &str) -> Option<Self> {
        Self::inspect(&bytes_of(username)?)
    }

    /// Token, blob and keyed hash.
    fn read(username: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (blob, mac) = username.split_at_checked(BLOB)?;
        let (head, fields) = blob.split_first_chunk::<4>()?;
        let (expires, fields) = fields.split_first_chunk::<8>()?;
        let (client, flags) = fields.split_first_chunk::<MAC>()?;
        let [salt_high, salt_low, key, place] = *<&[u8; 4]>::try_from(flags).ok()?;
        if *head != HEAD || mac.len() != MAC {
            return None;
        }
        let token = Self {
            expires: UnixTime(u64::from_be_bytes(*expires)),
            client: ClientId(*client),
            side: *PLACES.get(usize::from(place))?,
            key,
            salt: u16::from_be_bytes([salt_high, salt_low]),
        };
        Some((token, blob, mac))
    }

    fn blob(&self) -> [u8; BLOB] {
        let [salt_high, salt_low] = self.salt.to_be_bytes();
        let flags = [salt_high, salt_low, self.key, place_of(self.side)];
        let mut blob = [0; BLOB];
        let fields = [&HEAD[..], &self.expires.0.to_be_bytes(), &self.client.0, &flags];
        for (to, from) in blob.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        blob
    }

    /// Blob and keyed hash of it.
    fn sign<M: Mac + KeyInit>(&self, key: &[u8]) -> [u8; TOKEN] {
        let blob = self.blob();
        let mut token = [0; TOKEN];
        for (to, from) in token.iter_mut().zip(blob.into_iter().chain(keyed::<M>(key, &blob))) {
            *to = from;
        }
        token
    }
}

/// What bits 0 and 1 say, by their number. What is not known here refuses the token, so that a
/// narrower one of a later version is never taken for a wider one.
const PLACES: [Option<Side>; 3] = [None, Some(Side::External), Some(Side::Internal)];

fn place_of(side: Option<Side>) -> u8 {
    match side {
        None => 0,
        Some(Side::External) => 1,
        Some(Side::Internal) => 2,
    }
}

/// What a token shall permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenGrant<'a> {
    /// The user's SIP URI.
    pub identity: &'a str,
    /// When it expires.
    pub expires: UnixTime,
    /// The only side of the edge it is good on; `None`: both.
    pub side: Option<Side>,
}

/// A token and its password, both as bytes.
#[derive(Clone)]
pub struct MsCredential {
    /// USERNAME in the dialect of Microsoft.
    pub username: [u8; TOKEN],
    /// What keys are made of, there.
    pub password: Zeroizing<[u8; PASSWORD]>,
}

impl MsCredential {
    /// Both in base64: what MRAS hands out, and what other clients use as it is.
    pub fn text(&self) -> Credential {
        Credential {
            username: STANDARD.encode(self.username),
            password: STANDARD.encode(self.password.as_slice()).into(),
        }
    }
}

impl fmt::Debug for MsCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MsCredential(..)")
    }
}

/// Mints the credential of a grant. `salt`, drawn at random, is the first to be tried: a user
/// name or password that libnice would trim is not handed out (MRAS-53). `None` if every salt
/// fails, which no key will ever show.
pub fn mint(key: &PoolKey, grant: &TokenGrant<'_>, salt: u16) -> Option<MsCredential> {
    let [id, ..] = key.id.0;
    let TokenGrant { identity, expires, side } = *grant;
    let client = ClientId::of(key, identity);
    let signer = expand(key, TOKEN_LABEL);
    let mut salts = (0..=u16::MAX).map(|step| salt.wrapping_add(step));
    salts.find_map(|salt| {
        let token = MsToken { expires, client, side, key: id, salt };
        let username = token.sign::<Hmac<Sha256>>(&*signer);
        let password = password(key, &username);
        (is_whole(&username) && is_whole(&*password)).then_some(MsCredential { username, password })
    })
}

/// The token of a user name, if this key signed it.
pub fn verify(key: &PoolKey, username: &[u8]) -> Option<MsToken> {
    let (token, blob, mac) = MsToken::read(username)?;
    equal(&keyed::<Hmac<Sha256>>(&*expand(key, TOKEN_LABEL), blob), mac).then_some(token)
}

/// The password of a user name.
pub fn password(key: &PoolKey, username: &[u8]) -> Zeroizing<[u8; PASSWORD]> {
    Zeroizing::new(keyed::<Hmac<Sha256>>(&*expand(key, PASSWORD_LABEL), username))
}

/// The bytes of a user name in base64; `None` if it cannot be a token.
pub fn bytes_of(username: &str) -> Option<[u8; TOKEN]> {
    let mut bytes = [0; TOKEN];
    if username.len() != TEXT {
        return None;
    }
    let decoded = STANDARD.decode_slice_unchecked(username, &mut bytes);
    (decoded.is_ok_and(|len| len == TOKEN) && bytes.starts_with(&HEAD)).then_some(bytes)
}

/// Whether libnice leaves the bytes whole: it strips quotation marks from both ends, and zeros
/// from the end (MST-44).
fn is_whole(bytes: &[u8]) -> bool {
    !matches!(bytes, [b'"', ..] | [.., b'"' | 0])
}

const TOKEN_LABEL: &[u8] = b"mras-k1";
const PASSWORD_LABEL: &[u8] = b"mras-k2";
const CLIENT_LABEL: &[u8] = b"mras-client";

/// One block of HKDF-Expand with SHA-256 (RFC 5869 §2.3).
fn expand(key: &PoolKey, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = start::<Hmac<Sha256>>(key.ms_tokens.bytes());
    mac.update(label);
    mac.update(&[1]);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The first bytes of a keyed hash of at least as many.
fn keyed<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> [u8; MAC] {
    let mut mac = start::<M>(key);
    mac.update(text);
    let mut cut = [0; MAC];
    for (to, from) in cut.iter_mut().zip(mac.finalize().into_bytes()) {
        *to = from;
    }
    cut
}

fn start<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes any key length")
}

#[cfg(test)]
mod tests {
    use sha1::Sha1;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn mras_051_the_worked_example_comes_out_byte_for_byte() {
        let [k1, k2]: [Vec<u8>; 2] = [(0x01..=0x14).collect(), (0x81..=0x94).collect()];
        let client = [
            0x39, 0x82, 0x57, 0x20, 0x92, 0x1e, 0x2b, 0x51, 0xf7, 0x87, 0x42, 0x82, 0x0d, 0x87,
            0xef, 0x48, 0xb3, 0x72, 0x3b, 0x13,
        ];
        let token = MsToken {
            expires: UnixTime(0x01dc_5b00_5a3c_1e00),
            client: ClientId(client),
            side: Some(Side::External),
            key: 0,
            salt: 0,
        };
        assert_eq!(
            hex(&token.blob()),
            "0200002401dc5b005a3c1e0039825720921e2b51f78742820d87ef48b3723b1300000001"
        );
        let username = token.sign::<Hmac<Sha1>>(&k1);
        assert_eq!(hex(&username[BLOB..]), "69779e0fb92e589181d5b670000549af3251cd2a");
        let password = keyed::<Hmac<Sha1>>(&k2, &username);
        assert_eq!(hex(&password), "0c661c52b224573c247a271d8aec72641223b068");
        let text = MsCredential { username, password: Zeroizing::new(password) }.text();
        let base64 = "AgAAJAHcWwBaPB4AOYJXIJIeK1H3h0KCDYfvSLNyOxMAAAABaXeeD7kuWJGB1bZwAAVJrzJRzSo=";
        assert_eq!(
            (&*text.username, text.password.as_str()),
            (base64, "DGYcUrIkVzwkeicdiuxyZBIjsGg=")
        );
        assert_eq!(MsToken::inspect_text(base64), Some(token));
    }

    #[test]
    fn mras_051_only_the_exact_form_is_a_token() {
        let key = PoolKey::of_test(7);
        let grant = TokenGrant { identity: "sip:a@b", expires: UnixTime(9), side: None };
        let good = mint(&key, &grant, 0).expect("a salt fits").username;
        assert!(MsToken::inspect(&good).is_some());
        let changed = |at: usize, to: u8| {
            let mut token = good;
            token[at] = to;
            token.to_vec()
        };
        for (case, bytes) in [
            ("empty", vec![]),
            ("a byte short", good[..TOKEN - 1].to_vec()),
            ("a byte long", [&good[..], &[0]].concat()),
            ("version 1", changed(0, 1)),
            ("minor version 1", changed(1, 1)),
            ("another size", changed(3, 32)),
            ("both places at once", changed(BLOB - 1, 3)),
            ("a bit nobody knows", changed(BLOB - 1, 4)),
        ] {
            assert_eq!(MsToken::inspect(&bytes), None, "{case}");
        }
        let text = STANDARD.encode(good);
        for (case, text) in [
            ("no padding", text.trim_end_matches('=').to_owned()),
            ("a blank before it", format!(" {text}")),
            ("of another alphabet", format!("_{}", &text[1..])),
            ("loose bits at the end", format!("{}/=", &text[..TEXT - 2])),
        ] {
            assert!(text == STANDARD.encode(good) || bytes_of(&text).is_none(), "{case}: {text}");
        }
    }

    #[test]
    fn mras_t6_ten_thousand_credentials_are_left_whole_by_libnice() {
        let key = PoolKey::of_test(3);
        for number in 0..10_000_u16 {
            let identity = format!("sip:user{number}@example.com");
            let grant = TokenGrant { identity: &identity, expires: UnixTime(1 << 31), side: None };
            let minted = mint(&key, &grant, number).expect("a salt fits");
            for bytes in [&minted.username[..], minted.password.as_slice()] {
                let trimmed = bytes.strip_prefix(b"\"").unwrap_or(bytes);
                assert!(!bytes.ends_with(b"\"") && !bytes.ends_with(&[0]), "{number}");
                assert_eq!(trimmed.len(), bytes.len(), "{number}");
            }
        }
    }

    #[test]
    fn mras_053_another_salt_is_taken_where_the_first_does_not_do() {
        let key = PoolKey::of_test(3);
        let moved = (0..2_000).filter(|&salt| {
            let grant = TokenGrant { identity: "sip:a@b", expires: UnixTime(9), side: None };
            let token = MsToken::inspect(&mint(&key, &grant, salt).expect("a salt fits").username);
            token.expect("it is one").salt != salt
        });
        // Five of 256 endings or beginnings are not handed out: about 39 of 2,000.
        assert!((10..100).contains(&moved.count()));
    }

    #[test]
    fn mras_051_a_client_id_is_of_its_user_and_pool_alone() {
        let [one, other] = [PoolKey::of_test(1), PoolKey::of_test(2)];
        let alice = ClientId::of(&one, "sip:Alice@Example.com");
        assert_eq!(alice, ClientId::of(&one, "sip:alice@example.com"));
        assert_ne!(alice, ClientId::of(&one, "sip:bob@example.com"));
        assert_ne!(alice, ClientId::of(&other, "sip:alice@example.com"));
        assert_eq!(format!("{alice:?}").len(), "ClientId(01234567..)".len(), "the rest stays ours");
    }
}
