//! The only reader of clocks in the relay.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
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

/// Dates of instants, by both clocks as they stand together when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calendar {
    mono: Instant,
    unix: Duration,
}

impl Calendar {
    /// One of now.
    #[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
    pub(crate) fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { mono: Instant::now(), unix }
    }

    /// Milliseconds from 1970 to an instant that has passed.
    pub(crate) fn ms(self, at: Instant) -> u64 {
        let date = self.unix.saturating_sub(self.age(at));
        u64::try_from(date.as_millis()).unwrap_or(u64::MAX)
    }

    /// The same in nanoseconds.
    pub(crate) fn ns(self, at: Instant) -> u64 {
        u64::try_from(self.unix.saturating_sub(self.age(at)).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since an instant.
    pub(crate) fn age(self, at: Instant) -> Duration {
        self.mono.saturating_duration_since(at)
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

/// Milliseconds of Unix time, for operators to read.
#[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How far the clock that the kernel program looks at may be behind: a tick at 100 Hz.
const TICK: Duration = Duration::from_millis(10);

/// Instants as the kernel program knows them: nanoseconds of `CLOCK_MONOTONIC`, which
/// [`Instant`] is too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelClock {
    at: Instant,
    since_boot: Duration,
}

impl KernelClock {
    /// Looks at both once.
    #[expect(clippy::disallowed_methods, reason = "this module is where the relay reads clocks")]
    pub(crate) fn look() -> io::Result<Self> {
        // In this order an end comes rather too early than too late.
        let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
        Ok(Self { at: Instant::now(), since_boot })
    }

    /// When it was made.
    pub(crate) fn made(&self) -> Instant {
        self.at
    }

    /// When something ends for the kernel that ends at this instant: a tick earlier, because the
    /// program reads the clock as it was at the last one.
    pub(crate) fn of(&self, end: Instant) -> u64 {
        let since_boot = match end.checked_duration_since(self.at) {
            Some(later) => self.since_boot + later,
            None => self.since_boot.saturating_sub(self.at.saturating_duration_since(end)),
        };
        u64::try_from(since_boot.saturating_sub(TICK).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_clock_runs_as_ours_does() {
        let clock = KernelClock::look().unwrap();
        let begin = clock.of(clock.at);
        assert_eq!(clock.of(clock.at + Duration::from_secs(5)) - begin, 5_000_000_000);
        let earlier = clock.at.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(begin - clock.of(earlier), 1_000_000);
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let age = now.as_nanos() - u128::from(begin) - TICK.as_nanos();
        assert!(age < 1_000_000_000, "{age} ns passed between two lines");
    }
}
