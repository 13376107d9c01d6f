//! The server as a value: state, procedures of RFC 8656, verdicts and actions.
//!
//! [`Server`] has the entry points and no procedure. A datagram that carries payload takes the
//! path of `forward` and leaves as a [`Verdict`]. `conduct` leads a request of any dialect past
//! `gate`, which alone makes an authenticated one of it, and on to the file that bears its name:
//! `allocate`, `refresh`, `permission`, `channel`, `destination`, `mobility`; for TCP relays
//! `connect`, `connection_attempt`, `connection_bind`;
//! `brake` counts the peers they turn to, `exchange` writes the answer, `notices` keeps for followers what befell clients, `ending` takes back what is
//! over, and `farewell` remembers what was said of it. What the network says of undelivered datagrams is told by `unreachable`. `quality`
//! measures what is relayed, `view` shows allocations to observers. `renewal` puts
//! another configuration in force; when the peer policy changes, `revoke` ends what it no longer
//! admits. State
//! lies in `table` (who has what), `allocation` (what one client holds), `ports`, `reservation`
//! and `expiry`. Nothing here reads
//! a clock or draws from anything but the seed.

pub mod action;
mod allocate;
mod allocation;
mod arrivals;
mod binding;
mod brake;
pub mod channel;
mod chunks;
mod classic;
mod conduct;
pub mod config;
mod connect;
pub mod connection;
mod connection_attempt;
mod connection_bind;
mod destination;
mod discovery;
mod ending;
mod exchange;
mod expiry;
mod farewell;
mod few;
mod forward;
mod gate;
mod guesses;
mod indication;
#[cfg(any(test, debug_assertions))]
mod invariants;
mod mobility;
mod nonce;
mod notices;
pub mod permission;
mod ports;
mod quality;
mod random;
mod redirect;
pub mod refresh;
mod renewal;
mod reservation;
mod revoke;
pub mod route;
pub mod server;
mod session;
mod table;
pub mod tally;
pub mod tap;
#[cfg(test)]
mod tests;
mod throttle;
mod ticket;
mod unreachable;
pub mod view;
mod wish;

pub use crate::dialect::Wrap;
pub use action::{Action, Change, CloseReason, ConnectFailure, OpenFailure, Span, Verdict};
pub use config::Config;
pub use exchange::can_challenge;
pub use mobility::MOST_DIVERTED;
pub use notices::{Notice, Occurrence, Party};
pub use route::Route;
pub use server::Server;
pub use tally::Tally;
pub use throttle::{About, NETWORK_FACTOR, Question, Rate, Standing, Throttle, surroundings};
