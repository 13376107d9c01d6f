//! Access tokens of a third party (RFC 7635).
//!
//! Whoever holds a key in common with the relay may seal a token; USERNAME names the key, the
//! token carries the key that signs the messages, and how long it is good. The layout (§6.2):
//! length of the nonce, nonce, and sealed with the server's name as associated data: length of
//! the key, key, time stamp, lifetime. Knows no clock: see [`Token::left`].
//!
//! A token that takes something away carries claims behind the lifetime, as pool credentials have
//! them ([`Claims`]). The RFC's layout ends before them: coturn reads such a token and grants all
//! that its configuration does, and a relay that knows no claims refuses it.

use std::fmt;
use std::time::Duration;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::auth::claims::Claims;
use crate::auth::pool_key::{PoolKey, Secret};
use crate::now::UnixTime;
use crate::stun::integrity::MessageKey;

/// Bytes of a nonce; both ciphers have no other.
pub const NONCE: usize = 12;

/// Longest key that signs messages, bytes.
pub const MAC_KEY_MAX: usize = 64;

/// Longest server name (OAUTH-001), bytes.
pub const SERVER_NAME_MAX: usize = 255;

/// Longest claims of a token, bytes: all that can be told.
pub const CLAIMS_MAX: usize = 512;

/// Bytes around the sealed part: length and nonce before it, tag behind it.
const AROUND: usize = 2 + NONCE + 16;

/// Bytes of the sealed part beside the key: its length, time stamp, lifetime.
const BESIDE: usize = 2 + 8 + 4;

/// Longest token.
const TOKEN_MAX: usize = AROUND + BESIDE + MAC_KEY_MAX + CLAIMS_MAX;

/// How far clocks may differ, and the path delay (RFC 7635 §7: Δ of five seconds).
const SLACK_S: u64 = 5;

/// Fractions of a second in a time stamp.
const FRACTIONS: u64 = 64_000;

/// How a token is sealed (RFC 7635 §4.1.1, the names of RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCipher {
    /// AES-128-GCM.
    A128Gcm,
    /// AES-256-GCM.
    A256Gcm,
}

impl TokenCipher {
    /// Every cipher.
    pub const ALL: [Self; 2] = [Self::A128Gcm, Self::A256Gcm];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::A128Gcm => "A128GCM",
            Self::A256Gcm => "A256GCM",
        }
    }

    /// Bytes of a key.
    pub fn key_len(self) -> usize {
        self.algorithm().key_len()
    }

    fn algorithm(self) -> &'static ring::aead::Algorithm {
        match self {
            Self::A128Gcm => &AES_128_GCM,
            Self::A256Gcm => &AES_256_GCM,
        }
    }
}

/// A key in common with whoever issues tokens.
#[derive(Clone)]
pub struct TokenKey {
    id: Box<str>,
    key: LessSafeKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:?})", self.id)
    }
}

impl TokenKey {
    /// A key with the name that stands in USERNAME; `None` if its length is not the cipher's.
    pub fn new(id: &str, cipher: TokenCipher, key: &Secret) -> Option<Self> {
        let key = UnboundKey::new(cipher.algorithm(), key.bytes()).ok()?;
        Some(Self { id: id.into(), key: LessSafeKey::new(key) })
    }

    /// The key of a pool: AES-256-GCM, named by the pool key's id.
    pub fn of_pool(pool: &PoolKey) -> Option<Self> {
        Self::new(&pool.id.to_string(), TokenCipher::A256Gcm, &pool.tokens)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a token for a server; `None` if its claims are too long. A nonce must never come
    /// twice with a key: draw it at random.
    pub fn seal(&self, server_name: &str, nonce: [u8; NONCE], token: &Token) -> Option<Vec<u8>> {
        let key = token.mac_key.bytes();
        if token.claims.len() > CLAIMS_MAX {
            return None;
        }
        let mut sealed = Zeroizing::new(Vec::with_capacity(TOKEN_MAX));
        sealed.extend(u16::try_from(key.len()).unwrap_or(0).to_be_bytes());
        sealed.extend(key);
        sealed.extend(token.stamp.0.to_be_bytes());
        sealed.extend(token.lifetime_s.to_be_bytes());
        sealed.extend(token.claims.as_bytes());
        let aad = Aad::from(server_name.as_bytes());
        let number = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(number, aad, &mut sealed).ok()?;
        let length = u16::try_from(NONCE).ok()?.to_be_bytes();
        Some([&length[..], &nonce, &sealed, tag.as_ref()].concat())
    }

    /// Opens a token; `None` if it is not sealed with this key for this server, or not a token.
    pub fn open(&self, server_name: &str, sealed: &[u8]) -> Option<Token> {
        let (length, rest) = sealed.split_first_chunk::<2>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        if usize::from(u16::from_be_bytes(*length)) != NONCE {
            return None;
        }
        let mut room = Zeroizing::new([0; TOKEN_MAX]);
        let text = room.get_mut(..rest.len())?;
        text.copy_from_slice(rest);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(server_name.as_bytes());
        Token::read(self.key.open_in_place(nonce, aad, text).ok()?)
    }
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Token {
    /// Signs requests and responses as it is.
    pub mac_key: MessageKey,
    /// When it was issued.
    pub stamp: TokenTime,
    /// How long it is good from then on, in seconds.
    pub lifetime_s: u32,
    /// What it takes away, as [`Claims`] are written; empty: nothing.
    pub claims: String,
}

/// What a token shall permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTerms<'a> {
    /// When it begins.
    pub issued: UnixTime,
    /// How long it is good from then on, in seconds.
    pub lifetime_s: u32,
    /// What it takes away, as [`Claims::write`] has it.
    pub claims: &'a str,
}

/// A token and what goes with it, as an authorization server hands it out (RFC 7635 §4).
#[derive(Clone, Debug)]
pub struct MintedToken {
    /// What clients send as USERNAME.
    pub key_id: String,
    /// What clients sign with; 20 bytes.
    pub mac_key: MessageKey,
    /// What clients send as ACCESS-TOKEN.
    pub token: Vec<u8>,
}

/// Mints a token that every relay of the pool takes which is called `server_name`; `None` if the
/// pool's secret is none of ours, or the claims are. `random` comes from the operating system's
/// generator.
pub fn mint(
    pool: &PoolKey,
    server_name: &str,
    random: &[u8; 32],
    terms: TokenTerms<'_>,
) -> Option<MintedToken> {
    let TokenTerms { issued, lifetime_s, claims } = terms;
    Claims::read(claims)?;
    let (nonce, mac_key) = random.split_first_chunk::<NONCE>()?;
    let mac_key = MessageKey::raw(mac_key)?;
    let key = TokenKey::of_pool(pool)?;
    let (stamp, claims) = (TokenTime::at(issued), claims.to_owned());
    let token = Token { mac_key: mac_key.clone(), stamp, lifetime_s, claims };
    let token = key.seal(server_name, *nonce, &token)?;
    Some(MintedToken { key_id: key.id().to_owned(), mac_key, token })
}

/// Time of a token: seconds since 1970 in the upper 48 bits, 1/64000 s in the lower 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTime(pub u64);

impl TokenTime {
    /// The beginning of a second; times beyond eight million years are all the same.
    pub fn at(time: UnixTime) -> Self {
        Self(time.0.min(u64::MAX >> 16) << 16)
    }

    /// In 1/64000 s, the unit of [`FRACTIONS`].
    fn ticks(self) -> u64 {
        (self.0 >> 16).saturating_mul(FRACTIONS).saturating_add(self.0 & 0xFFFF)
    }
}

impl Token {
    fn read(text: &[u8]) -> Option<Self> {
        let (length, rest) = text.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (stamp, rest) = rest.split_first_chunk::<8>()?;
        let (lifetime, claims) = rest.split_first_chunk::<4>()?;
        // What is not understood refuses the token, so that none is taken for a wider one.
        let claims = std::str::from_utf8(claims).ok().filter(|it| it.len() <= CLAIMS_MAX)?;
        Claims::read(claims)?;
        // An empty key would sign for everybody.
        let mac_key = MessageKey::raw(key).filter(|_| !key.is_empty())?;
        Some(Self {
            mac_key,
            stamp: TokenTime(u64::from_be_bytes(*stamp)),
            lifetime_s: u32::from_be_bytes(*lifetime),
            claims: claims.to_owned(),
        })
    }

    /// How long an allocation may live that is asked for now; `None` if the token is over, or
    /// from a future that is further away than clocks differ (RFC 7635 §7, §9).
    pub fn left(&self, now: UnixTime) -> Option<Duration> {
        let now = now.0.saturating_mul(FRACTIONS);
        let apart = now.abs_diff(self.stamp.ticks());
        let good = u64::from(self.lifetime_s).saturating_add(SLACK_S).saturating_mul(FRACTIONS);
        let left = good.checked_sub(apart).filter(|&left| left > 0)?;
        Some(Duration::from_secs(left / FRACTIONS))
    }
}

/// Every key that tokens may be sealed with, and the name they are sealed for.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    /// THIRD-PARTY-AUTHORIZATION, and the associated data of every token; 1 to
    /// [`SERVER_NAME_MAX`] bytes.
    pub server_name: String,
    /// At least one; no two have the same name.
    pub keys: Vec<TokenKey>,
}

impl TokenKeys {
    /// Opens a token sealed with the key of this name. Without such a key another one is tried,
    /// in vain, so that both take as long.
    pub(super) fn open(&self, id: &str, sealed: &[u8]) -> Option<Token> {
        let named = self.keys.iter().find(|key| *key.id == *id);
        let opened = named.or(self.keys.first())?.open(&self.server_name, sealed);
        opened.filter(|_| named.is_some())
    }

    /// Whether a key has this name.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| *key.id == *id)
    }
}
