//! How often, and how much at once: token buckets.
//!
//! What is kept about strangers is bounded. A client is a network here, an IPv4 address or an
//! IPv6 /64, because whoever holds one address of a /64 holds them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use proto::turn::surroundings;

/// A sustained rate, and how much of it may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    per_s: f64,
    burst: f64,
}

impl Rate {
    /// 0.001 to 1,000,000 a second, burst at least 1; `None` for anything else.
    pub(crate) fn new(per_s: f64, burst: u32) -> Option<Self> {
        ((0.001..=1e6).contains(&per_s) && burst >= 1)
            .then_some(Self { per_s, burst: f64::from(burst) })
    }
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    /// When `tokens` was right; `None`: not used yet, so still full.
    at: Option<Instant>,
}

impl Bucket {
    /// A whole burst.
    pub(crate) fn full(rate: Rate) -> Self {
        Self { tokens: rate.burst, at: None }
    }

    /// Takes one token, or says how long until there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.check(rate, now)?;
        self.tokens -= 1.0;
        Ok(())
    }

    /// Whether there is a token, or how long until there is.
    fn check(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let elapsed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.tokens = rate.per_s.mul_add(elapsed, self.tokens).min(rate.burst);
        self.at = Some(now);
        if self.tokens >= 1.0 {
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / rate.per_s))
    }
}

/// Whom a limit is kept for: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    /// The network of an address.
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// What is around it: an IPv4 /24, or an IPv6 /48.
    pub(crate) fn surroundings(self) -> IpAddr {
        surroundings(self.0)
    }
}

/// What is left of a rate to each of many: of failures to client networks, of requests to users.
///
/// Two generations of at most [`Allowances::GENERATION`]: when the younger is full, the elder is
/// forgotten. Whoever keeps taking moves along; a flood makes us forget the quietest ones first.
#[derive(Debug)]
pub(crate) struct Allowances<K> {
    rate: Rate,
    young: HashMap<K, Bucket, foldhash::fast::RandomState>,
    old: HashMap<K, Bucket, foldhash::fast::RandomState>,
}

impl<K: Eq + Hash> Allowances<K> {
    /// Remembered in a generation.
    const GENERATION: usize = 4096;

    /// Nobody has taken anything yet.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, young: HashMap::default(), old: HashMap::default() }
    }

    /// Whether one may take, or how long until it may. Remembers nothing.
    pub(crate) fn may_try(&self, whose: &K, now: Instant) -> Result<(), Duration> {
        let known = self.young.get(whose).or_else(|| self.old.get(whose));
        known.copied().map_or(Ok(()), |mut bucket| bucket.check(self.rate, now))
    }

    /// Takes from what one has left, down to nothing.
    pub(crate) fn charge(&mut self, whose: K, now: Instant) {
        if !self.young.contains_key(&whose) && self.young.len() >= Self::GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        let kept = self.old.remove(&whose);
        let fresh = || kept.unwrap_or_else(|| Bucket::full(self.rate));
        let bucket = self.young.entry(whose).or_insert_with(fresh);
        // Already empty when several were under way at once: nothing more to take.
        let _ = bucket.take(self.rate, now);
    }

    /// How many are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn network(index: u32) -> Network {
        Network::of(IpAddr::from(index.to_be_bytes()))
    }

    #[test]
    fn rates_that_make_no_sense_do_not_exist() {
        for (per_s, burst, good) in [
            (1.0, 1, true),
            (0.001, 1, true),
            (1e6, u32::MAX, true),
            (0.0, 1, false),
            (-1.0, 1, false),
            (f64::NAN, 1, false),
            (f64::INFINITY, 1, false),
            (1.0, 0, false),
        ] {
            assert_eq!(Rate::new(per_s, burst).is_some(), good, "{per_s} {burst}");
        }
    }

    #[test]
    fn rest_013_a_bucket_gives_its_burst_then_its_rate() {
        let rate = Rate::new(2.0, 3).unwrap();
        let mut bucket = Bucket::full(rate);
        let start = clock::now().mono;
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(500)));
        let later = start + Duration::from_millis(500);
        assert_eq!(bucket.take(rate, later), Ok(()));
        assert!(bucket.take(rate, later).is_err());
        let much_later = start + Duration::from_secs(3600);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, much_later), Ok(()));
        }
        assert!(bucket.take(rate, much_later).is_err(), "never more than the burst at once");
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_an_ipv6_64() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }

    #[test]
    fn failures_throttle_their_own_network_only() {
        let mut failures = Allowances::new(Rate::new(1.0, 2).unwrap());
        let now = clock::now().mono;
        for _ in 0..5 {
            failures.charge(network(1), now);
        }
        assert_eq!(failures.may_try(&network(1), now), Err(Duration::from_secs(1)));
        assert_eq!(failures.may_try(&network(2), now), Ok(()));
        assert_eq!(failures.may_try(&network(1), now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn failures_of_many_networks_take_bounded_memory() {
        let mut failures = Allowances::new(Rate::new(0.001, 1).unwrap());
        let now = clock::now().mono;
        for index in 0..100_000 {
            failures.charge(network(index), now);
            if index % 1000 == 0 {
                failures.charge(network(u32::MAX), now);
            }
        }
        assert!(failures.len() <= 2 * Allowances::<Network>::GENERATION, "{}", failures.len());
        assert!(
            failures.may_try(&network(u32::MAX), now).is_err(),
            "who keeps failing stays known"
        );
    }
}
