//! How much may pass: rates, what allocations share, and the meter of one.
//!
//! Limits form a tree: an allocation, its user, the network of its client, the worker that serves
//! it, the relay. Each direction counts for itself, payload bytes and datagrams apart; each such
//! limit is a valve. What passes, passes all valves on its way and is charged to all; what one of
//! them stops is charged to none.
//!
//! A valve fills with time and lets everything pass as long as there is something in it: a
//! datagram may take more than is left, which is owed then, so that any size passes and the average
//! is exact. What workers share is one instant for each valve, moved on atomically by a slice of
//! time whenever one of them needs more; so they meet once for many datagrams.
//!
//! Of a stream no byte may be dropped. It is told its [`Allowance`] before it reads, and pays for
//! what it read; how many datagrams a second may pass says nothing about it.

mod beside;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::flow::Flow;
use crate::policy::limits::{Claim, UserKey};
use crate::reject::DropReason;
pub use beside::Bound;

/// What may pass at once after a pause, as time at the full rate.
pub const BURST: Duration = Duration::from_millis(100);

/// What is taken at a time of what others share, as time at the full rate.
const SLICE: Duration = Duration::from_millis(5);

/// What a stream waits for once it has used up what there was, as time at the full rate: so it is
/// looked at forty times a second, not at every byte.
const PAUSE: Duration = Duration::from_millis(25);

/// What is not worth a read, as time at the full rate.
const CRUMB: Duration = Duration::from_millis(3);

/// How long a refusal shows in [`Meter::pressure`].
const SHOWN: Duration = Duration::from_secs(1);

/// Valves count billionths of a unit: a nanosecond of a rate of one unit a second.
const BILLION: i64 = 1_000_000_000;

/// The highest rate that can be told: 100 Gbit/s.
pub const MOST_BYTES_PER_S: u64 = 12_500_000_000;

/// Bytes in a kilobit, which has a thousand bits.
pub const BYTES_PER_KBIT: NonZeroU64 = NonZeroU64::new(125).expect("it is not zero");

/// What may pass in one direction. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Payload bytes a second, at most [`MOST_BYTES_PER_S`].
    pub bytes: Option<NonZeroU64>,
    /// Datagrams a second, at most as many.
    pub packets: Option<NonZeroU64>,
}

impl Rates {
    /// No limit.
    pub const UNLIMITED: Self = Self { bytes: None, packets: None };

    /// Of each limit the narrower.
    #[must_use]
    pub fn narrowed(self, by: Self) -> Self {
        let narrower = |one: Option<NonZeroU64>, other| [one, other].into_iter().flatten().min();
        Self { bytes: narrower(self.bytes, by.bytes), packets: narrower(self.packets, by.packets) }
    }

    fn are_limits(self) -> bool {
        self.bytes.is_some() || self.packets.is_some()
    }
}

/// What allocations may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// One allocation.
    pub allocation: Rates,
    /// All allocations of one user.
    pub user: Rates,
    /// All allocations of one client's network: see [`Claim::network`].
    pub client: Rates,
    /// All allocations of one worker.
    pub worker: Rates,
    /// All allocations of the relay.
    pub relay: Rates,
}

impl Bandwidth {
    /// No limit.
    pub const UNLIMITED: Self = {
        let none = Rates::UNLIMITED;
        Self { allocation: none, user: none, client: none, worker: none, relay: none }
    };
}

/// Which way payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to peer.
    ToPeer,
    /// Peer to client.
    ToClient,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::ToPeer, Self::ToClient];
}

/// How much of a stream may pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Whatever comes, for ever.
    Unlimited,
    /// So many bytes, at least one; what is more is owed.
    Bytes(usize),
    /// Nothing before then.
    NotBefore(Instant),
}

/// What several allocations share: for bytes and datagrams of each direction the moment at
/// which everything taken is paid for, in nanoseconds since the beginning.
#[derive(Debug)]
pub struct Pot {
    begin: Instant,
    due: [[AtomicU64; 2]; 2],
    /// What was taken of them, for whoever holds the same limit elsewhere.
    taken: [[AtomicU64; 2]; 2],
}

impl Pot {
    /// A pot with no more than a slice in it: ending all allocations and beginning anew gains
    /// nobody much.
    fn new(begin: Instant) -> Self {
        let empty = || AtomicU64::new(nanoseconds(BURST).saturating_sub(nanoseconds(SLICE)));
        Self { begin, due: [[empty(), empty()], [empty(), empty()]], taken: Default::default() }
    }

    /// Takes so much time, unless too much is taken already.
    fn take(&self, now: Instant, (direction, kind): (Direction, Kind), time: u64) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.begin));
        let until = now.saturating_add(nanoseconds(BURST));
        let more = |due: u64| (due < until).then(|| due.max(now).saturating_add(time));
        let due = &self.due[direction as usize][kind as usize];
        let taken = due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let total = &self.taken[direction as usize][kind as usize];
        taken.map(|_| total.fetch_add(time, Ordering::Relaxed)).is_ok()
    }

    /// How long nothing is there that is worth waiting for; `None` if there is something.
    fn lacks(&self, now: Instant, (direction, kind): (Direction, Kind)) -> Option<Duration> {
        let due = self.due[direction as usize][kind as usize].load(Ordering::Relaxed);
        let due = Duration::from_nanos(due);
        let until = now.saturating_duration_since(self.begin) + BURST;
        (due >= until).then(|| due.saturating_sub(until) + PAUSE)
    }
}

/// The pots of those that have allocations.
#[derive(Debug, Default)]
pub struct Pots {
    users: BTreeMap<UserKey, Arc<Pot>>,
    clients: BTreeMap<IpAddr, Arc<Pot>>,
    relay: Option<Arc<Pot>>,
}

impl Pots {
    /// What an allocation shares with others, as far as that is limited.
    pub fn of(&mut self, claim: &Claim) -> Shares {
        let new = || Arc::new(Pot::new(claim.at));
        let Claim { user, client, bandwidth, .. } = claim;
        let (users, clients, relay) = (&mut self.users, &mut self.clients, &mut self.relay);
        let limited = |rates: Rates| rates.are_limits().then_some(());
        Shares {
            user: limited(bandwidth.user)
                .map(|()| Arc::clone(users.entry(*user).or_insert_with(new))),
            client: limited(bandwidth.client)
                .map(|()| Arc::clone(clients.entry(*client).or_insert_with(new))),
            relay: limited(bandwidth.relay).map(|()| Arc::clone(relay.get_or_insert_with(new))),
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
    user: Option<Arc<Pot>>,
    client: Option<Arc<Pot>>,
    relay: Option<Arc<Pot>>,
}

/// What a valve counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bytes,
    Packets,
}

/// What one allocation carries, against the limits that are not its worker's.
#[derive(Debug)]
pub(crate) struct Meter {
    lanes: [Lane; 2],
    refused: Option<Instant>,
    /// Datagrams that it let pass since somebody asked.
    admitted: [Flow; 2],
    /// Those that have passed beside it, and are not paid for.
    beside: [Flow; 2],
    evened: Instant,
}

/// What all allocations of a worker carry together.
#[derive(Debug, Default)]
pub(crate) struct Trunk {
    lanes: [Lane; 2],
    begun: bool,
}

/// How far an allocation is from its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// It carries more than its rate at the moment, and lives on what it saved.
    pub above_average: bool,
    /// Something of it was dropped, or had to wait, during the last second.
    pub above_peak: bool,
}

impl Trunk {
    /// Sets up the limits of the worker and of the relay, when they are known first.
    pub(crate) fn begin(&mut self, bandwidth: &Bandwidth, shares: &Shares, now: Instant) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let relay = shares.relay.as_ref();
        self.lanes = Direction::BOTH.map(|_| {
            let worker = [DropReason::WorkerBandwidth, DropReason::WorkerPackets];
            let all = [DropReason::RelayBandwidth, DropReason::RelayPackets];
            let worker = Valve::own(bandwidth.worker, worker, now);
            Lane(worker.chain(Valve::shared(bandwidth.relay, all, relay)).collect())
        });
    }
}

impl Meter {
    /// A meter for an allocation; `None` without a limit.
    pub(crate) fn new(bandwidth: &Bandwidth, shares: &Shares, now: Instant) -> Option<Box<Self>> {
        let Bandwidth { allocation, user, client, worker, relay } = *bandwidth;
        if ![allocation, user, client, worker, relay].into_iter().any(Rates::are_limits) {
            return None;
        }
        let lanes = Direction::BOTH.map(|_| {
            let own = [DropReason::AllocationBandwidth, DropReason::AllocationPackets];
            let of_user = [DropReason::UserBandwidth, DropReason::UserPackets];
            let of_client = [DropReason::ClientBandwidth, DropReason::ClientPackets];
            let own = Valve::own(allocation, own, now);
            let of_user = Valve::shared(user, of_user, shares.user.as_ref());
            let of_client = Valve::shared(client, of_client, shares.client.as_ref());
            Lane(own.chain(of_user).chain(of_client).collect())
        });
        Some(Box::new(Self {
            lanes,
            refused: None,
            admitted: Default::default(),
            beside: Default::default(),
            evened: now,
        }))
    }

    /// Whether a datagram may pass; counts it if so.
    pub(crate) fn admit(
        &mut self,
        trunk: &mut Trunk,
        now: Instant,
        direction: Direction,
        len: usize,
    ) -> Result<(), DropReason> {
        let own = &mut self.lanes[direction as usize];
        let common = &mut trunk.lanes[direction as usize];
        let open = own.is_open(now, direction).and_then(|()| common.is_open(now, direction));
        if let Err(reason) = open {
            self.refused = Some(now);
            return Err(reason);
        }
        own.spend(len as u64, 1);
        common.spend(len as u64, 1);
        self.admitted[direction as usize].add(len);
        Ok(())
    }

    /// How much of a stream may pass now.
    pub(crate) fn allowance(
        &mut self,
        trunk: &mut Trunk,
        now: Instant,
        direction: Direction,
    ) -> Allowance {
        let own = &mut self.lanes[direction as usize];
        let common = &mut trunk.lanes[direction as usize];
        // All at once: otherwise who has waited for one would wait for the other.
        if let Some(time) = own.lacks(now, direction).max(common.lacks(now, direction)) {
            self.refused = Some(now);
            return Allowance::NotBefore(now + time);
        }
        let mut level: Option<i64> = None;
        for valve in own.0.iter_mut().chain(&mut common.0).filter(|it| it.kind == Kind::Bytes) {
            if valve.is_crumb() && !valve.refill(now, direction) {
                // Another worker was faster.
                self.refused = Some(now);
                return Allowance::NotBefore(now + PAUSE);
            }
            level = Some(level.map_or(valve.level, |least| least.min(valve.level)));
        }
        level.map_or(Allowance::Unlimited, |level| {
            Allowance::Bytes(usize::try_from(level / BILLION).unwrap_or_default().max(1))
        })
    }

    /// Counts bytes of a stream that have passed.
    pub(crate) fn spend(&mut self, trunk: &mut Trunk, direction: Direction, bytes: u64) {
        self.lanes[direction as usize].spend(bytes, 0);
        trunk.lanes[direction as usize].spend(bytes, 0);
    }

    /// How far the allocation is from its limits.
    pub(crate) fn pressure(&self, now: Instant) -> Pressure {
        let valves = self.lanes.iter().flat_map(|lane| &lane.0);
        Pressure {
            above_average: valves.into_iter().any(|valve| valve.is_drawn_on(now)),
            above_peak: self.refused.is_some_and(|at| now.saturating_duration_since(at) < SHOWN),
        }
    }
}

/// One direction: its valves, the narrowest first.
#[derive(Debug, Default)]
struct Lane(Box<[Valve]>);

impl Lane {
    fn is_open(&mut self, now: Instant, direction: Direction) -> Result<(), DropReason> {
        for valve in &mut self.0 {
            if !valve.is_open(now, direction) {
                return Err(valve.reason);
            }
        }
        Ok(())
    }

    /// How long a stream waits; `None` if there is something to read for.
    fn lacks(&mut self, now: Instant, direction: Direction) -> Option<Duration> {
        let valves = self.0.iter_mut().filter(|valve| valve.kind == Kind::Bytes);
        valves.filter_map(|valve| valve.lacks(now, direction)).max()
    }

    /// Takes from every valve, and more than is there if it must.
    fn spend(&mut self, bytes: u64, packets: u64) {
        for valve in &mut self.0 {
            let units = match valve.kind {
                Kind::Bytes => bytes,
                Kind::Packets => packets,
            };
            valve.level = valve.level.saturating_sub_unsigned(units.saturating_mul(BILLION as u64));
        }
    }
}

/// One limit.
#[derive(Debug)]
struct Valve {
    /// Units a second.
    rate: u64,
    /// Billionths of a unit that may pass; below zero is owed.
    level: i64,
    source: Source,
    kind: Kind,
    /// Why something does not pass.
    reason: DropReason,
}

/// What fills a valve.
#[derive(Debug)]
enum Source {
    /// Time; it was filled last at this one.
    Time(Instant),
    /// Slices of what others share.
    Pot(Arc<Pot>),
}

impl Valve {
    /// Valves of something that shares with nobody.
    fn own(rates: Rates, reasons: [DropReason; 2], now: Instant) -> impl Iterator<Item = Self> {
        kinds(rates, reasons).map(move |(rate, kind, reason)| Self {
            rate,
            level: full(rate),
            source: Source::Time(now),
            kind,
            reason,
        })
    }

    /// Valves of something that shares with others.
    fn shared(
        rates: Rates,
        reasons: [DropReason; 2],
        pot: Option<&Arc<Pot>>,
    ) -> impl Iterator<Item = Self> {
        pot.into_iter().flat_map(move |pot| {
            kinds(rates, reasons).map(|(rate, kind, reason)| Self {
                rate,
                level: 0,
                source: Source::Pot(Arc::clone(pot)),
                kind,
                reason,
            })
        })
    }

    fn is_open(&mut self, now: Instant, direction: Direction) -> bool {
        self.fill(now);
        self.level > 0 || self.refill(now, direction)
    }

    /// Takes in the time that has passed.
    fn fill(&mut self, now: Instant) {
        if let Source::Time(at) = &mut self.source
            // A batch has one time.
            && *at != now
        {
            self.level = level_at(self.level, self.rate, now.saturating_duration_since(*at));
            *at = now;
        }
    }

    /// Whether others leave a slice.
    fn refill(&mut self, now: Instant, direction: Direction) -> bool {
        let Source::Pot(pot) = &self.source else { return false };
        let owed = self.level.min(0).unsigned_abs() / self.rate;
        let time = owed.saturating_add(nanoseconds(SLICE));
        if !pot.take(now, (direction, self.kind), time) {
            return false;
        }
        let gained = i64::try_from(time.saturating_mul(self.rate)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gained);
        true
    }

    /// Whether a stream needs more.
    fn is_crumb(&self) -> bool {
        self.level < level_of(self.rate, CRUMB)
    }

    /// How long a stream waits; `None` if there is something to read for, or to be had.
    fn lacks(&mut self, now: Instant, direction: Direction) -> Option<Duration> {
        self.fill(now);
        if !self.is_crumb() {
            return None;
        }
        match &self.source {
            Source::Pot(pot) => pot.lacks(now, (direction, self.kind)),
            Source::Time(_) => {
                let lacking = level_of(self.rate, PAUSE).saturating_sub(self.level);
                let lacking = u64::try_from(lacking).unwrap_or_default();
                Some(Duration::from_nanos(lacking.div_ceil(self.rate)))
            }
        }
    }

    /// Whether more than the rate passes, so that the level is well below the full one.
    fn is_drawn_on(&self, now: Instant) -> bool {
        let Source::Time(at) = self.source else { return false };
        let level = level_at(self.level, self.rate, now.saturating_duration_since(at));
        level < full(self.rate) / 2
    }
}

/// What of a limit there is: rate, what it counts, and why something does not pass.
fn kinds(
    rates: Rates,
    [bytes, packets]: [DropReason; 2],
) -> impl Iterator<Item = (u64, Kind, DropReason)> {
    let both = [(rates.bytes, Kind::Bytes, bytes), (rates.packets, Kind::Packets, packets)];
    let limited = |(rate, kind, reason): (Option<NonZeroU64>, _, _)| {
        Some((rate?.get().min(MOST_BYTES_PER_S), kind, reason))
    };
    both.into_iter().filter_map(limited)
}

/// A level that was left alone so long.
fn level_at(level: i64, rate: u64, elapsed: Duration) -> i64 {
    let gained = elapsed.as_nanos().saturating_mul(rate.into());
    let gained = i64::try_from(gained).unwrap_or(i64::MAX);
    level.saturating_add(gained).min(full(rate))
}

/// The level of a valve that was left alone.
fn full(rate: u64) -> i64 {
    level_of(rate, BURST)
}

/// What passes in so much time.
fn level_of(rate: u64, time: Duration) -> i64 {
    i64::try_from(rate.saturating_mul(nanoseconds(time))).unwrap_or(i64::MAX)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::tests::start;

    const RATE: Rates = Rates { bytes: NonZeroU64::new(1_250_000), packets: None };

    fn claim(user: u64, bandwidth: Bandwidth, at: Instant) -> Claim {
        let client = IpAddr::from([192, 0, 2, 1]);
        Claim { user: UserKey(user), client, user_limit: None, charges: 1, bandwidth, at }
    }

    /// What two workers pass together in ten seconds, with two allocations each, of which each
    /// sends 2 MB a second in steps of a millisecond.
    fn passed_by_two_workers(bandwidth: Bandwidth) -> u64 {
        let begin = start().mono;
        let mut pots = Pots::default();
        let shares = pots.of(&claim(1, bandwidth, begin));
        let work = || {
            let mut trunk = Trunk::default();
            trunk.begin(&bandwidth, &shares, begin);
            let mut meters = [0, 1].map(|_| Meter::new(&bandwidth, &shares, begin).unwrap());
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
        let same = |one: &Option<Arc<Pot>>, other: &Option<Arc<Pot>>| {
            Arc::ptr_eq(one.as_ref().unwrap(), other.as_ref().unwrap())
        };
        assert!(same(&first.user, &pots.of(&claim).user));
        pots.forget_user(claim.user);
        pots.forget_client(claim.client);
        let next = pots.of(&claim);
        assert!(!same(&first.user, &next.user) && !same(&first.client, &next.client));
        assert!(same(&first.relay, &next.relay), "the relay is the same for ever");
    }

    #[test]
    fn sec_010_without_a_limit_there_is_no_meter() {
        let begin = start().mono;
        let shares = Pots::default().of(&claim(1, Bandwidth::UNLIMITED, begin));
        assert!(Meter::new(&Bandwidth::UNLIMITED, &shares, begin).is_none());
    }
}
