//! How messages are cut out of a byte stream, and what a stream is at all.
//!
//! Every function here looks at the bytes a connection has sent so far and says: complete, so many
//! more, or broken. None keeps state, copies payload or believes a length before it has been
//! compared with a bound; the caller owns the buffer and the decision to close.
//!
//! [`turn`] cuts STUN and ChannelData messages.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod turn;
