//! A worker: the loop of one core, and the only place where server and sockets meet.

mod hire;
mod inbox;
mod outbox;
#[cfg(test)]
mod weight;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::addr::{ClientAddr, FiveTuple, PeerAddr};
use proto::marks::Marks;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{self, Server, Throttle, Verdict};

use crate::capture::Capture;
use crate::clock::Clock;
use crate::dtls::Turn;
use crate::engine::{Batch, Engine, Origin, Way};
use crate::ledger::SharedLedger;
use crate::offload::{self, Follower};
use crate::records::Teller;
use crate::shown::Shown;
use crate::tcp_relay;
use crate::telemetry::block::Block;
use crate::telemetry::latency::{Counts, Guise, Latency};
use crate::telemetry::log::Log;

pub(crate) use hire::{Work, hire};
pub(crate) use inbox::{Letterbox, Order, Question, open};

use inbox::{Inbox, Luggage, Parcel};
use outbox::Outbox;

pub(crate) use outbox::Hands;

/// Counters are at most so old, and fresh when somebody asks.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// After so many panics a worker gives up: it would do nothing but begin anew.
const MOST_DEFECTS: u32 = 100;

/// What a worker is given beside its engine.
pub(crate) struct Desk<L> {
    /// Its number.
    pub(crate) index: u16,
    /// The configuration of its server.
    pub(crate) config: Arc<turn::Config>,
    /// Counts what strangers are answered, over all workers.
    pub(crate) throttle: Arc<Throttle>,
    /// Randomness for its first server, shared by the workers: nonces of one are good at all.
    pub(crate) seed: [u8; 32],
    /// Its door to what workers share.
    pub(crate) ledger: L,
    /// Where commands arrive.
    pub(crate) inbox: Inbox,
    /// Those of all workers, in order of their numbers.
    pub(crate) letterboxes: Arc<[Letterbox]>,
    /// Where usage is told, if records of it are kept.
    pub(crate) records: Option<Teller>,
    /// What the log tells of addresses.
    pub(crate) shown: Shown,
}

/// One core's share of the relay.
pub(crate) struct Worker<L, E> {
    desk: Desk<L>,
    server: Server<L>,
    engine: E,
    hands: Hands,
    outbox: Outbox,
    block: Arc<Block>,
    order: Order,
    drained: bool,
    defects: u32,
    clock: Clock,
    published: Instant,
    latency: Latency,
    /// Who looks at the packets of an allocation, if anybody does.
    capture: Option<Capture>,
}

impl<E: Engine> Worker<SharedLedger, E> {
    /// A worker that has not begun.
    pub(crate) fn new(
        desk: Desk<SharedLedger>,
        engine: E,
        hands: Hands,
        block: Arc<Block>,
    ) -> Self {
        let clock = Clock::new();
        Self {
            server: desk.server(),
            published: clock.last().mono,
            latency: Latency::default(),
            capture: None,
            clock,
            hands,
            outbox: desk.outbox(),
            desk,
            engine,
            block,
            order: Order::Serve,
            drained: false,
            defects: 0,
        }
    }

    /// Relays until it is told to stop. Says once when it drains and has no allocation left; it
    /// keeps its place at the shared ports until the other workers have come so far, because
    /// the kernel counts the sockets of a port by their order.
    ///
    /// A panic is a defect, and what the server knew may be wrong: its allocations end, their
    /// quotas are credited, and the worker begins anew on the same listeners. Clients recover
    /// by the ordinary way of an unknown allocation.
    pub(crate) fn run(&mut self, drained: &dyn Fn()) -> io::Result<()> {
        loop {
            let attempt = panic::catch_unwind(AssertUnwindSafe(|| self.relay(drained)));
            if let Ok(outcome) = attempt {
                return outcome;
            }
            tracing::error!(worker = self.desk.index, "a worker lost its allocations to a defect");
            self.defects += 1;
            if self.defects == MOST_DEFECTS {
                return Err(io::Error::other("too many defects"));
            }
            self.engine.close_relays();
            self.hands.streams.close_all();
            self.hands.tcp.close_all();
            self.hands.batch = Batch::new();
            self.hands.dtls.close_all(&mut self.hands.batch);
            let now = self.clock.last().mono;
            self.hands.offload.iter_mut().for_each(|it| it.clear(now));
            self.outbox = self.desk.outbox();
            self.capture = None;
            if let Some(records) = &self.desk.records {
                records.all_lost(now);
            }
            self.desk.ledger.forget();
            // Another seed: the first one would give out the same tokens and ports again.
            self.desk.seed = random_seed()?;
            self.server = self.desk.server();
            if self.order == Order::Drain {
                self.server.drain();
            }
        }
    }
}

impl Desk<SharedLedger> {
    /// A server without allocations.
    fn server(&self) -> Server<SharedLedger> {
        Server::new(Arc::clone(&self.config), self.ledger.clone(), self.seed)
            .throttled(Arc::clone(&self.throttle))
    }
}

impl<L> Desk<L> {
    /// An outbox with nothing in it.
    fn outbox(&self) -> Outbox {
        Outbox::new(
            Log::new(self.index, self.shown),
            Arc::clone(&self.letterboxes),
            self.records.clone(),
        )
    }
}

/// Randomness of the operating system.
pub(crate) fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}

impl<L: Ledger, E: Engine> Worker<L, E> {
    /// The loop.
    fn relay(&mut self, drained: &dyn Fn()) -> io::Result<()> {
        loop {
            let last = self.clock.last().mono;
            let deadline = self.server.poll_timeout().map(|at| at.saturating_duration_since(last));
            let Hands { streams, dtls, tcp, offload, .. } = &mut self.hands;
            let kernel = offload.as_ref().and_then(|it| it.patience(last));
            let others = [streams.patience(last), dtls.patience(last), tcp.patience(last), kernel];
            let mut shifted = false;
            let at_most = others.into_iter().flatten().chain(deadline).min();
            let wake = self.engine.wait(at_most, &mut |event| {
                if event.token() == offload::TOKEN {
                    shifted = true;
                } else if tcp_relay::is_ours(event.token()) {
                    tcp.wake(event);
                } else {
                    streams.wake(event);
                }
            })?;
            let now = self.clock.tick();
            let due = self.server.poll_timeout().is_some_and(|at| at <= now.mono);
            if let Some(offload) = &mut self.hands.offload {
                offload.turn(now.mono, shifted);
                offload.even(now.mono, &mut self.server);
                if due {
                    offload.settle_aimed(&mut self.server);
                }
            }
            self.server.timeout(now);
            if wake.inbox {
                self.obey(now);
            }
            let Hands { batch, dtls, .. } = &mut self.hands;
            let marks = Marks::PLAIN;
            dtls.timeout(&mut Turn { now, server: &mut self.server, batch, marks });
            self.engine.receive(&mut self.hands.batch);
            let datagrams = self.judge(now);
            let Hands { batch, streams, tcp, .. } = &mut self.hands;
            streams.turn(now, &mut self.server, batch);
            tcp.turn(now, &mut self.server, batch, streams);
            self.outbox.carry_out(now, &mut self.server, &mut self.engine, &mut self.hands);
            if self.order == Order::Stop {
                self.hands.dtls.close_all(&mut self.hands.batch);
            }
            self.outbox.send_and_close(&mut self.engine, &mut self.hands.batch);
            if let Some(capture) = &mut self.capture
                && !capture.turn(&mut self.server)
            {
                self.end_capture();
            }
            let Hands { streams, tcp, .. } = &mut self.hands;
            streams.flush();
            tcp.resume(streams);
            if datagrams != Counts::default() {
                let spent = self.clock.spent();
                self.latency.add(datagrams, spent);
                self.outbox.distributions.turn(datagrams.iter().sum(), spent);
            }
            if now.mono.saturating_duration_since(self.published) >= PUBLISH_EVERY {
                self.publish(now);
            }
            if self.order == Order::Stop {
                self.hands.streams.close_all();
                self.hands.tcp.close_all();
                return Ok(());
            }
            if self.server.is_drained() && !std::mem::replace(&mut self.drained, true) {
                drained();
            }
        }
    }

    /// Asks the server about every datagram received, and says how many those were; payload is
    /// sent from where it lies.
    fn judge(&mut self, now: Now) -> Counts {
        let mut datagrams = Counts::default();
        let Self { server, hands: Hands { batch, streams, dtls, offload, .. }, .. } = self;
        for (at, report) in batch.reports() {
            server.peer_unreachable(now, *at, PeerAddr::new(report.to), report.icmp);
            if let Some(offload) = offload {
                offload.reroute(at.allocation);
            }
        }
        for slot in batch.filled_slots() {
            for arrival in batch.arrivals(slot) {
                let datagram = batch.datagram(&arrival);
                let verdict = match arrival.origin {
                    Origin::Listener(listener) => {
                        let client = ClientAddr::new(arrival.from);
                        if let Some(listener) = dtls.claims(listener, batch.bytes(&arrival)) {
                            let marks = datagram.marks;
                            let mut turn = Turn { now, server, batch, marks };
                            dtls.hear(&mut turn, FiveTuple { listener, client }, &arrival);
                            datagrams[Guise::Turn as usize] += 1;
                            continue;
                        }
                        server.client_input(now, FiveTuple { listener, client }, datagram)
                    }
                    Origin::Relay(id) => {
                        server.peer_input(now, id, PeerAddr::new(arrival.from), datagram)
                    }
                };
                datagrams[Guise::of(verdict) as usize] += 1;
                match verdict {
                    Verdict::ToPeer { via, peer, marks, payload } => {
                        batch.send_to_peer(&arrival, Way::to_peer(via, peer, marks), payload);
                    }
                    Verdict::ToClient { to, wrap, payload, .. } if streams.serves(to.listener) => {
                        streams.relay(to, wrap, batch.part(&arrival, payload));
                    }
                    Verdict::ToClient { to, wrap, marks, payload } if dtls.serves(to.listener) => {
                        dtls.relay((to, marks), wrap, (&arrival, payload), batch);
                    }
                    Verdict::ToClient { to, wrap, marks, payload } => {
                        let way = Way::to_client(to, marks);
                        batch.send_to_client(&arrival, way, wrap, payload);
                    }
                    Verdict::ToConnection { connection, payload } => {
                        batch.send_to_connection(&arrival, connection, payload);
                    }
                    // The server counted it, or queued actions.
                    Verdict::Handled | Verdict::Leaves | Verdict::Dropped(_) => {}
                }
            }
        }
        datagrams
    }

    fn obey(&mut self, now: Now) {
        self.order = self.desk.inbox.order();
        match self.order {
            Order::Serve => {}
            Order::Drain => self.server.drain(),
            Order::Stop => self.server.shut_down(now),
        }
        if let Some(config) = self.desk.inbox.renewal() {
            self.desk.config = Arc::clone(&config);
            self.server.reconfigure(now, config, &self.desk.seed);
        }
        while let Some(Parcel { client, bytes, luggage }) = self.desk.inbox.parcel() {
            let Self { server, hands: Hands { batch, streams, dtls, .. }, .. } = self;
            match luggage {
                Luggage::Connection(guest) => streams.adopt(now, (*guest, &bytes), server, batch),
                Luggage::Session(traveller) => {
                    let mut turn = Turn { now, server, batch, marks: Marks::PLAIN };
                    dtls.adopt(&mut turn, client, (*traveller, &bytes));
                }
                // A request: whatever comes of it is an action.
                Luggage::Nothing => drop(server.client_input(now, client, &*bytes)),
            }
        }
        while let Some(question) = self.desk.inbox.question() {
            self.answer(now, question);
        }
    }

    /// Answers with counters published; who asked may have given up waiting.
    fn answer(&mut self, now: Now, question: Question) {
        self.engine.survey();
        if let Some(offload) = &mut self.hands.offload {
            offload.settle(&mut self.server);
        }
        self.publish(now);
        self.outbox.learn(now, &mut self.server, &mut self.hands);
        match question {
            Question::Counters(answer) => drop(answer.try_send(())),
            Question::Allocations { first, most, answer } => {
                let views = self.server.allocations_from(now, first).take(most);
                drop(answer.try_send(views.collect()));
            }
            Question::Views(ids, answer) => {
                let views = ids.iter().filter_map(|id| self.server.allocation(now, *id));
                drop(answer.try_send(views.collect()));
            }
            Question::Detail(id, answer) => drop(answer.try_send(self.server.detail(now, id))),
            Question::Media(id, answer) => drop(answer.try_send(self.server.media(now, id))),
            Question::Account(subject, answer) => {
                drop(answer.try_send(self.outbox.chronicle.account(now, subject)));
            }
            Question::Fresh(since, answer) => {
                drop(answer.try_send(self.outbox.chronicle.fresh(since)));
            }
            Question::Capture(aim, answer) => {
                let begun = Capture::begin(now, &aim, &mut self.server);
                drop(answer.try_send(begun.map(|(capture, batches)| {
                    self.capture = Some(capture);
                    batches
                })));
            }
            Question::EndCapture(id) => {
                if self.capture.as_ref().is_some_and(|it| it.is_of(id)) {
                    self.end_capture();
                }
            }
            Question::End(id, answer) => drop(answer.try_send(self.server.end(now, id))),
        }
    }

    /// Looks no more; the kernel may relay the allocation by itself again.
    fn end_capture(&mut self) {
        self.capture = None;
        self.server.untap();
    }

    fn publish(&mut self, now: Now) {
        self.published = now.mono;
        self.outbox.chronicle.take_drops(now, &mut self.server);
        let Hands { streams, dtls, offload, .. } = &self.hands;
        let kernel = offload.as_ref().map(Follower::tally).unwrap_or_default();
        let below = (self.engine.tally(), streams.tally(), dtls.tally(), kernel);
        let listeners = (self.server.listeners(), self.engine.inlets());
        let of_worker = (self.latency, self.outbox.distributions);
        self.block.publish(self.server.tally(), &below, of_worker, listeners);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use mio::event::Event;
    use proto::addr::{RelayId, RelayedAddr};
    use proto::policy::Claim;
    use proto::turn::OpenFailure;

    use super::*;
    use crate::Config;
    use crate::dtls::Sessions;
    use crate::engine::{EngineTally, InletTally, MioEngine, Wake};
    use crate::stream::Streams;
    use crate::tcp_relay::TcpRelays;

    /// Panics as often as told, then has the worker stopped.
    struct Faulty {
        panics: Cell<u32>,
        letterbox: Letterbox,
        closed: Cell<u32>,
    }

    impl Engine for Faulty {
        fn wait(&mut self, _: Option<Duration>, _: &mut dyn FnMut(&Event)) -> io::Result<Wake> {
            self.letterbox.order(if self.panics.get() > 0 { Order::Drain } else { Order::Stop });
            Ok(Wake { inbox: true })
        }
        fn receive(&mut self, _: &mut Batch) {
            let left = self.panics.get();
            if left > 0 {
                self.panics.set(left - 1);
                panic!("a defect of the test");
            }
        }
        fn send(&mut self, _: &mut Batch) {}
        fn open_relay(&mut self, _: RelayId, _: RelayedAddr) -> Result<(), OpenFailure> {
            Err(OpenFailure::Other)
        }
        fn close_relay(&mut self, _: RelayId) {}
        fn close_relays(&mut self) {
            self.closed.set(self.closed.get() + 1);
        }
        fn divert(&mut self, _: FiveTuple) -> bool {
            true
        }
        fn end_diversion(&mut self, _: FiveTuple) {}
        fn survey(&mut self) {}
        fn tally(&self) -> EngineTally {
            EngineTally::default()
        }
        fn inlets(&self) -> &[InletTally] {
            &[]
        }
    }

    /// A worker whose engine panics, and the ledger it shares.
    fn worker(panics: u32) -> (Worker<SharedLedger, Faulty>, SharedLedger) {
        let text = "realm = \"r\"\nworkers = 2\n[auth]\nrest_secrets = [\"0123456789abcdef\"]\n\
                    [limits]\nallocations_per_user = 1\n[[listen]]\naddress = \"127.0.0.1:3478\"";
        let config = Config::from_toml(text, "test", None).unwrap();
        let sockets = MioEngine::new(Vec::new()).unwrap();
        let (letterbox, inbox) = open(sockets.waker().unwrap());
        let ledger = SharedLedger::new(config.relays.iter().map(|relay| relay.local));
        let registry = sockets.registry().unwrap();
        let of_worker = ledger.of_worker(1);
        let begin = Clock::new().last().mono;
        let dtls = Sessions::new(config.dtls(), of_worker.clone(), &[7; 32], begin).unwrap();
        let streams = Streams::new(config.streams(), registry, Vec::new(), of_worker).unwrap();
        let desk = Desk {
            index: 1,
            config: Arc::new(config.server(1)),
            throttle: Arc::new(Throttle::new(config.strangers, 7, begin)),
            seed: [7; 32],
            ledger: ledger.of_worker(1),
            inbox,
            letterboxes: Arc::new([]),
            records: None,
            shown: Shown::Full,
        };
        let engine = Faulty { panics: Cell::new(panics), letterbox, closed: Cell::new(0) };
        let tcp = TcpRelays::new(sockets.registry().unwrap());
        let hands = Hands { batch: Batch::new(), streams, dtls, tcp, offload: None };
        (Worker::new(desk, engine, hands, Arc::new(Block::new(1))), ledger)
    }

    #[test]
    fn a_defect_costs_allocations_but_neither_the_worker_nor_anybody_s_quota() {
        let (mut worker, ledger) = worker(2);
        let claim = Claim {
            user: proto::policy::UserKey(1),
            client: "192.0.2.1".parse().unwrap(),
            user_limit: None,
            charges: 1,
            bandwidth: proto::policy::Bandwidth::UNLIMITED,
            at: Clock::new().last().mono,
        };
        let limits = worker.desk.config.limits;
        worker.desk.ledger.lease(&claim, &limits).unwrap();
        let drained = Cell::new(0);
        worker.run(&|| drained.set(drained.get() + 1)).unwrap();
        assert_eq!(worker.engine.closed.get(), 2);
        assert_eq!(drained.get(), 0, "stopped in the turn it had drained");
        assert!(ledger.of_worker(0).lease(&claim, &limits).is_ok(), "the quota was not credited");
    }

    #[test]
    fn a_worker_that_only_fails_gives_up() {
        let (mut worker, _) = worker(u32::MAX);
        assert!(worker.run(&|| {}).is_err());
    }
}
