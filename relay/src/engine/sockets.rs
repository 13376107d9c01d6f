//! The engine on ordinary sockets: mio waits, `recvmmsg` and `sendmmsg` move.
//!
//! Readiness is edge-triggered, so a socket that was not read empty is remembered here and comes
//! again. Listeners and relayed sockets have a queue each and share a batch by halves, so that
//! neither direction can starve the other; one relayed socket gets a few slots a turn. Requests
//! come last: they fill what media left, and a little when it leaves nothing. What goes to clients
//! leaves in one call a listener, whichever relayed sockets it came from.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use guard::descriptors::for_clients;
use mio::event::Event;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use proto::addr::{Family, FiveTuple, ListenerId, RelayId, RelayedAddr};
use proto::marks::Marks;
use proto::turn::OpenFailure;
use socket2::{Domain, Socket, Type};

use super::backlog::Backlog;
use super::batch::{Batch, Origin, Run, SLOTS, Way};
use super::departure::Door;
use super::diversions::Diversions;
use super::listeners::{FEWEST, InletTally, Listeners, TOKENS};
use super::relays::{Relay, Relays};
use super::{Engine, EngineTally, Wake};
use crate::clock::Clock;
use crate::listen::Inlets;
use crate::sys::{self, Lane, Outbound};

/// Slots that one relayed socket may fill in a turn.
const RELAY_SLOTS: usize = 4;

/// Slots that requests get in a turn that media would fill: it is delayed, not shut out.
const LEAST_REQUESTS: usize = 2;

/// Slots that they get at most: then it is time to look for media again.
const MOST_REQUESTS: usize = 32;

/// ICMP messages that one relayed socket may bring in a turn.
const RELAY_REPORTS: usize = 8;

/// Events taken from the kernel at once.
const EVENTS: usize = 1_024;

/// Datagrams and pieces that the memory for sending starts with.
const OUTBOUND: (usize, usize) = (256, 4_096);

/// Bytes of a relayed socket's queues: several runs of video.
const RELAY_BUFFER: u32 = 256 * 1024;

/// The token of the inbox. Tokens above [`FIRST_LISTENER`] belong to no relayed address: no
/// worker has that many allocations.
const INBOX: Token = Token(usize::MAX);

/// The token of the first socket of listener 0; the others follow.
const FIRST_LISTENER: usize = usize::MAX - TOKENS;

/// The bit of a token that makes a socket somebody else's: of a relayed address it is the
/// highest bit of the slot, and no worker has that many allocations.
pub(crate) const FOREIGN: usize = 1 << 31;
/// The token of the first diversion; the others follow, far fewer than there are numbers.
const FIRST_DIVERSION: usize = FIRST_LISTENER - 1 - u16::MAX as usize;

/// One worker's sockets.
pub(crate) struct MioEngine {
    poll: Poll,
    events: Events,
    listeners: Listeners,
    relays: Relays,
    diversions: Diversions,
    ready_relays: VecDeque<RelayId>,
    ready_diversions: VecDeque<usize>,
    outbound: Outbound,
    backlog: Backlog,
    clock: Clock,
    tally: EngineTally,
}

impl MioEngine {
    /// An engine that serves these listeners.
    pub(crate) fn new(listeners: Vec<Inlets>) -> io::Result<Self> {
        let poll = Poll::new()?;
        Ok(Self {
            listeners: Listeners::new(listeners, poll.registry(), FIRST_LISTENER)?,
            poll,
            events: Events::with_capacity(EVENTS),
            relays: Relays::default(),
            diversions: Diversions::default(),
            ready_relays: VecDeque::with_capacity(EVENTS),
            ready_diversions: VecDeque::new(),
            outbound: Outbound::with_capacity(OUTBOUND.0, OUTBOUND.1),
            backlog: Backlog::default(),
            clock: Clock::new(),
            tally: EngineTally::default(),
        })
    }

    /// Wakes the engine out of its wait, from any thread.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), INBOX)
    }

    /// Where sockets that share this engine's wait are registered, with [`FOREIGN`] tokens.
    pub(crate) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Counts media that came to a listener by another way.
    pub(super) fn count_media(&mut self, id: ListenerId) {
        self.listeners.count(id, Lane::Media, 1);
    }

    /// Where datagrams for listeners come.
    pub(super) fn addresses(&mut self) -> Vec<(ListenerId, SocketAddr)> {
        self.listeners.addresses()
    }

    /// Waits for events; a signal ends that, and is none.
    fn poll(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, at_most) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Puts the sockets of the last events into their queues.
    fn queue_ready(&mut self, foreign: &mut dyn FnMut(&Event)) -> Wake {
        let mut wake = Wake::default();
        for event in &self.events {
            match event.token() {
                INBOX => wake.inbox = true,
                Token(listener) if listener >= FIRST_LISTENER => {
                    self.listeners.wake(listener - FIRST_LISTENER);
                }
                Token(diversion) if diversion >= FIRST_DIVERSION => {
                    let place = diversion - FIRST_DIVERSION;
                    if let Some(diversion) = self.diversions.find(place)
                        && !std::mem::replace(&mut diversion.queued, true)
                    {
                        self.ready_diversions.push_back(place);
                    }
                }
                Token(other) if other & FOREIGN != 0 => foreign(event),
                Token(relay) => {
                    let id = RelayId::from_token(relay as u64);
                    if let Some(relay) = self.relays.find(id) {
                        relay.failing |= event.is_error();
                        if !std::mem::replace(&mut relay.queued, true) {
                            self.ready_relays.push_back(id);
                        }
                    }
                }
            }
        }
        wake
    }

    /// Reads the next listener of a lane that is ready; false if none is.
    fn receive_at_listener(&mut self, lane: Lane, batch: &mut Batch, most: usize) -> bool {
        let Some(id) = self.listeners.next(lane) else { return false };
        let Some(inlet) = self.listeners.inlet(id, lane) else { return true };
        let (slots, datagrams) = (batch.filled(), self.tally.datagrams_in);
        let socket = inlet.socket.as_fd();
        inlet.queued = self.tally.fill(batch, socket, Origin::Listener(id), most.min(inlet.hope));
        inlet.hope = (2 * (batch.filled() - slots)).max(FEWEST);
        inlet.hold(self.backlog.most());
        if inlet.queued {
            self.listeners.put_back(id, lane);
        }
        self.listeners.count(id, lane, self.tally.datagrams_in - datagrams);
        true
    }

    /// Reads the next ready diversion; false if none is ready.
    fn receive_at_diversion(&mut self, batch: &mut Batch, most: usize) -> bool {
        let Some(place) = self.ready_diversions.pop_front() else { return false };
        // Ended meanwhile: nothing to read.
        let Some(diversion) = self.diversions.find(place) else { return true };
        let (socket, origin) =
            (diversion.socket.as_fd(), Origin::Listener(diversion.client.listener));
        diversion.queued = self.tally.fill(batch, socket, origin, RELAY_SLOTS.min(most));
        if diversion.queued {
            self.ready_diversions.push_back(place);
        }
        true
    }

    /// Reads the next ready relayed socket; false if none is ready.
    fn receive_at_relay(&mut self, batch: &mut Batch, most: usize) -> bool {
        let Some(id) = self.ready_relays.pop_front() else { return false };
        // Closed meanwhile: nothing to read.
        let Some(relay) = self.relays.find(id) else { return true };
        relay.failing = relay.failing && take_reports(batch, id, relay);
        if relay.keep(self.backlog.room(RELAY_BUFFER)) {
            self.tally.lost_at_relays += relay.losses();
        }
        let socket = relay.socket.as_fd();
        relay.queued = self.tally.fill(batch, socket, Origin::Relay(id), RELAY_SLOTS.min(most));
        relay.queued |= relay.failing;
        if relay.queued {
            self.ready_relays.push_back(id);
        }
        true
    }

    /// Sends what leaves through listeners: one call each.
    fn send_to_clients(&mut self, batch: &Batch) {
        for (index, run) in (0_u32..).zip(batch.runs()) {
            if let Origin::Listener(id) = run.way.door
                && let Some(listener) = self.listeners.find(id)
            {
                listener.outgoing.push(index);
            }
        }
        for listener in self.listeners.iter_mut() {
            if listener.outgoing.is_empty() {
                continue;
            }
            let runs = listener.outgoing.iter().map(|&index| &batch.runs()[index as usize]);
            let mut door = Door {
                socket: &listener.media.socket,
                largest_run: &mut listener.largest_run,
                marks: Marks::PLAIN,
                keeps_errors: false,
            };
            door.send(batch, &runs, &mut self.outbound, &mut self.tally);
            listener.outgoing.clear();
        }
    }

    /// Sends what leaves through relayed sockets: one call for neighbours of one socket that
    /// have the same marks.
    fn send_to_peers(&mut self, batch: &Batch) {
        let alike = |a: &Run, b: &Run| a.way.door == b.way.door && a.way.marks == b.way.marks;
        for runs in batch.runs().chunk_by(alike) {
            let Some(&Run { way: Way { door: Origin::Relay(id), marks, .. }, .. }) = runs.first()
            else {
                continue;
            };
            let Some(relay) = self.relays.find(id) else {
                self.tally.send_closed += datagrams(runs);
                continue;
            };
            if !relay.wears(id.family, marks) {
                self.tally.send_refused += datagrams(runs);
                continue;
            }
            let Relay { socket, largest_run, .. } = relay;
            let mut door = Door { socket, largest_run, marks, keeps_errors: true };
            door.send(batch, &runs.iter(), &mut self.outbound, &mut self.tally);
        }
    }
}

impl Engine for MioEngine {
    fn wait(
        &mut self,
        at_most: Option<Duration>,
        foreign: &mut dyn FnMut(&Event),
    ) -> io::Result<Wake> {
        let pending = Lane::ALL.iter().any(|lane| self.listeners.is_ready(*lane))
            || !self.ready_relays.is_empty()
            || !self.ready_diversions.is_empty();
        let looks_only = pending || self.backlog.is_cut();
        self.poll(if looks_only { Some(Duration::ZERO) } else { at_most })?;
        if looks_only && !pending && self.events.is_empty() {
            self.backlog.rest(self.clock.tick().mono);
            self.poll(at_most)?;
        }
        Ok(self.queue_ready(foreign))
    }

    fn receive(&mut self, batch: &mut Batch) {
        let kept = if self.listeners.is_ready(Lane::Requests) { LEAST_REQUESTS } else { 0 };
        let half = if self.ready_relays.is_empty() { 0 } else { SLOTS / 2 };
        let room = |batch: &Batch, kept: usize| batch.room().saturating_sub(kept);
        let media = |engine: &mut Self, batch: &mut Batch, kept| {
            while room(batch, kept) > 0
                && engine.receive_at_listener(Lane::Media, batch, room(batch, kept))
            {}
        };
        media(self, batch, kept + half);
        while room(batch, kept + half / 2) > 0
            && self.receive_at_diversion(batch, room(batch, kept))
        {}
        while room(batch, kept) > 0
            && batch.room_for_reports() > 0
            && self.receive_at_relay(batch, room(batch, kept))
        {}
        media(self, batch, kept);
        batch.begin_requests();
        let left = room(batch, MOST_REQUESTS);
        while room(batch, left) > 0
            && self.receive_at_listener(Lane::Requests, batch, room(batch, left))
        {}
        let Self { backlog, clock, listeners, ready_relays, ready_diversions, tally, .. } = self;
        let waiting = listeners.waiting() + ready_relays.len() + ready_diversions.len();
        backlog.turn(|| clock.tick().mono, waiting, tally.datagrams_in);
        tally.overloads = backlog.overloads();
    }

    fn send(&mut self, batch: &mut Batch) {
        self.send_to_clients(batch);
        self.send_to_peers(batch);
        batch.clear();
    }

    fn open_relay(&mut self, id: RelayId, at: RelayedAddr) -> Result<(), OpenFailure> {
        let mut socket = bind_relay(at).map_err(|error| failure(&error))?;
        let token = Token(usize::try_from(id.to_token()).map_err(|_| OpenFailure::Other)?);
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)
            .map_err(|error| failure(&error))?;
        self.relays.insert(id, socket, RELAY_BUFFER);
        Ok(())
    }

    fn close_relay(&mut self, id: RelayId) {
        // Dropping the socket takes it out of the poll.
        if let Some(mut relay) = self.relays.remove(id) {
            self.tally.lost_at_relays += relay.losses();
        }
    }

    fn close_relays(&mut self) {
        self.tally.restarts += 1;
        self.relays = Relays::default();
        self.ready_relays.clear();
        self.diversions = Diversions::default();
        self.ready_diversions.clear();
        self.listeners.iter_mut().for_each(|listener| listener.outgoing.clear());
    }

    fn divert(&mut self, client: FiveTuple) -> bool {
        let Some(listener) = self.listeners.find(client.listener) else { return false };
        let registry = self.poll.registry();
        let opened = listener
            .media
            .socket
            .local_addr()
            .and_then(|local| self.diversions.open(registry, FIRST_DIVERSION, client, local));
        if opened.is_err() {
            self.tally.diversions_failed += 1;
        }
        opened.is_ok()
    }

    fn end_diversion(&mut self, client: FiveTuple) {
        self.diversions.close(client);
    }

    fn survey(&mut self) {
        self.listeners.survey();
        // There are many, so they are asked when it is likely that they lose something.
        if self.backlog.is_cut() {
            self.tally.lost_at_relays += self.relays.iter_mut().map(Relay::losses).sum::<u64>();
        }
    }

    fn inlets(&self) -> &[InletTally] {
        self.listeners.tallies()
    }

    fn tally(&self) -> EngineTally {
        self.tally
    }
}

impl EngineTally {
    /// Receives from one socket into the batch; says whether more may wait.
    fn fill(&mut self, batch: &mut Batch, socket: BorrowedFd<'_>, at: Origin, most: usize) -> bool {
        let most = most.min(batch.room());
        // An error belongs to a datagram sent before; the kernel reports it once.
        let outcome = batch.fill(socket, at, most).or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Err(error),
            _ => batch.fill(socket, at, most),
        });
        let Ok(filled) = outcome else { return false };
        self.receives += 1;
        self.datagrams_in += filled.datagrams;
        self.truncated += filled.truncated;
        filled.slots == most
    }
}

/// Empties the error queue of a relayed socket, within bounds; says whether more may be there.
fn take_reports(batch: &mut Batch, id: RelayId, relay: &Relay) -> bool {
    for _ in 0..RELAY_REPORTS.min(batch.room_for_reports()) {
        match sys::next_error(relay.socket.as_fd(), id.family) {
            Ok(Some(report)) => batch.report(id, report),
            Ok(None) => {}
            Err(_) => return false,
        }
    }
    true
}

/// A socket for one relayed address.
fn bind_relay(at: RelayedAddr) -> io::Result<mio::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(at.socket()), Type::DGRAM.nonblocking(), None)?;
    let socket = for_clients(socket)?;
    if at.family() == Family::V6 {
        socket.set_only_v6(true)?;
    }
    sys::take_runs(socket.as_fd())?;
    sys::take_marks(socket.as_fd(), at.family())?;
    sys::keep_errors(socket.as_fd(), at.family())?;
    match at.family() {
        Family::V4 => sys::relax_path_mtu(socket.as_fd(), Family::V4)?,
        Family::V6 => sys::follow_path_mtu(socket.as_fd())?,
    }
    sys::set_modest_buffers(socket.as_fd(), RELAY_BUFFER);
    socket.bind(&at.socket().into())?;
    Ok(mio::net::UdpSocket::from_std(socket.into()))
}

/// What the server makes of a socket that could not be opened.
pub(super) fn failure(error: &io::Error) -> OpenFailure {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => OpenFailure::PortTaken,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC) => {
            OpenFailure::Exhausted
        }
        _ => OpenFailure::Other,
    }
}

fn datagrams(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.datagrams)).sum()
}
