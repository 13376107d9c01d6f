//! RFC 5780, section by section, against a server in a simulated network.

mod binding;
