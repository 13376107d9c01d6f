//! Carries out what the server asks for.

use std::sync::Arc;

use proto::addr::RelayId;
use proto::marks::Marks;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{Action, Change, Server};

use crate::dtls::{Sessions, Turn};
use crate::engine::{Batch, Engine};
use crate::stream::Streams;
use crate::tcp_relay::TcpRelays;
use crate::telemetry::log::Log;
use crate::worker::inbox::{Letterbox, Parcel};

/// What leaves toward clients and peers.
pub(crate) struct Hands {
    /// As datagrams.
    pub(crate) batch: Batch,
    /// On streams.
    pub(crate) streams: Streams,
    /// As datagrams, sealed.
    pub(crate) dtls: Sessions,
    /// Over the TCP connections of relayed addresses.
    pub(crate) tcp: TcpRelays,
}

/// Work that waits for the end of a turn, who follows changes, and the other workers.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Relayed sockets to close when what the batch holds for them has left.
    closing: Vec<RelayId>,
    log: Log,
    /// Of all workers, in order of their numbers.
    letterboxes: Arc<[Letterbox]>,
}

impl Outbox {
    /// The outbox of a worker.
    pub(crate) fn new(worker: u16, letterboxes: Arc<[Letterbox]>) -> Self {
        Self { closing: Vec::new(), log: Log::new(worker), letterboxes }
    }

    /// Carries actions out until none is left; replies join the batch, or a stream's queue.
    pub(crate) fn carry_out<L: Ledger, E: Engine>(
        &mut self,
        now: Now,
        server: &mut Server<L>,
        engine: &mut E,
        hands: &mut Hands,
    ) {
        while let Some(action) = server.poll_action() {
            match action {
                Action::Send { to, bytes } if hands.streams.serves(to.listener) => {
                    hands.streams.reply(to, &bytes);
                }
                Action::Send { to, bytes } if hands.dtls.serves(to.listener) => {
                    hands.dtls.reply(to, &bytes, &mut hands.batch);
                }
                Action::Send { to, bytes } => hands.batch.reply(to, &bytes),
                Action::OpenRelay { id, want } => {
                    // The port may be one that was released in this very turn.
                    if !self.closing.is_empty() {
                        self.send_and_close(engine, &mut hands.batch);
                    }
                    let outcome = engine.open_relay(id, want);
                    server.relay_opened(now, id, outcome);
                }
                Action::CloseClient(client) if hands.dtls.serves(client.listener) => {
                    let (batch, marks) = (&mut hands.batch, Marks::PLAIN);
                    let mut turn = Turn { now, server, batch, marks };
                    hands.dtls.close(&mut turn, client);
                }
                // A session lives where it began.
                Action::HandOver { client, .. } if hands.dtls.serves(client.listener) => {
                    server.hand_over_failed();
                }
                Action::CloseRelay(id) => {
                    self.closing.push(id);
                    hands.tcp.close(id);
                }
                Action::ListenRelay { id, want } => {
                    let outcome = hands.tcp.listen(id, want);
                    server.relay_opened(now, id, outcome);
                }
                Action::ConnectPeer { connection, from, to } => {
                    hands.tcp.call(now, connection, (from, to), server);
                }
                Action::Join { connection, client } => {
                    let guest = hands.streams.hand_out(client);
                    if !guest.is_some_and(|guest| hands.tcp.join(now, connection, guest)) {
                        hands.tcp.hang_up(connection);
                        server.connection_closed(now, connection);
                    }
                }
                Action::ClosePeer(connection) => hands.tcp.hang_up(connection),
                Action::HandOver { client, worker, bytes } => {
                    let guest = hands.streams.hand_out(client).map(Box::new);
                    let letterbox = self.letterboxes.get(usize::from(worker));
                    if !letterbox.is_some_and(|to| to.bring(Parcel { client, bytes, guest })) {
                        server.hand_over_failed();
                    }
                }
                Action::Divert(client) => engine.divert(client),
                Action::EndDiversion(client) => engine.end_diversion(client),
                Action::CloseClient(client) => hands.streams.close(client),
                Action::Changed(change) => {
                    if let Change::AllocationOpened { client, .. } = &change {
                        hands.streams.admitted(*client);
                        hands.dtls.admitted(*client);
                    }
                    self.log.change(now, &change);
                }
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
