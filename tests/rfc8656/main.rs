//! RFC 8656, section by section, against a server in a simulated network.

mod allocate;
mod brake;
mod channel;
mod clock;
mod families;
mod five_tuple;
mod headers;
mod icmp;
mod indication;
mod media;
mod paths;
mod peers;
mod permission;
mod refresh;
mod reservation;
mod streams;
