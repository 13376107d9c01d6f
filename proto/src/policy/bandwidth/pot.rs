//! What allocations share: a pot for each limit that several draw on.
//!
//! A pot is one instant for bytes and datagrams of each direction, moved on atomically by a slice of
//! time whenever a valve needs more. Whoever shares it with other users has a [`Part`] of it as well.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::fairness::{Part, Parts};
use super::{BURST, Direction, Kind, PAUSE, Rates, SLICE, nanoseconds};
use crate::policy::limits::{Claim, UserKey};

/// For bytes and datagrams of each direction the moment at which everything taken is paid for, in
/// nanoseconds since the beginning.
#[derive(Debug)]
pub(super) struct Dues {
    begin: Instant,
    at: [[AtomicU64; 2]; 2],
}

impl Dues {
    /// Nothing but a slice is there of so much time: ending all allocations and beginning anew gains
    /// nobody much.
    pub(super) fn new(begin: Instant, burst: Duration) -> Self {
        let empty = || AtomicU64::new(nanoseconds(burst).saturating_sub(nanoseconds(SLICE)));
        Self { begin, at: [[empty(), empty()], [empty(), empty()]] }
    }

    /// Takes so much time, unless more than a burst is taken already.
    pub(super) fn take(
        &self,
        now: Instant,
        (direction, kind): (Direction, Kind),
        time: u64,
        burst: u64,
    ) -> bool {
        let now = self.since_begin(now);
        let until = now.saturating_add(burst);
        let more = |due: u64| (due < until).then(|| due.max(now).saturating_add(time));
        let due = &self.at[direction as usize][kind as usize];
        due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// How long nothing is there that is worth waiting for; `None` if there is something.
    pub(super) fn lacks(
        &self,
        now: Instant,
        (direction, kind): (Direction, Kind),
        burst: u64,
    ) -> Option<Duration> {
        let due = self.at[direction as usize][kind as usize].load(Ordering::Relaxed);
        let until = self.since_begin(now).saturating_add(burst);
        (due >= until).then(|| Duration::from_nanos(due - until) + PAUSE)
    }

    /// Takes so much time, whatever is there: somebody else has let it pass since then.
    pub(super) fn pay(&self, since: Instant, (direction, kind): (Direction, Kind), time: u64) {
        if time == 0 {
            return;
        }
        let due = &self.at[direction as usize][kind as usize];
        due.fetch_max(self.since_begin(since), Ordering::Relaxed);
        due.fetch_add(time, Ordering::Relaxed);
    }

    /// Forgets what is taken beyond a burst.
    pub(super) fn forgive(&self, now: Instant, (direction, kind): (Direction, Kind), burst: u64) {
        let most = self.since_begin(now).saturating_add(burst);
        self.at[direction as usize][kind as usize].fetch_min(most, Ordering::Relaxed);
    }

    /// Whether something is still to be paid for.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        let now = self.since_begin(now);
        self.at.iter().flatten().any(|due| due.load(Ordering::Relaxed) > now)
    }

    fn since_begin(&self, at: Instant) -> u64 {
        nanoseconds(at.saturating_duration_since(self.begin))
    }
}

/// What several allocations share.
#[derive(Debug)]
pub struct Pot {
    pub(super) dues: Dues,
    /// What was taken of them, for whoever holds the same limit elsewhere.
    pub(super) taken: [[AtomicU64; 2]; 2],
}

impl Pot {
    fn new(begin: Instant) -> Self {
        Self { dues: Dues::new(begin, BURST), taken: Default::default() }
    }

    /// Takes so much time, unless so much is taken already.
    pub(super) fn take(
        &self,
        now: Instant,
        place: (Direction, Kind),
        time: u64,
        reach: u64,
    ) -> bool {
        let taken = self.dues.take(now, place, time, reach);
        if taken {
            self.taken[place.0 as usize][place.1 as usize].fetch_add(time, Ordering::Relaxed);
        }
        taken
    }
}

/// The pots of those that have allocations.
#[derive(Debug, Default)]
pub struct Pots {
    users: BTreeMap<UserKey, Arc<Pot>>,
    clients: BTreeMap<IpAddr, Common>,
    relay: Option<Common>,
}

/// A pot that users share.
#[derive(Debug)]
struct Common {
    pot: Arc<Pot>,
    parts: Parts,
}

impl Pots {
    /// What an allocation shares with others, as far as that is limited.
    pub fn of(&mut self, claim: &Claim) -> Shares {
        let Claim { user, client, bandwidth, at, .. } = *claim;
        let new = || Arc::new(Pot::new(at));
        let common = || Common { pot: new(), parts: Parts::default() };
        let Self { users, clients, relay } = self;
        let limited = |rates: Rates| rates.are_limits().then_some(());
        let share = |common: &mut Common| Share {
            pot: Arc::clone(&common.pot),
            part: common.parts.of(user, at),
        };
        Shares {
            user: limited(bandwidth.user)
                .map(|()| Arc::clone(users.entry(user).or_insert_with(new))),
            client: limited(bandwidth.client)
                .map(|()| share(clients.entry(client).or_insert_with(common))),
            relay: limited(bandwidth.relay).map(|()| share(relay.get_or_insert_with(common))),
        }
    }

    /// The last allocation of a user has ended.
    pub fn forget_user(&mut self, user: UserKey) {
        self.users.remove(&user);
    }

    /// The last allocation of a client's network has ended.
    pub fn forget_client(&mut self, client: IpAddr) {
        self.clients.remove(&client);
    }
}

/// What an allocation shares with others; `None` where that is not limited.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    pub(super) user: Option<Arc<Pot>>,
    pub(super) client: Option<Share>,
    pub(super) relay: Option<Share>,
}

/// A pot that users share, and what of it is one user's.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) pot: Arc<Pot>,
    pub(super) part: Arc<Part>,
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::tests::claim;
    use super::super::{Bandwidth, Meter, Trunk};
    use super::*;
    use crate::now::tests::start;

    const RATE: Rates = Rates { bytes: NonZeroU64::new(1_250_000), packets: None };

    /// What two workers pass together in ten seconds, with two allocations each, of which each
    /// sends 2 MB a second in steps of a millisecond.
    fn passed_by_two_workers(bandwidth: Bandwidth) -> u64 {
        let begin = start().mono;
        let mut pots = Pots::default();
        let shares = pots.of(&claim(1, bandwidth, begin));
        let work = || {
            let mut trunk = Trunk::default();
            let user = (UserKey(1), &shares);
            let mut meter = || Meter::new(&mut trunk, &bandwidth, user, begin).unwrap();
            let mut meters = [meter(), meter()];
            let mut passed = 0;
            for step in 0..10_000 {
                let now = begin + Duration::from_millis(step);
                for turn in 0..4 {
                    let meter = &mut meters[turn % 2];
                    let admitted = meter.admit(&mut trunk, now, Direction::ToPeer, 1_000);
                    passed += if admitted.is_ok() { 1_000 } else { 0 };
                }
            }
            passed
        };
        std::thread::scope(|scope| {
            let workers = [scope.spawn(work), scope.spawn(work)];
            workers.map(|worker| worker.join().unwrap()).into_iter().sum()
        })
    }

    #[test]
    fn ed_051_two_workers_share_a_rate_exactly() {
        let none = Bandwidth::UNLIMITED;
        for (case, bandwidth, expected) in [
            ("user", Bandwidth { user: RATE, ..none }, 12_500_000),
            ("client", Bandwidth { client: RATE, ..none }, 12_500_000),
            ("relay", Bandwidth { relay: RATE, ..none }, 12_500_000),
            ("each worker", Bandwidth { worker: RATE, ..none }, 25_000_000),
            ("the narrowest", Bandwidth { worker: RATE, relay: RATE, ..none }, 12_500_000),
        ] {
            let passed = passed_by_two_workers(bandwidth);
            assert!(passed.abs_diff(expected) * 50 <= expected, "{case}: {passed} of {expected}");
        }
    }

    #[test]
    fn sec_010_pots_are_forgotten_with_those_who_share_them() {
        let limits = Bandwidth { user: RATE, client: RATE, relay: RATE, ..Bandwidth::UNLIMITED };
        let mut pots = Pots::default();
        let claim = claim(1, limits, start().mono);
        let first = pots.of(&claim);
        let places = |shares: &Shares| {
            let shared = [&shares.client, &shares.relay].map(|it| &it.as_ref().unwrap().pot);
            [shares.user.as_ref().unwrap(), shared[0], shared[1]].map(Arc::as_ptr)
        };
        assert_eq!(places(&first), places(&pots.of(&claim)));
        pots.forget_user(claim.user);
        pots.forget_client(claim.client);
        let ([user, client, relay], next) = (places(&first), places(&pots.of(&claim)));
        assert!(user != next[0] && client != next[1]);
        assert_eq!(relay, next[2], "the relay is the same for ever");
    }
}
