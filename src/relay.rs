//! `av-edge relay`: the media relay as a process.

use crate::cli::ServiceArgs;
use crate::failure::Failure;

/// Runs the relay until it is told to end.
pub(crate) fn run(args: &ServiceArgs) -> Result<(), Failure> {
    let config = relay::Config::from_file(&args.config).map_err(Failure::setup)?;
    relay::run(config).map_err(|error| Failure::with_code(&error, error.exit_code()))
}
