//! The brake on new peers: how many a minute an allocation may turn to.
//!
//! Whoever scans a network through a relay needs many peers, a call needs few. New hosts, for
//! which a permission is made, and new addresses, ports included, are counted apart; the address
//! of a bound channel or one that was used a minute ago is not new.

use std::time::{Duration, Instant};

use crate::addr::PeerAddr;

/// The time that the limit is told for.
const MINUTE: Duration = Duration::from_secs(60);

/// Addresses that are remembered for a minute at most; who has more of them pays each time.
const REMEMBERED: usize = 4_096;

/// What one allocation has turned to.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    hosts: Bucket,
    addresses: Bucket,
    /// Addresses used since `turned`, and in the minute before, each in order.
    met: [Vec<PeerAddr>; 2],
    turned: Option<Instant>,
}

/// When a bucket is empty again; `None` before its first use.
#[derive(Debug, Default)]
struct Bucket(Option<Instant>);

impl Brake {
    /// Whether an allocation that may turn to `limit` peers a minute may turn to so many new hosts
    /// and to this address, if one is given; counts them if so.
    pub(crate) fn lets(
        &mut self,
        limit: u32,
        now: Instant,
        hosts: usize,
        address: Option<PeerAddr>,
    ) -> bool {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let Some(after_hosts) = self.hosts.with(limit, now, hosts) else { return false };
        if let Some(address) = address {
            self.turn(now);
            let [recent, before] = self.met.each_ref().map(|met| met.binary_search(&address));
            if recent.is_err() && before.is_err() {
                let Some(after) = self.addresses.with(limit, now, 1) else { return false };
                self.addresses = after;
            }
            let [met, _] = &mut self.met;
            if let Err(place) = recent
                && met.len() < REMEMBERED
            {
                if met.len() == met.capacity() {
                    met.reserve_exact(met.len().max(1));
                }
                met.insert(place, address);
            }
        }
        self.hosts = after_hosts;
        true
    }

    /// Forgets what was used more than a minute before.
    fn turn(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        let elapsed = now.saturating_duration_since(turned);
        if elapsed < MINUTE {
            return;
        }
        let recent = std::mem::take(&mut self.met[0]);
        self.met[1] = if elapsed < 2 * MINUTE { recent } else { Vec::new() };
        self.turned = Some(now);
    }
}

impl Bucket {
    /// The bucket with so many more in it; `None` if that is too many.
    fn with(&self, limit: u32, now: Instant, more: u32) -> Option<Self> {
        if more == 0 {
            return Some(Self(self.0));
        }
        let begin = self.0.map_or(now, |at| at.max(now));
        let filled = begin + (MINUTE / limit.max(1)).checked_mul(more)?;
        (filled <= now + MINUTE).then_some(Self(Some(filled)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::tests::start;

    fn peer(number: u16) -> PeerAddr {
        PeerAddr::new(([198, 51, 100, 1], number).into())
    }

    #[test]
    fn sec_009_so_many_new_peers_pass_at_once_and_then_so_many_a_minute() {
        let begin = start().mono;
        let mut brake = Brake::default();
        let mut addresses = 1..;
        let mut passed = |after_s: u64, tries: usize| {
            let now = begin + Duration::from_secs(after_s);
            let new = addresses.by_ref().take(tries);
            new.filter(|&port| brake.lets(30, now, 0, Some(peer(port)))).count()
        };
        for (case, after_s, expected) in [
            ("at once", 0, 30),
            ("soon", 20, 10),
            ("a minute later", 80, 30),
            ("and no more", 80, 0),
        ] {
            assert_eq!(passed(after_s, 100), expected, "{case}");
        }
    }

    #[test]
    fn sec_009_who_was_met_is_not_new_for_a_minute() {
        let begin = start().mono;
        let mut brake = Brake::default();
        let mut lets = |after_s: u64, port| {
            brake.lets(2, begin + Duration::from_secs(after_s), 0, Some(peer(port)))
        };
        assert!(lets(0, 1) && lets(0, 2), "two at once");
        assert!(!lets(1, 3), "and no third");
        for after_s in (1..300).step_by(50) {
            assert!(lets(after_s, 1), "used all the time, after {after_s} s");
        }
        assert!(lets(300, 2), "new again, when there is room again");
    }

    #[test]
    fn sec_009_hosts_and_addresses_are_counted_apart_and_a_refusal_costs_nothing() {
        let now = start().mono;
        let mut brake = Brake::default();
        assert!(!brake.lets(3, now, 4, None), "more than there may be");
        assert!(brake.lets(3, now, 2, Some(peer(1))));
        assert!(!brake.lets(3, now, 2, Some(peer(2))), "one host too many");
        assert!(brake.lets(3, now, 1, Some(peer(2))) && brake.lets(3, now, 0, Some(peer(3))));
        assert!(!brake.lets(3, now, 1, None) && !brake.lets(3, now, 0, Some(peer(4))));
    }
}
