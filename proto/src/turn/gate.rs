//! The gate: a request becomes an [`Authenticated`] one, or is refused (RFC 8489 §9.2.4).
//!
//! The order of the checks is part of the specification: no integrity, incomplete, negotiation,
//! unknown user, wrong password, stale nonce. A name nobody minted is checked against a decoy, so
//! that it takes as long as a wrong password and earns the same answer. Who brings an access token
//! (RFC 7635) passes the same checks; its key then stands for the token in all requests but
//! Allocate and Refresh.

mod ms;

use std::borrow::Cow;

use subtle::ConstantTimeEq;

use crate::addr::{FiveTuple, Transport};
use crate::auth::authority::Verified;
use crate::auth::{Identity, Term};
use crate::dialect::Signer;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::stun::attribute::{ChosenAlgorithm, Nonce, PasswordAlgorithms, UserHash};
use crate::stun::{AttributeType, BadValue, Integrity, Message, MessageKey, PasswordAlgorithm};
use crate::turn::allocation::{Bearer, Owner};
use crate::turn::exchange::Exchange;
use crate::turn::nonce::offers_algorithms;
use crate::turn::server::Server;
use crate::turn::tally::Procedure;

/// A request whose integrity, credentials and nonce were checked; only [`Server::admit`] makes one.
#[derive(Debug)]
pub(crate) struct Authenticated<'a> {
    /// What the response needs; it holds the signer.
    pub(crate) exchange: Exchange,
    /// The request as it came.
    pub(crate) bytes: &'a [u8],
    /// The whole user name.
    pub(crate) username: Cow<'a, [u8]>,
    /// What it proved.
    pub(crate) identity: Identity,
    /// The nonce in it, if it stays good as long as the allocation that is made with it.
    pub(crate) lasting_nonce: Option<&'a [u8]>,
    /// Keeps others from making one.
    _gate: (),
}

impl Authenticated<'_> {
    /// Whether an allocation of this owner is the asker's. A token names nobody: whoever has a
    /// good one may go on with what another began (RFC 7635 §9).
    pub(crate) fn owns(&self, owner: &Owner) -> bool {
        if self.identity.is_by_token() {
            owner.bearer.is_some()
        } else {
            owner.bearer.is_none() && *owner.username == *self.username
        }
    }

    /// Whether it brings the key of the owner's access token, if that one has one. What many tokens may
    /// go on with is known by its five-tuple; what is claimed by a number from anywhere is not.
    pub(crate) fn bears(&self, owner: &Owner) -> bool {
        owner.bearer.as_ref().is_none_or(|bearer| {
            self.bearer().is_some_and(|key| bool::from(key.ct_eq(&bearer.key)))
        })
    }

    /// The key that the access token brought, if one did.
    pub(crate) fn bearer(&self) -> Option<MessageKey> {
        let signer = self.exchange.signer.as_ref().filter(|_| self.identity.is_by_token());
        signer.map(|signer| signer.key.clone())
    }
}

/// Comprehension-required attributes this server understands, wherever they stand (STUN-016).
/// DONT-FRAGMENT is among them: Allocate alone refuses it where it can't be kept, with a 420 of its own.
pub(crate) const KNOWN: &[AttributeType] = &[
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::XOR_RELAYED_ADDRESS,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::DONT_FRAGMENT,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::RESERVATION_TOKEN,
    AttributeType::CONNECTION_ID,
];

impl From<BadValue> for Reject {
    fn from(_: BadValue) -> Self {
        Why::BadAttribute.into()
    }
}

/// 420 with the list, unless every required attribute is known (STUN-012).
pub(super) fn all_known(message: &Message<'_>, known: &[AttributeType]) -> Result<(), Reject> {
    let unknown = message.unknown_required(known);
    if unknown.is_empty() { Ok(()) } else { Err(Reject::unknown(unknown)) }
}

/// Longest user name that is parsed (OLD-008); longer ones are malformed.
const USERNAME_PARSED: usize = 763;

impl<L: Ledger> Server<L> {
    /// Checks integrity, credentials and nonce.
    pub(super) fn admit<'a>(
        &self,
        now: Now,
        exchange: &Exchange,
        message: &Message<'a>,
    ) -> Result<Authenticated<'a>, Reject> {
        // (1) No integrity: challenge.
        let carried = message.integrity().ok_or(Why::NoIntegrity)?;
        // (2) User name, realm and nonce belong to it.
        let realm = message.first(AttributeType::REALM).ok_or(Why::IncompleteCredentials)?;
        let Nonce(nonce) = message.read()?.ok_or(Why::IncompleteCredentials)?;
        let user = User::of(message)?;
        // (3) The algorithm of the key.
        let (algorithm, implicit) = negotiated(message, nonce)?;
        if realm != self.config.realm.as_bytes() {
            return Err(Why::WrongRealm.into());
        }
        // (4) and (5) The user and the password, or the token and its key.
        let verify = |key: &MessageKey| message.verify(key, carried);
        let token = message.first(AttributeType::ACCESS_TOKEN);
        let proven = match (token, user) {
            (Some(token), User::Name(id)) if self.config.authority.tokens.is_some() => {
                let verified = self.config.authority.open_token(now.unix, id, token, verify);
                let verified = verified.or_else(|why| match why {
                    Why::Expired => self.outlasting(now, exchange, id, verify).ok_or(why),
                    why => Err(why),
                });
                verified.map(|verified| (Cow::Borrowed(id), verified))
            }
            _ => match self.borne(exchange, user, verify) {
                Some(verified) => Ok(verified),
                None => self.identify(user, algorithm, verify),
            },
        };
        let (username, Verified { identity, key }) = proven.map_err(|why| match token {
            // RFC 7635 §7 wants 420 where RFC 8489 would challenge: such a client has no other
            // credential, and another 401 would only make it bring the token again.
            Some(_) if self.config.authority.tokens.is_none() => {
                Reject::unknown(message.unknown_required(KNOWN))
            }
            _ => why.into(),
        })?;
        // (6) The nonce, last.
        let FiveTuple { client, .. } = exchange.client;
        if !self.nonces.is_good(now, nonce, client, self.transport(exchange.client)) {
            return Err(Why::StaleNonce.into());
        }
        let integrity = match implicit {
            // A key that came in a token was made by no algorithm.
            _ if identity.is_by_token() => carried,
            true => Integrity::Sha1,
            false => Integrity::Sha256,
        };
        let signer = Some(Signer { key, integrity });
        let exchange = Exchange { signer, proven: true, ..exchange.clone() };
        let username = match username {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        };
        Ok(Authenticated {
            exchange,
            bytes: message.bytes(),
            username,
            identity,
            lasting_nonce: None,
            _gate: (),
        })
    }

    /// Tries the long-term credentials of a user.
    fn identify<'a>(
        &self,
        user: User<'a>,
        algorithm: PasswordAlgorithm,
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Result<(Cow<'a, str>, Verified), Why> {
        let (authority, realm) = (&self.config.authority, &self.config.realm);
        match user {
            User::Name(name) => {
                let verified = authority.derive(name).authenticate(realm, algorithm, verify)?;
                Ok((Cow::Borrowed(name), verified))
            }
            User::Hash(hash) => {
                let derived = authority.derive_hash(&hash);
                let verified = derived.authenticate(realm, algorithm, verify)?;
                Ok((Cow::Owned(derived.username().into_owned()), verified))
            }
            User::Unreadable => Err(Why::UnknownUser),
        }
    }

    /// Tries the key of the token that the allocation of the five-tuple was made or refreshed
    /// with: only Allocate and Refresh must bring a token (RFC 7635 §9).
    fn borne<'a>(
        &self,
        exchange: &Exchange,
        user: User<'a>,
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Option<(Cow<'a, str>, Verified)> {
        let User::Name(name) = user else { return None };
        if matches!(exchange.procedure, Procedure::Allocate | Procedure::Refresh) {
            return None;
        }
        let bearer = self.bearer(exchange, name).filter(|bearer| verify(&bearer.key))?;
        let Bearer { key, identity, .. } = bearer;
        Some((Cow::Borrowed(name), Verified { identity: identity.clone(), key: key.clone() }))
    }

    /// The same for a token that is over by the clock of the wall. By a steady clock it may not be, and
    /// a step of the other one ends no call; what it opens anew is not decided here.
    fn outlasting(
        &self,
        now: Now,
        exchange: &Exchange,
        name: &str,
        verify: impl Fn(&MessageKey) -> bool,
    ) -> Option<Verified> {
        let bearer = self.bearer(exchange, name).filter(|bearer| verify(&bearer.key))?;
        let left = bearer.until.checked_duration_since(now.mono).filter(|left| !left.is_zero())?;
        let identity = Identity { term: Term::Token(left), ..bearer.identity.clone() };
        Some(Verified { identity, key: bearer.key.clone() })
    }

    /// What an access token of this name left behind on the five-tuple of a request.
    fn bearer(&self, exchange: &Exchange, name: &str) -> Option<&Bearer> {
        let owner = self.table.owner_of(exchange.client)?;
        owner.bearer.as_deref().filter(|_| *owner.username == *name.as_bytes())
    }

    /// 420 with the list, unless every required attribute of an authenticated request is known.
    pub(super) fn understood(&self, message: &Message<'_>) -> Result<(), Reject> {
        let mut unknown = message.unknown_required(KNOWN);
        if self.config.authority.tokens.is_some() {
            unknown.retain(|&kind| kind != AttributeType::ACCESS_TOKEN.0);
        }
        if unknown.is_empty() { Ok(()) } else { Err(Reject::unknown(unknown)) }
    }

    /// The transport a client speaks.
    pub(super) fn transport(&self, client: FiveTuple) -> Transport {
        let listener = self.config.edge.listener(client.listener);
        listener.map_or(Transport::Udp, |listener| listener.transport)
    }
}

/// Whom a request names.
#[derive(Clone, Copy)]
enum User<'a> {
    Name(&'a str),
    /// The hash of a name; a name beside it wins (AUTH-026).
    Hash([u8; 32]),
    /// A name that is no UTF-8.
    Unreadable,
}

impl<'a> User<'a> {
    fn of(message: &Message<'a>) -> Result<Self, Reject> {
        let hash = message.read::<UserHash>()?;
        match (message.first(AttributeType::USERNAME), hash) {
            (None, None) => Err(Why::IncompleteCredentials.into()),
            (None, Some(UserHash(hash))) => Ok(Self::Hash(hash)),
            (Some(name), _) if name.len() > USERNAME_PARSED => Err(Why::BadAttribute.into()),
            (Some(name), _) => Ok(std::str::from_utf8(name).map_or(Self::Unreadable, Self::Name)),
        }
    }
}

/// How the client made its key, and whether that was by default: then it knows no algorithms, and
/// its response carries MESSAGE-INTEGRITY (AUTH-003, AUTH-010).
fn negotiated(message: &Message<'_>, nonce: &[u8]) -> Result<(PasswordAlgorithm, bool), Reject> {
    let broken = || Reject::from(Why::AlgorithmNegotiation);
    let list = message.first(AttributeType::PASSWORD_ALGORITHMS);
    let chosen = message.first(AttributeType::PASSWORD_ALGORITHM);
    let known = || {
        let chosen = message.read::<ChosenAlgorithm<'_>>().ok().flatten();
        chosen.and_then(|chosen| chosen.known()).ok_or_else(broken)
    };
    match (list, chosen) {
        (None, None) => Ok((PasswordAlgorithm::Md5, true)),
        (Some(list), Some(_)) if list == PasswordAlgorithms::OFFERED.bytes() => {
            Ok((known()?, false))
        }
        // Without the bit in its nonce a client may name an algorithm alone; such a nonce is
        // none of ours, so this ends in 438 at best.
        (None, Some(_)) if !offers_algorithms(nonce) => Ok((known()?, false)),
        _ => Err(broken()),
    }
}
