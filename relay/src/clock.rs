//! The only reader of clocks in the relay.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::now::{Now, UnixTime};

/// How old a reading of the wall clock may be: the core sees it in whole seconds.
const WALL_AGE: Duration = Duration::from_millis(100);

/// The clocks of one worker. Each turn reads the monotonic one; the wall clock is read again
/// when the last reading is old, so that a step of it is noticed at once.
#[derive(Debug)]
pub(crate) struct Clock {
    last: Now,
    wall_read: Instant,
}

impl Clock {
    /// Clocks that have just been read.
    pub(crate) fn new() -> Self {
        let last = now();
        Self { last, wall_read: last.mono }
    }

    /// The time.
    #[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
    pub(crate) fn tick(&mut self) -> Now {
        let mono = Instant::now();
        if mono.saturating_duration_since(self.wall_read) >= WALL_AGE {
            self.last = now();
            self.wall_read = self.last.mono;
        } else {
            self.last.mono = mono;
        }
        self.last
    }

    /// Time since the last [`Clock::tick`].
    #[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
    pub(crate) fn spent(&self) -> Duration {
        Instant::now().saturating_duration_since(self.last.mono)
    }

    /// The time of the last [`Clock::tick`], without looking.
    pub(crate) fn last(&self) -> Now {
        self.last
    }
}

/// The time on both clocks.
///
/// A wall clock before 1970 reads as 1970: credentials then look far ahead and are refused.
#[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { mono: Instant::now(), unix: UnixTime(unix) }
}
