//! A day of calls, with the kernel path and without: the accounts are the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::rc::Rc;

use proto::addr::AllocationId;
use proto::marks::{Datagram, Marks};
use proto::now::Now;
use proto::policy::bandwidth::Direction;
use proto::turn::tally::{Tally, Usage};
use proto::turn::{Change, Route, Server};
use relay::offload::{Entry, Hop, Legs, Meter, Mode, Outcome, Program, Reading, Room, Terms};
use rig::beside::{Beside, Left};
use rig::books::Books;
use rig::dice::Dice;
use rig::{Draft, World, kind};

use crate::frame::{Frame, delivered};
use crate::rtp;
use crate::stage::{OURS, datagram_of};

/// Legs that may stand at a time, and where they are counted: behind the reasons for passing up.
const SLOTS: std::ops::Range<u32> = 16..144;

/// What hosts write into their headers.
const MARKS: Marks = Marks { class: 0xB8, hops: NonZeroU8::new(60), dont_fragment: false };

/// Those whose packets have come too far already.
const SPENT: Marks = Marks { hops: NonZeroU8::new(1), ..MARKS };

/// Half of them have addresses of IPv6.
const CLIENTS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const PEERS: [&str; 4] = ["peggy", "quentin", "rupert", "sybil"];

/// The kernel program, and the legs of a server's routes.
struct Kernel {
    program: Program,
    legs: Legs,
    meter: Meter,
    free: Vec<u32>,
    standing: BTreeMap<AllocationId, Vec<(Route, [Side; 2])>>,
    /// What was carried of allocations, and told when they had ended.
    late: BTreeMap<AllocationId, Usage>,
    carried: u64,
}

/// One direction of a route.
struct Side {
    direction: Direction,
    slot: u32,
    /// What its slot had counted before.
    before: Reading,
    entry: Option<Entry>,
}

impl Kernel {
    fn new() -> Self {
        let legs = SLOTS.end;
        let program =
            Program::load(Mode::Native, Room { legs, over: [legs; 2], ways: legs, limits: 0 });
        let program = program.expect("a kernel that takes the program: run as root");
        Self {
            legs: program.legs(0..legs).expect("its legs"),
            meter: program.meter(),
            program,
            free: SLOTS.collect(),
            standing: BTreeMap::new(),
            late: BTreeMap::new(),
            carried: 0,
        }
    }

    fn install(&mut self, now: Now, route: &Route) -> [Side; 2] {
        let listener = rig::site::LISTENERS[route.client.listener.index()].parse();
        let listener: SocketAddr = listener.expect("an address");
        [Direction::ToPeer, Direction::ToClient].map(|direction| {
            let slot = self.free.pop().expect("room for a leg");
            let hop = if route.hairpin && direction == Direction::ToPeer {
                Hop::default()
            } else {
                let (from_mac, to_mac) = (OURS, [2, 0, 0, 0, 0, 2]);
                Hop { ifindex: 1, from_mac, to_mac, mtu: 1_500, ..Hop::default() }
            };
            let terms = Terms { slot, limit: 0, expires: u64::MAX };
            let entry = Entry::new((route, listener), direction, &hop, terms);
            let mut side = Side { direction, slot, before: self.meter.reading(slot), entry: None };
            self.legs.set(now.mono, &mut side.entry, Some(entry)).expect("room for a leg");
            side
        })
    }

    /// Takes the legs of a route out; what they carried.
    fn remove(&mut self, now: Now, sides: [Side; 2]) -> Usage {
        let mut usage = Usage::default();
        for Side { direction, slot, before, mut entry } in sides {
            self.legs.set(now.mono, &mut entry, None).expect("a leg");
            let flow = self.meter.reading(slot).since(before);
            match direction {
                Direction::ToPeer => usage.to_peer = flow,
                Direction::ToClient => usage.to_client = flow,
            }
            self.carried += flow.packets;
            self.free.insert(0, slot);
        }
        usage
    }

    fn follow(&mut self, now: Now, id: AllocationId, server: &mut Server<Books>) {
        let alike = |a: &Route, b: &Route| Route { expires: b.expires, ..*a } == *b;
        let wanted: Vec<Route> = server.routes(id).collect();
        let before = self.standing.remove(&id).unwrap_or_default();
        let mut after = Vec::new();
        for (route, sides) in before {
            if wanted.iter().any(|it| alike(it, &route)) {
                after.push((route, sides));
                continue;
            }
            let usage = self.remove(now, sides);
            server.carried(id, &route, usage);
            if !server.allocations(now).any(|view| view.id == id) {
                *self.late.entry(id).or_default() += usage;
            }
        }
        for route in wanted {
            if !after.iter().any(|(it, _)| alike(it, &route)) {
                let sides = self.install(now, &route);
                after.push((route, sides));
            }
        }
        if !after.is_empty() {
            self.standing.insert(id, after);
        }
    }

    fn take(&self, from: SocketAddr, to: SocketAddr, datagram: Datagram<'_>) -> Option<Left> {
        let Datagram { marks, bytes } = datagram;
        let hops = marks.hops.map_or(64, NonZeroU8::get);
        let frame = Frame { class: marks.class, hops, ..datagram_of(from, to, bytes) };
        let (outcome, left, _) = self.program.run(&frame.bytes(), 1).expect("a frame that can run");
        if outcome == Outcome::Up {
            return None;
        }
        assert_eq!(outcome, Outcome::Back, "there is one interface");
        let (from, to, marks, bytes) = delivered(&left).expect("a frame that arrives");
        Some(Left { from, to, marks, bytes: bytes.to_vec() })
    }
}

/// A kernel that a test can look into while a world has it.
struct Shared(Rc<RefCell<Kernel>>);

impl Beside for Shared {
    fn follow(&mut self, now: Now, id: AllocationId, server: &mut Server<Books>) {
        self.0.borrow_mut().follow(now, id, server);
    }

    fn take(&mut self, from: SocketAddr, to: SocketAddr, datagram: Datagram<'_>) -> Option<Left> {
        self.0.borrow().take(from, to, datagram)
    }
}

/// What there is to say of a day.
#[derive(Debug, PartialEq)]
struct Accounts {
    /// What each allocation carried, in the order of their ends.
    closed: Vec<(AllocationId, Usage)>,
    tally: Box<Tally>,
    /// How many datagrams came to clients and peers, and what they were.
    heard: (u64, u64),
}

/// A client's call.
struct Talk {
    /// The minute it ends in.
    until: u64,
    relayed: SocketAddr,
    /// Channels from 0x4000 on, by the order of whom they lead to.
    partners: Vec<SocketAddr>,
    /// Whether it leaves its channels to their end.
    forgets: bool,
    /// Whether it leaves without a word.
    vanishes: bool,
}

/// A world in which people call each other, and what was heard in it.
struct Day {
    world: World,
    dice: Dice,
    talks: BTreeMap<&'static str, Talk>,
    /// From when on those who vanished may call again.
    away: BTreeMap<&'static str, u64>,
    heard: DefaultHasher,
    count: u64,
}

impl Day {
    fn of(seed: u64, beside: Option<Box<dyn Beside>>) -> Self {
        let mut world = World::configured(seed, |config| config.measured = None);
        for (index, name) in CLIENTS.iter().enumerate() {
            world = if index % 2 == 0 { world.with_client(name) } else { world.with_client6(name) };
        }
        for (index, name) in PEERS.iter().enumerate() {
            world = if index % 2 == 0 { world.with_peer(name) } else { world.with_peer6(name) };
        }
        world.marks = MARKS;
        world.beside = beside;
        let (talks, away) = (BTreeMap::new(), BTreeMap::new());
        Self { world, dice: Dice::seeded(seed), talks, away, heard: DefaultHasher::new(), count: 0 }
    }

    /// From midnight to shortly before the credentials end.
    fn pass(&mut self) {
        for minute in 0..1_430 {
            for name in CLIENTS {
                self.live(minute, name);
            }
            self.world.marks = MARKS;
            self.world.advance_s(60);
            self.listen();
        }
        self.world.shut_down();
    }

    fn live(&mut self, minute: u64, name: &'static str) {
        let Some(talk) = self.talks.get(name) else {
            let is_here = self.away.get(name).is_none_or(|until| *until <= minute);
            if is_here && self.dice.below(10) == 0 {
                self.begin(minute, name);
            }
            return;
        };
        if talk.until > minute {
            if minute.is_multiple_of(4) {
                self.keep(name);
            }
            (0..self.dice.below(8)).for_each(|_| self.speak(name));
            return;
        }
        if talk.vanishes {
            self.away.insert(name, minute + 11);
        } else {
            self.world.client(name).refresh(0).expect_success();
        }
        self.talks.remove(name);
    }

    fn begin(&mut self, minute: u64, name: &'static str) {
        let is_v4 = self.dice.below(2) == 0;
        let family = if is_v4 { 1 } else { 2 };
        let wish = Draft::allocate().raw(kind::FAMILY, &[family, 0, 0, 0]);
        let heard = self.world.client(name).allocate_with(wish);
        let relayed = heard.expect_success().relayed().expect("a relayed address");
        let mut partners: Vec<_> = PEERS.iter().map(|peer| self.world.peer_address(peer)).collect();
        partners.retain(|at| at.is_ipv4() == is_v4);
        partners.truncate(1 + self.dice.index(2));
        let others = self.talks.iter_mut().find(|(_, talk)| talk.relayed.is_ipv4() == is_v4);
        if let Some((other, talk)) = others
            && talk.partners.len() < 4
        {
            let number = channel(talk.partners.len());
            talk.partners.push(relayed);
            partners.push(talk.relayed);
            self.world.client(other).bind_address(number, relayed).expect_success();
        }
        let until = minute + 2 + self.dice.below(50);
        let (forgets, vanishes) = (self.dice.below(4) == 0, self.dice.below(4) == 0);
        self.talks.insert(name, Talk { until, relayed, partners, forgets, vanishes });
        self.bind(name);
    }

    fn bind(&mut self, name: &str) {
        for (index, partner) in self.talks[name].partners.clone().into_iter().enumerate() {
            // A partner's allocation may have ended, and its address is nobody's then.
            let _ = self.world.client(name).bind_address(channel(index), partner);
        }
    }

    fn keep(&mut self, name: &str) {
        self.world.client(name).refresh(600).expect_success();
        if !self.talks[name].forgets {
            self.bind(name);
        }
    }

    /// One datagram of a client or for it.
    fn speak(&mut self, name: &str) {
        let talk = &self.talks[name];
        let index = self.dice.index(talk.partners.len());
        let (relayed, partner) = (talk.relayed, talk.partners[index]);
        let length = usize::try_from(self.dice.below(1_200)).expect("a length");
        self.world.marks = if self.dice.below(50) == 0 { SPENT } else { MARKS };
        match self.dice.below(10) {
            0 => self.world.client(name).send_to(partner, &rtp(length)),
            1 => self.world.client(name).send_channel(channel(9), &rtp(length)),
            2..=5 => self.world.client(name).send_channel(channel(index), &rtp(length)),
            _ => {
                // Perhaps one who is not permitted.
                let who = PEERS[self.dice.index(PEERS.len())];
                if self.world.peer_address(who).is_ipv4() == relayed.is_ipv4() {
                    self.world.peer(who).send(relayed, &rtp(length));
                }
            }
        }
        self.world.settle();
        self.listen();
    }

    /// Takes in what has come to everybody.
    fn listen(&mut self) {
        for name in CLIENTS {
            while let Some(arrived) = self.world.client(name).state().inbox.pop_front() {
                (name, arrived.to_vec()).hash(&mut self.heard);
                self.count += 1;
            }
        }
        for name in PEERS {
            while let Some(arrived) = self.world.peer(name).take() {
                (name, arrived).hash(&mut self.heard);
                self.count += 1;
            }
        }
    }

    fn accounts(&self, late: &BTreeMap<AllocationId, Usage>) -> Accounts {
        let closed = self.world.changes.iter().filter_map(|change| match change {
            Change::AllocationClosed { id, usage, .. } => {
                let mut usage = *usage;
                usage += late.get(id).copied().unwrap_or_default();
                Some((*id, usage))
            }
            _ => None,
        });
        Accounts {
            closed: closed.collect(),
            tally: Box::new(self.world.server.tally()),
            heard: (self.count, self.heard.finish()),
        }
    }
}

/// The number of a channel.
fn channel(index: usize) -> u16 {
    0x4000 + u16::try_from(index).expect("few channels")
}

#[test]
fn a_day_of_calls_has_the_same_accounts_with_the_kernel_path_and_without() {
    for seed in 0..2 {
        let mut alone = Day::of(seed, None);
        alone.pass();
        let kernel = Rc::new(RefCell::new(Kernel::new()));
        let mut together = Day::of(seed, Some(Box::new(Shared(Rc::clone(&kernel)))));
        together.pass();
        let kernel = kernel.borrow();
        let accounts = alone.accounts(&BTreeMap::new());
        assert_eq!(together.accounts(&kernel.late), accounts, "seed {seed}");
        let Accounts { closed, tally, .. } = accounts;
        let via = tally.via_channel;
        let passed = via.to_peer.packets + via.to_client.packets;
        assert!(closed.len() > 100 && passed > 3_000, "{} calls, {passed} datagrams", closed.len());
        assert!(kernel.carried * 5 > passed * 4, "{} of {passed} by the kernel", kernel.carried);
        assert!(kernel.standing.is_empty(), "every leg was taken out");
    }
}
