//! Wire codecs and protocol state of the A/V Edge: STUN (RFC 8489) and TURN (RFC 8656).
//!
//! The crate is a value without surroundings. It is told the time as [`now::Now`], it is given
//! bytes, it answers with a [`turn::Verdict`] and queues [`turn::Action`]s. No socket, clock,
//! thread, log, metric or ambient randomness lives here.
//!
//! The story of a packet: [`demux`] looks at its first byte; [`stun`] or [`channel_data`] turns
//! the bytes into a validated view; [`turn`] authenticates it with [`auth`], asks [`policy`]
//! whether a peer may be reached, changes its state and says what to do with the payload;
//! [`dialect`] writes its answers.
//!
//! Payload is not understood, but [`media`] tells how well it arrives.
//!
//! Arrows point one way: `turn → dialect → {stun, channel_data}`, `turn → {auth, policy, media}`,
//! `auth → stun::integrity`; codecs know nothing of the rest. What is the same in every dialect
//! has its words in `request`.
#![forbid(unsafe_code)]

pub mod addr;
pub mod auth;
pub mod channel_data;
pub mod demux;
pub mod dialect;
mod flow;
pub mod framing;
pub mod marks;
pub mod media;
pub mod now;
pub mod policy;
pub mod reject;
mod request;
pub mod stun;
pub mod turn;
