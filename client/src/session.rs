//! The long-term credential of one session: what the server demanded, what the client signs with.
//!
//! Knows no socket. A request passes through [`Session::dress`], a refusal through
//! [`Session::challenge`], which says whether trying again makes sense (RFC 8489 §9.2.5).

use std::net::SocketAddr;
use std::time::Duration;

use stun_rs::attributes::stun::{Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, UserName};
use stun_rs::{Algorithm, AlgorithmId, HMACKey, StunAttribute, StunMessage};

use crate::wire::Signature;
use crate::{ClientError, Transport};

/// A user name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// USERNAME of RFC 8489 §14.3.
    pub username: String,
    /// The password, as text.
    pub password: String,
}

impl Credentials {
    /// Takes both parts.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Which password algorithms a client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithms {
    /// SHA-256 when the server offers it, else MD5.
    #[default]
    Best,
    /// As a client of RFC 5389: MD5, HMAC-SHA1, and PASSWORD-ALGORITHMS is not understood.
    Md5Only,
    /// Understands PASSWORD-ALGORITHMS but chooses MD5 (RFC 8489 permits both).
    PreferMd5,
}

/// How a client behaves; `Options::default()` suits a network.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to speak to the server.
    pub transport: Transport,
    /// Local address to bind; a free port on any address if `None`.
    pub bind: Option<SocketAddr>,
    /// First retransmission over UDP; doubled each time (RFC 8489 §6.2.1).
    pub retransmit_after: Duration,
    /// How long a transaction may take in all; over TCP and TLS also how long connecting may.
    pub timeout: Duration,
    /// Size of the socket's buffers, if the default is not enough.
    pub buffer_bytes: Option<usize>,
    /// Whether to add FINGERPRINT to each message.
    pub fingerprint: bool,
    /// Password algorithms known.
    pub algorithms: Algorithms,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: Transport::Udp,
            bind: None,
            retransmit_after: Duration::from_millis(250),
            timeout: Duration::from_secs(5),
            buffer_bytes: None,
            fingerprint: true,
            algorithms: Algorithms::Best,
        }
    }
}

/// What the last challenge demanded.
#[derive(Clone, Debug)]
struct Challenge {
    realm: Realm,
    nonce: Nonce,
    offered: Option<PasswordAlgorithms>,
    chosen: AlgorithmId,
    signature: Signature,
}

/// Credentials and the state of their use.
#[derive(Debug)]
pub(crate) struct Session {
    credentials: Credentials,
    algorithms: Algorithms,
    challenge: Option<Challenge>,
}

impl Session {
    pub(crate) fn new(credentials: Credentials, algorithms: Algorithms) -> Self {
        Self { credentials, algorithms, challenge: None }
    }

    /// What this session signs with, once it was challenged.
    pub(crate) fn signature(&self) -> Option<&Signature> {
        self.challenge.as_ref().map(|challenge| &challenge.signature)
    }

    pub(crate) fn realm(&self) -> Option<&str> {
        self.challenge.as_ref().map(|challenge| challenge.realm.as_str())
    }

    pub(crate) fn nonce(&self) -> Option<&str> {
        self.challenge.as_ref().map(|challenge| challenge.nonce.as_str())
    }

    /// Adds what a signed request must carry; nothing before the first challenge.
    pub(crate) fn dress(&self, attributes: &mut Vec<StunAttribute>) -> Result<(), ClientError> {
        let Some(challenge) = &self.challenge else { return Ok(()) };
        let username = UserName::new(&self.credentials.username).map_err(unsendable)?;
        attributes.push(username.into());
        attributes.push(challenge.realm.clone().into());
        attributes.push(challenge.nonce.clone().into());
        if let Some(offered) = &challenge.offered {
            let chosen = PasswordAlgorithm::new(Algorithm::from(challenge.chosen));
            attributes.push(offered.clone().into());
            attributes.push(chosen.into());
        }
        Ok(())
    }

    /// Learns from a 401 or 438. `Ok(true)` when a further try may succeed.
    pub(crate) fn challenge(
        &mut self,
        code: u16,
        message: &StunMessage,
    ) -> Result<bool, ClientError> {
        let realm = message.get::<Realm>().and_then(|a| a.as_realm().ok()).cloned();
        let nonce = message.get::<Nonce>().and_then(|a| a.as_nonce().ok()).cloned();
        let (Some(realm), Some(nonce)) = (realm, nonce) else { return Ok(false) };
        // A second 401 for a signed request means the credentials are bad, not stale.
        let again = code == 438 || self.challenge.is_none();
        let listed = message
            .get::<PasswordAlgorithms>()
            .and_then(|attribute| attribute.as_password_algorithms().ok())
            .cloned();
        if listed.is_none()
            && self.algorithms != Algorithms::Md5Only
            && promises_algorithms(nonce.as_str())
        {
            return Err(ClientError::BidDown);
        }
        let offered = listed.filter(|_| self.algorithms != Algorithms::Md5Only);
        let chosen = self.choose(offered.as_ref())?;
        let key = HMACKey::new_long_term(
            &self.credentials.username,
            realm.as_str(),
            &self.credentials.password,
            Algorithm::from(chosen),
        )
        .map_err(unsendable)?;
        let signature =
            if offered.is_some() { Signature::Sha256(key) } else { Signature::Sha1(key) };
        self.challenge = Some(Challenge { realm, nonce, offered, chosen, signature });
        Ok(again)
    }

    fn choose(&self, offered: Option<&PasswordAlgorithms>) -> Result<AlgorithmId, ClientError> {
        let Some(offered) = offered else { return Ok(AlgorithmId::MD5) };
        let wanted = match self.algorithms {
            Algorithms::Best | Algorithms::Md5Only => [AlgorithmId::SHA256, AlgorithmId::MD5],
            Algorithms::PreferMd5 => [AlgorithmId::MD5, AlgorithmId::SHA256],
        };
        wanted
            .into_iter()
            .find(|id| offered.iter().any(|listed| listed.algorithm() == *id))
            .ok_or_else(|| ClientError::Garbled("no password algorithm in common".to_owned()))
    }
}

/// Whether the nonce's security feature bits promise PASSWORD-ALGORITHMS, in either reading of
/// the bit order (RFC 8489 §9.2 and its erratum 6290).
fn promises_algorithms(nonce: &str) -> bool {
    let features = nonce.strip_prefix("obMatJos2").and_then(|rest| rest.get(..4));
    matches!(features, Some("AAAB" | "AAAD" | "gAAA" | "wAAA"))
}

#[expect(clippy::needless_pass_by_value, reason = "shape of map_err")]
fn unsendable(error: stun_rs::StunError) -> ClientError {
    ClientError::Unsendable(error.to_string())
}
