//! Datagrams that pass beside the meter, where the kernel relays and holds the same limits.
//!
//! Each of both keeps the whole account: it charges what passes by itself at once, and a little later
//! what the other has let pass. So together they carry the rate, and after a pause two bursts at most.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{BILLION, Direction, Kind, Lane, Meter, Pot, Rates, Source, Trunk, nanoseconds};
use crate::flow::Flow;
use crate::reject::DropReason;

/// A limit of an allocation, for whoever holds it beside the meter.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What it shares with others, if it does.
    pub pot: Option<Arc<Pot>>,
    /// What may pass each way.
    pub rates: Rates,
    /// Why something does not pass, for its bytes and as a datagram too many.
    pub reasons: [DropReason; 2],
}

impl Meter {
    /// All limits of the allocation, its own first.
    pub(crate) fn bounds(&self, trunk: &Trunk) -> Vec<Bound> {
        let mut bounds: Vec<Bound> = Vec::new();
        // Both directions have the same.
        let lanes = [&self.lanes, &trunk.lanes].map(|lanes| &lanes[Direction::ToPeer as usize].0);
        for valve in lanes.into_iter().flatten() {
            let pot = match &valve.source {
                Source::Time(_) => None,
                Source::Pot(pot) => Some(pot),
            };
            let is_same =
                |bound: &&mut Bound| bound.pot.as_ref().map(Arc::as_ptr) == pot.map(Arc::as_ptr);
            let mut new =
                Bound { pot: pot.cloned(), rates: Rates::UNLIMITED, reasons: [valve.reason; 2] };
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
        for lanes in [&mut self.lanes, &mut trunk.lanes] {
            for (index, direction) in Direction::BOTH.into_iter().enumerate() {
                lanes[index].pay(times, direction, beside[index]);
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
    fn pay(&mut self, times: [Instant; 2], direction: Direction, flow: Flow) {
        let ([since, now], Flow { packets, bytes }) = (times, flow);
        for valve in &mut self.0 {
            let units = match valve.kind {
                Kind::Bytes => bytes,
                Kind::Packets => packets,
            };
            let billionths = units.saturating_mul(BILLION as u64);
            match &valve.source {
                Source::Time(_) => {
                    valve.level = valve.level.saturating_sub_unsigned(billionths);
                    valve.fill(now);
                }
                Source::Pot(pot) => {
                    pot.pay(since, (direction, valve.kind), billionths.div_ceil(valve.rate));
                }
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

    /// Takes so much time, whatever is there: somebody else has let it pass since then.
    fn pay(&self, since: Instant, (direction, kind): (Direction, Kind), time: u64) {
        if time == 0 {
            return;
        }
        let since = nanoseconds(since.saturating_duration_since(self.begin));
        let due = &self.due[direction as usize][kind as usize];
        due.fetch_max(since, Ordering::Relaxed);
        due.fetch_add(time, Ordering::Relaxed);
    }
}

impl Trunk {
    /// Whether the worker has a limit of its own, which nobody else can hold.
    pub(crate) fn is_limited(&self) -> bool {
        let mut valves = self.lanes.iter().flat_map(|lane| &lane.0);
        valves.any(|valve| matches!(valve.source, Source::Time(_)))
    }
}
