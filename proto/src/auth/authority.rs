//! Verifies the credentials of every form this relay accepts.
//!
//! A user name decides which secrets may have signed it; [`Authority::derive`] collects them,
//! [`Derived::authenticate`] tries them. A name that none of them can have signed is tried
//! against a decoy, so that neither answer nor time tells it from a wrong password.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::auth::credential::{Password, PoolName, Recognised, RestName, recognise};
use crate::auth::identity::Identity;
use crate::auth::pool_key::{KeyId, KeyRing, PoolKey, Secret};
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

    /// Whether a new allocation may be made with this credential now (REST-006, REST-011).
    /// Requests on an allocation that exists are not held against it (REST-007).
    pub fn in_time(&self, identity: &Identity, now: UnixTime) -> Result<(), Why> {
        if identity.expires <= now {
            Err(Why::Expired)
        } else if identity.expires.seconds_since(now) > self.max_lifetime_s {
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
        let (key, identity) = match &self.signer {
            Signer::Pool(pool, name) => {
                let key = attempt(Password::of_pool(pool, self.username));
                (
                    key,
                    Identity {
                        user: self.authority.user_key(name.user),
                        expires: name.expires,
                        side: name.side,
                        allocations: name.allocations,
                    },
                )
            }
            Signer::Rest(name) => {
                let mut secrets = self.authority.rest_secrets.iter();
                let key = secrets.find_map(|s| attempt(Password::of_secret(s, self.username)));
                (
                    key,
                    Identity {
                        user: self.authority.user_key(name.user.unwrap_or(self.username)),
                        expires: name.expires,
                        side: None,
                        allocations: None,
                    },
                )
            }
            Signer::Nobody => {
                self.try_decoy(&attempt);
                return Err(Why::UnknownUser);
            }
        };
        key.map(|key| Verified { identity, key }).ok_or(Why::WrongPassword)
    }

    /// Does the work that a wrong password of the form in use costs, and nothing with the result.
    fn try_decoy(&self, attempt: &impl Fn(Password) -> Option<MessageKey>) {
        let nobody = Secret::new(vec![0; 32]);
        if self.authority.ring.is_some() {
            let key = PoolKey {
                id: KeyId([0; 4]),
                credentials: nobody.clone(),
                nonces: nobody.clone(),
                users: nobody,
            };
            attempt(Password::of_pool(&key, self.username));
        } else {
            for _ in &self.authority.rest_secrets {
                attempt(Password::of_secret(&nobody, self.username));
            }
        }
        self.authority.user_key(self.username);
    }
}
