//! Relayed TCP addresses (RFC 6062): who listens, who is called, and the pipes that follow.
//!
//! All in the worker's own wait, as everything else: a socket's token says its place here, and
//! which of a pipe's two ends it is. A peer that waits for its client is not read: the kernel
//! keeps what it sends, within the bound of its receive queue, and then stops it. `socket` opens,
//! `pipe` carries between two connections, `link` between a connection and the messages of another,
//! in `chunks`, both at the `pace` that limits of bandwidth allow; the server decides.

mod chunks;
mod link;
mod pace;
mod pipe;
mod places;
mod socket;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use guard::descriptors::for_clients;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use proto::addr::{ConnectionId, PeerAddr, RelayId, RelayedAddr};
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::tally::Usage;
use proto::turn::{OpenFailure, Server};

use crate::engine::Batch;
use crate::stream::{Guest, Streams};
use link::Link;
use pipe::{Bench, Outcome, Pipe};
use places::{Key, Places};

pub(crate) use places::is_ours;

/// Peers accepted at one address in a turn.
const ACCEPTS: usize = 16;

/// How long nobody is accepted after descriptors or memory ran out.
const CLOSED: Duration = Duration::from_millis(200);

/// The relayed TCP addresses of one worker, with their connections.
pub(crate) struct TcpRelays {
    registry: Registry,
    places: Places<Place>,
    listeners: HashMap<RelayId, Key>,
    connections: HashMap<ConnectionId, Key>,
    /// Bytes for peers that will be called in this turn.
    early: HashMap<ConnectionId, Vec<u8>>,
    /// Links whose clients have to read before more is read from the peer.
    held: Vec<Key>,
    /// Places to look at, each once.
    ready: VecDeque<Key>,
    deadlines: BTreeSet<(Instant, Key)>,
    bench: Bench,
}

/// What is at a place.
enum Place {
    /// A relayed address.
    Listener { id: RelayId, socket: TcpListener, closed_until: Option<Instant> },
    /// A peer being called.
    Calling { id: ConnectionId, socket: TcpStream },
    /// A peer that waits for its client.
    Waiting { id: ConnectionId, socket: TcpStream },
    /// A peer and its client.
    Joined { id: ConnectionId, pipe: Box<Pipe>, armed: Option<Instant> },
    /// A peer whose bytes travel in its client's messages: called, or there.
    Link { id: ConnectionId, link: Box<Link>, armed: Option<Instant> },
}

impl TcpRelays {
    /// None, yet. Sockets are registered here.
    pub(crate) fn new(registry: Registry) -> Self {
        Self {
            registry,
            places: Places::default(),
            listeners: HashMap::new(),
            connections: HashMap::new(),
            early: HashMap::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
            deadlines: BTreeSet::new(),
            bench: Bench::new(),
        }
    }

    /// How long the engine may wait because of these sockets; `None`: for ever.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.deadlines.first().map(|(at, _)| at.saturating_duration_since(now))
    }

    /// Takes in what the kernel says about a socket.
    pub(crate) fn wake(&mut self, event: &Event) {
        let (key, end) = Key::from_token(event.token());
        let Some(place) = self.places.find(key) else { return };
        let readiness = match (place, end) {
            (Place::Joined { pipe, .. }, places::End::Near) => Some(&mut pipe.at_peer),
            (Place::Joined { pipe, .. }, places::End::Far) => Some(&mut pipe.at_client),
            (Place::Link { link, .. }, _) if link.connected => Some(&mut link.readiness),
            _ => None,
        };
        if let Some(readiness) = readiness {
            readiness.readable |= event.is_readable();
            readiness.writable |= event.is_writable();
            readiness.closed |= event.is_read_closed() || event.is_error();
        }
        self.queue(key);
    }

    /// Listens at a relayed address.
    pub(crate) fn listen(&mut self, id: RelayId, at: RelayedAddr) -> Result<(), OpenFailure> {
        let key = self.places.next_key();
        let mut socket = socket::listen(at).map_err(|error| socket::open_failure(&error))?;
        self.registry
            .register(&mut socket, key.token(places::End::Near), Interest::READABLE)
            .map_err(|error| socket::open_failure(&error))?;
        self.places.insert(Place::Listener { id, socket, closed_until: None });
        self.listeners.insert(id, key);
        Ok(())
    }

    /// Listens no more, if this was a TCP address at all.
    pub(crate) fn close(&mut self, id: RelayId) {
        if let Some(key) = self.listeners.remove(&id) {
            self.places.remove(key);
        }
    }

    /// Calls a peer; the server hears the outcome, now or in a later turn.
    pub(crate) fn call<L: Ledger>(
        &mut self,
        now: Now,
        id: ConnectionId,
        (from, to): (RelayedAddr, PeerAddr),
        server: &mut Server<L>,
    ) {
        let begun = socket::call(from, to).and_then(|socket| self.register(socket));
        match begun {
            Ok(socket) => {
                let place = match server.carries(id) {
                    None => Place::Calling { id, socket },
                    Some(client) => {
                        let early = self.early.remove(&id).unwrap_or_default();
                        let link = Link::new(now.mono, socket, client, false, early);
                        Place::Link { id, link: Box::new(link), armed: None }
                    }
                };
                let key = self.places.insert(place);
                self.connections.insert(id, key);
            }
            Err(error) => server.peer_connected(now, id, Err(socket::connect_failure(&error))),
        }
    }

    /// Joins the stream of a client to a peer. False if the peer is gone; then so is the stream.
    pub(crate) fn join(&mut self, now: Now, id: ConnectionId, mut client: Guest) -> bool {
        let Some(&key) = self.connections.get(&id) else { return false };
        let Some(place) = self.places.take(key) else { return false };
        let Place::Waiting { socket, .. } = place else {
            self.places.put(key, place);
            return false;
        };
        let token = key.token(places::End::Far);
        if client.register(&self.registry, token).is_err() {
            self.places.put(key, Place::Waiting { id, socket });
            return false;
        }
        let early = client.take_rest();
        let pipe = Box::new(Pipe::new(now.mono, socket, client, early));
        self.places.put(key, Place::Joined { id, pipe, armed: None });
        self.queue(key);
        true
    }

    /// Closes a peer's connection, with whatever it is joined to.
    pub(crate) fn hang_up(&mut self, id: ConnectionId) {
        if let Some(key) = self.connections.remove(&id) {
            self.forget(key);
        }
    }

    /// Closes everything.
    pub(crate) fn close_all(&mut self) {
        self.places = Places::default();
        self.listeners.clear();
        self.connections.clear();
        self.early.clear();
        self.held.clear();
        self.ready.clear();
        self.deadlines.clear();
    }

    /// One turn: peers are accepted, calls come through, pipes and links carry.
    pub(crate) fn turn<L: Ledger>(
        &mut self,
        now: Now,
        server: &mut Server<L>,
        batch: &mut Batch,
        streams: &mut Streams,
    ) {
        self.early.clear();
        self.take_chunks(now, server, batch, streams);
        while let Some(&(at, key)) = self.deadlines.first().filter(|(at, _)| *at <= now.mono) {
            self.deadlines.remove(&(at, key));
            if let Some(Place::Link { .. }) = self.places.find(key) {
                self.link_overdue(now, key, server, streams);
            } else {
                self.overdue(now, key, server);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            self.places.unqueue(key);
            match self.places.find(key) {
                None => {}
                Some(Place::Listener { .. }) => self.accept(now, key, server),
                Some(Place::Calling { .. }) => self.news(now, key, server),
                Some(Place::Waiting { .. }) => self.watch(now, key, server),
                Some(Place::Joined { .. }) => self.carry(now, key, server, streams.tools()),
                Some(Place::Link { .. }) => self.carry_chunks(now, key, server, streams),
            }
        }
    }

    /// Takes the peers that wait at a relayed address.
    fn accept<L: Ledger>(&mut self, now: Now, key: Key, server: &mut Server<L>) {
        for _ in 0..ACCEPTS {
            let Some(Place::Listener { id, socket, closed_until }) = self.places.find(key) else {
                return;
            };
            if closed_until.is_some_and(|until| now.mono < until) {
                return;
            }
            *closed_until = None;
            let accepted = socket.accept();
            match accepted.and_then(|(socket, from)| Ok((for_clients(socket)?, from))) {
                Ok((socket, from)) => {
                    let id = *id;
                    self.welcome(now, id, (socket, PeerAddr::new(from)), server);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if socket::is_exhaustion(&error) => {
                    let until = now.mono + CLOSED;
                    *closed_until = Some(until);
                    self.deadlines.insert((until, key));
                    return;
                }
                // It was about that one peer, who is gone already.
                Err(_) => {}
            }
        }
        self.queue(key);
    }

    /// Keeps a peer, if the server wants it.
    fn welcome<L: Ledger>(
        &mut self,
        now: Now,
        at: RelayId,
        (socket, from): (TcpStream, PeerAddr),
        server: &mut Server<L>,
    ) {
        let Some(id) = server.peer_arrived(now, at, from) else { return };
        // Small writes are the application's choice, not ours to delay.
        drop(socket.set_nodelay(true));
        match self.register(socket) {
            Ok(socket) => {
                let place = match server.carries(id) {
                    None => Place::Waiting { id, socket },
                    Some(client) => {
                        let link = Link::new(now.mono, socket, client, true, Vec::new());
                        Place::Link { id, link: Box::new(link), armed: None }
                    }
                };
                let key = self.places.insert(place);
                self.connections.insert(id, key);
                self.queue(key);
            }
            Err(_) => server.connection_closed(now, id),
        }
    }

    /// A call came through, or failed.
    fn news<L: Ledger>(&mut self, now: Now, key: Key, server: &mut Server<L>) {
        let Some(Place::Calling { id, socket }) = self.places.find(key) else { return };
        let id = *id;
        match socket::outcome(socket) {
            None => {}
            Some(Ok(())) => {
                if let Some(Place::Calling { socket, .. }) = self.places.take(key) {
                    self.places.put(key, Place::Waiting { id, socket });
                }
                server.peer_connected(now, id, Ok(()));
            }
            Some(Err(error)) => {
                self.hang_up(id);
                server.peer_connected(now, id, Err(socket::connect_failure(&error)));
            }
        }
    }

    /// A peer that waits may have reset its connection. What it sent, and its end behind it, is
    /// left where it is.
    fn watch<L: Ledger>(&mut self, now: Now, key: Key, server: &mut Server<L>) {
        let Some(Place::Waiting { id, socket }) = self.places.find(key) else { return };
        let id = *id;
        if !matches!(socket.take_error(), Ok(None)) {
            self.hang_up(id);
            server.connection_closed(now, id);
        }
    }

    /// Carries bytes between the ends of a pipe.
    fn carry<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        server: &mut Server<L>,
        tools: &mut crate::stream::Tools,
    ) {
        let Some(Place::Joined { id, pipe, armed }) = self.places.find(key) else { return };
        let id = *id;
        pipe.pace(|direction| server.allowance(now, id, direction));
        let (outcome, usage) = pipe.pump(now.mono, &mut self.bench, tools);
        arm(&mut self.deadlines, key, armed, pipe.deadline());
        if usage != Usage::default() {
            server.connection_carried(id, usage);
        }
        match outcome {
            Outcome::Waits => {}
            Outcome::More => self.queue(key),
            Outcome::Over => {
                self.hang_up(id);
                server.connection_closed(now, id);
            }
        }
    }

    /// The deadline of a place has passed.
    fn overdue<L: Ledger>(&mut self, now: Now, key: Key, server: &mut Server<L>) {
        match self.places.find(key) {
            Some(Place::Joined { id, pipe, armed }) => {
                let id = *id;
                *armed = None;
                if pipe.over_at().is_some_and(|at| at <= now.mono) {
                    self.hang_up(id);
                    server.connection_closed(now, id);
                } else {
                    pipe.wake(now.mono);
                    self.queue(key);
                }
            }
            Some(Place::Listener { .. }) => self.queue(key),
            Some(Place::Calling { .. } | Place::Waiting { .. } | Place::Link { .. }) | None => {}
        }
    }

    fn register(&mut self, mut socket: TcpStream) -> io::Result<TcpStream> {
        let token = self.places.next_key().token(places::End::Near);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut socket, token, interest)?;
        Ok(socket)
    }

    fn queue(&mut self, key: Key) {
        if self.places.queue(key) {
            self.ready.push_back(key);
        }
    }

    fn forget(&mut self, key: Key) {
        let armed = match self.places.remove(key) {
            Some(Place::Joined { pipe, armed, .. }) => {
                pipe.end(&mut self.bench);
                armed
            }
            Some(Place::Link { armed, .. }) => armed,
            Some(Place::Listener { .. } | Place::Calling { .. } | Place::Waiting { .. }) | None => {
                None
            }
        };
        if let Some(at) = armed {
            self.deadlines.remove(&(at, key));
        }
    }
}

/// Sees to it that a place comes up at its deadline, or before.
fn arm(
    deadlines: &mut BTreeSet<(Instant, Key)>,
    key: Key,
    armed: &mut Option<Instant>,
    deadline: Option<Instant>,
) {
    let Some(at) = deadline.filter(|at| armed.is_none_or(|armed| *at < armed)) else { return };
    if let Some(later) = armed.replace(at) {
        deadlines.remove(&(later, key));
    }
    deadlines.insert((at, key));
}
