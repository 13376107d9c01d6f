//! What of a shared limit is one user's, so that no other can use it up.
//!
//! The part of a user is the rate divided by the users that have allocations under the limit, however
//! many allocations each has. As long as a user sends no more than that, it is modest, and passes
//! whatever others have taken: even one large datagram of somebody else holds up nobody. All parts
//! together are no more than the rate, so the sum stays exact. What the modest leave is for whoever
//! wants it, but for what they may have saved; and who is alone has all.
//!
//! Nobody is told who comes or goes: a user shares as long as one of its allocations holds its part.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::pot::Dues;
use super::{BILLION, BURST, Direction, Kind, SLICE, nanoseconds};
use crate::policy::limits::UserKey;

/// What the modest may save up together, and what is kept for them at most, as time at the full rate:
/// half a [`BURST`].
pub const KEPT: Duration = Duration::from_millis(50);

/// What a user may save up of its part in any case, in bytes and datagrams: two datagrams.
pub const LEAST: [u64; 2] = [3_000, 2];

/// For how long at most a user is not modest for what several of its allocations sent elsewhere.
pub const REMEMBERED: Duration = Duration::from_secs(1);

/// In how many pieces at most a slice is cut where many draw on one pot, so that what they have drawn and
/// not used is little.
const PIECES: u64 = 16;

/// The users that share a limit.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// What they have taken outlives their parts, so that ending and beginning anew gains nothing.
    users: BTreeMap<UserKey, (Weak<Part>, Arc<Dues>)>,
    sharers: Arc<AtomicU64>,
}

impl Parts {
    /// The part of a user, who shares the limit from now on.
    pub(super) fn of(&mut self, user: UserKey, now: Instant) -> Arc<Part> {
        if let Some(part) = self.users.get(&user).and_then(|(part, _)| part.upgrade()) {
            return part;
        }
        // Half of them may have left: so each costs a look at few.
        if self.users.len() as u64 > 8 + 2 * self.sharers.load(Ordering::Relaxed) {
            self.users.retain(|_, (part, dues)| part.strong_count() > 0 || dues.are_due(now));
        }
        let new = || (Weak::new(), Arc::new(Dues::new(now, KEPT)));
        let (weak, dues) = self.users.entry(user).or_insert_with(new);
        let part = Arc::new(Part::new(&self.sharers, dues));
        *weak = Arc::downgrade(&part);
        part
    }
}

/// What of a shared limit is one user's.
#[derive(Debug)]
pub struct Part {
    /// In time at the part's rate.
    dues: Arc<Dues>,
    sharers: Arc<AtomicU64>,
}

impl Part {
    fn new(sharers: &Arc<AtomicU64>, dues: &Arc<Dues>) -> Self {
        sharers.fetch_add(1, Ordering::Relaxed);
        Self { dues: Arc::clone(dues), sharers: Arc::clone(sharers) }
    }

    /// How many users share the limit.
    pub fn sharers(&self) -> u64 {
        self.sharers.load(Ordering::Relaxed).max(1)
    }

    /// Pays for what has passed elsewhere, but not for what was above the part there.
    pub(super) fn pay(
        &self,
        [since, now]: [Instant; 2],
        place: (Direction, Kind),
        (units, rate): (u64, u64),
    ) {
        let sharers = self.sharers();
        if units > 0 && sharers > 1 {
            let passed = part_time(units.saturating_mul(BILLION as u64), rate, sharers);
            let elapsed = nanoseconds(now.saturating_duration_since(since));
            self.dues.pay(since, place, passed.min(elapsed));
            let most = saved(place.1, rate, sharers).saturating_add(nanoseconds(REMEMBERED));
            self.dues.forgive(now, place, most);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How an allocation stands at a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Its user has something of its part left, or is alone.
    pub(super) modest: bool,
    sharers: u64,
}

impl Standing {
    /// Whether nothing holds it back but its part.
    pub(super) fn is_free(self) -> bool {
        self.modest && self.sharers > 1
    }

    /// What it must leave for others.
    pub(super) fn leaves(self) -> Duration {
        if self.modest { Duration::ZERO } else { kept(self.sharers) }
    }

    /// How much of a pot may be taken, in nanoseconds at the full rate, before it is held back.
    pub(super) fn reach(self) -> u64 {
        if self.is_free() { u64::MAX } else { nanoseconds(BURST.saturating_sub(self.leaves())) }
    }

    /// What it takes at a time.
    pub(super) fn slice(self) -> u64 {
        nanoseconds(SLICE) / self.sharers.min(PIECES)
    }
}

/// What of a limit is kept for the modest, where so many share it, as time at the full rate.
fn kept(sharers: u64) -> Duration {
    Duration::from_nanos(nanoseconds(KEPT) / sharers * (sharers - 1))
}

/// What an allocation has drawn of its user's part in one direction of one limit.
#[derive(Debug)]
pub(super) struct Fair {
    /// `None` where nobody shares, or one user alone.
    pub(super) part: Option<Arc<Part>>,
    /// Units a second of the limit.
    rate: u64,
    kind: Kind,
    /// Billionths of a unit that it may send as a modest one; below zero is owed.
    level: i64,
}

impl Fair {
    pub(super) fn new(part: Option<Arc<Part>>, rate: u64, kind: Kind) -> Self {
        Self { part, rate, kind, level: 0 }
    }

    /// How it stands now.
    pub(super) fn stand(&mut self, now: Instant, direction: Direction) -> Standing {
        let standing = self.standing();
        match &self.part {
            Some(part) if !standing.modest => {
                let place = (direction, self.kind);
                let gained = draw(part, now, place, (self.rate, standing.sharers, self.level));
                self.level = self.level.saturating_add(gained.unwrap_or_default());
                self.standing()
            }
            Some(_) | None => standing,
        }
    }

    /// How long it is not modest; what it waits for is worth it then.
    pub(super) fn lacks(&self, now: Instant, direction: Direction) -> Option<Duration> {
        let part = self.part.as_ref()?;
        part.dues.lacks(now, (direction, self.kind), saved(self.kind, self.rate, part.sharers()))
    }

    /// Takes so many units, as it stood; how it stood.
    pub(super) fn spend(&mut self, billionths: u64) -> Standing {
        let standing = self.standing();
        if standing.modest && standing.sharers > 1 {
            self.level = self.level.saturating_sub_unsigned(billionths);
        }
        standing
    }

    fn standing(&self) -> Standing {
        let sharers = self.part.as_ref().map_or(1, |part| part.sharers());
        Standing { modest: sharers == 1 || self.level > 0, sharers }
    }
}

/// Draws a slice of a part, and what is owed: billionths of a unit.
fn draw(
    part: &Part,
    now: Instant,
    place: (Direction, Kind),
    (rate, sharers, level): (u64, u64, i64),
) -> Option<i64> {
    let owed = level.min(0).unsigned_abs();
    let time = part_time(owed, rate, sharers).saturating_add(nanoseconds(SLICE));
    let slice = nanoseconds(SLICE).saturating_mul(rate) / sharers;
    let gained = i64::try_from(owed.saturating_add(slice)).unwrap_or(i64::MAX);
    part.dues.take(now, place, time, saved(place.1, rate, sharers)).then_some(gained)
}

/// How long a part takes for so many billionths of a unit.
fn part_time(billionths: u64, rate: u64, sharers: u64) -> u64 {
    let time = u128::from(billionths) * u128::from(sharers) / u128::from(rate);
    // So long that nobody waits for it, and far from what wraps.
    u64::try_from(time).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// What a user may save up of its part, as time at the part's rate.
pub(super) fn saved(kind: Kind, rate: u64, sharers: u64) -> u64 {
    let least = LEAST[kind as usize].saturating_mul(BILLION as u64);
    nanoseconds(KEPT).max(part_time(least, rate, sharers))
}
