//! What a packet on the client-facing socket is, by its first byte (RFC 7983 §7).
