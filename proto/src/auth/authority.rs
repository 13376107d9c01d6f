//! Verifies the credentials of every form this relay accepts.
//!
//! A user name decides which secrets may have signed it; [`Authority::derive`] collects them,
//! [`Derived::authenticate`] tries them: the keys of a user whom the configuration names, and for
//! names that begin with an expiry those of the pool or of the shared secrets. What no secret can
//! have signed is tried against a decoy, so that neither answer nor time tells it from a wrong
//! password. A third party's access token brings its key along ([`Authority::open_token`]); a
//! token of MRAS comes as bytes ([`Authority::derive_ms`]) or as their text.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::auth::access_token::TokenKeys;
use crate::auth::claims::Claims;
use crate::auth::credential::{Password, PoolName, Recognised, RestName, recognise};
use crate::auth::identity::{Identity, Term};
use crate::auth::ms_token::{self, MsToken};
use crate::auth::pool_key::{KeyRing, PoolKey, Secret};
use crate::auth::users::{UserKeys, Users};
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
    /// Users whom the configuration names.
    pub users: Option<Users>,
    /// Access tokens of third parties (RFC 7635).
    pub tokens: Option<TokenKeys>,
    /// Expiries further ahead than this many seconds are refused (REST-011).
    pub max_lifetime_s: u64,
}

/// Keep namesakes of different forms apart; a user of the pool's form and of the REST form is one.
const USER: &[u8] = b"user\0";
const CLIENT: &[u8] = b"mras\0";

/// How far a minting host's clock may run ahead of a relay's, seconds.
pub const CLOCK_SKEW_S: u64 = 60;

impl Authority {
    /// Which secrets can have signed this user name. Knows no clock: see [`Authority::in_time`].
    pub fn derive<'a>(&'a self, username: &'a str) -> Derived<'a> {
        let user = self.users.as_ref().and_then(|users| users.find(username));
        let name = Name::Text(username);
        if let Some(token) = ms_token::bytes_of(username) {
            let signer = self.signer_of(&token);
            return Derived { authority: self, name, user, form: Form::Token, signer };
        }
        let found = recognise(username, |id| self.ring.as_ref()?.find(id));
        let form = if found.is_ok() { Form::Timed } else { Form::Other };
        let signer = match found {
            Ok(Recognised::Pool(key, name)) => Signer::Pool(key, name),
            Ok(Recognised::Rest(name)) if !self.rest_secrets.is_empty() => Signer::Rest(name),
            Ok(Recognised::Rest(_)) | Err(_) => Signer::Nobody,
        };
        Derived { authority: self, name, user, form, signer }
    }

    /// As [`Authority::derive`], for a user name in the dialect of Microsoft: the bytes of a
    /// token of MRAS, and nothing else.
    pub fn derive_ms<'a>(&'a self, username: &'a [u8]) -> Derived<'a> {
        let signer = self.signer_of(username);
        let name = Name::Bytes(username);
        Derived { authority: self, name, user: None, form: Form::Token, signer }
    }

    /// The key that signed a token. What bears the id of none is tried with the current one, in
    /// vain, so that both take as long.
    fn signer_of(&self, token: &[u8]) -> Signer<'_> {
        let Some(ring) = &self.ring else { return Signer::Nobody };
        let id = MsToken::inspect(token).map(|token| [token.key]);
        let mut named = ring.keys().filter(|key| id.is_some_and(|id| key.id.0.starts_with(&id)));
        let mut next = named.next();
        if next.is_none() {
            let _ = ms_token::verify(&ring.current, token);
        }
        while let Some(key) = next {
            if let Some(token) = ms_token::verify(key, token) {
                return Signer::Token(key, token);
            }
            next = named.next();
        }
        Signer::Nobody
    }

    /// As [`Authority::derive`], for the name behind a USERHASH (RFC 8489 §14.4): only users whom
    /// the configuration names can be found so.
    pub fn derive_hash(&self, hash: &[u8; 32]) -> Derived<'_> {
        let username = self.users.as_ref().and_then(|users| users.name(hash));
        self.derive(username.unwrap_or_default())
    }

    /// Whether every user can be found by the hash of the name: clients may then hide it.
    pub fn knows_everybody(&self) -> bool {
        self.users.is_some()
            && self.ring.is_none()
            && self.rest_secrets.is_empty()
            && self.tokens.is_none()
    }

    /// Verifies a message by the access token in it (RFC 7635 §7); `key_id` is its USERNAME.
    pub fn open_token(
        &self,
        now: UnixTime,
        key_id: &str,
        sealed: &[u8],
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Result<Verified, Why> {
        let tokens = self.tokens.as_ref().ok_or(Why::UnknownUser)?;
        let Some(token) = tokens.open(key_id, sealed) else {
            let _ = verify(&MessageKey::of_bytes(&[0; 32]));
            return Err(if tokens.knows(key_id) { Why::BadToken } else { Why::UnknownUser });
        };
        let keys = [Some(token.mac_key.clone()), token.mac_key.as_coturn_cuts_it()];
        let key = keys.into_iter().flatten().find(|key| verify(key)).ok_or(Why::WrongPassword)?;
        let left = token.left(now).ok_or(Why::Expired)?;
        if u64::from(token.lifetime_s) > self.max_lifetime_s.saturating_add(CLOCK_SKEW_S) {
            return Err(Why::TooFarAhead);
        }
        let user = self.user_key(b"token\0", token.mac_key.bytes());
        let claims = Claims::read(&token.claims).ok_or(Why::BadToken)?;
        let identity = Identity::plain(user, Term::Token(left)).narrowed(&claims);
        Ok(Verified { identity, key })
    }

    /// Whether a new allocation may be made with this credential now (REST-006, REST-011). A
    /// minting host whose clock runs ahead by less than [`CLOCK_SKEW_S`] does no harm.
    /// Requests on an allocation that exists are not held against it (REST-007).
    pub fn in_time(&self, identity: &Identity, now: UnixTime) -> Result<(), Why> {
        let Term::Until(expires) = identity.term else { return Ok(()) };
        let furthest = self.max_lifetime_s.saturating_add(CLOCK_SKEW_S);
        if expires <= now {
            Err(Why::Expired)
        } else if expires.seconds_since(now) > furthest {
            Err(Why::TooFarAhead)
        } else {
            Ok(())
        }
    }

    /// What stands for a user whom nothing names but the network: equal on all relays of the pool.
    pub fn network_key(&self, network: IpAddr) -> UserKey {
        self.user_key(b"network\0", network.to_string().as_bytes())
    }

    /// The keyed hash of a user id: equal for all credentials of the user, old keys and new.
    /// `kind` keeps namesakes of different forms apart.
    fn user_key(&self, kind: &[u8], user: &[u8]) -> UserKey {
        let ring = self.ring.as_ref().map(|ring| &ring.current.users);
        let secret = ring
            .or(self.rest_secrets.first())
            .or(self.users.as_ref().map(Users::secret))
            .map_or(&[][..], Secret::bytes);
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key length");
        mac.update(kind);
        mac.update(user);
        let hash = mac.finalize().into_bytes();
        let half = hash.first_chunk::<8>().expect("a SHA-256 hash has 32 bytes");
        UserKey(u64::from_be_bytes(*half))
    }
}

/// A user name with the secrets that can have signed it.
#[derive(Debug)]
pub struct Derived<'a> {
    authority: &'a Authority,
    name: Name<'a>,
    /// The keys of a user whom the configuration names.
    user: Option<&'a UserKeys>,
    form: Form,
    /// Who minted it.
    signer: Signer<'a>,
}

/// A user name as it came.
#[derive(Clone, Copy, Debug)]
enum Name<'a> {
    Text(&'a str),
    /// In the dialect of Microsoft.
    Bytes(&'a [u8]),
}

impl<'a> Name<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bytes(bytes) => Cow::Owned(STANDARD.encode(bytes)),
        }
    }
}

/// What a user name looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It begins with an expiry, as those of the pool and of shared secrets do.
    Timed,
    /// A token of MRAS.
    Token,
    /// Nobody mints such names.
    Other,
}

#[derive(Debug)]
enum Signer<'a> {
    Pool(&'a PoolKey, PoolName<'a>),
    Rest(RestName<'a>),
    Token(&'a PoolKey, MsToken),
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

impl<'a> Derived<'a> {
    /// The user name; of a token the text, however it came.
    pub fn username(&self) -> Cow<'a, str> {
        self.name.text()
    }

    /// The token of MRAS, if the name is one that a key of the pool signed.
    pub fn token(&self) -> Option<&MsToken> {
        match &self.signer {
            Signer::Token(_, token) => Some(token),
            Signer::Pool(..) | Signer::Rest(_) | Signer::Nobody => None,
        }
    }

    /// Tries the keys of the name until `verify` (a constant-time check of the message) takes
    /// one. Refuses with [`Why::WrongPassword`], or [`Why::UnknownUser`] after trying a decoy.
    ///
    /// What is tried depends on the form of the name alone, not on who exists.
    pub fn authenticate(
        &self,
        realm: &str,
        algorithm: PasswordAlgorithm,
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Result<Verified, Why> {
        let named = self.try_user(algorithm, &verify);
        let minted = if self.form != Form::Other || self.authority.users.is_none() {
            self.try_minted(|password: &[u8]| {
                let key = MessageKey::long_term(algorithm, self.name.bytes(), realm, password);
                verify(&key).then_some(key)
            })
        } else {
            None
        };
        if let Some(key) = named {
            let user = self.authority.user_key(b"static\0", self.name.bytes());
            let term = Term::Unlimited;
            return Ok(Verified { identity: Identity::plain(user, term), key });
        }
        let exists = self.user.is_some() || !matches!(self.signer, Signer::Nobody);
        let wrong = if exists { Why::WrongPassword } else { Why::UnknownUser };
        let key = minted.ok_or(wrong)?;
        // Only now: what a name says is looked at for nobody whose password is wrong.
        let identity = self.identity().ok_or(wrong)?;
        Ok(Verified { identity, key })
    }

    /// What a minted name says; `None` if nobody minted it.
    fn identity(&self) -> Option<Identity> {
        let ((kind, user), expires) = match &self.signer {
            Signer::Pool(_, name) => ((USER, name.user.as_bytes()), name.expires),
            Signer::Rest(name) => {
                ((USER, name.user.map_or(self.name.bytes(), str::as_bytes)), name.expires)
            }
            Signer::Token(_, token) => ((CLIENT, &token.client.0[..]), token.expires),
            Signer::Nobody => return None,
        };
        let user = self.authority.user_key(kind, user);
        let plain = Identity::plain(user, Term::Until(expires));
        Some(match &self.signer {
            Signer::Pool(_, PoolName { claims, .. }) => plain.narrowed(claims),
            Signer::Token(_, token) => Identity { side: token.side, ..plain },
            Signer::Rest(_) | Signer::Nobody => plain,
        })
    }

    /// Tries the key of a user whom the configuration names, or a decoy.
    fn try_user(
        &self,
        algorithm: PasswordAlgorithm,
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Option<MessageKey> {
        let users = self.authority.users.as_ref()?;
        let own = self.user.and_then(|keys| keys.of(algorithm));
        let fits = verify(own.unwrap_or(users.decoy()));
        own.filter(|_| fits).cloned()
    }

    /// Tries the passwords that secrets make of the name, or a decoy.
    fn try_minted(&self, attempt: impl Fn(&[u8]) -> Option<MessageKey>) -> Option<MessageKey> {
        match &self.signer {
            Signer::Pool(pool, _) => self.try_pool(pool, attempt),
            Signer::Rest(_) => self.try_secrets(attempt),
            Signer::Token(pool, _) => self.try_token(pool, attempt),
            Signer::Nobody => {
                self.try_decoy(attempt);
                None
            }
        }
    }

    /// Does the work that a wrong password of the form in use costs. No key is returned, even
    /// if it fits: a name with a claim we do not know may well be signed with ours.
    fn try_decoy(&self, attempt: impl Fn(&[u8]) -> Option<MessageKey>) {
        drop(match (&self.authority.ring, self.form) {
            (Some(ring), Form::Token) => self.try_token(&ring.current, attempt),
            (Some(ring), Form::Timed | Form::Other) => self.try_pool(&ring.current, attempt),
            (None, _) => self.try_secrets(attempt),
        });
    }

    fn try_pool<R>(&self, pool: &PoolKey, attempt: impl Fn(&[u8]) -> Option<R>) -> Option<R> {
        attempt(Password::of_pool(pool, &self.name.text()).text().as_bytes())
    }

    fn try_secrets<R>(&self, attempt: impl Fn(&[u8]) -> Option<R>) -> Option<R> {
        let (name, secrets) = (self.name.text(), &self.authority.rest_secrets);
        let mut passwords = secrets.iter().map(|secret| Password::of_secret(secret, &name));
        passwords.find_map(|password| attempt(password.text().as_bytes()))
    }

    fn try_token<R>(&self, pool: &PoolKey, attempt: impl Fn(&[u8]) -> Option<R>) -> Option<R> {
        match self.name {
            Name::Bytes(bytes) => attempt(&*ms_token::password(pool, bytes)),
            Name::Text(text) => {
                let password = ms_token::password(pool, &ms_token::bytes_of(text)?);
                attempt(Password::of_bytes(&password).text().as_bytes())
            }
        }
    }
}
