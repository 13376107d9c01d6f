//! The keyed hash of a message (MST-41, MST-42).
//!
//! The key is the long-term one of RFC 8489, over bytes instead of text
//! ([`MessageKey::long_term`]); the text is padded with zeros to whole blocks of SHA-1.

use crate::stun::MessageKey;
use crate::stun::integrity::hmac_sha1;

/// Bytes of the hash.
pub(super) const SIZE: usize = 20;

/// A block of SHA-1.
const BLOCK: usize = 64;

/// The hash over a message up to its integrity attribute, given in the parts before, in and
/// behind its length field, which counts that attribute.
pub(super) fn hash(key: &MessageKey, [kind, length, rest]: [&[u8]; 3]) -> [u8; SIZE] {
    let len = kind.len().saturating_add(length.len()).saturating_add(rest.len());
    let missing = len.next_multiple_of(BLOCK).saturating_sub(len);
    let zeros = [0; BLOCK];
    hmac_sha1(key, &[kind, length, rest, zeros.get(..missing).unwrap_or_default()])
}
