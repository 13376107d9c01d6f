//! What the relay says of media against what its senders and receivers counted: to the packet in
//! a simulated network, and over real sockets behind a link that loses, delays and reorders.
#![expect(clippy::unwrap_used, reason = "in a test, what fails shall be loud")]

mod impaired;
mod real;
mod rtp;
mod simulated;
