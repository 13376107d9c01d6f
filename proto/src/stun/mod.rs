//! STUN on the wire (RFC 8489).

/// The 96 bits that tie a response to its request (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);
