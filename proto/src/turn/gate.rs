//! The gate: a request becomes an [`Authenticated`] one, or is refused (RFC 8489 §9.2.4).
//!
//! The order of the checks is part of the specification: no integrity, incomplete, negotiation,
//! unknown user, wrong password, stale nonce. A name nobody minted is checked against a decoy, so
//! that it takes as long as a wrong password and earns the same answer.

use crate::addr::{FiveTuple, Transport};
use crate::auth::Identity;
use crate::auth::authority::Verified;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::stun::attribute::{ChosenAlgorithm, Nonce, PasswordAlgorithms, UserHash};
use crate::stun::{AttributeType, BadValue, Integrity, Message, PasswordAlgorithm};
use crate::turn::exchange::{Exchange, Signer};
use crate::turn::nonce::offers_algorithms;
use crate::turn::server::Server;

/// A request whose integrity, credentials and nonce were checked; only [`Server::admit`] makes one.
#[derive(Debug)]
pub(crate) struct Authenticated<'a> {
    /// What the response needs; it holds the signer.
    pub(crate) exchange: Exchange,
    /// The request.
    pub(crate) message: Message<'a>,
    /// The whole user name.
    pub(crate) username: &'a str,
    /// What it proved.
    pub(crate) identity: Identity,
    /// Keeps others from making one.
    _gate: (),
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
    if unknown.is_empty() { Ok(()) } else { Err(Reject { why: Why::UnknownAttribute, unknown }) }
}

/// Longest user name that is parsed (OLD-008); longer ones are malformed.
const USERNAME_PARSED: usize = 763;

impl<L: Ledger> Server<L> {
    /// Checks integrity, credentials and nonce.
    pub(super) fn admit<'a>(
        &self,
        now: Now,
        exchange: &Exchange,
        message: Message<'a>,
    ) -> Result<Authenticated<'a>, Reject> {
        // (1) No integrity: challenge.
        let carried = message.integrity().ok_or(Why::NoIntegrity)?;
        // (2) User name, realm and nonce belong to it.
        let realm = message.first(AttributeType::REALM).ok_or(Why::IncompleteCredentials)?;
        let Nonce(nonce) = message.read()?.ok_or(Why::IncompleteCredentials)?;
        let name = message.first(AttributeType::USERNAME);
        let hash = message.read::<UserHash>()?;
        if name.is_none() && hash.is_none() {
            return Err(Why::IncompleteCredentials.into());
        }
        if name.is_some_and(|name| name.len() > USERNAME_PARSED) {
            return Err(Why::BadAttribute.into());
        }
        // (3) The algorithm of the key.
        let (algorithm, implicit) = negotiated(&message, nonce)?;
        if realm != self.config.realm.as_bytes() {
            return Err(Why::WrongRealm.into());
        }
        // (4) The user. A hash alone cannot be inverted without a database (AUTH-025).
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        let Some(username) = name else { return Err(Why::UnknownUser.into()) };
        // (5) The password.
        let derived = self.config.authority.derive(username);
        let Verified { identity, key } =
            derived
                .authenticate(&self.config.realm, algorithm, |key| message.verify(key, carried))?;
        // (6) The nonce, last.
        let FiveTuple { client, .. } = exchange.client;
        if !self.nonces.is_good(now, nonce, client, self.transport(exchange.client)) {
            return Err(Why::StaleNonce.into());
        }
        let integrity = if implicit { Integrity::Sha1 } else { Integrity::Sha256 };
        let signer = Some(Signer { key, integrity });
        let exchange = Exchange { signer, ..exchange.clone() };
        Ok(Authenticated { exchange, message, username, identity, _gate: () })
    }

    /// The transport a client speaks.
    pub(super) fn transport(&self, client: FiveTuple) -> Transport {
        let listener = self.config.edge.listener(client.listener);
        listener.map_or(Transport::Udp, |listener| listener.transport)
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
