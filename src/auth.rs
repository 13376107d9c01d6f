//! `av-edge auth`: the credential service as a process.

use crate::cli::ServiceArgs;
use crate::failure::Failure;

/// Runs the service until it is told to end.
pub(crate) fn run(args: &ServiceArgs) -> Result<(), Failure> {
    let config = auth_service::Config::from_file(&args.config).map_err(Failure::setup)?;
    auth_service::run(config).map_err(|error| Failure::with_code(&error, error.exit_code()))
}
