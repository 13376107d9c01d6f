//! The time, as the core is told it.
//!
//! Two clocks travel together: allocations, permissions and nonce-free deadlines live on the
//! monotonic one; credentials and nonces expire on the wall clock, because other hosts mint
//! them. Nothing here reads a clock.

use std::time::{Duration, Instant};

/// Seconds since 1970-01-01T00:00:00Z, ignoring leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// Whole seconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` moved `seconds` into the future, saturating.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Instant,
    /// The wall clock.
    pub unix: UnixTime,
}

impl Now {
    /// The same instant `by` later, on both clocks.
    #[must_use]
    pub fn advanced(self, by: Duration) -> Self {
        Self { mono: self.mono + by, unix: self.unix.plus(by.as_secs()) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Where the time of a test begins; tests move on from it by [`Now::advanced`].
    #[expect(clippy::disallowed_methods, reason = "an `Instant` comes from nowhere else")]
    pub(crate) fn start() -> Now {
        Now { mono: Instant::now(), unix: UnixTime(1_800_000_000) }
    }
}
