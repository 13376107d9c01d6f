//! One limit in one direction, as an allocation or a worker holds it.
//!
//! What is drawn from a pot for a modest user stays apart from what is drawn for others, so that what is
//! kept for the modest is used by them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fairness::{Fair, Standing};
use super::pot::Pot;
use super::{BURST, CRUMB, Direction, Kind, MOST_BYTES_PER_S, PAUSE, Rates, SLICE, nanoseconds};
use crate::reject::DropReason;

/// One limit.
#[derive(Debug)]
pub(super) struct Valve {
    /// Units a second.
    pub(super) rate: u64,
    /// Billionths of a unit that may pass; below zero is owed.
    pub(super) level: i64,
    pub(super) source: Source,
    pub(super) kind: Kind,
    /// Why something does not pass.
    pub(super) reason: DropReason,
}

/// What fills a valve.
#[derive(Debug)]
pub(super) enum Source {
    /// Time; it was filled last at this one.
    Time(Instant),
    /// Slices of what others share.
    Pot {
        /// What they share.
        pot: Arc<Pot>,
        /// Like the level, for those that are above their part.
        open: i64,
    },
}

impl Valve {
    /// Valves that time fills.
    pub(super) fn own(
        rates: Rates,
        reasons: [DropReason; 2],
        now: Instant,
    ) -> impl Iterator<Item = Self> {
        kinds(rates, reasons).map(move |(rate, kind, reason)| Self {
            rate,
            level: full(rate),
            source: Source::Time(now),
            kind,
            reason,
        })
    }

    /// Valves of something that shares a pot with others.
    pub(super) fn shared(
        rates: Rates,
        reasons: [DropReason; 2],
        pot: Option<&Arc<Pot>>,
    ) -> impl Iterator<Item = Self> {
        pot.into_iter().flat_map(move |pot| {
            kinds(rates, reasons).map(|(rate, kind, reason)| Self {
                rate,
                level: 0,
                source: Source::Pot { pot: Arc::clone(pot), open: 0 },
                kind,
                reason,
            })
        })
    }

    /// Whether it is filled from this.
    pub(super) fn draws_on(&self, pot: &Arc<Pot>) -> bool {
        matches!(&self.source, Source::Pot { pot: its, .. } if Arc::ptr_eq(its, pot))
    }

    pub(super) fn is_open(&mut self, now: Instant, direction: Direction, fair: &mut Fair) -> bool {
        self.fill(now);
        let standing = fair.stand(now, direction);
        self.left(standing) > 0 || self.refill(now, direction, standing, standing.slice())
    }

    /// What is there for one that stands so.
    pub(super) fn left(&self, standing: Standing) -> i64 {
        match &self.source {
            Source::Pot { open, .. } if !standing.modest => *open,
            Source::Pot { .. } => self.level,
            Source::Time(_) if standing.is_free() => self.level.max(level_of(self.rate, SLICE)),
            Source::Time(_) => self.level.saturating_sub(level_of(self.rate, standing.leaves())),
        }
    }

    /// Takes from it, and more than is there if it must.
    pub(super) fn spend(&mut self, standing: Standing, billionths: u64) {
        let level = match &mut self.source {
            Source::Pot { open, .. } if !standing.modest => open,
            Source::Pot { .. } | Source::Time(_) => &mut self.level,
        };
        *level = level.saturating_sub_unsigned(billionths);
    }

    /// Takes in the time that has passed.
    pub(super) fn fill(&mut self, now: Instant) {
        if let Source::Time(at) = &mut self.source
            // A batch has one time.
            && *at != now
        {
            self.level = level_at(self.level, self.rate, now.saturating_duration_since(*at));
            *at = now;
        }
    }

    /// Whether others leave a slice of so much time. All that is owed is paid then.
    fn refill(
        &mut self,
        now: Instant,
        direction: Direction,
        standing: Standing,
        slice: u64,
    ) -> bool {
        let Source::Pot { pot, open } = &mut self.source else { return false };
        let owed = [self.level, *open].map(|level| level.min(0).unsigned_abs() / self.rate);
        let time = owed[0].saturating_add(owed[1]).saturating_add(slice);
        if !pot.take(now, (direction, self.kind), time, standing.reach()) {
            return false;
        }
        for (level, owed) in [&mut self.level, &mut *open].into_iter().zip(owed) {
            *level = level.saturating_add_unsigned(owed.saturating_mul(self.rate));
        }
        let level = if standing.modest { &mut self.level } else { open };
        *level = level.saturating_add_unsigned(slice.saturating_mul(self.rate));
        true
    }

    /// What of a stream may pass, in billionths of a byte; `None` if another worker was faster.
    pub(super) fn offers(
        &mut self,
        now: Instant,
        direction: Direction,
        fair: &mut Fair,
    ) -> Option<i64> {
        let standing = fair.stand(now, direction);
        let has_enough =
            !self.is_crumb(standing) || self.refill(now, direction, standing, nanoseconds(SLICE));
        has_enough.then(|| self.left(standing))
    }

    /// How long a stream waits; `None` if there is something to read for, or to be had.
    pub(super) fn lacks(
        &mut self,
        now: Instant,
        direction: Direction,
        fair: &mut Fair,
    ) -> Option<Duration> {
        self.fill(now);
        let standing = fair.stand(now, direction);
        if !self.is_crumb(standing) {
            return None;
        }
        let time = match &self.source {
            Source::Pot { pot, .. } => {
                pot.dues.lacks(now, (direction, self.kind), standing.reach())?
            }
            Source::Time(_) => {
                let lacking = level_of(self.rate, PAUSE).saturating_sub(self.left(standing));
                let lacking = u64::try_from(lacking).unwrap_or_default();
                Duration::from_nanos(lacking.div_ceil(self.rate))
            }
        };
        // Who is above its part waits for the limit or for its part, whichever comes first.
        let modest = (!standing.modest).then(|| fair.lacks(now, direction)).flatten();
        Some(modest.map_or(time, |modest| time.min(modest)))
    }

    /// Whether a stream needs more.
    fn is_crumb(&self, standing: Standing) -> bool {
        self.left(standing) < level_of(self.rate, CRUMB)
    }

    /// Whether more than the rate passes, so that the level is well below the full one.
    pub(super) fn is_drawn_on(&self, now: Instant) -> bool {
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
