//! Limits of bandwidth that the kernel holds.
//!
//! The server holds the same for what it relays itself; [`proto::policy::bandwidth`] says how they
//! share them: each is charged at once what passes by it, and here, up to twenty times a second, what
//! passed by the other. What allocations of several workers share is [`Commons`], and so are their
//! users' parts of it; these know nothing of allocations but how many there are.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::addr::AllocationId;
use proto::policy::bandwidth::{BURST, Bound, Direction, KEPT, Part, Pot, REMEMBERED};
use proto::policy::{Ledger, Rates};
use proto::turn::tally::Flow;
use proto::turn::{Route, Server};

use crate::clock::KernelClock;
use crate::sys::{self, LEVELS, UNITS};

/// What is there at once of what several share, as time at the full rate: ending all allocations and
/// beginning anew gains nobody much.
const FIRST: Duration = Duration::from_millis(5);

/// For how long parts remember what was above them, in nanoseconds.
const REMEMBERED_NS: u64 = REMEMBERED.as_secs() * 1_000_000_000;

/// Both, as they are numbered.
const DIRECTIONS: [Direction; 2] = [Direction::ToPeer, Direction::ToClient];

/// The limits of one worker's allocations.
#[derive(Debug)]
pub(super) struct Limits {
    kernel: Arc<sys::Limits>,
    commons: Arc<Commons>,
    clock: KernelClock,
    /// Each stands for two, one a direction. The one that was free longest comes first.
    free: VecDeque<u32>,
}

/// The limits of one allocation.
#[derive(Debug)]
pub(super) struct Limit {
    /// The index of that toward the peer; that toward the client is the next.
    first: u32,
    /// A route of it.
    route: Route,
    /// By level.
    bounds: [Option<Bound>; LEVELS],
    /// Where its user's parts of them are, by direction; zero for none.
    parts: [[u32; LEVELS]; 2],
    /// What was read of [`sys::Limits::dropped`].
    dropped: [[[u32; UNITS]; LEVELS]; 2],
    /// When both accounts were the same.
    evened: Instant,
}

impl Limits {
    /// All of these free, in pairs.
    pub(super) fn new(commons: &Arc<Commons>, indices: Range<u32>) -> Self {
        let Commons { kernel, clock, .. } = &**commons;
        let (kernel, commons) = (Arc::clone(kernel), Arc::clone(commons));
        Self { kernel, clock: *clock, commons, free: indices.step_by(2).collect() }
    }

    /// Opens those of a route's allocation, with nothing passed; `None` if there is no room.
    pub(super) fn open(&mut self, now: Instant, route: &Route, found: Vec<Bound>) -> Option<Limit> {
        let first = self.free.pop_front()?;
        let dropped = [[[0; UNITS]; LEVELS]; 2];
        let mut limit = Limit {
            first,
            route: *route,
            bounds: [const { None }; LEVELS],
            parts: [[0; LEVELS]; 2],
            dropped,
            evened: now,
        };
        let mut own = Rates::UNLIMITED;
        let mut above = [[0; LEVELS]; 2];
        for mut bound in found {
            let level = match &bound.pot {
                None => 0,
                Some(_) => 1 + limit.bounds.iter().skip(1).flatten().count(),
            };
            let shared = match &bound.pot {
                None => Some([0; 2]),
                Some(_) if level >= LEVELS => None,
                Some(pot) => self.commons.join(now, pot, bound.rates),
            };
            let Some(shared) = shared else {
                self.close(&limit);
                return None;
            };
            if level == 0 {
                own = bound.rates;
            }
            // One that is not held is not left either.
            let part = bound.part.take();
            let place = part.as_ref().map(|part| self.commons.join_in_part(now, part, bound.rates));
            bound.part = part.filter(|_| place != Some(None));
            limit.bounds[level] = Some(bound);
            let Some(places) = place.unwrap_or(Some([0; 2])) else {
                self.close(&limit);
                return None;
            };
            for direction in DIRECTIONS {
                above[direction as usize][level] = shared[direction as usize];
                limit.parts[direction as usize][level] = places[direction as usize];
            }
        }
        for (direction, above) in DIRECTIONS.into_iter().zip(above) {
            let shared = [above, limit.parts[direction as usize]];
            self.kernel.begin(limit.index(direction), own, shared, 0);
        }
        self.even_commons(now, &limit);
        Some(limit)
    }

    /// Closes those of an allocation, whose legs are gone.
    pub(super) fn close(&mut self, limit: &Limit) {
        for bound in limit.bounds.iter().flatten() {
            bound.pot.iter().for_each(|pot| self.commons.leave(pot));
            bound.part.iter().for_each(|part| self.commons.leave_part(part));
        }
        self.free.push_back(limit.first);
    }

    /// Has the kernel be charged with what the server let pass, and the server hear what the kernel
    /// held back. The server was told before what the kernel carried.
    pub(super) fn even<L: Ledger>(
        &self,
        now: Instant,
        (id, limit): (AllocationId, &mut Limit),
        server: &mut Server<L>,
    ) {
        let usage = server.even(now, id);
        let since = self.clock.of(std::mem::replace(&mut limit.evened, now));
        for (direction, flow) in DIRECTIONS.into_iter().zip([usage.to_peer, usage.to_client]) {
            let (index, Flow { packets, bytes }) = (limit.index(direction), flow);
            self.kernel.charge(index, since, [bytes, packets]);
            self.charge_parts(now, (&*limit, direction), since, flow);
            let seen = &mut limit.dropped[direction as usize];
            for (level, (bound, seen)) in limit.bounds.iter().zip(seen).enumerate() {
                let Some(bound) = bound else { continue };
                let total = self.kernel.dropped(index, level);
                let before = std::mem::replace(seen, total);
                for (unit, reason) in bound.reasons.into_iter().enumerate() {
                    let count = total[unit].wrapping_sub(before[unit]);
                    if count > 0 {
                        let what = (direction, reason);
                        server.held_back(now, (id, &limit.route), what, count.into());
                    }
                }
            }
        }
        self.even_commons(now, limit);
    }

    /// Has parts pay for what the server let pass, but not for what was above the part there.
    fn charge_parts(
        &self,
        now: Instant,
        (limit, direction): (&Limit, Direction),
        since: u64,
        Flow { packets, bytes }: Flow,
    ) {
        for (bound, &index) in limit.bounds.iter().zip(&limit.parts[direction as usize]) {
            let Some(bound) = bound else { continue };
            let (Some(part), Some(saved)) = (&bound.part, bound.saved()) else { continue };
            let until = self.clock.of(now);
            let passed = [bytes, packets].map(|units| units.saturating_mul(part.sharers()));
            self.kernel.charge_at_most(index, [since, until], passed);
            let most = saved.map(|saved| saved.saturating_add(REMEMBERED_NS));
            self.kernel.forgive(index, most.map(|most| until.saturating_add(most)));
        }
    }

    /// The same of what it shares, and how many share it.
    fn even_commons(&self, now: Instant, limit: &Limit) {
        for bound in limit.bounds.iter().flatten() {
            let sharers = bound.part.as_ref().map_or(1, |part| part.sharers());
            bound.pot.iter().for_each(|pot| self.commons.even(now, pot, sharers));
        }
    }
}

impl Limit {
    /// Where that of one direction is.
    pub(super) fn index(&self, direction: Direction) -> u32 {
        self.first + direction as u32
    }
}

/// What allocations share, of all workers.
#[derive(Debug)]
pub(super) struct Commons {
    kernel: Arc<sys::Limits>,
    clock: KernelClock,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Each stands for two, one a direction.
    free: VecDeque<u32>,
    /// By where the server's are.
    known: BTreeMap<usize, Common>,
    parts: BTreeMap<usize, CommonPart>,
}

/// One limit that several allocations share.
#[derive(Debug)]
struct Common {
    /// Keeps the place from being another's.
    pot: Arc<Pot>,
    rates: Rates,
    first: u32,
    /// How many allocations share it here.
    sharers: usize,
    /// What was read of [`Pot::taken`], and when.
    taken: [[u64; 2]; 2],
    evened: Instant,
}

/// A user's part of such a limit.
#[derive(Debug)]
struct CommonPart {
    /// Keeps the place from being another's.
    _part: Arc<Part>,
    first: u32,
    /// How many allocations of the user hold it here.
    holders: usize,
}

impl Commons {
    /// All of these free, in pairs.
    pub(super) fn new(kernel: Arc<sys::Limits>, clock: KernelClock, indices: Range<u32>) -> Self {
        let free = indices.step_by(2).collect();
        let (known, parts) = (BTreeMap::new(), BTreeMap::new());
        Self { kernel, clock, shared: Mutex::new(Shared { free, known, parts }) }
    }

    /// One more allocation shares this limit; where it is, by direction. `None` if there is no room,
    /// or others share it at another rate.
    fn join(&self, now: Instant, pot: &Arc<Pot>, rates: Rates) -> Option<[u32; 2]> {
        let mut shared = self.shared();
        let Shared { free, known, .. } = &mut *shared;
        let place = Arc::as_ptr(pot).addr();
        if let Some(known) = known.get_mut(&place) {
            if known.rates != rates {
                return None;
            }
            known.sharers += 1;
            return Some([known.first, known.first + 1]);
        }
        let first = free.pop_front()?;
        let due = self.clock.of(now + BURST.saturating_sub(FIRST));
        let indices = [first, first + 1];
        for index in indices {
            self.kernel.begin(index, rates, [[0; LEVELS]; 2], due);
        }
        let (pot, taken) = (Arc::clone(pot), pot.taken());
        known.insert(place, Common { pot, rates, first, sharers: 1, taken, evened: now });
        Some(indices)
    }

    /// One of those that share it is gone.
    fn leave(&self, pot: &Arc<Pot>) {
        let mut shared = self.shared();
        let place = Arc::as_ptr(pot).addr();
        let Some(common) = shared.known.get_mut(&place) else { return };
        common.sharers -= 1;
        if common.sharers == 0 {
            let first = common.first;
            shared.known.remove(&place);
            shared.free.push_back(first);
        }
    }

    /// One more allocation holds this part of a limit; where it is, by direction. `None` if there is no
    /// room.
    fn join_in_part(&self, now: Instant, part: &Arc<Part>, rates: Rates) -> Option<[u32; 2]> {
        let mut shared = self.shared();
        let Shared { free, parts, .. } = &mut *shared;
        let place = Arc::as_ptr(part).addr();
        if let Some(known) = parts.get_mut(&place) {
            known.holders += 1;
            return Some([known.first, known.first + 1]);
        }
        let first = free.pop_front()?;
        let due = self.clock.of(now + KEPT.saturating_sub(FIRST));
        let indices = [first, first + 1];
        for index in indices {
            self.kernel.begin(index, rates, [[0; LEVELS]; 2], due);
        }
        parts.insert(place, CommonPart { _part: Arc::clone(part), first, holders: 1 });
        Some(indices)
    }

    /// One of those that hold it is gone.
    fn leave_part(&self, part: &Arc<Part>) {
        let mut shared = self.shared();
        let place = Arc::as_ptr(part).addr();
        let Some(common) = shared.parts.get_mut(&place) else { return };
        common.holders -= 1;
        if common.holders == 0 {
            let first = common.first;
            shared.parts.remove(&place);
            shared.free.push_back(first);
        }
    }

    /// Has the kernel pay for what the server took, and know how many users share it.
    fn even(&self, now: Instant, pot: &Arc<Pot>, sharers: u64) {
        let mut shared = self.shared();
        let Some(common) = shared.known.get_mut(&Arc::as_ptr(pot).addr()) else { return };
        let taken = common.pot.taken();
        let before = std::mem::replace(&mut common.taken, taken);
        let since = self.clock.of(std::mem::replace(&mut common.evened, now));
        for (index, (taken, before)) in (common.first..).zip(taken.into_iter().zip(before)) {
            self.kernel.share(index, sharers);
            for (unit, time) in taken.into_iter().zip(before).map(|(a, b)| a - b).enumerate() {
                self.kernel.pay(index, since, (unit, time));
            }
        }
    }

    /// A panic elsewhere leaves it whole: each change is one step.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
