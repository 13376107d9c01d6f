//! Carries out what the server asks for.

use std::sync::Arc;

use proto::addr::{FiveTuple, RelayId, steer};
use proto::marks::Marks;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{Action, Change, Server};

use crate::chronicle::Chronicle;
use crate::dtls::{Sessions, Turn};
use crate::engine::{Batch, Engine};
use crate::offload::Follower;
use crate::records::Teller;
use crate::stream::Streams;
use crate::tcp_relay::TcpRelays;
use crate::telemetry::distributions::Distributions;
use crate::telemetry::log::Log;
use crate::worker::inbox::{Letterbox, Luggage, Parcel};

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
    /// Without ever coming here: what the kernel relays by itself, if it does.
    pub(crate) offload: Option<Follower>,
}

/// Work that waits for the end of a turn, who follows changes, and the other workers.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Relayed sockets to close when what the batch holds for them has left.
    closing: Vec<RelayId>,
    log: Log,
    /// What happened.
    pub(super) chronicle: Chronicle,
    /// Where usage is told, if records of it are kept.
    records: Option<Teller>,
    /// How allocations and turns are spread.
    pub(super) distributions: Distributions,
    /// The number of this one.
    worker: u16,
    /// Of all workers, in order of their numbers.
    letterboxes: Arc<[Letterbox]>,
}

impl Outbox {
    /// The outbox of a worker.
    pub(crate) fn new(log: Log, letterboxes: Arc<[Letterbox]>, records: Option<Teller>) -> Self {
        let worker = log.worker();
        Self {
            closing: Vec::new(),
            log,
            chronicle: Chronicle::new(worker),
            records,
            distributions: Distributions::default(),
            worker,
            letterboxes,
        }
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
                Action::Send { to, bytes } => {
                    hands.batch.reply(to, server.serves(to), &bytes);
                }
                Action::OpenRelay { id, want } => {
                    // The port, or the place in tables, may be one that was released in this very turn.
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
                Action::CloseRelay(id) => {
                    if hands.batch.leaves_by(id) {
                        self.closing.push(id);
                    } else {
                        engine.close_relay(id);
                    }
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
                Action::ClosePeer(connection) => {
                    hands.tcp.hang_up_link(connection, &mut hands.streams);
                }
                Action::HandOver { client, worker, bytes } => {
                    if !self.hand_over(worker, (client, bytes), hands) {
                        server.hand_over_failed();
                    }
                }
                Action::Divert(client) => {
                    if engine.divert(hands.dtls.outside(client)) {
                        hands.dtls.settle(client);
                    }
                }
                Action::EndDiversion(client) => {
                    engine.end_diversion(hands.dtls.outside(client));
                    hands.dtls.unsettle(client);
                }
                Action::CloseClient(client) => hands.streams.close(client),
                Action::Changed(change) => self.tell(now, change, server, hands),
            }
        }
        self.learn(now, server, hands);
        if let Some(offload) = &mut hands.offload {
            offload.follow(now.mono, server);
        }
        let Hands { streams, dtls, .. } = hands;
        self.distributions.shook_hands(streams.handshakes(), dtls.handshakes());
        if let Some(client) = server.take_suspect() {
            self.log.guesses(now, client);
        }
        self.send_home(&mut hands.dtls);
    }

    /// Tells a change to everybody who follows.
    fn tell<L: Ledger>(
        &mut self,
        now: Now,
        mut change: Change,
        server: &mut Server<L>,
        hands: &mut Hands,
    ) {
        if let Change::AllocationOpened { client, .. } | Change::ClientMoved { client, .. } =
            &change
        {
            hands.streams.admitted(*client);
            hands.dtls.admitted(*client);
        }
        if let Some(offload) = &mut hands.offload {
            if let Change::AllocationClosed { id, usage, .. } = &mut change {
                *usage += offload.end(now.mono, *id, server);
            } else {
                offload.touch(change.allocation());
            }
        }
        if let Change::AllocationOpened { waited: Some(waited), .. } = &change {
            self.distributions.opened(*waited);
        }
        if let Change::AllocationClosed { lived, usage, media, .. } = &change {
            self.distributions.closed(*lived, usage, media.as_deref());
        }
        if let Some(records) = &self.records {
            records.change(now, &change);
        }
        self.log.change(now, &change);
        self.chronicle.follow(now, &change);
    }

    /// Remembers what befell clients.
    pub(super) fn learn<L: Ledger>(&mut self, now: Now, server: &mut Server<L>, hands: &mut Hands) {
        self.chronicle.take_refusals(now, server);
        self.chronicle.take_tidings(now, hands.streams.tidings());
        self.chronicle.take_tidings(now, hands.dtls.tidings());
    }

    /// Brings a client's message to another worker, with the connection or session it came by;
    /// whether that was possible.
    fn hand_over(
        &self,
        worker: u16,
        (client, bytes): (FiveTuple, Box<[u8]>),
        hands: &mut Hands,
    ) -> bool {
        let luggage = if let Some(guest) = hands.streams.hand_out(client) {
            Luggage::Connection(Box::new(guest))
        } else if let Some(traveller) = hands.dtls.hand_out(client) {
            Luggage::Session(Box::new(traveller))
        } else {
            Luggage::Nothing
        };
        self.bring(worker, Parcel { client, bytes, luggage }, &mut hands.dtls)
    }

    /// Sends sessions home whose client's datagrams do not arrive here.
    fn send_home(&self, dtls: &mut Sessions) {
        for client in dtls.unsettled() {
            #[expect(clippy::cast_possible_truncation, reason = "their numbers have 16 bits")]
            let home = steer(client.client, self.letterboxes.len() as u16);
            let Some(traveller) = (home != self.worker).then(|| dtls.hand_out(client)).flatten()
            else {
                continue;
            };
            let luggage = Luggage::Session(Box::new(traveller));
            let parcel = Parcel { client, bytes: Box::default(), luggage };
            if !self.bring(home, parcel, dtls) {
                // Another turn may find room there.
                dtls.unsettle(client);
            }
        }
    }

    /// Brings a parcel; a session that finds no room stays.
    fn bring(&self, worker: u16, parcel: Parcel, dtls: &mut Sessions) -> bool {
        let Some(letterbox) = self.letterboxes.get(usize::from(worker)) else { return false };
        let Err(refused) = letterbox.bring(parcel) else { return true };
        if let Luggage::Session(traveller) = refused.luggage {
            dtls.take_in(refused.client, *traveller);
        }
        false
    }

    /// Ends a turn: sends the batch, then closes what was released.
    pub(crate) fn send_and_close<E: Engine>(&mut self, engine: &mut E, batch: &mut Batch) {
        engine.send(batch);
        for id in self.closing.drain(..) {
            engine.close_relay(id);
        }
    }
}
