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

pub(crate) use inbox::{Command, Letterbox, open};

use inbox::Inbox;
use outbox::Outbox;

/// What a worker is given beside its engine.
pub(crate) struct Desk<L> {
    /// Its number.
    pub(crate) index: u16,
    /// The configuration of its server.
    pub(crate) server: Arc<turn::Config>,
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
    draining: bool,
    stopped: bool,
}

impl<E: Engine> Worker<SharedLedger, E> {
    /// A worker that has not begun.
    pub(crate) fn new(desk: Desk<SharedLedger>, engine: E, block: Arc<Block>) -> io::Result<Self> {
        Ok(Self {
            server: fresh_server(&desk)?,
            batch: Batch::new(),
            outbox: Outbox::new(desk.index),
            desk,
            engine,
            block,
            draining: false,
            stopped: false,
        })
    }

    /// Relays until the server is drained or stopped.
    ///
    /// A panic is a defect, and what the server knew may be wrong: its allocations end, their
    /// quotas are credited, and the worker begins anew on the same listeners. Clients recover
    /// by the ordinary way of an unknown allocation.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        loop {
            let attempt = panic::catch_unwind(AssertUnwindSafe(|| self.relay()));
            if let Ok(outcome) = attempt {
                return outcome;
            }
            tracing::error!(worker = self.desk.index, "a worker lost its allocations to a defect");
            self.engine.close_relays();
            self.batch = Batch::new();
            self.outbox = Outbox::new(self.desk.index);
            self.desk.ledger.forget();
            self.server = fresh_server(&self.desk)?;
            if self.draining {
                self.server.drain();
            }
        }
    }
}

/// A server without allocations, with a seed of its own.
fn fresh_server(desk: &Desk<SharedLedger>) -> io::Result<Server<SharedLedger>> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(Server::new(Arc::clone(&desk.server), desk.ledger.clone(), seed))
}

impl<L: Ledger, E: Engine> Worker<L, E> {
    /// The loop.
    fn relay(&mut self) -> io::Result<()> {
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
            if self.stopped || self.server.is_drained() {
                return Ok(());
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
        while let Ok(command) = self.desk.inbox.try_recv() {
            match command {
                Command::Drain => {
                    self.draining = true;
                    self.server.drain();
                }
                Command::Stop => {
                    self.server.shut_down(now);
                    self.stopped = true;
                }
                Command::Report(answer) => {
                    self.engine.survey();
                    self.publish();
                    // Who asked may have given up waiting.
                    drop(answer.try_send(self.server.allocations(now).collect()));
                }
            }
        }
    }

    fn publish(&self) {
        self.block.publish(self.server.tally(), self.engine.tally(), self.server.listeners());
    }
}
