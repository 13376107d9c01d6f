//! A worker: the loop of one core, and the only place where server and sockets meet.

mod inbox;
mod outbox;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use proto::addr::{ClientAddr, FiveTuple, PeerAddr};
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{self, Server, Verdict};

use crate::clock;
use crate::engine::{Batch, Engine, Origin};
use crate::ledger::SharedLedger;
use crate::telemetry::block::Block;

pub(crate) use inbox::{Letterbox, Order, open};

use inbox::Inbox;
use outbox::Outbox;

/// What a worker is given beside its engine.
pub(crate) struct Desk<L> {
    /// Its number.
    pub(crate) index: u16,
    /// The configuration of its server.
    pub(crate) config: Arc<turn::Config>,
    /// Randomness for its first server, shared by the workers: nonces of one are good at all.
    pub(crate) seed: [u8; 32],
    /// Its door to what workers share.
    pub(crate) ledger: L,
    /// Where commands arrive.
    pub(crate) inbox: Inbox,
}

/// One core's share of the relay.
pub(crate) struct Worker<L, E> {
    desk: Desk<L>,
    server: Server<L>,
    engine: E,
    batch: Batch,
    outbox: Outbox,
    block: Arc<Block>,
    order: Order,
    drained: bool,
}

impl<E: Engine> Worker<SharedLedger, E> {
    /// A worker that has not begun.
    pub(crate) fn new(desk: Desk<SharedLedger>, engine: E, block: Arc<Block>) -> Self {
        Self {
            server: desk.server(),
            batch: Batch::new(),
            outbox: Outbox::new(desk.index),
            desk,
            engine,
            block,
            order: Order::Serve,
            drained: false,
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
            self.engine.close_relays();
            self.batch = Batch::new();
            self.outbox = Outbox::new(self.desk.index);
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
            let wake = self.engine.wait(self.server.poll_timeout())?;
            let now = clock::now();
            self.server.timeout(now);
            if wake.inbox {
                self.obey(now);
            }
            self.engine.receive(&mut self.batch);
            self.judge(now);
            self.outbox.carry_out(now, &mut self.server, &mut self.engine, &mut self.batch);
            self.outbox.send_and_close(&mut self.engine, &mut self.batch);
            self.publish();
            if self.order == Order::Stop {
                return Ok(());
            }
            if self.server.is_drained() && !std::mem::replace(&mut self.drained, true) {
                drained();
            }
        }
    }

    /// Asks the server about every datagram received; payload is sent from where it lies.
    fn judge(&mut self, now: Now) {
        let Self { server, batch, .. } = self;
        for slot in 0..batch.filled() {
            for arrival in batch.arrivals(slot) {
                let bytes = batch.bytes(&arrival);
                let verdict = match arrival.origin {
                    Origin::Listener(listener) => {
                        let client = ClientAddr::new(arrival.from);
                        server.client_input(now, FiveTuple { listener, client }, bytes)
                    }
                    Origin::Relay(id) => {
                        server.peer_input(now, id, PeerAddr::new(arrival.from), bytes)
                    }
                };
                match verdict {
                    Verdict::ToPeer { via, peer, payload } => {
                        batch.to_peer(&arrival, via, peer, payload);
                    }
                    Verdict::ToClient { to, wrap, payload } => {
                        batch.to_client(&arrival, to, wrap, payload);
                    }
                    // The server counted it, or queued actions.
                    Verdict::Handled | Verdict::Dropped(_) => {}
                }
            }
        }
    }

    fn obey(&mut self, now: Now) {
        self.order = self.desk.inbox.order();
        match self.order {
            Order::Serve => {}
            Order::Drain => self.server.drain(),
            Order::Stop => self.server.shut_down(now),
        }
        while let Some(answer) = self.desk.inbox.question() {
            self.engine.survey();
            self.publish();
            // Who asked may have given up waiting.
            drop(answer.try_send(self.server.allocations(now).collect()));
        }
    }

    fn publish(&self) {
        self.block.publish(self.server.tally(), self.engine.tally(), self.server.listeners());
    }
}
