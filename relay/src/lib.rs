//! The media relay as a process: configuration, workers, engine, telemetry.
//!
//! [`Config`] is completely valid before anything is opened. [`start`] binds every listener of
//! every worker, then starts one worker per core: a pinned thread with its own sockets, its own
//! `proto` server and its own share of the relayed ports. Beside them lives one tokio thread, the
//! office, which answers `/metrics`, `/healthz` and `/readyz` and hears signals; it never sees a
//! packet. Workers share a quota ledger, an inbox each and a block of counters each, nothing
//! more.

mod capture;
mod certificates;
mod chronicle;
mod clock;
mod config;
mod doctor;
mod dtls;
mod engine;
mod haste;
mod ledger;
mod listen;
mod memory;
mod office;
pub mod offload;
mod records;
mod service;
mod session;
mod shown;
mod stream;
mod sys;
mod tcp_relay;
mod telemetry;
mod worker;

pub use chronicle::catalogue::{Reason, reasons};
pub use config::{Config, ConfigError, opaque_string};
pub use doctor::{Finding, Level, examine};
pub use engine::frame;
pub use service::{ListenerAddr, Observer, Relay, StartError, run, start};
pub use session::Session;
pub use stream::{Ending, Refusal};

pub use dtls::{Greeting, Loss, Parting};
