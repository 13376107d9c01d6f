//! The test rig: a TURN server in a simulated network that replays from one number.
//!
//! [`World`] owns the time, the links, one [`proto::turn::Server`] and everybody who talks to it.
//! It does the shell's work: it opens relayed sockets when the server asks, wraps payload as the
//! verdict says, and carries datagrams between sockets as a kernel would, its own relayed ports
//! included. Nothing sleeps and nothing is random but the [`dice::Dice`], so a failure replays
//! from its seed.
//!
//! Clients speak through `stun-rs` and `ring`, never through `proto`'s codec: two codecs that
//! never met must agree on every message. [`draft`] builds what clients send, well-formed or
//! broken on purpose; [`heard`] reads what they hear; [`script`] lets a test read like a call;
//! [`ms`] does all three for clients of MS-TURN. [`crew::Crew`] is a relay with several workers.
#![expect(clippy::missing_panics_doc, reason = "a rig reports what went wrong by panicking")]

pub mod beside;
pub mod books;
pub mod client;
pub mod clock;
pub mod crew;
pub mod dial;
pub mod dice;
pub mod draft;
mod dress;
mod follower;
pub mod heard;
pub mod kind;
pub mod link;
pub mod login;
pub mod ms;
mod names;
pub mod peer;
pub mod script;
pub mod seeds;
pub mod seen;
pub mod shadow;
pub mod site;
pub mod stream;
pub mod token;
pub mod world;

pub use dial::Manner;
pub use draft::Draft;
pub use heard::{Arrival, Heard};
pub use link::Link;
pub use login::{Login, Scheme};
pub use ms::{MsArrival, MsDraft, MsHeard};
pub use token::Token;
pub use world::World;
