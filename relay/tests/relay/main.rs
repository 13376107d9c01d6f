//! A whole relay on loopback, spoken to by a client that shares no code with it.

mod configuration;
mod life;
mod payload;
mod site;
