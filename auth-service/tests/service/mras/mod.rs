//! MRAS, as trusted servers use it: SIP over real connections.

mod client;
mod configuration;
mod connections;
mod credentials;
mod schema;
mod sip;
mod tls;
