//! How much may pass: rates, what the allocations of a user share, and the meter of one.
//!
//! Each direction counts for itself, payload bytes and datagrams apart. A bucket fills with time
//! and lets everything pass as long as there is something in it: a datagram may take more than is
//! left, which is owed then, so that any size passes and the average is exact. What a user's
//! allocations share is one instant for each bucket, moved on atomically by a slice of time
//! whenever one of them needs more; so workers meet once for many datagrams.
//!
//! Of a stream no byte may be dropped. It is told its [`Allowance`] before it reads, and pays for
//! what it read; how many datagrams a second may pass says nothing about it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::policy::limits::{Claim, UserKey};
use crate::reject::DropReason;

/// What may pass at once after a pause, as time at the full rate.
pub const BURST: Duration = Duration::from_millis(100);

/// What an allocation takes at a time of what its user may use.
const SLICE: Duration = Duration::from_millis(5);

/// What a stream waits for once it has used up what there was, as time at the full rate: so it is
/// looked at forty times a second, not at every byte.
const PAUSE: Duration = Duration::from_millis(25);

/// What is not worth a read, as time at the full rate.
const CRUMB: Duration = Duration::from_millis(3);

/// How long a refusal shows in [`Meter::pressure`].
const SHOWN: Duration = Duration::from_secs(1);

/// Buckets count billionths of a unit: a nanosecond of a rate of one unit a second.
const BILLION: i64 = 1_000_000_000;

/// The highest rate that can be told: 100 Gbit/s.
pub const MOST_BYTES_PER_S: u64 = 12_500_000_000;

/// What may pass in one direction. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Payload bytes a second, at most [`MOST_BYTES_PER_S`].
    pub bytes: Option<NonZeroU64>,
    /// Datagrams a second, at most as many.
    pub packets: Option<NonZeroU64>,
}

impl Rates {
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
}

impl Bandwidth {
    /// No limit.
    pub const UNLIMITED: Self = {
        let none = Rates { bytes: None, packets: None };
        Self { allocation: none, user: none }
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

/// What all allocations of a user share: for bytes and datagrams of each direction the moment at
/// which everything taken is paid for, in nanoseconds since the beginning.
#[derive(Debug)]
pub struct Pot {
    begin: Instant,
    due: [[AtomicU64; 2]; 2],
}

impl Pot {
    /// A pot with no more than a slice in it: ending all allocations and beginning anew gains
    /// nobody much.
    fn new(begin: Instant) -> Self {
        let empty = || AtomicU64::new(nanoseconds(BURST).saturating_sub(nanoseconds(SLICE)));
        Self { begin, due: [[empty(), empty()], [empty(), empty()]] }
    }

    /// Takes so much time, unless too much is taken already.
    fn take(&self, now: Instant, (direction, kind): (Direction, Kind), time: u64) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.begin));
        let until = now.saturating_add(nanoseconds(BURST));
        let more = |due: u64| (due < until).then(|| due.max(now).saturating_add(time));
        let due = &self.due[direction as usize][kind as usize];
        due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// How long nothing is there that is worth waiting for; `None` if there is something.
    fn lacks(&self, now: Instant, (direction, kind): (Direction, Kind)) -> Option<Duration> {
        let due = self.due[direction as usize][kind as usize].load(Ordering::Relaxed);
        let due = Duration::from_nanos(due);
        let until = now.saturating_duration_since(self.begin) + BURST;
        (due >= until).then(|| due.saturating_sub(until) + PAUSE)
    }
}

/// The pots of users that have allocations.
#[derive(Debug, Default)]
pub struct Pots(BTreeMap<UserKey, Arc<Pot>>);

impl Pots {
    /// What the user's allocations share, if that is limited.
    pub fn of(&mut self, claim: &Claim) -> Option<Arc<Pot>> {
        let new = || Arc::new(Pot::new(claim.at));
        let limited = claim.bandwidth.user.are_limits();
        limited.then(|| Arc::clone(self.0.entry(claim.user).or_insert_with(new)))
    }

    /// The last allocation of a user has ended.
    pub fn forget(&mut self, user: UserKey) {
        self.0.remove(&user);
    }
}

/// What a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bytes,
    Packets,
}

/// What one allocation carries, against its limits.
#[derive(Debug)]
pub(crate) struct Meter {
    lanes: [Lane; 2],
    pot: Option<Arc<Pot>>,
    refused: Option<Instant>,
}

/// How far an allocation is from its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// It carries more than its rate at the moment, and lives on what it saved.
    pub above_average: bool,
    /// Something of it was dropped, or had to wait, during the last second.
    pub above_peak: bool,
}

impl Meter {
    /// A meter for an allocation; `None` without a limit.
    pub(crate) fn new(
        bandwidth: &Bandwidth,
        pot: Option<&Arc<Pot>>,
        now: Instant,
    ) -> Option<Box<Self>> {
        let user = pot.map_or(Rates::default(), |_| bandwidth.user);
        let lane = || Lane {
            bytes: Bucket::of(bandwidth.allocation.bytes, now),
            packets: Bucket::of(bandwidth.allocation.packets, now),
            shared_bytes: Credit::of(user.bytes),
            shared_packets: Credit::of(user.packets),
        };
        let limited = bandwidth.allocation.are_limits() || user.are_limits();
        let pot = pot.map(Arc::clone);
        limited.then(|| Box::new(Self { lanes: [lane(), lane()], pot, refused: None }))
    }

    /// Whether a datagram may pass; counts it if so.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        direction: Direction,
        len: usize,
    ) -> Result<(), DropReason> {
        let lane = &mut self.lanes[direction as usize];
        let outcome = lane.admit(now, direction, self.pot.as_deref(), len as u64);
        if outcome.is_err() {
            self.refused = Some(now);
        }
        outcome
    }

    /// How much of a stream may pass now.
    pub(crate) fn allowance(&mut self, now: Instant, direction: Direction) -> Allowance {
        let lane = &mut self.lanes[direction as usize];
        let allowance = lane.allowance(now, direction, self.pot.as_deref());
        if matches!(allowance, Allowance::NotBefore(_)) {
            self.refused = Some(now);
        }
        allowance
    }

    /// Counts bytes of a stream that have passed.
    pub(crate) fn spend(&mut self, direction: Direction, bytes: u64) {
        self.lanes[direction as usize].spend(bytes, 0);
    }

    /// How far the allocation is from its limits.
    pub(crate) fn pressure(&self, now: Instant) -> Pressure {
        let buckets = self.lanes.iter().flat_map(|lane| [&lane.bytes, &lane.packets]);
        Pressure {
            above_average: buckets.flatten().any(|bucket| bucket.is_drawn_on(now)),
            above_peak: self.refused.is_some_and(|at| now.saturating_duration_since(at) < SHOWN),
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    bytes: Option<Bucket>,
    packets: Option<Bucket>,
    shared_bytes: Option<Credit>,
    shared_packets: Option<Credit>,
}

impl Lane {
    fn admit(
        &mut self,
        now: Instant,
        direction: Direction,
        pot: Option<&Pot>,
        len: u64,
    ) -> Result<(), DropReason> {
        let Self { bytes, packets, shared_bytes, shared_packets } = self;
        for (bucket, reason) in
            [(bytes, DropReason::AllocationBandwidth), (packets, DropReason::AllocationPackets)]
        {
            if bucket.as_mut().is_some_and(|bucket| !bucket.is_open(now)) {
                return Err(reason);
            }
        }
        for (credit, kind, reason) in [
            (shared_bytes, Kind::Bytes, DropReason::UserBandwidth),
            (shared_packets, Kind::Packets, DropReason::UserPackets),
        ] {
            if let (Some(credit), Some(pot)) = (credit, pot)
                && !credit.is_open(|time| pot.take(now, (direction, kind), time))
            {
                return Err(reason);
            }
        }
        self.spend(len, 1);
        Ok(())
    }

    fn allowance(&mut self, now: Instant, direction: Direction, pot: Option<&Pot>) -> Allowance {
        let shared = (direction, Kind::Bytes);
        let own = self.bytes.as_mut().and_then(|bucket| {
            bucket.fill(now);
            bucket.lacks()
        });
        let credit = self.shared_bytes.as_mut().zip(pot);
        let of_user = credit.as_ref().filter(|(credit, _)| credit.is_crumb());
        let of_user = of_user.and_then(|(_, pot)| pot.lacks(now, shared));
        // Both at once: otherwise who has waited for one would wait for the other.
        if let Some(time) = own.max(of_user) {
            return Allowance::NotBefore(now + time);
        }
        let mut level = self.bytes.as_ref().map(|bucket| bucket.level);
        if let Some((credit, pot)) = credit {
            if credit.is_crumb() && !credit.refill(|time| pot.take(now, shared, time)) {
                // Another worker was faster.
                return Allowance::NotBefore(now + PAUSE);
            }
            level = Some(level.map_or(credit.level, |own| own.min(credit.level)));
        }
        level.map_or(Allowance::Unlimited, at_most)
    }

    /// Takes from everything there is, which may be less.
    fn spend(&mut self, len: u64, datagrams: u64) {
        let Self { bytes, packets, shared_bytes, shared_packets } = self;
        let levels = [(bytes, len), (packets, datagrams)].into_iter();
        let levels = levels.filter_map(|(it, units)| Some((&mut it.as_mut()?.level, units)));
        let shared = [(shared_bytes, len), (shared_packets, datagrams)].into_iter();
        let shared = shared.filter_map(|(it, units)| Some((&mut it.as_mut()?.level, units)));
        for (level, units) in levels.chain(shared) {
            *level = level.saturating_sub_unsigned(units.saturating_mul(BILLION as u64));
        }
    }
}

/// What one allocation may still use, filled by time.
#[derive(Debug)]
struct Bucket {
    /// Units a second.
    rate: u64,
    /// Billionths of a unit; below zero is owed.
    level: i64,
    /// When it was filled last.
    at: Instant,
}

impl Bucket {
    fn of(rate: Option<NonZeroU64>, now: Instant) -> Option<Self> {
        let rate = rate?.get().min(MOST_BYTES_PER_S);
        Some(Self { rate, level: full(rate), at: now })
    }

    fn is_open(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level > 0
    }

    fn fill(&mut self, now: Instant) {
        // A batch has one time.
        if now != self.at {
            self.level = self.level_at(now);
            self.at = now;
        }
    }

    /// How long a stream waits; `None` if there is something to read for.
    fn lacks(&self) -> Option<Duration> {
        let lacking = level_of(self.rate, PAUSE).saturating_sub(self.level);
        let nanoseconds = u64::try_from(lacking).unwrap_or_default().div_ceil(self.rate);
        (self.level < level_of(self.rate, CRUMB)).then(|| Duration::from_nanos(nanoseconds))
    }

    /// Whether it carries more than its rate, so that its level is well below the full one.
    fn is_drawn_on(&self, now: Instant) -> bool {
        self.level_at(now) < full(self.rate) / 2
    }

    fn level_at(&self, now: Instant) -> i64 {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        let gained = i64::try_from(elapsed.saturating_mul(self.rate.into())).unwrap_or(i64::MAX);
        self.level.saturating_add(gained).min(full(self.rate))
    }
}

/// What an allocation has taken of its user's and not used yet.
#[derive(Debug)]
struct Credit {
    /// Units a second.
    rate: u64,
    /// Billionths of a unit; below zero is owed.
    level: i64,
}

impl Credit {
    fn of(rate: Option<NonZeroU64>) -> Option<Self> {
        Some(Self { rate: rate?.get().min(MOST_BYTES_PER_S), level: 0 })
    }

    /// Whether there is some, or more is granted.
    fn is_open(&mut self, take: impl FnOnce(u64) -> bool) -> bool {
        self.level > 0 || self.refill(take)
    }

    /// Whether `take` grants more: it is told for how long a time.
    fn refill(&mut self, take: impl FnOnce(u64) -> bool) -> bool {
        let owed = self.level.min(0).unsigned_abs() / self.rate;
        let time = owed.saturating_add(nanoseconds(SLICE));
        if !take(time) {
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
}

/// What a level allows to a stream.
fn at_most(level: i64) -> Allowance {
    Allowance::Bytes(usize::try_from(level / BILLION).unwrap_or_default().max(1))
}

/// The level of a bucket that was left alone.
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

    #[test]
    fn ed_051_two_workers_share_a_user_s_rate_exactly() {
        let begin = start().mono;
        let rate = Rates { bytes: NonZeroU64::new(1_250_000), packets: None };
        let bandwidth = Bandwidth { allocation: Rates::default(), user: rate };
        let pot = Arc::new(Pot::new(begin));
        // Each sends 4 MB a second in steps of a millisecond, for ten seconds.
        let work = || {
            let mut meter = Meter::new(&bandwidth, Some(&pot), begin).unwrap();
            let mut passed = 0;
            for step in 0..10_000 {
                let now = begin + Duration::from_millis(step);
                for _ in 0..4 {
                    let admitted = meter.admit(now, Direction::ToPeer, 1_000);
                    passed += if admitted.is_ok() { 1_000 } else { 0 };
                }
            }
            passed
        };
        let passed: u64 = std::thread::scope(|scope| {
            let workers = [scope.spawn(work), scope.spawn(work)];
            workers.map(|worker| worker.join().unwrap()).into_iter().sum()
        });
        let expected = 12_500_000_u64;
        assert!(passed.abs_diff(expected) * 50 <= expected, "{passed} of {expected}");
    }

    #[test]
    fn sec_010_without_a_limit_there_is_no_meter() {
        assert!(Meter::new(&Bandwidth::UNLIMITED, None, start().mono).is_none());
    }
}
