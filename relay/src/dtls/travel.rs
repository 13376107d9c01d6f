//! Sessions that go from worker to worker: where an allocation is, or back home (RFC 8016).
//!
//! A session lives where its client's datagrams arrive. That is where steering brings them, but
//! for clients that moved: their session goes to the worker that has the allocation, and stays
//! there as long as a diversion brings it the datagrams. Without one it is sent home.

use proto::addr::FiveTuple;
use proto::policy::Ledger;

use super::session::Session;
use super::tally::Parting;
use super::{Sessions, Turn, outside};

/// A session that no worker's sessions have.
pub(crate) struct Traveller(Session);

impl std::fmt::Debug for Traveller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Traveller").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Hands out the session of a client that leaves for another worker.
    pub(crate) fn hand_out(&mut self, client: FiveTuple) -> Option<Traveller> {
        let mut session = self.by_client.remove(&client)?;
        if session.stranger {
            self.ledger.dismiss_stranger(client.client.ip());
        }
        session.armed = None;
        self.tally.open -= 1;
        Some(Traveller(session))
    }

    /// Takes in a session that was handed out. One that began here meanwhile is the newer.
    pub(crate) fn take_in(&mut self, client: FiveTuple, Traveller(session): Traveller) {
        if self.by_client.contains_key(&client) {
            self.tally.parted[Parting::Replaced as usize] += 1;
            return;
        }
        if session.stranger {
            self.ledger.readmit_stranger(client.client.ip());
        }
        self.tally.open += 1;
        self.by_client.insert(client, session);
        self.arm(client);
    }

    /// Takes in a session together with the message that made it leave another worker.
    pub(crate) fn adopt<L: Ledger>(
        &mut self,
        turn: &mut Turn<'_, L>,
        client: FiveTuple,
        (traveller, message): (Traveller, &[u8]),
    ) {
        self.take_in(client, traveller);
        if !message.is_empty() {
            self.unsettled.push(client);
            turn.judge(client, message);
        }
    }

    /// The client's datagrams arrive here from now on.
    pub(crate) fn settle(&mut self, client: FiveTuple) {
        self.unsettled.retain(|it| *it != client);
    }

    /// They may not any more.
    pub(crate) fn unsettle(&mut self, client: FiveTuple) {
        if self.by_client.contains_key(&client) && !self.unsettled.contains(&client) {
            self.unsettled.push(client);
        }
    }

    /// The clients whose datagrams may arrive elsewhere, each told once.
    pub(crate) fn unsettled(&mut self) -> Vec<FiveTuple> {
        std::mem::take(&mut self.unsettled)
    }

    /// A client as its datagrams come: at the listener whose socket it is.
    pub(crate) fn outside(&self, client: FiveTuple) -> FiveTuple {
        outside(&self.sockets, client)
    }
}
