//! The host's clock, for tests that meet real processes: the only place that reads it or rests.

use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const GLANCE: Duration = Duration::from_millis(20);

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock of these tests")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for a moment: the pace of a sender.
#[expect(clippy::disallowed_methods, reason = "a sender is paced by the clock, not by an event")]
pub fn rest_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(now()));
}

fn rest(time: Duration) {
    rest_until(now() + time);
}

/// Looks until there is an answer, or panics after `limit` with what it waited for.
pub fn await_some<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    look_until(limit, look).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Looks until there is an answer, or `limit` has passed.
pub fn look_until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + limit;
    loop {
        let found = look();
        if found.is_some() || now() >= deadline {
            return found;
        }
        rest(GLANCE);
    }
}
