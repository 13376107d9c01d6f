//! Standard output that may be closed: `av-edge … | head` is no reason to panic.

use std::io::{self, Write};

use crate::failure::Failure;

/// Prints lines.
pub(crate) fn print<T: AsRef<str>>(lines: &[T]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut all = lines.iter().map(AsRef::as_ref);
    all.try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::job(format!("standard output: {error}")))
}
