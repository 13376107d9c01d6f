//! Every allocation as it was at the last look, and the busiest of them over ten minutes.
//!
//! An allocation takes 216 bytes here, up to 480 while the table has room to spare; with its
//! samples, which at most [`DETAILED`] have, up to 3 kB. So ten thousand calls take 30 MB, and what
//! is beyond is bounded by `limits.allocations`. When there are more, those that carry most now have
//! samples; one that falls behind loses its own.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use proto::media::LegSummary;

use super::samples::{Ring, Sample};
use super::{EVERY, SHORTEST};
use crate::session::{Session, SessionId};

/// Allocations with samples, at most.
pub(super) const DETAILED: usize = 10_000;

/// Fewer packets than this say nothing of loss.
const FEWEST: u64 = 10;

/// Packets of a sample that make a flow.
const FLOW: u64 = 50;

/// Samples of a spark: two minutes.
const SPARK: usize = 24;

/// Samples that problems are judged by: fifteen seconds.
const JUDGED: usize = 3;

/// An order of allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::office) enum Sort {
    /// Those that carry most now come first.
    Throughput,
    /// Those that lose most now, on either leg.
    Loss,
    /// The oldest.
    Age,
    /// Those that end soonest unless refreshed.
    Expiry,
    /// Those that carried most so far.
    Bytes,
}

/// The last seconds of an allocation.
#[derive(Clone, Debug, Default)]
pub(in crate::office) struct Recent {
    /// The last five of them.
    pub(in crate::office) last: Option<Sample>,
    /// Bytes a second, the oldest first.
    pub(in crate::office) spark: Vec<u64>,
    /// Whether most packets of that time were relayed beside the relay's workers, by the kernel.
    pub(in crate::office) in_kernel: bool,
}

/// All allocations.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Tells what was seen at this look from what was not.
    round: u32,
    rows: HashMap<SessionId, Row, foldhash::quality::RandomState>,
}

/// One allocation.
#[derive(Debug)]
pub(super) struct Row {
    round: u32,
    looked: Duration,
    opened: Duration,
    expires: Duration,
    counters: Counters,
    /// Of the time between the last two looks.
    last: Option<Sample>,
    /// Looks at which nothing went this way while much went the other, by direction.
    still: [u8; 2],
    /// Freezes between the last two looks, by leg.
    froze: [u32; 2],
    /// Whether the kernel relayed most packets between the last two looks.
    in_kernel: bool,
    samples: Option<Ring>,
}

/// What was counted so far: the first two by direction, the others by leg.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    bytes: [u64; 2],
    packets: [u64; 2],
    expected: [u64; 2],
    received: [u64; 2],
    freezes: [u32; 2],
    /// Packets both ways that the kernel relayed.
    beside: u64,
}

impl Counters {
    fn of(session: &Session) -> Self {
        let flows = [session.view.usage.to_peer, session.view.usage.to_client];
        let legs = session.view.media.unwrap_or_default();
        Self {
            bytes: flows.map(|flow| flow.bytes),
            packets: flows.map(|flow| flow.packets),
            expected: legs.map(|leg| leg.expected),
            received: legs.map(|leg| leg.received),
            freezes: legs.map(|leg| leg.freezes),
            beside: session.view.beside,
        }
    }

    fn since(&self, before: &Self) -> Self {
        let less = |new: [u64; 2], old: [u64; 2]| [0, 1].map(|at| new[at].saturating_sub(old[at]));
        Self {
            bytes: less(self.bytes, before.bytes),
            packets: less(self.packets, before.packets),
            expected: less(self.expected, before.expected),
            received: less(self.received, before.received),
            freezes: [0, 1].map(|at| self.freezes[at].saturating_sub(before.freezes[at])),
            beside: self.beside.saturating_sub(before.beside),
        }
    }

    /// The share of packets that did not come, by leg.
    fn loss(&self) -> [Option<f64>; 2] {
        [0, 1].map(|leg| loss(self.expected[leg], self.received[leg]))
    }
}

/// The share of packets that did not come.
#[expect(clippy::cast_precision_loss, reason = "packets of some seconds")]
pub(super) fn loss(expected: u64, received: u64) -> Option<f64> {
    let lost = expected.saturating_sub(received);
    (expected >= FEWEST).then(|| lost as f64 / expected as f64)
}

impl Table {
    /// A look begins.
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// One allocation is seen.
    pub(super) fn take(&mut self, now: Duration, session: &Session) {
        let detailed = self.rows.len() < DETAILED;
        let row = self.rows.entry(session.id()).or_insert_with(|| Row::new(session, now, detailed));
        row.round = self.round;
        row.take(now, session);
    }

    /// A look ends: what was not seen is over, and the busiest of the rest keep samples.
    pub(super) fn sweep(&mut self) {
        let round = self.round;
        self.rows.retain(|_, row| row.round == round);
        if self.rows.len() > DETAILED {
            let mut order: Vec<_> = self.rows.values_mut().collect();
            order.select_nth_unstable_by_key(DETAILED, |row| Reverse(row.rate()));
            let (busiest, rest) = order.split_at_mut(DETAILED);
            for row in busiest {
                row.samples.get_or_insert_default();
            }
            for row in rest {
                row.samples = None;
            }
        } else {
            for row in self.rows.values_mut() {
                row.samples.get_or_insert_default();
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Every allocation.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Row)> {
        self.rows.iter().map(|(id, row)| (*id, row))
    }

    /// The first so many in some order; equal ones by their ids.
    pub(super) fn first(&self, sort: Sort, most: usize) -> Vec<SessionId> {
        let id = |id: SessionId| (id.worker, id.allocation.slot);
        let mut order: Vec<_> = self.iter().map(|(it, row)| (row.key(sort), id(it), it)).collect();
        let by = |it: &(u64, (u16, u32), SessionId)| (it.0, it.1);
        if most < order.len() {
            order.select_nth_unstable_by_key(most, by);
            order.truncate(most);
        }
        order.sort_unstable_by_key(by);
        order.into_iter().map(|(_, _, id)| id).collect()
    }

    /// The last seconds of one.
    pub(super) fn recent(&self, id: SessionId) -> Recent {
        let Some(row) = self.rows.get(&id) else { return Recent::default() };
        let spark = row.samples.iter().flat_map(|it| it.iter().rev().take(SPARK).rev());
        let spark = spark.map(Sample::rate).collect();
        Recent { last: row.last, spark, in_kernel: row.in_kernel }
    }

    /// The last minutes of one.
    pub(super) fn samples(&self, id: SessionId) -> Vec<Sample> {
        let samples = self.rows.get(&id).and_then(|row| row.samples.as_ref());
        samples.iter().flat_map(|ring| ring.iter().copied()).collect()
    }
}

impl Row {
    /// One that is seen for the first time. If it opened since the last look, all it carried is
    /// of this time.
    fn new(session: &Session, now: Duration, detailed: bool) -> Self {
        let age = session.view.age;
        let young = age <= EVERY;
        Self {
            round: 0,
            looked: if young { now.saturating_sub(age.max(SHORTEST)) } else { now },
            opened: now.saturating_sub(age),
            expires: now,
            counters: if young { Counters::default() } else { Counters::of(session) },
            last: None,
            still: [0; 2],
            froze: [0; 2],
            in_kernel: false,
            samples: detailed.then(Ring::default),
        }
    }

    fn take(&mut self, now: Duration, session: &Session) {
        let counters = Counters::of(session);
        let passed = now.saturating_sub(self.looked);
        self.expires = now + session.view.expires_in;
        if passed.is_zero() {
            return;
        }
        let told = counters.since(&self.counters);
        let milliseconds = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rates = told.bytes.map(|bytes| bytes.saturating_mul(1_000) / milliseconds);
        let legs = session.view.media.unwrap_or_default();
        let jitter = |leg: usize, LegSummary { jitter, .. }: LegSummary| {
            (told.received[leg] >= FEWEST).then_some(jitter)
        };
        let jitter = [jitter(0, legs[0]), jitter(1, legs[1])];
        let sample = Sample::new(now, rates, told.loss(), jitter);
        for (way, other) in [(0, 1), (1, 0)] {
            let silent = told.packets[way] == 0 && told.packets[other] >= FLOW;
            self.still[way] = if silent { self.still[way].saturating_add(1) } else { 0 };
        }
        self.froze = told.freezes;
        self.in_kernel = told.beside > told.packets.iter().sum::<u64>() / 2;
        self.last = Some(sample);
        if let Some(ring) = &mut self.samples {
            ring.push(sample);
        }
        self.counters = counters;
        self.looked = now;
    }

    fn rate(&self) -> u64 {
        self.last.map_or(0, |sample| sample.rate())
    }

    /// What an order goes by, the least first.
    fn key(&self, sort: Sort) -> u64 {
        let milliseconds = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        match sort {
            Sort::Throughput => u64::MAX - self.rate(),
            Sort::Loss => {
                let loss =
                    self.last.and_then(|it| it.loss().into_iter().flatten().reduce(f64::max));
                // Positive numbers are ordered as their bits are.
                u64::MAX - loss.map_or(0, |it| it.to_bits() + 1)
            }
            Sort::Age => milliseconds(self.opened),
            Sort::Expiry => milliseconds(self.expires),
            Sort::Bytes => u64::MAX - self.counters.bytes.iter().sum::<u64>(),
        }
    }

    /// The mean loss of the last samples, by leg; `None` if the last one says nothing.
    pub(super) fn loss(&self) -> [Option<f64>; 2] {
        let last = self.last.map(|it| it.loss()).unwrap_or_default();
        [0, 1].map(|leg| {
            let now = last[leg]?;
            let judged = self.samples.iter().flat_map(|it| it.iter().rev().take(JUDGED));
            let mut known: Vec<_> = judged.filter_map(|it| it.loss()[leg]).collect();
            if known.is_empty() {
                known.push(now);
            }
            #[expect(clippy::cast_precision_loss, reason = "there are three of them")]
            Some(known.iter().sum::<f64>() / known.len() as f64)
        })
    }

    /// Jitter of the last sample in seconds, by leg.
    pub(super) fn jitter(&self) -> [Option<f64>; 2] {
        self.last.map(|it| it.jitter()).unwrap_or_default()
    }

    /// Freezes of the last sample, by leg.
    pub(super) fn froze(&self) -> [u32; 2] {
        self.froze
    }

    /// For how many looks nothing went this way while much went the other, by direction.
    pub(super) fn still(&self) -> [u8; 2] {
        self.still
    }
}
