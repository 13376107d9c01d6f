//! A whole relay on loopback, spoken to by a client that shares no code with it.
#![expect(clippy::unwrap_used, reason = "in a test, what fails shall be loud")]

mod access;
mod admin;
mod bandwidth;
mod configuration;
mod counters;
mod crowded;
mod documented;
mod doors;
mod dtls;
mod events;
mod exhaustion;
mod explain;
mod framed;
mod lanes;
mod life;
mod microsoft;
mod mobility;
mod network;
mod openapi;
mod operators;
mod overload;
mod pacing;
mod page;
mod payload;
mod peers;
mod raw;
mod records;
mod site;
mod strangers;
mod streams;
mod tcp_relay;
mod tls;
mod tls_limits;
mod watch;
