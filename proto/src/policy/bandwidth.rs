//! How much may pass: rates, what allocations share, and the meter of one.
//!
//! Limits form a tree: an allocation, its user, the network of its client, the worker that serves
//! it, the relay. Each direction counts for itself, payload bytes and datagrams apart; each such
//! limit is a valve. What passes, passes all valves on its way and is charged to all; what one of
//! them stops is charged to none.
//!
//! A valve fills with time and lets everything pass as long as there is something in it: a
//! datagram may take more than is left, which is owed then, so that any size passes and the average
//! is exact. What allocations share is a pot, of which valves draw slices; so they meet once for many
//! datagrams. Where users share one, none can use up the part of another: `fairness` says how.
//!
//! Of a stream no byte may be dropped. It is told its [`Allowance`] before it reads, and pays for
//! what it read; how many datagrams a second may pass says nothing about it.

mod beside;
mod fairness;
mod pot;
#[cfg(test)]
mod tests;
mod valve;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::fairness::{Fair, Parts};
use self::valve::{Source, Valve};
use crate::flow::Flow;
use crate::policy::limits::UserKey;
use crate::reject::DropReason;
pub use beside::Bound;
pub use fairness::{KEPT, LEAST, Part, REMEMBERED};
pub use pot::{Pot, Pots, Shares};

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
    /// All allocations of one client's network: see [`crate::policy::Claim::network`].
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
    /// How it stands at its own limits, and at those of its worker.
    fair: [[Box<[Fair]>; 2]; 2],
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
    parts: Parts,
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
    fn begin(&mut self, bandwidth: &Bandwidth, shares: &Shares, now: Instant) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let relay = shares.relay.as_ref().map(|share| &share.pot);
        self.lanes = Direction::BOTH.map(|_| {
            let worker = [DropReason::WorkerBandwidth, DropReason::WorkerPackets];
            let all = [DropReason::RelayBandwidth, DropReason::RelayPackets];
            let worker = Valve::own(bandwidth.worker, worker, now);
            Lane(worker.chain(Valve::shared(bandwidth.relay, all, relay)).collect())
        });
    }

    /// The parts that a user has of its limits, for a meter.
    fn fair(&mut self, user: UserKey, shares: &Shares, now: Instant) -> [Box<[Fair]>; 2] {
        let of_worker = self.is_limited().then(|| self.parts.of(user, now));
        let of_relay = shares.relay.as_ref().map(|share| &share.part);
        self.lanes.each_ref().map(|lane| {
            let fair = lane.0.iter().map(|valve| {
                let part = match &valve.source {
                    Source::Time(_) => of_worker.as_ref(),
                    Source::Pot { .. } => of_relay,
                };
                Fair::new(part.cloned(), valve.rate, valve.kind)
            });
            fair.collect()
        })
    }
}

impl Meter {
    /// A meter for an allocation of a user; `None` without a limit.
    pub(crate) fn new(
        trunk: &mut Trunk,
        bandwidth: &Bandwidth,
        (user, shares): (UserKey, &Shares),
        now: Instant,
    ) -> Option<Box<Self>> {
        trunk.begin(bandwidth, shares, now);
        let Bandwidth { allocation, user: of_user, client, worker, relay } = *bandwidth;
        if ![allocation, of_user, client, worker, relay].into_iter().any(Rates::are_limits) {
            return None;
        }
        let common = shares.client.as_ref();
        let lanes = Direction::BOTH.map(|_| {
            let own = [DropReason::AllocationBandwidth, DropReason::AllocationPackets];
            let its_user = [DropReason::UserBandwidth, DropReason::UserPackets];
            let its_client = [DropReason::ClientBandwidth, DropReason::ClientPackets];
            let own = Valve::own(allocation, own, now);
            let its_user = Valve::shared(of_user, its_user, shares.user.as_ref());
            let its_client = Valve::shared(client, its_client, common.map(|share| &share.pot));
            Lane(own.chain(its_user).chain(its_client).collect())
        });
        let fair = lanes.each_ref().map(|lane| {
            let fair = lane.0.iter().map(|valve| {
                let part = common.filter(|share| valve.draws_on(&share.pot));
                Fair::new(part.map(|share| Arc::clone(&share.part)), valve.rate, valve.kind)
            });
            fair.collect()
        });
        Some(Box::new(Self {
            lanes,
            fair: [fair, trunk.fair(user, shares, now)],
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
        let [of_own, of_common] = &mut self.fair;
        let (own, of_own) = (&mut self.lanes[direction as usize], &mut of_own[direction as usize]);
        let common = &mut trunk.lanes[direction as usize];
        let of_common = &mut of_common[direction as usize];
        let open = own.is_open(now, direction, of_own);
        if let Err(reason) = open.and_then(|()| common.is_open(now, direction, of_common)) {
            self.refused = Some(now);
            return Err(reason);
        }
        own.spend(of_own, len as u64, 1);
        common.spend(of_common, len as u64, 1);
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
        let [of_own, of_common] = &mut self.fair;
        let (own, of_own) = (&mut self.lanes[direction as usize], &mut of_own[direction as usize]);
        let common = &mut trunk.lanes[direction as usize];
        let of_common = &mut of_common[direction as usize];
        // All at once: otherwise who has waited for one would wait for the other.
        let time = own.lacks(now, direction, of_own).max(common.lacks(now, direction, of_common));
        if let Some(time) = time {
            self.refused = Some(now);
            return Allowance::NotBefore(now + time);
        }
        let mut level: Option<i64> = None;
        for (valve, fair) in own.bytes(of_own).chain(common.bytes(of_common)) {
            let Some(offered) = valve.offers(now, direction, fair) else {
                self.refused = Some(now);
                return Allowance::NotBefore(now + PAUSE);
            };
            level = Some(level.map_or(offered, |least| least.min(offered)));
        }
        level.map_or(Allowance::Unlimited, |level| {
            Allowance::Bytes(usize::try_from(level / BILLION).unwrap_or_default().max(1))
        })
    }

    /// Counts bytes of a stream that have passed.
    pub(crate) fn spend(&mut self, trunk: &mut Trunk, direction: Direction, bytes: u64) {
        let lanes = [&mut self.lanes, &mut trunk.lanes];
        for (lanes, fair) in lanes.into_iter().zip(&mut self.fair) {
            lanes[direction as usize].spend(&mut fair[direction as usize], bytes, 0);
        }
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
    fn is_open(
        &mut self,
        now: Instant,
        direction: Direction,
        fair: &mut [Fair],
    ) -> Result<(), DropReason> {
        for (valve, fair) in self.0.iter_mut().zip(fair) {
            if !valve.is_open(now, direction, fair) {
                return Err(valve.reason);
            }
        }
        Ok(())
    }

    /// What counts for streams.
    fn bytes<'a>(
        &'a mut self,
        fair: &'a mut [Fair],
    ) -> impl Iterator<Item = (&'a mut Valve, &'a mut Fair)> {
        self.0.iter_mut().zip(fair).filter(|(valve, _)| valve.kind == Kind::Bytes)
    }

    /// How long a stream waits; `None` if there is something to read for.
    fn lacks(&mut self, now: Instant, direction: Direction, fair: &mut [Fair]) -> Option<Duration> {
        self.bytes(fair).filter_map(|(valve, fair)| valve.lacks(now, direction, fair)).max()
    }

    /// Takes from every valve, and more than is there if it must.
    fn spend(&mut self, fair: &mut [Fair], bytes: u64, packets: u64) {
        for (valve, fair) in self.0.iter_mut().zip(fair) {
            let units = match valve.kind {
                Kind::Bytes => bytes,
                Kind::Packets => packets,
            };
            let billionths = units.saturating_mul(BILLION as u64);
            valve.spend(fair.spend(billionths), billionths);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
