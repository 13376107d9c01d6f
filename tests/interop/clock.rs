//! The clocks of this test: the only place that reads one or rests.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at again.
const GLANCE: Duration = Duration::from_millis(20);

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the test")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the test")]
pub(crate) fn unix() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the machine's clock is past 1970")
        .as_secs()
}

/// Waits for a moment: the pace of a sender.
#[expect(clippy::disallowed_methods, reason = "a sender is paced by the clock, not by an event")]
pub(crate) fn rest_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(now()));
}

/// Lets real time pass, where its passing is what is tested.
pub(crate) fn rest(time: Duration) {
    rest_until(now() + time);
}

/// Looks until there is an answer, or panics after `limit` with what it waited for.
pub(crate) fn await_some<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "waited {limit:?} in vain for {what}");
        rest(GLANCE);
    }
}
