//! The `av-edge` binary: reads the command line, runs one subcommand, reports how it ended.

mod auth;
mod capture;
mod check;
mod cli;
mod clock;
mod conformance;
mod control;
mod credential;
mod demo;
mod doctor;
mod explain;
mod failure;
mod key;
mod log;
mod output;
mod probe;
mod relay;
mod secret_file;
mod target;
mod top;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    log::begin(cli.log_level(), cli.log_format());
    let outcome = cli.run();
    log::finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure != failure::Failure::No {
                log::say(&failure.to_string());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
