//! The `av-edge` binary: reads the command line, runs one subcommand, reports how it ended.

mod auth;
mod check;
mod cli;
mod clock;
mod conformance;
mod credential;
mod demo;
mod failure;
mod key;
mod output;
mod probe;
mod relay;
mod target;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    log_to_stderr(cli.log_level());
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure != failure::Failure::No {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Logs what `AV_EDGE_LOG`, or else `RUST_LOG`, asks for; without either, this level.
fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_env("AV_EDGE_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
