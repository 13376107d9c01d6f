//! How fast one direction of a TCP relay may go.
//!
//! A stream may lose nothing, so a limit of bandwidth shows in what is read: what the server
//! allows, and then nothing before the instant it names, which is a deadline like any other. What
//! is not limited is asked about once.

use std::time::Instant;

use proto::policy::bandwidth::Allowance;

/// What one direction may read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Whatever comes.
    Free,
    /// So many bytes; then the server is asked.
    Has(usize),
    /// Nothing before then.
    RestsUntil(Instant),
}

impl Pace {
    /// The pace of a direction of which the server has said nothing.
    pub(super) const UNKNOWN: Self = Self::Has(0);

    /// Asks what may be read now, unless that is known.
    pub(super) fn ask(&mut self, question: impl FnOnce() -> Allowance) {
        if let Self::Has(_) = self {
            *self = match question() {
                Allowance::Unlimited => Self::Free,
                Allowance::Bytes(bytes) => Self::Has(bytes),
                Allowance::NotBefore(at) => Self::RestsUntil(at),
            };
        }
    }

    /// Ends a rest that is over; whether it was one.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        let is_over = self.rests_until().is_some_and(|at| at <= now);
        if is_over {
            *self = Self::UNKNOWN;
        }
        is_over
    }

    /// Bytes that may be read.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::Free => usize::MAX,
            Self::Has(bytes) => *bytes,
            Self::RestsUntil(_) => 0,
        }
    }

    /// Bytes were read.
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Self::Has(left) = self {
            *left = left.saturating_sub(bytes);
        }
    }

    /// When it goes on, if it rests.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        match self {
            Self::RestsUntil(at) => Some(*at),
            Self::Free | Self::Has(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn ed_052_what_is_not_limited_is_asked_about_once_and_what_rests_not_before_its_time() {
        let now = Clock::new().last().mono;
        let mut pace = Pace::UNKNOWN;
        pace.ask(|| Allowance::Unlimited);
        pace.spend(1 << 40);
        pace.ask(|| panic!("it is known"));
        assert_eq!(pace.room(), usize::MAX);

        let until = now + Duration::from_millis(25);
        let mut pace = Pace::UNKNOWN;
        pace.ask(|| Allowance::Bytes(10));
        pace.spend(4);
        assert_eq!(pace.room(), 6);
        pace.ask(|| Allowance::NotBefore(until));
        pace.ask(|| panic!("it rests"));
        assert_eq!((pace.room(), pace.rests_until()), (0, Some(until)));
        assert!(!pace.wake(now));
        assert!(pace.wake(until) && !pace.wake(until));
        pace.ask(|| Allowance::Bytes(1));
        assert_eq!(pace.room(), 1);
    }
}
