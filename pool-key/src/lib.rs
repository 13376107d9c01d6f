//! The pool's private key: read from PEM, turned into the secrets that `proto` takes.
//!
//! Every host of a pool holds the same key file, as operators know it from the A/V authentication
//! certificate. [`PrivateKey`] accepts RSA (2048 bits or more), P-256 and Ed25519; its secrets
//! derive from the canonical secret of the key, not from the file, so another encoding of the
//! same key gives the same pool ([`canonical`]). The key signs nothing here.
//!
//! Parts: `pem` finds the one private key of a text, `der` reads its structure, `canonical`
//! reduces it, `file` loads it from disk, `error` says what is wrong and what would be right.
#![forbid(unsafe_code)]

mod canonical;
mod der;
mod error;
mod file;
mod pem;

pub use canonical::Kind;
pub use error::{KeyError, Problem};
pub use file::{load, load_ring};

use std::fmt;

use proto::auth::{KeyId, PoolKey, Secret};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use zeroize::Zeroizing;

use crate::canonical::Canonical;

/// A private key of a pool; wiped when dropped, never printed.
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    canonical: Canonical,
}

impl PrivateKey {
    /// A new P-256 key from the operating system's generator.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random numbers: nothing can be secret then.
    pub fn generate() -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .expect("the operating system gives random numbers");
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let canonical = Canonical::of_pkcs8(&pkcs8).expect("ring writes what we read");
        Self { pkcs8, canonical }
    }

    /// A new Ed25519 key, in the form of PKCS#8 that every tool reads.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random numbers: nothing can be secret then.
    pub fn generate_ed25519() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *seed).expect("the operating system gives random numbers");
        let key = der::element(der::OCTET_STRING, &[&*seed]);
        let pkcs8 = der::pkcs8(&[der::ED25519], &key);
        let canonical = Canonical::of_pkcs8(&pkcs8).expect("any seed is a key");
        Self { pkcs8, canonical }
    }

    /// Reads the one private key of a PEM text; other blocks, such as certificates, are skipped.
    /// PKCS#8, and the older forms of RSA (PKCS#1) and EC (SEC 1).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::parse(text).map_err(|problem| KeyError::new("the PEM text", problem))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let block = pem::private_key(text)?;
        let pkcs8 = match block.form {
            pem::Form::Pkcs8 => block.der,
            pem::Form::Pkcs1 => der::pkcs8(&[der::RSA, der::NULL], &block.der),
            pem::Form::Sec1 => der::pkcs8(&[der::EC, der::P256], &block.der),
        };
        let canonical = match block.form {
            pem::Form::Sec1 if canonical::sec1_names_other_curve(&pkcs8) => {
                return Err(Problem::Unsupported(canonical::OTHER_CURVE.into()));
            }
            pem::Form::Pkcs8 | pem::Form::Pkcs1 | pem::Form::Sec1 => Canonical::of_pkcs8(&pkcs8)?,
        };
        Ok(Self { pkcs8, canonical })
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::write(&self.pkcs8)
    }

    /// What kind of key it is.
    pub fn kind(&self) -> Kind {
        self.canonical.kind()
    }

    /// Names the key for people who compare hosts: 32 hex digits, the first eight of which are
    /// the key id in user names. Not secret.
    pub fn fingerprint(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.canonical.secret(b"fingerprint")))
    }

    /// The secrets of the pool, one for each use.
    pub fn pool_key(&self) -> PoolKey {
        let secret = |label| Secret::new(self.canonical.secret::<32>(label).to_vec());
        PoolKey {
            id: KeyId(self.canonical.secret(b"fingerprint")),
            credentials: secret(b"credentials"),
            nonces: secret(b"nonces"),
            users: secret(b"users"),
            tickets: secret(b"tickets"),
            tokens: secret(b"access tokens"),
            ms_tokens: secret(b"mras tokens"),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, {})", self.kind(), self.fingerprint())
    }
}
