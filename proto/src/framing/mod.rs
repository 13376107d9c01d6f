//! How messages are cut out of a byte stream, and what a stream is at all.
//!
//! Every function here looks at the bytes a connection has sent so far and says: complete, so many
//! more, or broken. None keeps state, or believes a length before it has been compared with a
//! bound; the caller owns the buffer and the decision to close.
//!
//! A connection to a shared port is told apart by [`sniff`]; a balancer's header before it is
//! read by [`proxy`]; whom TLS is for says [`client_hello`]; and [`turn`] cuts what remains into
//! STUN and ChannelData messages. What opens DTLS over UDP is read by [`dtls`].
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod client_hello;
pub mod dtls;
pub mod proxy;
pub mod sniff;
pub mod turn;
