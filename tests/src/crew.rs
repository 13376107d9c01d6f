//! Several workers of one relay: steering, hand-over, diversion, and an end with a new beginning.
//!
//! Each worker is a [`Server`] with its share; what kernel and shell do between them is done
//! here. Messages arrive at once and answers are found in [`Crew::heard`]; loss, delay and
//! reordering are what `World` is for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::addr::{ConnectionId, FiveTuple, PeerAddr, RelayId, RelayedAddr, steer};
use proto::now::{Now, UnixTime};
use proto::turn::config::{MobilityPolicy, Share};
use proto::turn::{Action, Config, Server, Verdict};

use crate::books::Books;
use crate::dice::Dice;
use crate::dress::dress;
use crate::site::{BEGIN, TCP_LISTENER, default_config};

/// A relay with workers.
pub struct Crew {
    /// The source of chance.
    pub dice: Dice,
    /// What left the relay, oldest first.
    pub heard: VecDeque<Heard>,
    workers: Vec<Server<Books>>,
    books: Books,
    /// Connections of relayed addresses to peers.
    calls: BTreeMap<(usize, ConnectionId), (SocketAddr, SocketAddr)>,
    /// Those of the relayed addresses that are for streams.
    listens: BTreeSet<(usize, RelayId)>,
    sockets: BTreeMap<(usize, RelayId), RelayedAddr>,
    /// Clients whose datagrams arrive at another worker than steering means.
    diverted: BTreeMap<FiveTuple, usize>,
    /// Where each connection is served.
    streams: BTreeMap<FiveTuple, usize>,
    begin: Instant,
    elapsed: Duration,
}

/// Something that left the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message for a client.
    Client(FiveTuple, Vec<u8>),
    /// Payload for a peer, from a relayed address.
    Peer(SocketAddr, SocketAddr, Vec<u8>),
}

impl Crew {
    /// A relay with so many workers, that lets clients move.
    pub fn seeded(seed: u64, workers: u16) -> Self {
        let mut crew = Self {
            dice: Dice::seeded(seed),
            heard: VecDeque::new(),
            workers: Vec::new(),
            books: Books::default(),
            calls: BTreeMap::new(),
            listens: BTreeSet::new(),
            sockets: BTreeMap::new(),
            diverted: BTreeMap::new(),
            streams: BTreeMap::new(),
            begin: crate::world::some_instant(),
            elapsed: Duration::ZERO,
        };
        crew.begin_anew(workers);
        crew
    }

    /// The relay ends without a word, and begins with another number of workers.
    pub fn begin_anew(&mut self, workers: u16) {
        let seed = self.dice.bytes(32).try_into().expect("asked for 32 bytes");
        self.books = Books::default();
        self.sockets.clear();
        self.listens.clear();
        self.calls.clear();
        self.diverted.clear();
        self.streams.clear();
        self.heard.clear();
        self.workers = (0..workers)
            .map(|index| {
                let share = Share { index, of: workers };
                let mobility = MobilityPolicy::Allowed;
                // Few ports: each turn looks at all of them.
                let ports = 50_000..=50_099;
                let microsoft = true;
                let config = Config { share, mobility, microsoft, ports, ..default_config() };
                Server::new(Arc::new(config), self.books.clone(), seed)
            })
            .collect();
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The worker that has a relayed address, if one has.
    pub fn owner(&self, relayed: SocketAddr) -> Option<usize> {
        let found = self.sockets.iter().find(|(_, at)| at.socket() == relayed);
        found.map(|((worker, _), _)| *worker)
    }

    /// Every relayed address, and how many allocations there are.
    pub fn relayed(&self) -> (Vec<SocketAddr>, u64) {
        let allocations = self.workers.iter().map(|it| it.tally().allocations).sum();
        (self.sockets.values().map(|at| at.socket()).collect(), allocations)
    }

    /// Whether a client's datagrams come to another worker than steering means.
    pub fn is_diverted(&self, client: FiveTuple) -> bool {
        self.diverted.contains_key(&client)
    }

    /// The worker that steering means for a client.
    pub fn steered(&self, client: FiveTuple) -> usize {
        let workers = u16::try_from(self.workers.len()).expect("few workers");
        steer(client.client, workers).into()
    }

    /// Lets time pass; deadlines happen in their order.
    pub fn advance(&mut self, by: Duration) {
        let until = self.elapsed + by;
        loop {
            let deadlines = self.workers.iter().enumerate().filter_map(|(at, worker)| {
                Some((worker.poll_timeout()?.saturating_duration_since(self.begin), at))
            });
            let Some((next, at)) = deadlines.min().filter(|(next, _)| *next <= until) else {
                break;
            };
            self.elapsed = self.elapsed.max(next);
            let now = self.now();
            self.workers[at].timeout(now);
            self.carry_out(at);
        }
        self.elapsed = until;
    }

    /// A client says a message.
    pub fn client_says(&mut self, from: FiveTuple, bytes: &[u8]) {
        let at = self.place_of(from);
        self.hear(at, from, bytes);
    }

    /// A client of MS-TURN on a stream says payload in a frame of its own.
    pub fn client_pays(&mut self, from: FiveTuple, payload: &[u8]) {
        let (at, now) = (self.place_of(from), self.now());
        let verdict = self.workers[at].client_payload(now, from, payload);
        self.obey(at, verdict, payload);
    }

    /// The worker that hears a client.
    fn place_of(&mut self, from: FiveTuple) -> usize {
        if from.listener == TCP_LISTENER {
            let accepts = self.dice.index(self.workers.len());
            *self.streams.entry(from).or_insert(accepts)
        } else {
            self.diverted.get(&from).copied().unwrap_or_else(|| self.steered(from))
        }
    }

    /// A peer sends to a relayed address: a datagram, or on its connection, which it makes if it has
    /// none.
    pub fn peer_says(&mut self, at: SocketAddr, from: SocketAddr, payload: &[u8]) {
        let open = self.sockets.iter().find(|(_, relayed)| relayed.socket() == at);
        let Some((&(worker, id), _)) = open else { return };
        let now = self.now();
        let verdict = if self.listens.contains(&(worker, id)) {
            let Some(connection) = self.connection(worker, id, (at, from)) else { return };
            self.workers[worker].connection_input(connection, payload)
        } else {
            self.workers[worker].peer_input(now, id, PeerAddr::new(from), payload)
        };
        self.obey(worker, verdict, payload);
    }

    fn connection(
        &mut self,
        worker: usize,
        id: RelayId,
        ends: (SocketAddr, SocketAddr),
    ) -> Option<ConnectionId> {
        let open = self.calls.iter().find(|((of, _), it)| *of == worker && **it == ends);
        if let Some(((_, connection), _)) = open {
            return Some(*connection);
        }
        let now = self.now();
        let connection = self.workers[worker].peer_arrived(now, id, PeerAddr::new(ends.1))?;
        self.calls.insert((worker, connection), ends);
        self.carry_out(worker);
        Some(connection)
    }

    /// The connection of a client ends.
    pub fn hangs_up(&mut self, client: FiveTuple) {
        if let Some(worker) = self.streams.remove(&client) {
            let now = self.now();
            self.workers[worker].client_gone(now, client);
            self.carry_out(worker);
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.begin + self.elapsed, unix: UnixTime(BEGIN + self.elapsed.as_secs()) }
    }

    fn hear(&mut self, worker: usize, from: FiveTuple, bytes: &[u8]) {
        let now = self.now();
        let verdict = self.workers[worker].client_input(now, from, bytes);
        self.obey(worker, verdict, bytes);
    }

    fn obey(&mut self, worker: usize, verdict: Verdict, bytes: &[u8]) {
        let part = |start: u32, len: u32| bytes[start as usize..(start + len) as usize].to_vec();
        match verdict {
            Verdict::ToPeer { via, peer, payload, .. } => {
                let from = self.sockets[&(worker, via)].socket();
                let payload = part(payload.start, payload.len);
                self.heard.push_back(Heard::Peer(from, peer.socket(), payload));
            }
            Verdict::ToClient { to, wrap, payload, .. } => {
                let message = dress(wrap, &part(payload.start, payload.len));
                self.heard.push_back(Heard::Client(to, message));
            }
            Verdict::ToConnection { connection, payload } => {
                // It may have to be made first.
                self.carry_out(worker);
                let (from, to) = self.calls[&(worker, connection)];
                let payload = part(payload.start, payload.len);
                self.heard.push_back(Heard::Peer(from, to, payload));
            }
            Verdict::Handled | Verdict::Leaves | Verdict::Dropped(_) => {}
        }
        self.carry_out(worker);
    }

    fn carry_out(&mut self, worker: usize) {
        while let Some(action) = self.workers[worker].poll_action() {
            match action {
                Action::Send { to, bytes } => {
                    self.heard.push_back(Heard::Client(to, bytes.into()));
                }
                Action::OpenRelay { id, want } | Action::ListenRelay { id, want } => {
                    if matches!(action, Action::ListenRelay { .. }) {
                        self.listens.insert((worker, id));
                    }
                    let taken = self.sockets.insert((worker, id), want);
                    assert!(taken.is_none(), "a relayed socket is opened once");
                    let now = self.now();
                    self.workers[worker].relay_opened(now, id, Ok(()));
                }
                Action::CloseRelay(id) => {
                    self.sockets.remove(&(worker, id)).expect("only open sockets are closed");
                    self.listens.remove(&(worker, id));
                }
                Action::CloseClient(client) => self.hangs_up(client),
                Action::HandOver { client, worker: to, bytes } => {
                    let to = usize::from(to);
                    assert_ne!(to, worker, "nobody hands over to himself");
                    if let Some(place) = self.streams.get_mut(&client) {
                        *place = to;
                    }
                    self.hear(to, client, &bytes);
                }
                Action::Divert(client) => {
                    assert_ne!(self.steered(client), worker, "{client:?} comes here anyway");
                    let before = self.diverted.insert(client, worker);
                    assert_eq!(before, None, "{client:?} is diverted once");
                }
                Action::EndDiversion(client) => {
                    let before = self.diverted.remove(&client);
                    assert_eq!(before, Some(worker), "{client:?} was diverted to here");
                }
                Action::Changed(_) => {}
                Action::ConnectPeer { connection, from, to } => {
                    self.calls.insert((worker, connection), (from.socket(), to.socket()));
                    let now = self.now();
                    self.workers[worker].peer_connected(now, connection, Ok(()));
                }
                Action::ClosePeer(connection) => {
                    let open = self.calls.remove(&(worker, connection));
                    open.expect("only open connections are closed");
                }
                Action::Join { .. } => panic!("nobody claims connections here: {action:?}"),
            }
        }
        #[cfg(debug_assertions)]
        self.workers[worker].check();
    }
}
