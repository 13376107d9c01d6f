//! How messages are cut out of a byte stream, and what a stream is at all.
//!
//! Every function here looks at the bytes a connection has sent so far and says: complete, so many
//! more, or broken. None keeps state, or believes a length before it has been compared with a
//! bound; the caller owns the buffer and the decision to close.
//!
//! A connection to a shared port is told apart by [`sniff`]; a balancer's header before it is
//! read by [`proxy`]; whom TLS is for says [`client_hello`]; and [`turn`] cuts what remains into
//! STUN and ChannelData messages. Clients of the Microsoft dialect may open by [`pseudo_tls`] and
//! speak [`ms`] frames. What opens DTLS over UDP is read by [`dtls`].
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod client_hello;
pub mod dtls;
pub mod ms;
pub mod proxy;
pub mod pseudo_tls;
pub mod sniff;
pub mod turn;

/// The bytes of a vector that is written in hexadecimal.
#[cfg(test)]
fn vector(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
    digits.chunks(2).map(byte).collect()
}
