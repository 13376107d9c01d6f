//! The grammar of user names and the one function that turns a name into its password.
//!
//! Pool credentials: `expiry:kid:claims:user`; TURN REST credentials of a shared secret:
//! `expiry:user` or `expiry` (draft-uberti-behave-turn-rest-00).

use crate::addr::Side;
use crate::auth::pool_key::PoolKey;
use crate::now::UnixTime;

/// What a credential shall permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Opaque id of the user: 1–255 bytes of UTF-8 without control characters.
    pub user: String,
    /// When it expires.
    pub expires: UnixTime,
    /// The only side of the edge it is good on; `None`: both.
    pub side: Option<Side>,
    /// Allocations the user may hold at a time, if fewer than the relay's default.
    pub allocations: Option<u32>,
}

/// A user name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// USERNAME of RFC 8489 §14.3.
    pub username: String,
    /// Base64 of the keyed hash of the name.
    pub password: String,
}

/// Why a grant cannot be put into a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The user id is empty, too long or holds control characters.
    User,
}

/// Mints the credential of a grant.
pub fn mint(_key: &PoolKey, _grant: &Grant) -> Result<Credential, GrantError> {
    Err(GrantError::User)
}
