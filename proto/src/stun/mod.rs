//! STUN on the wire (RFC 8489).
