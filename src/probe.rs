//! `av-edge probe`: asks a relay, as a client would, whether it works.

use crate::cli::ProbeArgs;
use crate::failure::Failure;

/// Probes the relay of a URI.
pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    Err(Failure::job(format!("probe: not built in yet ({})", args.uri)))
}
