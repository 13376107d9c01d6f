//! The credential service, started on loopback and used as callers and operators use it.

mod configuration;
mod connections;
mod crowds;
mod harness;
mod http;
mod mras;
