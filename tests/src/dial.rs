//! TCP between relayed addresses and peers: who calls whom, and which streams are joined.
//!
//! Only the calls are simulated; the bytes of a pipe are the shell's, and are tested over real
//! sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proto::addr::{ConnectionId, FiveTuple, PeerAddr, RelayId, RelayedAddr};
use proto::turn::{ConnectFailure, Verdict};

use crate::script::AsPeer;
use crate::seen::What;
use crate::world::World;

/// How a peer answers the calls of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// It accepts.
    #[default]
    Accepts,
    /// It refuses.
    Refuses,
    /// It says nothing.
    Silent,
}

/// Every TCP connection between relayed addresses and peers.
#[derive(Debug, Default)]
pub struct Dials {
    /// Relayed addresses that listen.
    pub(crate) listening: BTreeSet<RelayId>,
    /// What the server asked for, whether it came to be or not: from where, to whom.
    pub calls: Vec<(SocketAddr, SocketAddr)>,
    /// Connections that are open or being opened.
    pub open: BTreeSet<ConnectionId>,
    /// What clients said on their own connections to be sent on these, in order.
    pub chunks: Vec<(ConnectionId, Vec<u8>)>,
    /// Those that are pipes, with the client's end.
    pub joined: BTreeMap<ConnectionId, FiveTuple>,
}

impl World {
    /// The TCP listener at a relayed address, in its advertised form.
    pub(crate) fn listener_at(&self, at: SocketAddr) -> Option<RelayId> {
        let at = self.local_form(at);
        let open = self.sockets.iter().filter(|(_, relayed)| relayed.socket() == at);
        open.map(|(id, _)| *id).find(|id| self.dials.listening.contains(id))
    }

    /// The server wants a peer connected.
    pub(crate) fn call(&mut self, connection: ConnectionId, from: RelayedAddr, to: PeerAddr) {
        self.dials.calls.push((from.socket(), to.socket()));
        self.note(|| What::Called(connection, from.socket(), to.socket()));
        assert!(self.dials.open.insert(connection), "{connection:?} names two connections");
        let peer = self.peers.iter().find(|peer| peer.address == to.socket());
        let outcome = match peer.map_or(Manner::Refuses, |peer| peer.manner) {
            Manner::Accepts => Ok(()),
            Manner::Refuses => Err(ConnectFailure::Unreachable),
            Manner::Silent => return,
        };
        self.connected(connection, outcome);
    }

    /// A call had this outcome.
    pub fn connected(&mut self, connection: ConnectionId, outcome: Result<(), ConnectFailure>) {
        if outcome.is_err() {
            self.dials.open.remove(&connection);
        }
        let now = self.now();
        self.server.peer_connected(now, connection, outcome);
    }

    /// The server joined a client's stream to a connection.
    pub(crate) fn join(&mut self, connection: ConnectionId, client: FiveTuple) {
        assert!(self.dials.open.contains(&connection), "only open connections are joined");
        assert_eq!(self.dials.joined.insert(connection, client), None, "joined once");
    }

    /// The server closed a connection.
    pub(crate) fn end_call(&mut self, connection: ConnectionId) {
        assert!(self.dials.open.remove(&connection), "only open connections are closed");
        self.dials.joined.remove(&connection);
    }

    /// Bytes of a peer have arrived on its connection to a relayed address, for the client in
    /// whose messages they travel; false if the connection is over.
    pub fn chunk(&mut self, connection: ConnectionId, bytes: &[u8]) -> bool {
        let verdict = self.server.connection_input(connection, bytes);
        self.note(|| What::FromConnection(connection, bytes.to_vec(), verdict));
        let taken = matches!(verdict, Verdict::ToClient { .. });
        self.obey(verdict, bytes);
        self.settle();
        taken
    }

    /// The far end of a connection closed it, or both ends of a pipe did.
    pub fn end_of(&mut self, connection: ConnectionId) {
        self.end_call(connection);
        let now = self.now();
        self.server.connection_closed(now, connection);
        self.carry_out();
    }
}

impl AsPeer<'_> {
    /// How it answers calls from now on.
    pub fn answers(&mut self, manner: Manner) {
        self.world.peers[self.index].manner = manner;
    }

    /// Connects to a relayed address; `None` if that closed the connection at once.
    pub fn connect(&mut self, to: SocketAddr) -> Option<ConnectionId> {
        let from = PeerAddr::new(self.address());
        let listening = self.world.listener_at(to);
        let id = listening.unwrap_or_else(|| panic!("nobody listens at {to}"));
        let now = self.world.now();
        let connection = self.world.server.peer_arrived(now, id, from);
        let local = self.world.local_form(to);
        self.world.note(|| What::CalledBy(connection, local, from.socket()));
        if let Some(connection) = connection {
            let new = self.world.dials.open.insert(connection);
            assert!(new, "{connection:?} names two connections");
        }
        self.world.carry_out();
        self.world.settle();
        connection
    }
}
