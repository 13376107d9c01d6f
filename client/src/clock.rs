//! The only reader of clocks in this crate.

use std::time::Instant;

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is the clock module of the client")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
