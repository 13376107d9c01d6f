//! The credential service: mints short-lived TURN credentials for callers it knows.
//!
//! A caller, an application's server, proves itself with a bearer key and asks over HTTP for a
//! user's credential. The answer is computed from the pool key alone, nothing is stored, and any
//! relay that holds the key verifies it. The relay is not spoken to, and not linked.
//!
//! The story of a request: [`server`] accepts the connection, if the [`crowd`] has a place, and holds it to deadlines; [`web`]
//! reads the request; [`shared`] finds out the caller among [`callers`] and charges its rate
//! ([`limits`]); [`mint`] applies lifetime and side and calls `proto::auth`; a [`refusal`] or the
//! credential goes back, counted by [`telemetry`]. [`Config`] is completely valid before a
//! socket opens; [`run`] reads it again on SIGHUP, so that keys roll without a restart.
#![forbid(unsafe_code)]

mod callers;
mod clock;
mod config;
mod crowd;
mod limits;
mod mint;
mod mras;
mod refusal;
mod server;
mod service;
mod shared;
mod sip;
mod telemetry;
mod tokens;
mod web;

pub use config::{Config, ConfigError};
pub use service::{AuthService, StartError, run, start};
