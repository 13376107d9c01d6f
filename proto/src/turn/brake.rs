//! The brake on new peers: how many a minute an allocation may turn to.
//!
//! Whoever scans a network through a relay needs many peers, a call needs few. New hosts, for
//! which a permission is made, and new addresses, ports included, are counted apart; the address
//! of a bound channel or one that was used a minute ago is not new. What is new is also counted for
//! the user and the client's network, by the ledger, which alone is asked then; and where it
//! refuses an address, not again before it may say otherwise: what is sent meanwhile is dropped
//! without a look at what workers share.

use std::time::Instant;

use crate::addr::PeerAddr;
use crate::policy::new_peers::{Bucket, MINUTE};
use crate::policy::{Halt, Hasty, Ledger, Limits, NewPeers};
use crate::turn::allocation::Owner;

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
    /// What the ledger said of a new address.
    halt: Option<Halt>,
}

/// What an allocation turns to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// New hosts.
    pub(crate) hosts: usize,
    /// An address, be it new or not.
    pub(crate) address: Option<PeerAddr>,
    /// When.
    pub(crate) at: Instant,
}

impl Owner {
    /// Whether the allocation may turn to peers; counts those that are new if so.
    pub(crate) fn turns_to(
        &mut self,
        turn: Turn,
        ledger: &mut impl Ledger,
        limits: &Limits,
    ) -> Result<(), Hasty> {
        let Self { brake, lease, .. } = self;
        let brake = brake.get_or_insert_default();
        brake.lets(limits.new_peers_per_minute, turn, |new| ledger.meet(lease, new, limits))
    }
}

impl Brake {
    /// Whether an allocation that may turn to `limit` peers a minute may turn to these, and the
    /// ledger lets it where they are new; counts them if so.
    fn lets(
        &mut self,
        limit: u32,
        Turn { hosts, address, at }: Turn,
        ask: impl FnOnce(NewPeers) -> Result<(), Halt>,
    ) -> Result<(), Hasty> {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        self.turn(at);
        let places = address.map(|it| self.met.each_ref().map(|met| met.binary_search(&it)));
        let addresses = u32::from(matches!(places, Some([Err(_), Err(_)])));
        let of_allocation = |_| Hasty::Allocation;
        let after_hosts = self.hosts.with(limit, at, hosts).map_err(of_allocation)?;
        let after_addresses = self.addresses.with(limit, at, addresses).map_err(of_allocation)?;
        if hosts + addresses > 0 {
            self.asks(NewPeers { hosts, addresses, at }, ask)?;
        }
        if let (Some(address), Some([Err(place), _])) = (address, places) {
            let [met, _] = &mut self.met;
            if met.len() < REMEMBERED {
                if met.len() == met.capacity() {
                    met.reserve_exact(met.len().max(1));
                }
                met.insert(place, address);
            }
        }
        (self.hosts, self.addresses) = (after_hosts, after_addresses);
        Ok(())
    }

    /// Asks the ledger, unless it is known what it would say.
    fn asks(
        &mut self,
        new: NewPeers,
        ask: impl FnOnce(NewPeers) -> Result<(), Halt>,
    ) -> Result<(), Hasty> {
        if let Some(halt) = self.halt.filter(|halt| new.hosts == 0 && new.at < halt.until) {
            return Err(halt.who);
        }
        ask(new).map_err(|halt| {
            if new.hosts == 0 {
                self.halt = Some(halt);
            }
            halt.who
        })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::now::tests::start;

    fn peer(number: u16) -> PeerAddr {
        PeerAddr::new(([198, 51, 100, 1], number).into())
    }

    impl Brake {
        /// Whether it lets so many new hosts and an address pass where the ledger lets all.
        fn alone(
            &mut self,
            limit: u32,
            at: Instant,
            hosts: usize,
            address: Option<PeerAddr>,
        ) -> bool {
            self.lets(limit, Turn { hosts, address, at }, |_| Ok(())).is_ok()
        }
    }

    #[test]
    fn sec_009_so_many_new_peers_pass_at_once_and_then_so_many_a_minute() {
        let begin = start().mono;
        let mut brake = Brake::default();
        let mut addresses = 1..;
        let mut passed = |after_s: u64, tries: usize| {
            let now = begin + Duration::from_secs(after_s);
            let new = addresses.by_ref().take(tries);
            new.filter(|&port| brake.alone(30, now, 0, Some(peer(port)))).count()
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
            brake.alone(2, begin + Duration::from_secs(after_s), 0, Some(peer(port)))
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
        assert!(!brake.alone(3, now, 4, None), "more than there may be");
        assert!(brake.alone(3, now, 2, Some(peer(1))));
        assert!(!brake.alone(3, now, 2, Some(peer(2))), "one host too many");
        assert!(brake.alone(3, now, 1, Some(peer(2))) && brake.alone(3, now, 0, Some(peer(3))));
        assert!(!brake.alone(3, now, 1, None) && !brake.alone(3, now, 0, Some(peer(4))));
    }

    #[test]
    fn sec_009_the_ledger_is_asked_for_what_is_new_alone_and_not_in_vain() {
        let begin = start().mono;
        let until = begin + Duration::from_secs(20);
        let mut brake = Brake::default();
        let mut asked = 0;
        let mut lets = |after_s, hosts, address: Option<u16>, full: bool| {
            let at = begin + Duration::from_secs(after_s);
            let address = address.map(peer);
            let outcome = brake.lets(9, Turn { hosts, address, at }, |_| {
                asked += 1;
                if full { Err(Halt { who: Hasty::User, until }) } else { Ok(()) }
            });
            (outcome.err(), asked)
        };
        let user = Some(Hasty::User);
        for (case, after_s, hosts, address, full, expected) in [
            ("a new one", 0, 0, Some(1), false, (None, 1)),
            ("the same", 0, 0, Some(1), true, (None, 1)),
            ("known hosts", 0, 0, None, true, (None, 1)),
            ("another", 0, 0, Some(2), true, (user, 2)),
            ("again", 1, 0, Some(2), true, (user, 2)),
            ("a third, a little early", 19, 0, Some(3), false, (user, 2)),
            ("the one that is known", 19, 0, Some(1), true, (None, 2)),
            ("hosts may differ", 19, 1, None, true, (user, 3)),
            ("in time", 20, 0, Some(3), false, (None, 4)),
        ] {
            assert_eq!(lets(after_s, hosts, address, full), expected, "{case}");
        }
    }

    #[test]
    fn sec_009_beyond_its_own_limit_an_allocation_charges_nobody_else() {
        let at = start().mono;
        let mut brake = Brake::default();
        let mut charged = 0;
        for number in 1..100 {
            let turn = Turn { hosts: 0, address: Some(peer(number)), at };
            let let_pass = brake.lets(7, turn, |new| {
                charged += new.addresses;
                Ok(())
            });
            assert_eq!(let_pass.err(), (number > 7).then_some(Hasty::Allocation));
        }
        assert_eq!(charged, 7);
    }
}
