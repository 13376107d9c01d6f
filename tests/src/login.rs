//! Credentials as a client holds them, computed apart from `proto::auth`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use stun_rs::{Algorithm, AlgorithmId, HMACKey};

/// A user name and its password.
#[derive(Clone, Debug)]
pub struct Login {
    /// USERNAME.
    pub username: String,
    /// The password.
    pub password: String,
}

impl Login {
    /// TURN REST form: `expiry:user`, HMAC-SHA1 of a shared secret.
    pub fn rest(secret: &[u8], username: &str) -> Self {
        Self::keyed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret, username)
    }

    /// Pool form: `expiry:kid:claims:user`, HMAC-SHA256 of the pool's credential secret.
    pub fn pool(secret: &[u8], username: &str) -> Self {
        Self::keyed(hmac::HMAC_SHA256, secret, username)
    }

    fn keyed(hash: hmac::Algorithm, secret: &[u8], username: &str) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hash, secret), username.as_bytes());
        Self { username: username.to_owned(), password: STANDARD.encode(tag) }
    }

    /// The key that signs requests (RFC 8489 §9.2.2).
    pub fn key(&self, realm: &str, algorithm: AlgorithmId) -> HMACKey {
        HMACKey::new_long_term(&self.username, realm, &self.password, Algorithm::from(algorithm))
            .expect("names of the rig are printable")
    }
}

/// Which of the protocol's generations a client speaks (RFC 8489 §9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 5389: MD5 and HMAC-SHA1, no algorithm attributes.
    Legacy,
    /// RFC 8489 with the stronger algorithm.
    Sha256,
    /// RFC 8489 with PASSWORD-ALGORITHM = MD5.
    ExplicitMd5,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::Sha256, Self::ExplicitMd5];

    /// What turns the password into a key.
    pub fn algorithm(self) -> AlgorithmId {
        match self {
            Self::Legacy | Self::ExplicitMd5 => AlgorithmId::MD5,
            Self::Sha256 => AlgorithmId::SHA256,
        }
    }
}
