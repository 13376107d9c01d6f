//! Datagrams that pass beside the meter, where the kernel relays and holds the same limits.
//!
//! Each of both keeps the whole account: it charges what passes by itself at once, and a little later
//! what the other has let pass. So together they carry the rate, and after a pause two bursts at most.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fairness::saved;
use super::{BILLION, Direction, Fair, Kind, Lane, Meter, Part, Pot, Rates, Source, Trunk};
use crate::flow::Flow;
use crate::reject::DropReason;

/// A limit of an allocation, for whoever holds it beside the meter.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What it shares with others, if it does.
    pub pot: Option<Arc<Pot>>,
    /// What of that is its user's, where other users share it.
    pub part: Option<Arc<Part>>,
    /// What may pass each way.
    pub rates: Rates,
    /// Why something does not pass, for its bytes and as a datagram too many.
    pub reasons: [DropReason; 2],
}

impl Bound {
    /// What of it its user may save up of its part, by bytes and datagrams, in nanoseconds at the part's
    /// rate; `None` if there is no part, or nobody else.
    pub fn saved(&self) -> Option<[u64; 2]> {
        let sharers = self.part.as_ref()?.sharers();
        let rates = [(Kind::Bytes, self.rates.bytes), (Kind::Packets, self.rates.packets)];
        let of = |(kind, rate): (Kind, Option<NonZeroU64>)| {
            rate.map_or(0, |rate| saved(kind, rate.get(), sharers))
        };
        (sharers > 1).then(|| rates.map(of))
    }
}

impl Meter {
    /// All limits of the allocation, its own first.
    pub(crate) fn bounds(&self, trunk: &Trunk) -> Vec<Bound> {
        let mut bounds: Vec<Bound> = Vec::new();
        // Both directions have the same.
        let lanes = [&self.lanes, &trunk.lanes].map(|lanes| &lanes[Direction::ToPeer as usize].0);
        let fair = self.fair.iter().flat_map(|fair| &fair[Direction::ToPeer as usize]);
        for (valve, fair) in lanes.into_iter().flatten().zip(fair) {
            let pot = match &valve.source {
                Source::Time(_) => None,
                Source::Pot { pot, .. } => Some(pot),
            };
            let is_same =
                |bound: &&mut Bound| bound.pot.as_ref().map(Arc::as_ptr) == pot.map(Arc::as_ptr);
            let mut new = Bound {
                pot: pot.cloned(),
                part: fair.part.clone(),
                rates: Rates::UNLIMITED,
                reasons: [valve.reason; 2],
            };
            let known = bounds.iter_mut().find(is_same);
            let is_new = known.is_none();
            let bound = known.unwrap_or(&mut new);
            let rate = match valve.kind {
                Kind::Bytes => &mut bound.rates.bytes,
                Kind::Packets => &mut bound.rates.packets,
            };
            *rate = valve.rate.try_into().ok();
            bound.reasons[valve.kind as usize] = valve.reason;
            if is_new {
                bounds.push(new);
            }
        }
        bounds
    }

    /// Remembers datagrams that have passed beside it.
    pub(crate) fn passed(&mut self, flows: [Flow; 2]) {
        for (sum, flow) in self.beside.iter_mut().zip(flows) {
            *sum += flow;
        }
    }

    /// Pays for what has passed beside it, and tells what it has admitted itself since it was asked last.
    pub(crate) fn even(&mut self, trunk: &mut Trunk, now: Instant) -> [Flow; 2] {
        let beside = std::mem::take(&mut self.beside);
        let times = [std::mem::replace(&mut self.evened, now), now];
        for (lanes, fair) in [&mut self.lanes, &mut trunk.lanes].into_iter().zip(&self.fair) {
            for (index, direction) in Direction::BOTH.into_iter().enumerate() {
                lanes[index].pay((times, direction), &fair[index], beside[index]);
            }
        }
        std::mem::take(&mut self.admitted)
    }

    /// Something was dropped beside it.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.refused = Some(now);
    }
}

impl Lane {
    /// Pays for what has passed elsewhere between these times: of one's own first, and then the time is
    /// counted that has passed meanwhile.
    fn pay(&mut self, (times, direction): ([Instant; 2], Direction), fair: &[Fair], flow: Flow) {
        let ([since, now], Flow { packets, bytes }) = (times, flow);
        for (valve, fair) in self.0.iter_mut().zip(fair) {
            let units = match valve.kind {
                Kind::Bytes => bytes,
                Kind::Packets => packets,
            };
            let billionths = units.saturating_mul(BILLION as u64);
            let place = (direction, valve.kind);
            match &valve.source {
                Source::Time(_) => {
                    valve.level = valve.level.saturating_sub_unsigned(billionths);
                    valve.fill(now);
                }
                Source::Pot { pot, .. } => {
                    pot.dues.pay(since, place, billionths.div_ceil(valve.rate));
                }
            }
            if let Some(part) = &fair.part {
                part.pay(times, place, (units, valve.rate));
            }
        }
    }
}

impl Pot {
    /// Time that servers have taken since the beginning, by direction for bytes and datagrams.
    pub fn taken(&self) -> [[u64; 2]; 2] {
        let each = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
        self.taken.each_ref().map(|kinds| kinds.each_ref().map(each))
    }
}

impl Trunk {
    /// Whether the worker has a limit of its own, which nobody else can hold.
    pub(crate) fn is_limited(&self) -> bool {
        let mut valves = self.lanes.iter().flat_map(|lane| &lane.0);
        valves.any(|valve| matches!(valve.source, Source::Time(_)))
    }
}
