//! The only reader of clocks in this program.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is the clock module of the load generator")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Its nanoseconds since the machine started, as programs in the kernel read them.
pub(crate) fn since_boot_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let time = time.map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock module of the load generator")]
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Lets time pass where no event can tell that it has.
#[expect(clippy::disallowed_methods, reason = "a server that starts sends no event")]
pub(crate) fn rest(time: std::time::Duration) {
    std::thread::sleep(time);
}
