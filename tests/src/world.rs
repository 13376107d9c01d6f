//! A simulated network around one server.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::addr::{ClientAddr, FiveTuple, ListenerId, PeerAddr, RelayId, RelayedAddr};
use proto::marks::{Datagram, Marks};
use proto::now::{Now, UnixTime};
use proto::policy::PeerAcl;
use proto::reject::{DropReason, Why};
use proto::stun::attribute::Icmp;
use proto::turn::{Action, Change, Config, OpenFailure, Server, Span, Verdict, Wrap};

use crate::beside::Beside;
use crate::books::Books;
use crate::client::{Arrived, Client};
use crate::dial::Dials;
use crate::dice::Dice;
use crate::dress::dress;
use crate::follower::Follower;
use crate::link::Link;
use crate::ms::AsMs;
use crate::peer::Peer;
use crate::script::{AsClient, AsPeer};
use crate::seen::{Seen, What};
use crate::site::{self, BEGIN};
use crate::stream::{Course, Streams};

/// A datagram that nobody may lose track of: what the server sends is never more than this.
const LARGEST_DATAGRAM: usize = 65_507;

/// The server, its clients and peers, the links between them, and the time.
pub struct World {
    /// The server under test.
    pub server: Server<Books>,
    /// Its ledger.
    pub books: Books,
    /// The path of every datagram between a host and the server.
    pub link: Link,
    /// Everything the server reported to followers, oldest first.
    pub changes: Vec<Change>,
    /// What becomes of relayed sockets the server asks for; `None`: they open.
    pub socket_failure: Option<OpenFailure>,
    /// Whether relayed sockets wait for [`World::open_held`].
    pub hold_sockets: bool,
    /// Local addresses that another process holds.
    pub foreign_sockets: HashSet<SocketAddr>,
    /// Everything the server was told and answered, when somebody wants to know.
    pub record: Option<Vec<Seen>>,
    /// Who relays beside the server, if anybody does.
    pub beside: Option<Box<dyn Beside>>,
    /// What hosts write into the headers of the datagrams they send.
    pub marks: Marks,
    /// TCP connections of relayed addresses.
    pub dials: Dials,
    /// The source of chance.
    pub dice: Dice,
    /// Clients whose datagrams the server wants although steering would take them elsewhere.
    pub diverted: HashSet<FiveTuple>,
    pub(crate) clients: Vec<Client>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) config: Arc<Config>,
    pub(crate) streams: Streams,
    begin: Instant,
    elapsed: Duration,
    wall_offset: i64,
    pub(crate) sockets: BTreeMap<RelayId, RelayedAddr>,
    held: Vec<(RelayId, RelayedAddr)>,
    /// Allocations among them that were given up before their socket opened.
    pub(crate) given_up: u64,
    follower: Follower,
    air: BinaryHeap<Reverse<Flight>>,
    flights: u64,
}

/// One datagram under way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    arrives: Duration,
    serial: u64,
    to: Target,
    marks: Marks,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Stream(Course),
    Server { from: FiveTuple },
    Relay { at: SocketAddr, from: SocketAddr },
    Client { listener: ListenerId, at: SocketAddr, bare: bool },
    Peer { at: SocketAddr, from: SocketAddr },
}

impl World {
    /// A perfect network around a server with its default rules.
    pub fn seeded(seed: u64) -> Self {
        Self::configured(seed, |_| ())
    }

    /// The same, with the configuration changed.
    pub fn configured(seed: u64, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = site::default_config();
        change(&mut config);
        let config = Arc::new(config);
        let mut dice = Dice::seeded(seed);
        let books = Books::default();
        let secret = dice.bytes(32).try_into().expect("asked for 32 bytes");
        Self {
            server: Server::new(Arc::clone(&config), books.clone(), secret),
            books,
            link: Link::default(),
            changes: Vec::new(),
            socket_failure: None,
            hold_sockets: false,
            held: Vec::new(),
            given_up: 0,
            record: None,
            beside: None,
            foreign_sockets: HashSet::new(),
            marks: Marks::PLAIN,
            diverted: HashSet::new(),
            dials: Dials::default(),
            dice,
            clients: Vec::new(),
            peers: Vec::new(),
            config,
            streams: Streams::default(),
            begin: some_instant(),
            elapsed: Duration::ZERO,
            wall_offset: 0,
            sockets: BTreeMap::new(),
            follower: Follower::default(),
            air: BinaryHeap::new(),
            flights: 0,
        }
    }

    /// Adds an IPv4 client that speaks to the first listener and holds a pool credential.
    #[must_use]
    pub fn with_client(self, name: &str) -> Self {
        let n = self.clients.len();
        let address = format!("81.2.69.{}:{}", 10 + n, 40_000 + n).parse().expect("an address");
        self.with_client_at(name, address)
    }

    /// Adds an IPv6 client that speaks to the second listener.
    #[must_use]
    pub fn with_client6(self, name: &str) -> Self {
        let n = self.clients.len();
        let address = format!("[2a01:4f8::{:x}]:{}", 0x10 + n, 40_000 + n);
        let mut world = self.with_client_at(name, address.parse().expect("an address"));
        world.clients[n].listener = ListenerId(1);
        world
    }

    /// Adds a client at this address.
    #[must_use]
    pub fn with_client_at(mut self, name: &str, address: SocketAddr) -> Self {
        let login = site::pool_login(name, BEGIN + 86_400);
        self.clients.push(Client::new(name, address, login));
        self
    }

    /// Adds a peer with a global IPv4 address.
    #[must_use]
    pub fn with_peer(self, name: &str) -> Self {
        let n = self.peers.len();
        let address = format!("45.33.32.{}:{}", 10 + n, 6000 + n).parse().expect("an address");
        self.with_peer_at(name, address)
    }

    /// Adds a peer with a global IPv6 address.
    #[must_use]
    pub fn with_peer6(self, name: &str) -> Self {
        let n = self.peers.len();
        let address = format!("[2600:3c01::{:x}]:{}", 0x10 + n, 6000 + n);
        self.with_peer_at(name, address.parse().expect("an address"))
    }

    /// Adds a peer at this address.
    #[must_use]
    pub fn with_peer_at(mut self, name: &str, address: SocketAddr) -> Self {
        self.peers.push(Peer::new(name, address));
        self
    }

    /// Every path becomes this one.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Acts as a client.
    pub fn client(&mut self, name: &str) -> AsClient<'_> {
        let index = self.clients.iter().position(|client| client.name == name);
        AsClient { index: index.unwrap_or_else(|| panic!("no client {name}")), world: self }
    }

    /// Acts as a client that speaks MS-TURN.
    pub fn ms(&mut self, name: &str) -> AsMs<'_> {
        AsMs { world: self, name: name.to_owned() }
    }

    /// Acts as a peer.
    pub fn peer(&mut self, name: &str) -> AsPeer<'_> {
        let index = self.peers.iter().position(|peer| peer.name == name);
        AsPeer { index: index.unwrap_or_else(|| panic!("no peer {name}")), world: self }
    }

    /// The address of a peer, by name.
    pub fn peer_address(&self, name: &str) -> SocketAddr {
        let found = self.peers.iter().find(|peer| peer.name == name);
        found.unwrap_or_else(|| panic!("no peer {name}")).address
    }

    /// The present, on both clocks.
    pub fn now(&self) -> Now {
        let unix = (BEGIN + self.elapsed.as_secs()).saturating_add_signed(self.wall_offset);
        Now { mono: self.begin + self.elapsed, unix: UnixTime(unix) }
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Sets the wall clock forward or back; the monotonic one does not notice.
    pub fn step_wall_clock(&mut self, seconds: i64) {
        self.wall_offset += seconds;
    }

    /// Lets time pass; deadlines and arrivals happen in their order.
    pub fn advance(&mut self, by: Duration) {
        let until = self.elapsed + by;
        while let Some(next) = self.next_event().filter(|&at| at <= until) {
            self.elapsed = self.elapsed.max(next);
            self.happen();
        }
        self.elapsed = until;
    }

    /// The same in seconds.
    pub fn advance_s(&mut self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// Lets time pass until nothing is under way; deadlines beyond the last arrival stay.
    pub fn settle(&mut self) {
        while let Some(Reverse(flight)) = self.air.peek() {
            let arrives = flight.arrives;
            let by = arrives.saturating_sub(self.elapsed);
            self.advance(by);
        }
    }

    /// How often the server has dropped a packet for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.server.tally().dropped[reason.index()]
    }

    /// How often the server has dropped a packet for any reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.server.tally().dropped.iter().sum()
    }

    /// How often the server has refused a request for this reason.
    pub fn rejected(&self, why: Why) -> u64 {
        self.server.tally().rejected[why.index()]
    }

    /// Relayed sockets open at this moment, local form.
    pub fn open_sockets(&self) -> Vec<SocketAddr> {
        self.sockets.values().map(|relayed| relayed.socket()).collect()
    }

    /// Sends a datagram to a listener from any address, forged or not; on a stream, a message
    /// with its padding.
    pub fn inject(&mut self, listener: ListenerId, from: SocketAddr, bytes: &[u8]) {
        if self.is_stream(listener) {
            return self.write(listener, from, &self.on_wire(from, bytes));
        }
        let from = FiveTuple { listener, client: ClientAddr::new(from) };
        self.fly(&Target::Server { from }, self.marks, bytes);
    }

    /// Sends a datagram to a relayed address, in its advertised form, from any address.
    pub fn inject_at_relay(&mut self, at: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let at = self.local_form(at);
        self.fly(&Target::Relay { at, from }, self.marks, bytes);
    }

    /// An ICMP message arrives about a datagram that went from a relayed address, in its
    /// advertised form, to this destination.
    pub fn unreachable(&mut self, relayed: SocketAddr, to: SocketAddr, icmp: Icmp) {
        let local = self.local_form(relayed);
        let open = self.sockets.iter().find(|(_, relayed)| relayed.socket() == local);
        let (&id, _) = open.unwrap_or_else(|| panic!("{relayed} is not open"));
        let now = self.now();
        self.server.peer_unreachable(now, id, PeerAddr::new(to), icmp);
        self.carry_out();
        self.settle();
    }

    /// Opens the relayed sockets that were held back, in this order or the other.
    pub fn open_held(&mut self, backwards: bool) {
        let mut held = std::mem::take(&mut self.held);
        self.given_up = 0;
        if backwards {
            held.reverse();
        }
        for (id, want) in held {
            self.open_relay(id, want);
        }
        self.carry_out();
    }

    /// Ends the server as a shell does at the end of its life, and carries out what follows;
    /// sockets that were held back open too late.
    pub fn shut_down(&mut self) {
        let now = self.now();
        let late = std::mem::take(&mut self.held);
        self.server.shut_down(now);
        self.carry_out();
        for (id, want) in late {
            self.open_relay(id, want);
        }
        self.carry_out();
    }

    /// Puts another peer policy in force.
    pub fn set_peers(&mut self, peers: PeerAcl) {
        let now = self.now();
        self.server.set_peers(now, peers);
        self.carry_out();
    }

    /// Checks every invariant that can be seen from outside and from within.
    pub fn check(&self) {
        #[cfg(debug_assertions)]
        self.server.check();
        let tally = self.server.tally();
        let views: Vec<_> = self.server.allocations(self.now()).collect();
        assert_eq!(tally.allocations, views.len() as u64, "gauge of allocations");
        let opening: HashSet<_> = self.held.iter().map(|(id, _)| id.allocation).collect();
        let expected = tally.allocations + opening.len() as u64 - self.given_up;
        assert_eq!(u64::from(self.books.leases()), expected, "one lease an allocation");
        let kept = self.books.reservations() as u64;
        let charged = u64::from(self.books.charged());
        let most = expected + kept + (expected - tally.allocations);
        assert!(
            (expected + kept..=most).contains(&charged),
            "a charge for each allocation and kept port, and for ports that will be kept"
        );
        assert_eq!(self.books.live(), self.sockets.len(), "a live address is an open socket");
        let relayed = views.iter().flat_map(|view| view.relayed.iter().flatten()).count();
        assert_eq!(relayed, self.sockets.len(), "an open socket belongs to an allocation");
        let distinct: HashSet<_> = self.sockets.values().collect();
        assert_eq!(distinct.len(), self.sockets.len(), "relayed addresses are unique");
        let permissions: usize = views.iter().map(|view| view.permissions).sum();
        assert_eq!(tally.permissions, permissions as u64, "gauge of permissions");
        let channels: usize = views.iter().map(|view| view.channels).sum();
        assert_eq!(tally.channels, channels as u64, "gauge of channels");
        assert_eq!(tally.connections, self.dials.open.len() as u64, "gauge of connections");
        assert_eq!(u64::from(self.books.connections()), tally.connections, "each is charged");
        assert!(tally.ports_used <= tally.ports_total, "no more ports than there are");
    }

    fn next_event(&self) -> Option<Duration> {
        let arrival = self.air.peek().map(|Reverse(flight)| flight.arrives);
        let deadline =
            self.server.poll_timeout().map(|at| at.saturating_duration_since(self.begin));
        arrival.into_iter().chain(deadline).min()
    }

    /// Everything due at this moment: deadlines first, as a worker's loop does.
    fn happen(&mut self) {
        if self.server.poll_timeout().is_some_and(|at| at <= self.now().mono) {
            let now = self.now();
            self.server.timeout(now);
            self.carry_out();
            let next = self.server.poll_timeout();
            assert!(next.is_none_or(|at| at > now.mono), "timeout() leaves nothing that is due");
        }
        while self.air.peek().is_some_and(|Reverse(flight)| flight.arrives <= self.elapsed) {
            let Reverse(flight) = self.air.pop().expect("just seen");
            self.arrive(flight);
        }
    }

    fn arrive(&mut self, flight: Flight) {
        let now = self.now();
        let datagram = Datagram { marks: flight.marks, bytes: &flight.bytes };
        match flight.to {
            Target::Stream(course) => self.arrive_on_stream(course, &flight.bytes),
            Target::Server { from } => {
                let to = self.config.edge.listener(from.listener).map(|listener| listener.local);
                if !self.goes_by(from.client.socket(), to, datagram) {
                    self.client_says(from, datagram);
                }
            }
            Target::Relay { at, from } if self.goes_by(from, Some(at), datagram) => {}
            Target::Relay { at, from } => {
                let open = self.sockets.iter().find(|(_, relayed)| relayed.socket() == at);
                if let Some((&id, _)) = open {
                    let from = PeerAddr::new(from);
                    let verdict = self.server.peer_input(now, id, from, datagram);
                    self.note(|| What::FromPeer(at, from, flight.bytes.clone(), verdict));
                    self.obey(verdict, &flight.bytes);
                }
            }
            Target::Client { listener, at, bare } => {
                let same = |client: &&mut Client| client.address == at;
                if let Some(client) = self.clients.iter_mut().find(same) {
                    let elsewhere = self.config.edge.corner(listener).is_some();
                    assert!(
                        client.listener == listener || elsewhere,
                        "answers come from where requests went"
                    );
                    client.heard_from = listener;
                    client.marks = flight.marks;
                    client.inbox.push_back(Arrived { bare, bytes: flight.bytes });
                }
            }
            Target::Peer { at, from } => {
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == at) {
                    peer.marks = flight.marks;
                    peer.inbox.push_back((from, flight.bytes));
                }
            }
        }
    }

    /// A message of a client has arrived.
    pub(crate) fn client_says<'a>(&mut self, from: FiveTuple, datagram: impl Into<Datagram<'a>>) {
        let now = self.now();
        let datagram = datagram.into();
        let verdict = self.server.client_input(now, from, datagram);
        self.note(|| What::FromClient(from, datagram.bytes.to_vec(), verdict));
        self.obey(verdict, datagram.bytes);
    }

    /// What a worker does with a verdict.
    pub(crate) fn obey(&mut self, verdict: Verdict, bytes: &[u8]) {
        match verdict {
            Verdict::ToPeer { via, peer, marks, payload } => {
                let payload = &bytes[range(payload)];
                let local =
                    self.sockets.get(&via).expect("a verdict names an open socket").socket();
                self.leave_relay(local, peer.socket(), marks, payload);
            }
            Verdict::ToClient { to, wrap, marks, payload } => {
                let dressed = dress(wrap, &bytes[range(payload)]);
                let fits = dressed.len() <= LARGEST_DATAGRAM || self.is_stream(to.listener);
                assert!(fits, "a datagram that UDP can carry");
                self.leave_listener(to, marks, &dressed, wrap == Wrap::Raw);
            }
            Verdict::ToConnection { connection, payload } => {
                self.dials.chunks.push((connection, bytes[range(payload)].to_vec()));
            }
            Verdict::Handled | Verdict::Leaves | Verdict::Dropped(_) => {}
        }
        self.carry_out();
    }

    /// The kernel's part: a datagram to one of our own sockets never leaves the host.
    pub(crate) fn leave_relay(
        &mut self,
        local: SocketAddr,
        to: SocketAddr,
        marks: Marks,
        payload: &[u8],
    ) {
        let listeners = self.config.edge.listeners();
        assert!(
            !listeners.iter().any(|listener| listener.local == to),
            "a relayed datagram to our own listener {to}"
        );
        if self.sockets.values().any(|relayed| relayed.socket() == to) {
            self.fly(&Target::Relay { at: to, from: local }, marks, payload);
        } else {
            let from = self.advertised_form(local);
            self.fly(&Target::Peer { at: to, from }, marks, payload);
        }
    }

    fn leave_listener(&mut self, to: FiveTuple, marks: Marks, bytes: &[u8], bare: bool) {
        if self.is_stream(to.listener) {
            return self.answer(to, bytes, bare);
        }
        let target = Target::Client { listener: to.listener, at: to.client.socket(), bare };
        self.fly(&target, marks, bytes);
    }

    /// What a worker does between batches.
    pub(crate) fn carry_out(&mut self) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Send { to, bytes } => {
                    self.note(|| What::Reply(to, bytes.to_vec()));
                    self.leave_listener(to, Marks::PLAIN, &bytes, false);
                }
                Action::OpenRelay { id, want } if self.hold_sockets => self.held.push((id, want)),
                Action::OpenRelay { id, want } => self.open_relay(id, want),
                Action::ListenRelay { id, want } => {
                    self.dials.listening.insert(id);
                    self.open_relay(id, want);
                }
                Action::CloseRelay(id) => {
                    self.sockets.remove(&id).expect("only open sockets are closed");
                    self.dials.listening.remove(&id);
                }
                Action::CloseClient(client) => self.gone(client),
                Action::ConnectPeer { connection, from, to } => self.call(connection, from, to),
                Action::Join { connection, client } => self.join(connection, client),
                Action::ClosePeer(connection) => self.end_call(connection),
                Action::Changed(change) => {
                    self.follower.hear(&change);
                    self.changes.push(change);
                }
                Action::Divert(client) => {
                    assert!(self.diverted.insert(client), "{client:?} is diverted once");
                }
                Action::EndDiversion(client) => {
                    assert!(self.diverted.remove(&client), "{client:?} was diverted");
                }
                Action::HandOver { .. } => panic!("there is one worker here: {action:?}"),
            }
        }
        let now = self.now();
        self.follower.follow(now, &mut self.server, &mut self.beside);
        self.follower.check(&self.server, self.now());
        self.check();
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> What) {
        let now = self.now().mono;
        if let Some(record) = &mut self.record {
            record.push(Seen { now, what: what() });
        }
    }

    fn open_relay(&mut self, id: RelayId, want: RelayedAddr) {
        let taken = self.foreign_sockets.contains(&want.socket())
            || self.sockets.values().any(|&relayed| relayed == want);
        let outcome = match self.socket_failure {
            Some(failure) => Err(failure),
            None if taken => Err(OpenFailure::PortTaken),
            None => {
                let before = self.sockets.insert(id, want);
                assert_eq!(before, None, "a relay id names one socket");
                Ok(())
            }
        };
        let now = self.now();
        self.server.relay_opened(now, id, outcome);
    }

    pub(crate) fn fly(&mut self, to: &Target, marks: Marks, bytes: &[u8]) {
        for time in self.link.carry(&mut self.dice) {
            self.flights += 1;
            self.air.push(Reverse(Flight {
                arrives: self.elapsed + time,
                serial: self.flights,
                to: to.clone(),
                marks,
                bytes: bytes.to_vec(),
            }));
        }
    }

    /// A piece of a stream is under way.
    pub(crate) fn launch(&mut self, arrives: Duration, to: Target, bytes: Vec<u8>) {
        self.flights += 1;
        self.air.push(Reverse(Flight {
            arrives,
            serial: self.flights,
            to,
            marks: Marks::PLAIN,
            bytes,
        }));
    }
}

fn range(span: Span) -> Range<usize> {
    let start = usize::try_from(span.start).expect("a datagram's offset");
    start..start + usize::try_from(span.len).expect("a datagram's length")
}

/// Where the monotonic clock of every world begins; its value never matters.
#[expect(clippy::disallowed_methods, reason = "std has no other way to make an Instant")]
pub(crate) fn some_instant() -> Instant {
    Instant::now()
}
