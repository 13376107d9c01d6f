//! How many answers a stranger gets (threat model T3).
//!
//! Whoever forges a source address makes us send to it. Answers to the unauthenticated are
//! therefore limited by source, and what exceeds the limit is not sent. The memory is a fixed
//! number of buckets, chosen by a keyed hash of the source: nobody can fill it, and nobody can
//! aim at the bucket of somebody else. Each worker counts for itself.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::policy::Claim;

/// Buckets of one worker; 256 KiB.
const BUCKETS: usize = 16_384;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, each second; at least 1.
    pub per_s: u32,
    /// At once, after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    /// Whether something may happen once more now; counts it if so. `empty_at` is the bucket:
    /// the instant at which it is empty again, `None` before its first use.
    pub(crate) fn admits(self, empty_at: &mut Option<Instant>, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / self.per_s.max(1);
        let slack = interval * self.burst.saturating_sub(1);
        let begin = empty_at.map_or(now, |at| at.max(now));
        let admitted = begin <= now + slack;
        if admitted {
            *empty_at = Some(begin + interval);
        }
        admitted
    }
}

/// Limits answers by source.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Rate,
    /// For each bucket the instant at which it is empty again.
    empty_at: Box<[Option<Instant>]>,
    hasher: SeedableRandomState,
}

impl Throttle {
    /// No source gets more than `rate`.
    pub(crate) fn new(rate: Rate, secret: u64) -> Self {
        Self {
            rate,
            empty_at: vec![None; BUCKETS].into(),
            hasher: SeedableRandomState::with_seed(secret, SharedSeed::global_fixed()),
        }
    }

    /// Whether one more answer may go there; counts it if so.
    pub(crate) fn admits(&mut self, now: Instant, source: IpAddr) -> bool {
        let hash = self.hasher.hash_one(Claim::network(source));
        let place = usize::try_from(hash % BUCKETS as u64).unwrap_or(0);
        self.rate.admits(&mut self.empty_at[place], now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::tests::start;

    #[test]
    fn sec_007_a_source_gets_its_burst_and_then_its_rate() {
        let begin = start().mono;
        let mut throttle = Throttle::new(Rate { per_s: 50, burst: 100 }, 1);
        let mut answers = |at: u64, source: [u8; 4], asked: u32| {
            let now = begin + Duration::from_millis(at);
            (0..asked).filter(|_| throttle.admits(now, IpAddr::from(source))).count()
        };
        let (flood, calm) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        assert_eq!(answers(0, flood, 1_000), 100);
        assert_eq!(answers(0, calm, 10), 10, "another source is not held back");
        assert_eq!(answers(1_000, flood, 1_000), 50);
        assert_eq!(answers(1_010, flood, 1_000), 0);
        assert_eq!(answers(60_000, flood, 1_000), 100);
    }
}
