//! SIP over a stream, as much of it as a server of single transactions needs (RFC 3261).
//!
//! [`framing`] cuts messages out of bytes, [`message`] reads heads, [`answer`] writes responses.
//! Nothing here knows a socket, a clock, or what is asked for. Why not a crate: `rsip` reads no
//! compact header forms and is no longer developed in the open, `rsipstack` brings dialogs, DNS
//! and transports of its own; neither bounds what a stranger sends.

pub(crate) mod answer;
pub(crate) mod framing;
pub(crate) mod message;
