//! Keys, message integrity and the fingerprint (RFC 8489 §9.2.2, §14.5–14.7).
//!
//! Two choices are independent of each other: how the key was made from the password
//! ([`PasswordAlgorithm`]), and which attribute carries the keyed hash ([`Integrity`]); either
//! kind of key feeds either hash. Every comparison of secrets takes the same time whatever
//! differs.
//!
//! Strings enter keys byte for byte as they came. RFC 8489 wants realm and password prepared by
//! `OpaqueString`, which leaves ASCII alone; all that this relay mints and configures is ASCII, and
//! for anything else a sender nobody knows could make us pay for Unicode normalisation. A client
//! that prepares its strings and a user name that needed it simply fail to match.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// How a key is made from user name, realm and password (RFC 8489 §18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum PasswordAlgorithm {
    /// MD5, 16 bytes: what RFC 5389 clients do.
    Md5 = 1,
    /// SHA-256, 32 bytes.
    Sha256 = 2,
}

impl PasswordAlgorithm {
    /// Its number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The algorithm with this number.
    pub fn from_wire(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Md5),
            2 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// Which attribute protects a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Integrity {
    /// MESSAGE-INTEGRITY: HMAC-SHA1, 20 bytes.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256: HMAC-SHA256, 32 bytes; TURN allows no truncation.
    Sha256,
}

/// Longest key: a block of either hash, so that no key is ever hashed down first.
const KEY_MAX: usize = 64;

/// The key of message integrity; wiped when dropped, never printed.
#[derive(Clone)]
pub struct MessageKey {
    bytes: Zeroizing<[u8; KEY_MAX]>,
    len: usize,
}

impl MessageKey {
    /// The key of the long-term mechanism: a hash over `user:realm:password` (RFC 8489 §9.2.2).
    /// In the dialect of Microsoft user name and password are bytes (MST-41).
    pub fn long_term(
        algorithm: PasswordAlgorithm,
        username: &(impl AsRef<[u8]> + ?Sized),
        realm: &str,
        password: &(impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        let parts = [username.as_ref(), b":", realm.as_bytes(), b":", password.as_ref()];
        match algorithm {
            PasswordAlgorithm::Md5 => Self::of_digest::<Md5>(&parts),
            PasswordAlgorithm::Sha256 => Self::of_digest::<Sha256>(&parts),
        }
    }

    /// A key that is no digest: the password of the short-term mechanism, or the key of a
    /// third party's token. At most 64 bytes.
    pub fn raw(key: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_MAX]);
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { bytes, len: key.len() })
    }

    /// The first 16 bytes of a longer key: coturn's client signs with no more of a token's key.
    pub fn as_coturn_cuts_it(&self) -> Option<Self> {
        let first: &[u8; 16] = self.bytes().first_chunk().filter(|_| self.len > 16)?;
        Self::raw(first)
    }

    /// A key of exactly this many bytes, such as a decoy.
    pub fn of_bytes(key: &[u8; 32]) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_MAX]);
        for (to, from) in bytes.iter_mut().zip(key) {
            *to = *from;
        }
        Self { bytes, len: key.len() }
    }

    fn of_digest<D: Digest>(parts: &[&[u8]]) -> Self {
        let mut hash = D::new();
        for part in parts {
            hash.update(part);
        }
        let mut digest = hash.finalize();
        let mut bytes = Zeroizing::new([0; KEY_MAX]);
        for (to, from) in bytes.iter_mut().zip(&digest) {
            *to = *from;
        }
        let len = digest.len();
        digest.as_mut_slice().zeroize();
        Self { bytes, len }
    }

    /// The bytes, for keyed hashes only.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey(..)")
    }
}

impl ConstantTimeEq for MessageKey {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.bytes.ct_eq(&*other.bytes) & self.len.ct_eq(&other.len)
    }
}

/// USERHASH of a user in a realm (RFC 8489 §14.4).
pub fn user_hash(username: &str, realm: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [username, ":", realm] {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The value of MESSAGE-INTEGRITY for a message whose bytes before the attribute are given in
/// parts, the header's length field already counting the attribute.
pub(crate) fn hmac_sha1(key: &MessageKey, parts: &[&[u8]]) -> [u8; 20] {
    keyed::<Hmac<Sha1>>(key, parts).into()
}

/// As [`hmac_sha1`], for MESSAGE-INTEGRITY-SHA256.
pub(super) fn hmac_sha256(key: &MessageKey, parts: &[&[u8]]) -> [u8; 32] {
    keyed::<Hmac<Sha256>>(key, parts).into()
}

fn keyed<M: Mac + KeyInit>(key: &MessageKey, parts: &[&[u8]]) -> hmac::digest::Output<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key.bytes()).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes()
}

/// Whether two byte strings are equal, in a time that tells only whether their lengths differ.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The value of FINGERPRINT over everything before the attribute, the length field already
/// counting it (RFC 8489 §14.7).
pub(super) fn crc(before: &[u8]) -> u32 {
    crc32fast::hash(before) ^ 0x5354_554E
}
