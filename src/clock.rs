//! The only reader of clocks in the binary.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto::now::{Now, UnixTime};

/// The time on both clocks; a wall clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this module is where the binary reads clocks")]
pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { mono: Instant::now(), unix: UnixTime(unix) }
}
