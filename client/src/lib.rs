//! A TURN client on stun-rs: blocking, small, and a stranger to the relay's own codec.
//!
//! Tests, benchmarks, the demo and `av-edge probe` speak to a relay through this crate, so that
//! the server's parser is checked against one that never met it. Nothing of `proto` is used here.
//!
//! [`TurnClient`] is one client with one [`transport::Link`] to its server: it answers challenges, retransmits, keeps the
//! data that arrives in between, and tells a refusal (with its code) from silence. [`load`] moves
//! packets of many allocations with few system calls, [`tcp_relay`] opens connections to peers (RFC 6062). [`wire`] is the thin layer over stun-rs.
#![forbid(unsafe_code)]

pub mod checkup;
mod clock;
pub mod conformance;
mod error;
pub mod load;
mod session;
pub mod tcp_relay;
pub mod transport;
mod turn;
pub mod wire;

pub use error::ClientError;
pub use session::{Algorithms, Credentials, Options};
pub use transport::Transport;
pub use turn::{AllocateOptions, Allocation, Event, Family, TurnClient};

/// The codec underneath, for callers that compose requests of their own.
pub use stun_rs;
