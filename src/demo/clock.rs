//! The only reader of clocks of the demonstration.

use std::time::Instant;

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is the clock module of the demonstration")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
