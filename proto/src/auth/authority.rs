//! Verifies the credentials of every form this relay accepts.
//!
//! A user name decides which secrets may have signed it; [`Authority::derive`] collects them,
//! [`Derived::authenticate`] tries them. A name that none of them can have signed is tried
//! against a decoy, so that neither answer nor time tells it from a wrong password.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::auth::credential::{Password, PoolName, Recognised, RestName, recognise};
use crate::auth::identity::Identity;
use crate::auth::pool_key::{KeyRing, PoolKey, Secret};
use crate::now::UnixTime;
use crate::policy::UserKey;
use crate::reject::Why;
use crate::stun::integrity::{MessageKey, PasswordAlgorithm};

/// Shortest shared secret, bytes (AUTH-035, REST-016).
pub const SECRET_MIN: usize = 16;

/// The secrets a relay verifies with. At least one form must be configured.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Pool credentials.
    pub ring: Option<KeyRing>,
    /// Shared secrets of the TURN REST form, the current one first; each at least
    /// [`SECRET_MIN`] bytes.
    pub rest_secrets: Vec<Secret>,
    /// Expiries further ahead than this many seconds are refused (REST-011).
    pub max_lifetime_s: u64,
}

/// How far a minting host's clock may run ahead of a relay's, seconds.
pub const CLOCK_SKEW_S: u64 = 60;

impl Authority {
    /// Which secrets can have signed this user name. Knows no clock: see [`Authority::in_time`].
    pub fn derive<'a>(&'a self, username: &'a str) -> Derived<'a> {
        let found = recognise(username, |id| self.ring.as_ref()?.find(id));
        let signer = match found {
            Ok(Recognised::Pool(key, name)) => Signer::Pool(key, name),
            Ok(Recognised::Rest(name)) if !self.rest_secrets.is_empty() => Signer::Rest(name),
            Ok(Recognised::Rest(_)) | Err(_) => Signer::Nobody,
        };
        Derived { authority: self, username, signer }
    }

    /// Whether a new allocation may be made with this credential now (REST-006, REST-011). A
    /// minting host whose clock runs ahead by less than [`CLOCK_SKEW_S`] does no harm.
    /// Requests on an allocation that exists are not held against it (REST-007).
    pub fn in_time(&self, identity: &Identity, now: UnixTime) -> Result<(), Why> {
        if identity.expires <= now {
            Err(Why::Expired)
        } else if identity.expires.seconds_since(now) > self.max_lifetime_s.saturating_add(CLOCK_SKEW_S) {
            Err(Why::TooFarAhead)
        } else {
            Ok(())
        }
    }

    /// The keyed hash of a user id: equal for all credentials of the user, old keys and new.
    fn user_key(&self, user: &str) -> UserKey {
        let secret = match &self.ring {
            Some(ring) => ring.current.users.bytes(),
            None => self.rest_secrets.first().map_or(&[][..], Secret::bytes),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key length");
        mac.update(b"user\0");
        mac.update(user.as_bytes());
        let hash = mac.finalize().into_bytes();
        let half = hash.first_chunk::<8>().expect("a SHA-256 hash has 32 bytes");
        UserKey(u64::from_be_bytes(*half))
    }
}

/// A user name with the secrets that can have signed it.
#[derive(Debug)]
pub struct Derived<'a> {
    authority: &'a Authority,
    username: &'a str,
    signer: Signer<'a>,
}

#[derive(Debug)]
enum Signer<'a> {
    Pool(&'a PoolKey, PoolName<'a>),
    Rest(RestName<'a>),
    Nobody,
}

/// What a verified message proves.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose message it is.
    pub identity: Identity,
    /// The key that verified it, and signs the answer.
    pub key: MessageKey,
}

impl Derived<'_> {
    /// Tries the keys of the name until `verify` (a constant-time check of the message) takes
    /// one. Refuses with [`Why::WrongPassword`], or [`Why::UnknownUser`] after trying a decoy.
    pub fn authenticate(
        &self,
        realm: &str,
        algorithm: PasswordAlgorithm,
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Result<Verified, Why> {
        let attempt = |password: Password| {
            let key = MessageKey::long_term(algorithm, self.username, realm, password.text());
            verify(&key).then_some(key)
        };
        let key = match &self.signer {
            Signer::Pool(pool, _) => attempt(Password::of_pool(pool, self.username)),
            Signer::Rest(_) => {
                let mut secrets = self.authority.rest_secrets.iter();
                secrets.find_map(|secret| attempt(Password::of_secret(secret, self.username)))
            }
            Signer::Nobody => {
                self.try_decoy(attempt);
                None
            }
        };
        let (user, expires, side, allocations) = match self.signer {
            Signer::Pool(_, name) => (name.user, name.expires, name.side, name.allocations),
            Signer::Rest(name) => (name.user.unwrap_or(self.username), name.expires, None, None),
            Signer::Nobody => return Err(Why::UnknownUser),
        };
        let key = key.ok_or(Why::WrongPassword)?;
        let user = self.authority.user_key(user);
        Ok(Verified { identity: Identity { user, expires, side, allocations }, key })
    }

    /// Does the work that a wrong password of the form in use costs. No key is returned, even
    /// if it fits: a name with a claim we do not know may well be signed with ours.
    fn try_decoy(&self, attempt: impl Fn(Password) -> Option<MessageKey>) {
        match &self.authority.ring {
            Some(ring) => drop(attempt(Password::of_pool(&ring.current, self.username))),
            None => {
                for secret in &self.authority.rest_secrets {
                    drop(attempt(Password::of_secret(secret, self.username)));
                }
            }
        }
    }
}
