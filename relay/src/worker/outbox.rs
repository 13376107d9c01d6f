//! Carries out what the server asks for.

use proto::addr::RelayId;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{Action, Server};

use crate::engine::{Batch, Engine};
use crate::telemetry::log::Log;

/// Work that waits for the end of a turn, and who follows changes.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Relayed sockets to close when what the batch holds for them has left.
    closing: Vec<RelayId>,
    log: Log,
}

impl Outbox {
    /// The outbox of a worker.
    pub(crate) fn new(worker: u16) -> Self {
        Self { closing: Vec::new(), log: Log::new(worker) }
    }

    /// Carries actions out until none is left; replies join the batch.
    pub(crate) fn carry_out<L: Ledger, E: Engine>(
        &mut self,
        now: Now,
        server: &mut Server<L>,
        engine: &mut E,
        batch: &mut Batch,
    ) {
        while let Some(action) = server.poll_action() {
            match action {
                Action::Send { to, bytes } => batch.reply(to, &bytes),
                Action::OpenRelay { id, want } => {
                    // The port may be one that was released in this very turn.
                    if !self.closing.is_empty() {
                        self.send_and_close(engine, batch);
                    }
                    let outcome = engine.open_relay(id, want);
                    server.relay_opened(now, id, outcome);
                }
                Action::CloseRelay(id) => self.closing.push(id),
                Action::Changed(change) => self.log.change(now, &change),
            }
        }
    }

    /// Ends a turn: sends the batch, then closes what was released.
    pub(crate) fn send_and_close<E: Engine>(&mut self, engine: &mut E, batch: &mut Batch) {
        engine.send(batch);
        for id in self.closing.drain(..) {
            engine.close_relay(id);
        }
    }
}
