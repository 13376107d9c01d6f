//! RFC 8489, section by section, against a server in a simulated network.

mod addresses;
mod attributes;
mod binding;
mod classic;
mod guesses;
mod indistinguishable;
mod long_term;
mod messages;
mod negotiation;
mod nonces;
mod redirect;
mod rest;
mod streams;
mod users;
