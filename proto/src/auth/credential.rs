//! The grammar of user names, and the keyed hashes that turn a name into its password.
//!
//! Pool credentials: `expiry:kid:claims:user`, password base64(HMAC-SHA256(key, name)).
//! Credentials of a shared secret (draft-uberti-behave-turn-rest-00): `expiry:user` or `expiry`,
//! password base64(HMAC-SHA1(secret, name)). Claims are empty or what [`Claims`] reads; the second
//! form has none, because its user id is free text of an application, in which a claim could not be
//! told from a name.
//!
//! Names are data, compared byte for byte: no Unicode normalisation is done for a stranger.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::addr::Side;
use crate::auth::Trace;
use crate::auth::claims::Claims;
use crate::auth::ms_token;
use crate::auth::pool_key::{KeyId, PoolKey, Secret};
use crate::now::UnixTime;
use crate::policy::sealed::{SealedLimits, SealedPeers};

/// Longest user name (RFC 8489 §14.3: fewer than 509 bytes).
pub const USERNAME_MAX: usize = 508;

/// Longest user id in a grant, bytes.
pub const USER_MAX: usize = 255;

/// Last second an expiry may name: 2⁵³, the integers that JSON carries (REST-003).
pub const EXPIRY_MAX: UnixTime = UnixTime(1 << 53);

/// What a credential shall permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Opaque id of the user: 1–255 bytes of UTF-8 without control characters.
    pub user: String,
    /// When it expires.
    pub expires: UnixTime,
    /// The only side of the edge it is good on; `None`: both.
    pub side: Option<Side>,
    /// What the user may use, if less than the relay's configuration says.
    pub limits: SealedLimits,
    /// The only peers it is good for.
    pub peers: SealedPeers,
    /// The trace it is minted in.
    pub trace: Option<Trace>,
}

impl Grant {
    /// A grant without limits of its own.
    pub fn new(user: impl Into<String>, expires: UnixTime) -> Self {
        let (limits, peers) = (SealedLimits::default(), SealedPeers::default());
        Self { user: user.into(), expires, side: None, limits, peers, trace: None }
    }
}

/// A user name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// USERNAME of RFC 8489 §14.3.
    pub username: String,
    /// Base64 of the keyed hash of the name.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why a grant cannot be put into a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The user id is empty, too long or holds control characters.
    User,
    /// The expiry is beyond [`EXPIRY_MAX`].
    Expiry,
    /// A rate is zero, no whole kilobit or beyond what can be told.
    Rate,
    /// More ranges of peers than [`SealedPeers::MOST_RANGES`].
    Peers,
    /// More ranges of ports than [`SealedPeers::MOST_PORTS`], or an empty one.
    Ports,
    /// All together make a name longer than [`USERNAME_MAX`].
    TooLong,
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "the user id must have 1 to 255 bytes and no control characters",
            Self::Expiry => "the expiry is too far in the future to be written",
            Self::Rate => "a rate has 1 to 100000000 whole kbit/s, or 1 to 12500000000 packets/s",
            Self::Peers => "a credential carries at most 16 ranges of peers",
            Self::Ports => {
                "a credential carries at most 8 ranges of ports, the first port not above the last"
            }
            Self::TooLong => "user id and claims make a user name longer than 508 bytes",
        })
    }
}

impl std::error::Error for GrantError {}

/// Mints the credential of a grant.
pub fn mint(key: &PoolKey, grant: &Grant) -> Result<Credential, GrantError> {
    let Grant { user, expires, side, limits, peers, trace } = grant;
    if user.is_empty() || user.len() > USER_MAX || user.chars().any(char::is_control) {
        return Err(GrantError::User);
    }
    if *expires > EXPIRY_MAX {
        return Err(GrantError::Expiry);
    }
    let claims = Claims::write(*side, limits, peers, *trace)?;
    let username = format!("{}:{}:{claims}:{user}", expires.0, key.id);
    if username.len() > USERNAME_MAX {
        return Err(GrantError::TooLong);
    }
    let password = Password::of_pool(key, &username).text().to_owned().into();
    Ok(Credential { username, password })
}

/// Mints a credential of a shared secret, as coturn's `use-auth-secret` does; an empty user id
/// leaves the expiry alone.
pub fn mint_rest(secret: &Secret, user: &str, expires: UnixTime) -> Result<Credential, GrantError> {
    if user.len() > USER_MAX || user.chars().any(char::is_control) {
        return Err(GrantError::User);
    }
    if expires > EXPIRY_MAX {
        return Err(GrantError::Expiry);
    }
    let separator = if user.is_empty() { "" } else { ":" };
    let username = format!("{}{separator}{user}", expires.0);
    let password = Password::of_secret(secret, &username).text().to_owned().into();
    Ok(Credential { username, password })
}

/// Why a user name is none of ours. Peers never hear it: to them all are an unknown user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Longer than [`USERNAME_MAX`].
    TooLong,
    /// It holds a control character.
    Control,
    /// Before the first colon there is no decimal number of seconds up to [`EXPIRY_MAX`].
    Expiry,
    /// It names a key, but fields are missing behind it.
    Fields,
    /// It names a key, but a claim is unknown, repeated or has an impossible value.
    Claim,
    /// It names a key, but no user of 1–255 bytes.
    User,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the name is longer than 508 bytes",
            Self::Control => "the name holds a control character",
            Self::Expiry => "the name does not start with an expiry in seconds since 1970",
            Self::Fields => "the name has a key id, but not the fields expiry:kid:claims:user",
            Self::Claim => {
                "a claim is unknown, repeated or out of range; known: s=i, s=e, n=, b=, r=, p=, o="
            }
            Self::User => "the user id must have 1 to 255 bytes",
        })
    }
}

impl std::error::Error for NameError {}

/// A user name taken apart, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// `expiry:kid:claims:user`.
    Pool(PoolName<'a>),
    /// `expiry:user` or `expiry`.
    Rest(RestName<'a>),
}

/// The fields of a pool credential's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolName<'a> {
    /// When it expires.
    pub expires: UnixTime,
    /// The key that signed it.
    pub key: KeyId,
    /// Opaque id of the user; may hold colons.
    pub user: &'a str,
    /// What it is good for.
    pub claims: Claims<'a>,
}

/// The fields of a shared-secret credential's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestName<'a> {
    /// When it expires.
    pub expires: UnixTime,
    /// Opaque id of the user; may hold colons. Without one the whole name stands for the user,
    /// so that strangers do not share one quota.
    pub user: Option<&'a str>,
}

/// Takes a user name apart without any key. What fits the pool grammar is called a pool name;
/// a relay decides by the keys it holds.
pub fn inspect(username: &str) -> Result<Name<'_>, NameError> {
    let (expires, rest) = split_expiry(username)?;
    match rest.and_then(split_key) {
        Some((key, fields)) => match pool_name(expires, key, fields) {
            Ok(name) => Ok(Name::Pool(name)),
            // A shared-secret user id may start like a key id; without claims it is no pool name.
            Err(NameError::Fields) => Ok(Name::Rest(rest_name(expires, rest))),
            Err(error) => Err(error),
        },
        None => Ok(Name::Rest(rest_name(expires, rest))),
    }
}

/// As [`inspect`], for a relay: a name is a pool credential exactly if its second field names a
/// key for which `known` gives `Some`.
pub(super) fn recognise<K>(
    username: &str,
    known: impl FnOnce(KeyId) -> Option<K>,
) -> Result<Recognised<'_, K>, NameError> {
    let (expires, rest) = split_expiry(username)?;
    let named = rest.and_then(split_key).and_then(|(id, fields)| Some((id, known(id)?, fields)));
    match named {
        Some((id, key, fields)) => Ok(Recognised::Pool(key, pool_name(expires, id, fields)?)),
        None => Ok(Recognised::Rest(rest_name(expires, rest))),
    }
}

/// What [`recognise`] found.
pub(super) enum Recognised<'a, K> {
    Pool(K, PoolName<'a>),
    Rest(RestName<'a>),
}

/// Expiry, and what follows its colon.
fn split_expiry(username: &str) -> Result<(UnixTime, Option<&str>), NameError> {
    if username.len() > USERNAME_MAX {
        return Err(NameError::TooLong);
    }
    if username.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    let (digits, rest) = match username.split_once(':') {
        Some((digits, rest)) => (digits, Some(rest)),
        None => (username, None),
    };
    let expires = UnixTime(decimal(digits).ok_or(NameError::Expiry)?);
    if expires > EXPIRY_MAX {
        return Err(NameError::Expiry);
    }
    Ok((expires, rest))
}

/// Key id, and what follows its colon, if any: `kid:claims:user`.
fn split_key(rest: &str) -> Option<(KeyId, Option<&str>)> {
    let (kid, fields) = match rest.split_once(':') {
        Some((kid, fields)) => (kid, Some(fields)),
        None => (rest, None),
    };
    Some((KeyId::from_hex(kid)?, fields))
}

fn pool_name(
    expires: UnixTime,
    key: KeyId,
    fields: Option<&str>,
) -> Result<PoolName<'_>, NameError> {
    let (claims, user) = fields.and_then(|f| f.split_once(':')).ok_or(NameError::Fields)?;
    if user.is_empty() || user.len() > USER_MAX {
        return Err(NameError::User);
    }
    let claims = Claims::read(claims).ok_or(NameError::Claim)?;
    Ok(PoolName { expires, key, user, claims })
}

fn rest_name(expires: UnixTime, rest: Option<&str>) -> RestName<'_> {
    RestName { expires, user: rest.filter(|user| !user.is_empty()) }
}

/// A decimal number: digits only, no sign, no overflow.
pub(super) fn decimal(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Bytes of base64 over a 32-byte hash.
const PASSWORD_MAX: usize = 44;

/// The password of a user name; wiped when dropped, never printed.
pub struct Password {
    bytes: Zeroizing<[u8; PASSWORD_MAX]>,
    len: usize,
}

impl Password {
    /// Of a pool credential.
    pub fn of_pool(key: &PoolKey, username: &str) -> Self {
        Self::encode(&mut keyed::<Hmac<Sha256>>(key.credentials.bytes(), username))
    }

    /// Of a shared-secret credential.
    pub fn of_secret(secret: &Secret, username: &str) -> Self {
        Self::encode(&mut keyed::<Hmac<Sha1>>(secret.bytes(), username))
    }

    /// Of a token of MRAS, as text.
    pub(super) fn of_bytes(password: &[u8; ms_token::PASSWORD]) -> Self {
        Self::encode(&mut Zeroizing::new(*password)[..])
    }

    /// Takes at most 32 bytes, and wipes them.
    fn encode(hash: &mut [u8]) -> Self {
        let mut bytes = Zeroizing::new([0; PASSWORD_MAX]);
        let written = STANDARD.encode_slice(&*hash, bytes.as_mut_slice());
        hash.zeroize();
        Self { bytes, len: written.expect("a hash of at most 32 bytes makes at most 44") }
    }

    /// The text clients are given.
    pub fn text(&self) -> &str {
        // Base64 is ASCII: neither fallback is ever taken.
        std::str::from_utf8(self.bytes.get(..self.len).unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

fn keyed<M: Mac + KeyInit>(key: &[u8], name: &str) -> hmac::digest::Output<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes any key length");
    mac.update(name.as_bytes());
    mac.finalize().into_bytes()
}
