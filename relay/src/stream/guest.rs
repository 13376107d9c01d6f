//! Connections that leave the streams of a worker: to another worker, or to be joined to a peer.
//!
//! Whoever leaves takes along the rest of what it said and what is still to be said to it.

use std::io;

use mio::{Interest, Registry, Token};
use proto::addr::FiveTuple;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{Server, Verdict};

use super::connection::{Connection, Got, READ, Tools};
use super::frames::Bench;
use super::{Refusal, Streams, tls};
use crate::engine::{Batch, FOREIGN};

/// Room that one read may fill.
pub(crate) const CHUNK: usize = READ + tls::LONGEST_RECORD;

/// A connection that no worker's streams have.
pub(crate) struct Guest(Connection);

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guest({:?})", self.0.client)
    }
}

impl Guest {
    /// What it said behind the message that made it leave.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.begun)
    }

    /// Events of it come here, under this token.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(self.0.socket_mut(), token, interest)
    }

    /// Takes out what it says, at most so much of what the kernel has; `room` has [`CHUNK`] bytes.
    pub(crate) fn read(
        &mut self,
        room: &mut [u8],
        most: usize,
        tools: &mut Tools,
    ) -> io::Result<Got> {
        if self.0.has_finished() {
            return Ok(Got::End);
        }
        self.0.read(room, most, tools)
    }

    /// Says bytes to it, as many as are taken.
    pub(crate) fn write(&mut self, bytes: &[u8], tools: &mut Tools) -> io::Result<usize> {
        self.0.pour(bytes, tools)
    }

    /// Sends on what waits; false while something is left.
    pub(crate) fn push(&mut self, tools: &mut Tools) -> io::Result<bool> {
        self.0.unblock();
        self.0.write(tools)?;
        Ok(self.0.has_left())
    }

    /// Says that nothing more comes.
    pub(crate) fn shut(&mut self, tools: &mut Tools) -> io::Result<()> {
        self.0.take_leave(tools);
        self.0.socket_mut().shutdown(std::net::Shutdown::Write)
    }
}

impl Streams {
    /// Hands out the connection of a client that leaves.
    pub(crate) fn hand_out(&mut self, client: FiveTuple) -> Option<Guest> {
        let (key, connection) = self.roster.of(client)?;
        if connection.ending.is_some() {
            return None;
        }
        let mut connection = self.roster.remove(key)?;
        if std::mem::replace(&mut connection.stranger, false) {
            self.ledger.dismiss_stranger(client.client.ip());
        }
        self.count_open(client, false);
        self.registry.deregister(connection.socket_mut()).ok()?;
        Some(Guest(connection))
    }

    /// Takes in a connection that another worker handed out, and the message that made it leave.
    pub(crate) fn adopt<L: Ledger>(
        &mut self,
        now: Now,
        (Guest(mut connection), message): (Guest, &[u8]),
        server: &mut Server<L>,
        batch: &mut Batch,
    ) {
        let client = connection.client;
        if let Err(refusal) =
            self.ledger.admit_stranger(client.client.ip(), &self.config.limits.strangers)
        {
            self.refuse(client, refusal);
            return;
        }
        connection.stranger = true;
        self.make_way(now, None, client, server);
        let token = Token(FOREIGN | self.roster.next_key().to_token());
        let mut guest = Guest(connection);
        if guest.register(&self.registry, token).is_err() {
            self.refuse(client, Refusal::Exhausted);
            self.ledger.dismiss_stranger(client.client.ip());
            return;
        }
        let Guest(mut connection) = guest;
        self.count_open(client, true);
        connection.ready = false;
        connection.dirty = false;
        connection.armed = connection.deadline();
        let key = self.roster.insert(connection);
        if server.client_input(now, client, message) == Verdict::Leaves {
            return;
        }
        // It stays here: what it said since is cut into frames.
        let Some(connection) = self.roster.find(key) else { return };
        connection.leaving = false;
        let bench = Bench {
            now,
            server,
            batch,
            rfc5766_channels: self.config.rfc5766_channels,
            microsoft: self.config.microsoft,
            for_discovery: connection.is_for_discovery(),
        };
        let ending = { bench }.digest(connection, 0);
        connection.ready = true;
        self.ready.push_back(key);
        if let Some(ending) = ending {
            self.end(key, ending);
        }
    }
}
