//! Keeps the kernel's legs what the server's routes are.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::net::SocketAddr;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;
use proto::addr::AllocationId;
use proto::policy::Ledger;
use proto::policy::bandwidth::Direction;
use proto::turn::tally::Usage;
use proto::turn::{Route, Server};

use super::accounts::{Account, Accounts, OffloadTally, usage};
use super::entry::{Entry, Hop, Terms, ends};
use super::hops::{Hops, Shift};
use super::legs::Legs;
use super::life::{Due, Life};
use super::limits::{Limit, Limits};
use super::netlink::Path;
use super::program::{Meter, Unable};
use crate::clock::KernelClock;

/// Allocations whose next hops are looked up anew in one turn.
const AT_ONCE: usize = 16;

/// How often kernel and server tell each other what passed, where both hold a limit: several times
/// while a burst passes.
const EVENING: Duration = Duration::from_millis(50);

/// Allocations of which they do in one turn, and how long until the next turn at least: so thousands
/// of them cost no more than a hundredth of a core, and are told a little later.
const EVEN_AT_ONCE: usize = 64;
const BREATH: Duration = Duration::from_millis(5);

/// What a follower is made of.
pub(super) struct Parts {
    pub(super) legs: Legs,
    pub(super) meter: Meter,
    pub(super) slots: Range<u32>,
    pub(super) limits: Limits,
    pub(super) hops: Hops,
    pub(super) listeners: Arc<[SocketAddr]>,
    pub(super) clock: KernelClock,
}

/// The legs of one worker's allocations.
#[derive(Debug)]
pub(crate) struct Follower {
    kernel: Kernel,
    mirrored: BTreeMap<AllocationId, Vec<Mirrored>>,
    /// Of those among them that have one.
    limits: BTreeMap<AllocationId, Limit>,
    /// When the accounts of more of them are made the same in kernel and server, and of which it was
    /// done last.
    evens: Instant,
    evened: Option<AllocationId>,
    /// Those with a destination, whose use prolongs them.
    aimed: BTreeSet<AllocationId>,
    /// Allocations that changed in this turn.
    touched: Vec<AllocationId>,
    /// Those whose next hops may have changed.
    shifted: BTreeSet<AllocationId>,
    /// When something is due for legs of an allocation, nearly in order.
    due: VecDeque<(Instant, AllocationId)>,
    tally: OffloadTally,
}

/// What a route becomes legs with.
#[derive(Debug)]
struct Kernel {
    legs: Legs,
    accounts: Accounts,
    limits: Limits,
    hops: Hops,
    listeners: Arc<[SocketAddr]>,
    clock: KernelClock,
    refused: u64,
}

/// A route and its legs.
#[derive(Debug)]
struct Mirrored {
    route: Route,
    /// Of its allocation, toward peer and client; zero for none.
    limits: [u32; 2],
    sides: [Side; 2],
    life: Life,
}

/// One direction.
#[derive(Debug)]
struct Side {
    direction: Direction,
    account: Account,
    path: Option<Path>,
    /// What the kernel has.
    entry: Option<Entry>,
}

impl Follower {
    /// Has no legs.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { legs, meter, slots, limits, hops, listeners, clock } = parts;
        let accounts = Accounts::new(meter, slots);
        Self {
            kernel: Kernel { legs, accounts, limits, hops, listeners, clock, refused: 0 },
            mirrored: BTreeMap::new(),
            limits: BTreeMap::new(),
            evens: clock.made(),
            evened: None,
            aimed: BTreeSet::new(),
            touched: Vec::new(),
            shifted: BTreeSet::new(),
            due: VecDeque::new(),
            tally: OffloadTally::default(),
        }
    }

    /// Has a poll wake, by [`super::TOKEN`], when next hops change.
    pub(crate) fn register(&self, registry: &Registry) -> std::io::Result<()> {
        self.kernel.hops.register(registry, super::TOKEN)
    }

    /// How long until there is something to do.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.shifted.is_empty() {
            return Some(Duration::ZERO);
        }
        let evens = (!self.limits.is_empty()).then_some(self.evens);
        let next = self.due.front().map(|(at, _)| *at).into_iter().chain(evens).min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Counters, as fresh as the last [`Follower::settle`].
    pub(crate) fn tally(&self) -> OffloadTally {
        OffloadTally { refused: self.kernel.refused, ..self.tally }
    }

    /// Looks up the paths of an allocation anew, because the network said something about one.
    pub(crate) fn reroute(&mut self, id: AllocationId) {
        if let Some(routes) = self.mirrored.get_mut(&id) {
            routes.iter_mut().for_each(Mirrored::forget_paths);
            self.shifted.insert(id);
        }
    }

    /// Remembers that an allocation changed: [`Follower::follow`] looks.
    pub(crate) fn touch(&mut self, id: AllocationId) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }

    /// Takes out the legs of an allocation that ended; what they carried that the server had not
    /// heard of when it ended.
    pub(crate) fn end<L: Ledger>(
        &mut self,
        now: Instant,
        id: AllocationId,
        server: &mut Server<L>,
    ) -> Usage {
        let mut sum = Usage::default();
        for mirrored in self.mirrored.remove(&id).unwrap_or_default() {
            sum += self.drop_route(now, id, mirrored, server);
        }
        self.end_limit(now, id, server);
        sum
    }

    /// Makes the legs of allocations that changed what their routes are.
    pub(crate) fn follow<L: Ledger>(&mut self, now: Instant, server: &mut Server<L>) {
        if self.touched.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        // First what goes: a key may be another route's in the same turn.
        for id in &touched {
            let wanted: Vec<Route> = server.routes(*id).collect();
            let Some(mirrored) = self.mirrored.get_mut(id) else { continue };
            let is_over = |it: &mut Mirrored| !wanted.iter().any(|route| alike(route, &it.route));
            let over: Vec<Mirrored> = mirrored.extract_if(.., is_over).collect();
            for mirrored in over {
                self.drop_route(now, *id, mirrored, server);
            }
        }
        for id in &touched {
            self.install(now, *id, server);
        }
        touched.clear();
        self.touched = touched;
    }

    /// Hears which next hops have changed.
    fn heed(&mut self) {
        let Self { kernel, mirrored, shifted, .. } = self;
        let (mut everything, mut neighbours) = (false, BTreeSet::new());
        kernel.hops.news(&mut |shift| match shift {
            Shift::Everything => everything = true,
            Shift::Neighbour(ifindex, ip) => drop(neighbours.insert((ifindex, ip))),
        });
        if !everything && neighbours.is_empty() {
            return;
        }
        for (id, routes) in mirrored {
            let mut sides = routes.iter().flat_map(|it| &it.sides);
            let is_hit = |side: &Side| {
                side.path.is_some_and(|path| neighbours.contains(&(path.ifindex, path.via)))
            };
            if everything {
                routes.iter_mut().for_each(Mirrored::forget_paths);
                shifted.insert(*id);
            } else if sides.any(is_hit) {
                shifted.insert(*id);
            }
        }
    }

    /// Hears of next hops, if something has shifted, and looks up those of some allocations anew.
    pub(crate) fn turn(&mut self, now: Instant, shifted: bool) {
        if shifted {
            self.heed();
        }
        while let Some((at, id)) = self.due.front().copied()
            && at <= now
        {
            self.due.pop_front();
            self.shifted.insert(id);
        }
        for _ in 0..AT_ONCE.min(self.shifted.len()) {
            let Some(id) = self.shifted.pop_first() else { return };
            for mirrored in self.mirrored.get_mut(&id).into_iter().flatten() {
                if let Some(due) = mirrored.life.go_on(now) {
                    self.kernel.look(mirrored);
                    if due == Due::Spell {
                        mirrored.forget_paths();
                    }
                    self.due.push_back((mirrored.life.next(), id));
                }
                self.kernel.set(now, mirrored);
            }
        }
    }

    /// Adds what the kernel carried to the server's accounts, and counts routes.
    pub(crate) fn settle<L: Ledger>(&mut self, server: &mut Server<L>) {
        let Self { kernel, mirrored, tally, .. } = self;
        (tally.routes, tally.waiting) = (0, 0);
        for (id, routes) in mirrored.iter_mut() {
            for mirrored in routes {
                let installed = mirrored.sides.iter().filter(|it| it.entry.is_some()).count();
                tally.routes += u64::from(installed > 0);
                tally.waiting += u64::from(installed < mirrored.sides.len());
                kernel.settle(*id, mirrored, tally, server);
            }
        }
    }

    /// The same for allocations that use prolongs, before one of them could end.
    pub(crate) fn settle_aimed<L: Ledger>(&mut self, server: &mut Server<L>) {
        let Self { kernel, mirrored, aimed, tally, .. } = self;
        for id in aimed.iter() {
            for mirrored in mirrored.get_mut(id).into_iter().flatten() {
                kernel.settle(*id, mirrored, tally, server);
            }
        }
    }

    /// Tells kernel and server what passed by the other, where both hold a limit: of some allocations
    /// in one turn.
    pub(crate) fn even<L: Ledger>(&mut self, now: Instant, server: &mut Server<L>) {
        if self.limits.is_empty() || now < self.evens {
            return;
        }
        let turns = u32::try_from(self.limits.len().div_ceil(EVEN_AT_ONCE)).unwrap_or(u32::MAX);
        self.evens = now + (EVENING / turns).max(BREATH);
        let Self { kernel, mirrored, limits, evened, tally, .. } = self;
        for _ in 0..EVEN_AT_ONCE.min(limits.len()) {
            let behind = (evened.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let Some((&id, limit)) = limits.range_mut(behind).next() else {
                *evened = None;
                return;
            };
            for mirrored in mirrored.get_mut(&id).into_iter().flatten() {
                kernel.settle(id, mirrored, tally, server);
            }
            kernel.limits.even(now, (id, limit), server);
            let is_last = limits.last_key_value().is_some_and(|(last, _)| *last == id);
            *evened = (!is_last).then_some(id);
        }
    }

    /// Takes every leg out: the server begins anew.
    pub(crate) fn clear(&mut self, now: Instant) {
        let Self { kernel, mirrored, limits, tally, .. } = self;
        for mut mirrored in std::mem::take(mirrored).into_values().flatten() {
            kernel.remove(now, &mut mirrored);
            tally.carried += kernel.draw(&mut mirrored);
            kernel.close(&mirrored);
        }
        for limit in std::mem::take(limits).into_values() {
            kernel.limits.close(&limit);
        }
        self.touched.clear();
        self.aimed.clear();
        self.shifted.clear();
        self.due.clear();
    }

    fn install<L: Ledger>(&mut self, now: Instant, id: AllocationId, server: &mut Server<L>) {
        let wanted: Vec<Route> = server.routes(id).collect();
        let Some(first) = wanted.first() else {
            self.mirrored.remove(&id);
            self.end_limit(now, id, server);
            return;
        };
        let Some(held_to) = self.limits_of(now, (id, first), server) else {
            self.kernel.refused += 1;
            return;
        };
        let Self { kernel, mirrored, aimed, due, .. } = self;
        let routes = mirrored.entry(id).or_default();
        for route in wanted {
            let known = routes.iter_mut().find(|it| alike(&route, &it.route));
            if let Some(known) = known {
                // Its paths are as old as its last rest at most.
                known.route = route;
                kernel.set(now, known);
            } else if let Some(mut new) = kernel.mirror(now, route, held_to) {
                new.share_paths(routes);
                kernel.set(now, &mut new);
                if route.channel.is_none() {
                    aimed.insert(id);
                }
                due.push_back((new.life.next(), id));
                routes.push(new);
            }
        }
    }

    /// The limits that hold for the legs of an allocation, toward peer and client; zero for none.
    /// `None` if there is no room for them.
    fn limits_of<L: Ledger>(
        &mut self,
        now: Instant,
        (id, route): (AllocationId, &Route),
        server: &mut Server<L>,
    ) -> Option<[u32; 2]> {
        let limit = match self.limits.entry(id) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let bounds = server.bounds(id);
                if bounds.is_empty() {
                    return Some([0; 2]);
                }
                let limit = self.kernel.limits.open(now, route, bounds)?;
                // What passed before is the server's alone.
                server.even(now, id);
                place.insert(limit)
            }
        };
        Some([Direction::ToPeer, Direction::ToClient].map(|direction| limit.index(direction)))
    }

    /// Closes the limit of an allocation that has no routes any more.
    fn end_limit<L: Ledger>(&mut self, now: Instant, id: AllocationId, server: &mut Server<L>) {
        if let Some(mut limit) = self.limits.remove(&id) {
            self.kernel.limits.even(now, (id, &mut limit), server);
            self.kernel.limits.close(&limit);
        }
    }

    /// Takes a route out of the kernel and adds what it carried to the server's accounts.
    fn drop_route<L: Ledger>(
        &mut self,
        now: Instant,
        id: AllocationId,
        mut mirrored: Mirrored,
        server: &mut Server<L>,
    ) -> Usage {
        self.kernel.remove(now, &mut mirrored);
        if mirrored.route.channel.is_none() {
            self.aimed.remove(&id);
        }
        let carried = self.kernel.settle(id, &mut mirrored, &mut self.tally, server);
        self.kernel.close(&mirrored);
        carried
    }
}

impl Mirrored {
    /// Goes to the client as the others of its allocation do.
    fn share_paths(&mut self, others: &[Self]) {
        let side = |it: &Self| it.sides[Direction::ToClient as usize].path;
        self.sides[Direction::ToClient as usize].path = others.first().and_then(side);
    }

    /// Has paths be looked up again: their MTU may be another, which nobody tells.
    fn forget_paths(&mut self) {
        self.sides.iter_mut().for_each(|side| side.path = None);
    }
}

impl Kernel {
    /// A route without legs; `None` if there are too many.
    fn mirror(&mut self, now: Instant, route: Route, limits: [u32; 2]) -> Option<Mirrored> {
        let side = |direction, account| Side { direction, account, path: None, entry: None };
        let Some(up) = self.accounts.open() else {
            self.refused += 1;
            return None;
        };
        let Some(down) = self.accounts.open() else {
            self.accounts.close(&up);
            self.refused += 1;
            return None;
        };
        let sides = [side(Direction::ToPeer, up), side(Direction::ToClient, down)];
        Some(Mirrored { route, limits, sides, life: Life::begin(now) })
    }

    /// Puts the legs of a route in as they are to be now, or takes them out.
    fn set(&mut self, now: Instant, mirrored: &mut Mirrored) {
        let Mirrored { route, limits, sides, life } = mirrored;
        let Some(&listener) = self.listeners.get(route.client.listener.index()) else { return };
        let expires = self.clock.of(route.expires.min(life.ends()));
        for side in sides {
            let hop = if route.hairpin && side.direction == Direction::ToPeer {
                Some(Hop::default())
            } else {
                if side.path.is_none() {
                    side.path = self.hops.path(ends(route, listener, side.direction));
                }
                side.path.and_then(|path| self.hops.hop(&path))
            };
            let limit = limits[side.direction as usize];
            let terms = Terms { slot: side.account.slot, limit, expires };
            let wanted = hop.map(|hop| Entry::new((route, listener), side.direction, &hop, terms));
            if wanted != side.entry
                && let Err(error) = self.legs.set(now, &mut side.entry, wanted)
            {
                self.refuse(&error);
            }
        }
    }

    /// Takes the legs of a route out.
    fn remove(&mut self, now: Instant, mirrored: &mut Mirrored) {
        for side in &mut mirrored.sides {
            if let Err(error) = self.legs.set(now, &mut side.entry, None) {
                self.refuse(&error);
            }
        }
    }

    /// Sees what the legs of a route have counted.
    fn look(&self, mirrored: &mut Mirrored) {
        mirrored.sides.iter_mut().for_each(|side| self.accounts.look(&mut side.account));
    }

    /// What the legs of a route carried since this was asked last.
    fn draw(&self, mirrored: &mut Mirrored) -> Usage {
        let mut sum = Usage::default();
        for side in &mut mirrored.sides {
            sum += usage(side.direction, self.accounts.draw(&mut side.account));
        }
        sum
    }

    /// Adds that to the server's accounts.
    fn settle<L: Ledger>(
        &self,
        id: AllocationId,
        mirrored: &mut Mirrored,
        tally: &mut OffloadTally,
        server: &mut Server<L>,
    ) -> Usage {
        let carried = self.draw(mirrored);
        if carried != Usage::default() {
            tally.carried += carried;
            server.carried(id, &mirrored.route, carried);
        }
        carried
    }

    fn close(&mut self, mirrored: &Mirrored) {
        mirrored.sides.iter().for_each(|side| self.accounts.close(&side.account));
    }

    /// Counts what the kernel did not do, and says the first time why.
    fn refuse(&mut self, error: &Unable) {
        if self.refused == 0 {
            tracing::warn!("the kernel does not take a route: {error}");
        }
        self.refused += 1;
    }
}

/// Whether two routes differ in their end alone.
fn alike(one: &Route, other: &Route) -> bool {
    Route { expires: other.expires, ..*one } == *other
}
