//! The server as a value: state, procedures of RFC 8656, verdicts and actions.

pub mod action;
pub mod config;
pub mod server;
pub mod tally;

pub use action::{Action, Change, CloseReason, OpenFailure, Span, Verdict, Wrap};
pub use config::Config;
pub use server::Server;
pub use tally::Tally;
