//! The clocks of this test: the only place that reads one or rests.

use std::time::{Duration, Instant};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the test")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for a moment: the pace of a sender.
#[expect(clippy::disallowed_methods, reason = "a sender is paced by the clock, not by an event")]
pub(crate) fn rest_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(now()));
}

/// Looks until there is an answer, or `limit` has passed.
pub(crate) fn look_until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + limit;
    loop {
        let found = look();
        if found.is_some() || now() >= deadline {
            return found;
        }
        rest_until(now() + Duration::from_millis(20));
    }
}
