//! The only reader of clocks in the relay.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto::now::{Now, UnixTime};

/// The time on both clocks.
///
/// A wall clock before 1970 reads as 1970: credentials then look far ahead and are refused.
#[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { mono: Instant::now(), unix: UnixTime(unix) }
}
