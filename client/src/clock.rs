//! The only reader of clocks in this crate.

use std::time::Instant;

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is the clock module of the client")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets time pass where no event can tell that it has.
#[expect(clippy::disallowed_methods, reason = "other clients' releases send this one no event")]
pub(crate) fn rest(time: std::time::Duration) {
    std::thread::sleep(time);
}
