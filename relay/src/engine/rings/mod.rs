//! The engine on rings of `AF_XDP`, for what sockets are too dear for: media of clients, and all of
//! relayed ports.
//!
//! It is wrapped around the engine on sockets, which keeps everything else: requests, streams,
//! handshakes. Answers to clients leave by rings, those to strangers by sockets. A relayed port is an octet in a map and has no socket, so an
//! allocation costs the kernel nothing. A frame is copied into the batch once and out of it once;
//! what is between is the same for all engines.
//!
//! Each worker has a socket at every queue, and the kernel program says whose a frame is, as
//! steering does for sockets. What a client sends one of another worker takes the host's stack.
//!
//! Rings know no routing. A datagram leaves by one if its next hop is known, at an interface that
//! has rings, and fits; otherwise the host's stack is given it, and finds the next hop for those
//! that follow.

mod checksum;
pub mod frame;
mod icmp;
mod paths;
mod places;
mod stack;
mod within;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use proto::addr::{Family, FiveTuple, RelayId, RelayedAddr};
use proto::marks::Datagram;
use proto::stun::attribute::Icmp;
use proto::turn::OpenFailure;

pub(crate) use places::{OCTETS_OF_ADDRESS, Places};
pub(crate) use stack::Stack;

use super::batch::{Batch, Origin, Run, SLOTS};
use super::sockets::{FOREIGN, MioEngine, failure};
use super::{Engine, EngineTally, InletTally, Wake};
use crate::clock::Clock;
use crate::offload::{Diverted, Hops};
use crate::sys::{FrameSocket, Undelivered};
use frame::{Leaving, Unfit};
use paths::Paths;
use within::Within;

/// The token of news about next hops; those of the stack's sockets follow, then those of rings. No
/// stream and no relayed TCP address has them.
const NEWS: usize = FOREIGN | 0x6800_0000;
const STRAYS: usize = NEWS + 1;
const RINGS: usize = STRAYS + 4;

/// Slots that frames get in a turn; others are left for sockets.
const FRAMES: usize = SLOTS * 3 / 4;

/// Datagrams that the stack brings in a turn to relayed ports of a family.
const MOST_STRAYS: usize = 4;

/// What clients of this relay send each other that is taken in a turn.
const MOST_WITHIN: usize = SLOTS / 2;

/// Reports of what was not delivered, kept for the next turn.
const REPORTS: usize = 16;

/// What routers say whose next link is too narrow, in IPv6.
const PACKET_TOO_BIG: u8 = 2;

/// What the engine of a worker is made of, opened with privileges.
#[derive(Debug)]
pub(crate) struct Gear {
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) places: Places,
    pub(crate) stack: Stack,
    pub(crate) diverted: Diverted,
    pub(crate) hops: Hops,
}

/// The worker's socket of one queue.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) ifindex: u32,
    /// Whether it is the one of its interface by which the worker sends.
    pub(crate) sends: bool,
    pub(crate) socket: FrameSocket,
}

/// One worker's rings, around its sockets.
pub(crate) struct RingEngine {
    inner: MioEngine,
    outlets: Vec<Outlet>,
    places: Places,
    stack: Stack,
    diverted: Diverted,
    paths: Paths,
    within: Within,
    clock: Clock,
    /// Which outlet is looked at first.
    first: usize,
    /// Of the last IPv4 packet.
    id: u16,
    tally: EngineTally,
    reports: Vec<(RelayId, Undelivered)>,
}

impl RingEngine {
    /// An engine whose media comes by rings.
    pub(crate) fn new(mut inner: MioEngine, gear: Gear) -> io::Result<Self> {
        let Gear { outlets, mut places, stack, diverted, hops } = gear;
        let registry = inner.registry()?;
        for (index, outlet) in outlets.iter().enumerate() {
            let descriptor = outlet.socket.as_fd().as_raw_fd();
            let token = Token(RINGS + index);
            registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        }
        stack.register(&registry, Token(STRAYS))?;
        let mut seed = [0; 10];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let [i0, i1, seed @ ..] = seed;
        let paths = Paths::new(hops, u64::from_ne_bytes(seed));
        paths.register(&registry, Token(NEWS))?;
        for (id, at) in inner.addresses() {
            places.open_listener(id, at);
        }
        Ok(Self {
            inner,
            outlets,
            places,
            stack,
            diverted,
            paths,
            within: Within::new(),
            clock: Clock::new(),
            first: 0,
            id: u16::from_ne_bytes([i0, i1]),
            tally: EngineTally::default(),
            reports: Vec::with_capacity(REPORTS),
        })
    }

    /// Takes frames that have come.
    fn receive_frames(&mut self, batch: &mut Batch) {
        let Self { inner, outlets, places, tally, first, .. } = self;
        let count = outlets.len();
        for index in (0..count).map(|index| (*first + index) % count) {
            let most = FRAMES - batch.filled().min(FRAMES);
            let before = tally.ring_in;
            outlets[index].socket.receive(most, &mut |bytes| {
                let found = match frame::read(bytes) {
                    Ok(found) => found,
                    Err(Unfit::Damaged) => {
                        tally.damaged += 1;
                        return;
                    }
                    // The kernel program brings none.
                    Err(Unfit::Foreign) => return,
                };
                if !places.may_send(found.from.ip()) {
                    tally.forged += 1;
                    return;
                }
                // Closed meanwhile, if it is nothing's.
                let Some(origin) = places.at(found.to) else { return };
                let datagram = Datagram { marks: found.marks, bytes: found.payload };
                tally.ring_in += u64::from(batch.take(origin, found.from, datagram));
                if let Origin::Listener(id) = origin {
                    inner.count_media(id);
                }
            });
            tally.receives += u64::from(tally.ring_in > before);
            tally.datagrams_in += tally.ring_in - before;
        }
        *first = first.wrapping_add(1);
    }

    /// Takes what clients of this relay sent each other.
    fn receive_within(&mut self, batch: &mut Batch) {
        let Self { within, tally, .. } = self;
        within.take(MOST_WITHIN, &mut |at, from, datagram| {
            tally.datagrams_in += u64::from(batch.take(Origin::Relay(at), from, datagram));
        });
    }

    /// Hears what became of what was sent.
    fn hear(&mut self) {
        let Self { stack, places, paths, reports, .. } = self;
        stack.hear(REPORTS, &mut |family, packet| {
            let Some((from, to, icmp)) = icmp::read(family, packet) else { return };
            let Some(Origin::Relay(id)) = places.at(from) else { return };
            if (family, icmp.kind) == (Family::V6, PACKET_TOO_BIG) {
                paths.narrow((from.ip(), to.ip()), icmp.data);
            }
            if reports.len() < REPORTS {
                reports.push((id, Undelivered { to, icmp }));
            }
        });
    }

    /// Takes what the stack brought to relayed ports.
    fn receive_strays(&mut self, batch: &mut Batch) {
        let Self { stack, places, tally, .. } = self;
        stack.receive(MOST_STRAYS, &mut |stray, bytes| {
            // Closed meanwhile, if it is nothing's; what comes to listeners has its sockets.
            let Some(origin @ Origin::Relay(_)) = places.at(stray.to) else { return };
            if batch.take(origin, stray.from, Datagram { marks: stray.marks, bytes }) {
                tally.strays += 1;
                tally.datagrams_in += 1;
            }
            tally.receives += 1;
        });
    }

    /// Sends a run by a ring, or from a relayed address by the stack; false leaves it to the
    /// sockets of listeners.
    fn send_run(&mut self, batch: &Batch, run: &Run) -> bool {
        let (from, relay) = match run.way.door {
            Origin::Listener(id) => match self.places.listener(id) {
                Some(from) => (from, None),
                None => return false,
            },
            Origin::Relay(id) => {
                let Some(from) = self.places.relay(id) else {
                    self.tally.send_closed += u64::from(run.datagrams);
                    return true;
                };
                (from, Some(id))
            }
        };
        let (to, marks) = (run.way.to, run.way.marks);
        if relay.is_some()
            && let Some(Origin::Relay(other)) = self.places.at(to)
        {
            self.send_within(batch, run, (from, other));
            return true;
        }
        let now = self.clock.last().mono;
        let hop = self.paths.find(now, (from.ip(), to.ip()), run.way.lasts);
        if let Some(hop) = &hop {
            let leaving = Leaving { hop, from, to, marks };
            let index = self.outlets.iter().position(|it| it.sends && it.ifindex == hop.ifindex);
            if let Some(index) = index.filter(|_| leaving.fits(run.size as usize)) {
                self.write_run(batch, run, (index, leaving));
                return true;
            }
        }
        if let Some(id) = relay {
            self.send_strays(batch, run, (id, from));
        }
        relay.is_some()
    }

    /// Writes the datagrams of a run into frames.
    fn write_run(&mut self, batch: &Batch, run: &Run, (index, leaving): (usize, Leaving<'_>)) {
        let Self { outlets, tally, id, .. } = self;
        let socket = &mut outlets[index].socket;
        for pieces in datagrams(batch, run) {
            let Some(frame) = socket.blank() else {
                tally.send_queue_full += 1;
                continue;
            };
            let mut len = leaving.head();
            for piece in pieces {
                frame[len..len + piece.len()].copy_from_slice(piece);
                len += piece.len();
            }
            *id = id.wrapping_add(1);
            leaving.write(&mut frame[..len], *id);
            socket.send(len);
            tally.ring_out += 1;
            tally.datagrams_out += 1;
        }
    }

    /// Gets sent what was written into frames.
    fn flush(&mut self) {
        for outlet in &mut self.outlets {
            self.tally.sends += u64::from(outlet.socket.flush());
        }
    }

    /// Keeps the datagrams of a run for another client.
    fn send_within(&mut self, batch: &Batch, run: &Run, (from, to): (SocketAddr, RelayId)) {
        for pieces in datagrams(batch, run) {
            if self.within.put(to, (from, run.way.marks), pieces) {
                self.tally.datagrams_out += 1;
            } else {
                self.tally.send_queue_full += 1;
            }
        }
    }

    /// Gives the datagrams of a run to the stack.
    #[cold]
    fn send_strays(&mut self, batch: &Batch, run: &Run, (id, from): (RelayId, SocketAddr)) {
        // What went before it by a ring leaves before it.
        self.flush();
        let (to, marks) = (run.way.to, run.way.marks);
        for pieces in datagrams(batch, run) {
            self.tally.sends += 1;
            match self.stack.send((from, to), marks, pieces) {
                Ok(()) => {
                    self.tally.strays += 1;
                    self.tally.datagrams_out += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tally.send_queue_full += 1;
                }
                Err(error) => {
                    self.tally.send_refused += 1;
                    let too_large = error.raw_os_error() == Some(libc::EMSGSIZE);
                    if too_large && self.reports.len() < REPORTS {
                        let mtu = self.paths.mtu((from.ip(), to.ip()));
                        self.reports.push((id, Undelivered { to, icmp: too_big(to, mtu) }));
                    }
                }
            }
        }
    }
}

/// What a router would have said of a datagram that is too large for our own link.
fn too_big(to: SocketAddr, mtu: u16) -> Icmp {
    let (kind, code) = if to.is_ipv4() { (3, 4) } else { (PACKET_TOO_BIG, 0) };
    Icmp { kind, code, data: mtu.into() }
}

/// The datagrams of a run, each in its pieces.
fn datagrams<'b>(
    batch: &'b Batch,
    run: &'b Run,
) -> impl Iterator<Item = impl Iterator<Item = &'b [u8]> + Clone> {
    let mut pieces = batch.pieces(run).peekable();
    let size = run.size as usize;
    std::iter::from_fn(move || {
        let first = pieces.next()?;
        // A few at most: what it is dressed with, payload, padding.
        let mut all = [first, &[], &[]];
        let mut len = first.len();
        for place in &mut all[1..] {
            if len >= size {
                break;
            }
            let Some(piece) = pieces.next() else { break };
            (*place, len) = (piece, len + piece.len());
        }
        Some(all.into_iter())
    })
}

impl Engine for RingEngine {
    fn wait(
        &mut self,
        at_most: Option<Duration>,
        foreign: &mut dyn FnMut(&Event),
    ) -> io::Result<Wake> {
        let Self { inner, outlets, stack, within, .. } = self;
        let busy = outlets.iter_mut().any(|it| it.socket.has_received())
            || stack.is_ready()
            || !within.is_empty()
            || !self.reports.is_empty();
        let at_most = if busy { Some(Duration::ZERO) } else { at_most };
        let mut news = false;
        let wake = inner.wait(at_most, &mut |event| match event.token().0 {
            NEWS => news = true,
            token @ STRAYS..RINGS => stack.wake(token - STRAYS),
            // Whether frames have come is seen in the rings themselves.
            token if (RINGS..RINGS + outlets.len()).contains(&token) => {}
            _ => foreign(event),
        })?;
        if news {
            self.paths.heed();
        }
        Ok(wake)
    }

    fn receive(&mut self, batch: &mut Batch) {
        self.hear();
        for (id, report) in self.reports.drain(..) {
            batch.report(id, report);
        }
        self.receive_within(batch);
        self.receive_frames(batch);
        self.receive_strays(batch);
        // Last, because requests are the last in a batch.
        self.inner.receive(batch);
    }

    fn send(&mut self, batch: &mut Batch) {
        if !batch.runs().is_empty() {
            self.clock.tick();
            batch.hand_out(|batch, run| self.send_run(batch, run));
            self.flush();
        }
        self.inner.send(batch);
    }

    fn open_relay(&mut self, id: RelayId, at: RelayedAddr) -> Result<(), OpenFailure> {
        places::try_port(at).map_err(|error| failure(&error))?;
        if self.places.open_relay(id, at) { Ok(()) } else { Err(OpenFailure::Other) }
    }

    fn close_relay(&mut self, id: RelayId) {
        self.places.close_relay(id);
    }

    fn close_relays(&mut self) {
        self.places.close_relays();
        self.within.clear();
        self.reports.clear();
        self.diverted.clear();
        self.inner.close_relays();
    }

    fn divert(&mut self, client: FiveTuple) -> bool {
        let Some(at) = self.places.listener(client.listener) else {
            return self.inner.divert(client);
        };
        // Its media may come by a ring, the rest never does.
        if !self.diverted.open(client.client, at) {
            self.tally.diversions_failed += 1;
            return false;
        }
        let diverted = self.inner.divert(client);
        if !diverted {
            self.diverted.close(client.client, at);
        }
        diverted
    }

    fn end_diversion(&mut self, client: FiveTuple) {
        if let Some(at) = self.places.listener(client.listener) {
            self.diverted.close(client.client, at);
        }
        self.inner.end_diversion(client);
    }

    fn survey(&mut self) {
        self.tally.lost_at_rings = self.outlets.iter().map(|it| it.socket.losses()).sum();
        self.inner.survey();
    }

    fn inlets(&self) -> &[InletTally] {
        self.inner.inlets()
    }

    fn tally(&self) -> EngineTally {
        let (mut sum, ours) = (self.inner.tally(), &self.tally);
        sum.receives += ours.receives;
        sum.sends += ours.sends;
        sum.datagrams_in += ours.datagrams_in;
        sum.datagrams_out += ours.datagrams_out;
        sum.send_queue_full += ours.send_queue_full;
        sum.send_refused += ours.send_refused;
        sum.send_closed += ours.send_closed;
        sum.diversions_failed += ours.diversions_failed;
        EngineTally {
            ring_in: ours.ring_in,
            ring_out: ours.ring_out,
            strays: ours.strays,
            damaged: ours.damaged,
            forged: ours.forged,
            lost_at_rings: ours.lost_at_rings,
            ..sum
        }
    }
}
