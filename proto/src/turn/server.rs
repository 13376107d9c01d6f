//! The entry points of the server value; no procedure lives here.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::addr::{AllocationId, ClientAddr, FiveTuple, ListenerId, PeerAddr, RelayId, Transport};
use crate::demux::{Kind, is_ms, is_ms_multiplexed};
use crate::marks::Datagram;
use crate::now::Now;
use crate::policy::Ledger;
use crate::policy::bandwidth::Trunk;
use crate::reject::{DropReason, Why};
use crate::turn::action::{Action, CloseReason, OpenFailure, Verdict};
use crate::turn::arrivals::Arrivals;
use crate::turn::config::Config;
use crate::turn::connection::Connections;
use crate::turn::expiry::Expiry;
use crate::turn::farewell::Farewells;
use crate::turn::gate::Authenticated;
use crate::turn::nonce::Nonces;
use crate::turn::notices::{Notices, Party};
use crate::turn::ports::Ports;
use crate::turn::random::Random;
use crate::turn::reservation::Reservations;
use crate::turn::table::Table;
use crate::turn::tally::{Demand, ListenerTally, Tally};
use crate::turn::tap::Tap;
use crate::turn::throttle::{Question, Standing, Throttle};
use crate::turn::ticket::{self, Tickets};

/// A TURN server: state and procedures, no I/O.
///
/// Contract: run [`Server::timeout`] before a batch when [`Server::poll_timeout`] is due, and
/// after a batch of inputs poll actions until `None`.
#[derive(Debug)]
pub struct Server<L> {
    pub(super) config: Arc<Config>,
    pub(super) ledger: L,
    pub(super) table: Table,
    pub(super) ports: Ports,
    pub(super) expiry: Expiry,
    pub(super) connections: Connections,
    pub(super) farewells: Farewells,
    pub(super) reservations: Reservations,
    pub(super) nonces: Nonces,
    pub(super) tickets: Tickets,
    /// Stands for this life of the server in tickets.
    pub(super) instance: u64,
    /// Clients whose datagrams come here although steering means another worker.
    pub(super) diverted: HashSet<FiveTuple, foldhash::quality::SeedableRandomState>,
    pub(super) random: Random,
    pub(super) tally: Tally,
    pub(super) listeners: Vec<ListenerTally>,
    pub(super) actions: VecDeque<Action>,
    /// When clients came that may soon have an allocation.
    pub(super) arrivals: Arrivals,
    /// What limits all allocations together.
    pub(super) trunk: Trunk,
    pub(super) draining: bool,
    pub(super) throttle: Option<Arc<Throttle>>,
    /// Who looks at packets, if anybody does.
    pub(super) tap: Option<Box<Tap>>,
    /// Who guessed passwords too often.
    pub(super) suspect: Option<ClientAddr>,
    /// What befell clients, for who follows.
    pub(super) notices: Notices,
    pub(super) digests: foldhash::quality::SeedableRandomState,
}

/// A hash that no stranger can foresee.
fn hasher(random: &mut Random) -> foldhash::quality::SeedableRandomState {
    let shared = foldhash::SharedSeed::global_fixed();
    foldhash::quality::SeedableRandomState::with_seed(random.number(), shared)
}

impl<L: Ledger> Server<L> {
    /// A server without allocations. `seed` comes from the operating system's generator; workers
    /// of one relay may share it.
    pub fn new(config: Arc<Config>, ledger: L, seed: [u8; 32]) -> Self {
        let mut random = Random::new(seed, config.share.index);
        let ports = Ports::new(&config.edge, &config.ports, config.share);
        let capacity = ports.total().min(config.limits.allocations as usize);
        Self {
            table: Table::new(capacity, random.number()),
            expiry: Expiry::default(),
            connections: Connections::default(),
            farewells: Farewells::default(),
            reservations: Reservations::default(),
            nonces: Nonces::new(&config.authority, &seed, config.nonce_lifetime),
            tickets: Tickets::new(&config.authority, &seed),
            instance: ticket::instance(&seed),
            tally: Tally { ports_total: ports.total() as u64, ..Tally::default() },
            listeners: vec![ListenerTally::default(); config.edge.listeners().len()],
            actions: VecDeque::new(),
            arrivals: Arrivals::default(),
            trunk: Trunk::default(),
            draining: false,
            throttle: None,
            tap: None,
            suspect: None,
            notices: Notices::default(),
            digests: hasher(&mut random),
            diverted: HashSet::with_hasher(hasher(&mut random)),
            config,
            ledger,
            ports,
            random,
        }
    }

    /// Limits the answers that an unauthenticated source gets; workers of one relay share what
    /// they count. Without this there is no limit, which suits a simulation but not the internet.
    #[must_use]
    pub fn throttled(self, strangers: Arc<Throttle>) -> Self {
        Self { throttle: Some(strangers), ..self }
    }

    /// One message from a client: a datagram with its marks, or the bytes of a frame.
    #[inline]
    pub fn client_input<'a>(
        &mut self,
        now: Now,
        from: FiveTuple,
        datagram: impl Into<Datagram<'a>>,
    ) -> Verdict {
        let datagram = datagram.into();
        let bytes = datagram.bytes;
        let kind = if self.config.compat.rfc5766_channels {
            Kind::of_rfc5766(bytes)
        } else {
            Kind::of(bytes)
        };
        let verdict = match kind {
            Kind::ChannelData => self.uplink(now, from, datagram),
            Kind::Stun if !self.config.microsoft => self.stun(now, from, datagram),
            Kind::Stun if is_ms(bytes) => self.ms(now, from, datagram),
            Kind::Stun if !self.is_aimed(from) => self.stun(now, from, datagram),
            Kind::Other if !self.config.microsoft => self.dropped(DropReason::Unrecognised),
            Kind::Stun | Kind::Other => self.bare(now, from, datagram, stray(bytes)),
        };
        self.sent_by(now, from, bytes, verdict);
        verdict
    }

    /// Payload from a client of MS-TURN that its framing tells from messages: it goes to the
    /// active destination, whatever it looks like.
    #[inline]
    pub fn client_payload<'a>(
        &mut self,
        now: Now,
        from: FiveTuple,
        datagram: impl Into<Datagram<'a>>,
    ) -> Verdict {
        let datagram = datagram.into();
        let verdict = self.bare(now, from, datagram, DropReason::NoDestination);
        self.sent_by(now, from, datagram.bytes, verdict);
        verdict
    }

    /// Notes what became of what a client sent.
    #[inline]
    fn sent_by(&mut self, now: Now, from: FiveTuple, bytes: &[u8], verdict: Verdict) {
        if self.tap.is_some() {
            self.see_from_client(now, from, bytes, verdict);
        }
        match verdict {
            Verdict::Dropped(reason) => {
                self.notices.dropped(Party::Client(from), reason);
                self.lost_by(from.listener, reason, 1);
            }
            Verdict::ToPeer { .. }
            | Verdict::ToClient { .. }
            | Verdict::ToConnection { .. }
            | Verdict::Handled
            | Verdict::Leaves => {}
        }
    }

    /// One datagram that arrived at a relayed address.
    #[inline]
    pub fn peer_input<'a>(
        &mut self,
        now: Now,
        at: RelayId,
        from: PeerAddr,
        datagram: impl Into<Datagram<'a>>,
    ) -> Verdict {
        let datagram = datagram.into();
        let verdict = self.downlink(now, at, from, datagram);
        if self.tap.is_some() {
            self.see_from_peer(now, (at, from), datagram.bytes, verdict);
        }
        match verdict {
            Verdict::Dropped(reason) => {
                self.notices.dropped(Party::Relay { id: at, peer: from }, reason);
                if let Some(allocation) = self.table.open(at.allocation) {
                    let listener = allocation.client.listener;
                    self.lost_by(listener, reason, 1);
                }
            }
            Verdict::ToPeer { .. }
            | Verdict::ToClient { .. }
            | Verdict::ToConnection { .. }
            | Verdict::Handled
            | Verdict::Leaves => {}
        }
        verdict
    }

    /// The answer to [`Action::OpenRelay`].
    pub fn relay_opened(&mut self, now: Now, id: RelayId, outcome: Result<(), OpenFailure>) {
        self.opened(now, id, outcome);
    }

    /// Whether a client has an allocation, opening or open: its stream may stay as long.
    pub fn serves(&self, client: FiveTuple) -> bool {
        self.table.serves(client)
    }

    /// A client's stream has ended: what it held is released, unless a ticket can bring the
    /// client back to it (ALLOC-026).
    pub fn client_gone(&mut self, now: Now, client: FiveTuple) {
        if let Some(id) = self.table.opening_of(client) {
            self.abandon(now, id);
        } else if !self.departs(client)
            && let Some((id, _)) = self.table.open_of(client)
        {
            self.close(now, id, CloseReason::ClientGone);
        }
    }

    /// A client could not be given to the worker that [`Action::HandOver`] named.
    pub fn hand_over_failed(&mut self) {
        self.dropped(DropReason::WorkerBusy);
    }

    /// The next piece of work for the shell.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if let Some(action) = action.as_ref().filter(|_| self.tap.is_some()) {
            self.see_answer(action);
        }
        action
    }

    /// When [`Server::timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = [self.expiry.next(), self.reservations.next(), self.connections.next()];
        next.into_iter().flatten().min()
    }

    /// Ends what has expired.
    pub fn timeout(&mut self, now: Now) {
        while let Some(id) = self.expiry.due(now.mono) {
            self.expire(now, id);
        }
        self.expire_connections(now);
        self.lapse(now);
    }

    /// Counters of everything.
    pub fn tally(&self) -> Tally {
        Tally {
            ports_used: self.ports.used() as u64,
            connections: self.connections.len() as u64,
            ..self.tally
        }
    }

    /// Counters by listener, in order of [`crate::addr::ListenerId`].
    pub fn listeners(&self) -> &[ListenerTally] {
        &self.listeners
    }

    /// Takes no new allocation from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether the server drains and the last allocation is gone.
    pub fn is_drained(&self) -> bool {
        self.draining && self.table.is_empty()
    }

    /// Ends every allocation; actions follow.
    pub fn shut_down(&mut self, now: Now) {
        self.draining = true;
        for id in self.table.ids() {
            self.abandon(now, id);
            self.close(now, id, CloseReason::ShutDown);
        }
        self.lapse_all();
    }

    /// The counters of what a listener's clients want.
    pub(super) fn demand(&mut self, listener: ListenerId) -> Option<&mut Demand> {
        self.listeners.get_mut(listener.index()).map(|listener| &mut listener.demand)
    }

    /// Counts packets from or for a client of a listener.
    #[cold]
    pub(super) fn lost_by(&mut self, listener: ListenerId, reason: DropReason, count: u64) {
        if let Some(demand) = self.demand(listener) {
            demand.drop(reason, count);
        }
    }

    /// Whether one more datagram may go to a source that may be forged.
    pub fn answers(&self, now: Now, question: &Question<'_>) -> bool {
        self.admits(now, question, Standing::Unproven)
    }

    /// Whether somebody who is not authenticated gets one more answer. Nobody's address can be
    /// forged on a connection: only guesses at passwords count there.
    pub(super) fn hears(&self, now: Now, question: &Question<'_>, guesses: bool) -> bool {
        match self.transport(question.from) {
            _ if self.table.serves(question.from) => self.admits(now, question, Standing::Seated),
            Transport::Udp => self.admits(now, question, Standing::Unproven),
            Transport::Tcp | Transport::Tls | Transport::Dtls => {
                !guesses || self.admits(now, question, Standing::Connected)
            }
        }
    }

    /// Whether somebody of this standing gets one more answer.
    pub(super) fn admits(&self, now: Now, question: &Question<'_>, standing: Standing) -> bool {
        let Some(throttle) = &self.throttle else { return true };
        throttle.admits(now.mono, standing, question)
    }

    /// Stands for the bytes of a request, so that its repetition is known.
    pub(super) fn digest(&self, bytes: &[u8]) -> u64 {
        let mut digest = self.digests.build_hasher();
        digest.write(bytes);
        digest.finish()
    }

    /// The allocation of the five-tuple, if it belongs to the user (RFC 8656 §5).
    pub(super) fn owned(&mut self, request: &Authenticated<'_>) -> Result<AllocationId, Why> {
        match self.table.open_of(request.exchange.client) {
            None => Err(Why::NoAllocation),
            Some((_, it)) if !request.owns(&it.owner) => Err(Why::OtherUser),
            Some((id, _)) => Ok(id),
        }
    }

    /// Whether no client can be there (STUN-028): an answer would go astray or in circles.
    pub(super) fn is_spoofed(&self, from: FiveTuple) -> bool {
        let client = from.client;
        client.port() == 0
            || client.ip().is_multicast()
            || client.ip() == std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
            || client.ip().is_unspecified()
            || self.config.edge.is_listener(client.socket())
    }
}

/// What bytes are that no active destination takes.
fn stray(bytes: &[u8]) -> DropReason {
    if is_ms_multiplexed(bytes) { DropReason::Multiplexed } else { DropReason::Unrecognised }
}
