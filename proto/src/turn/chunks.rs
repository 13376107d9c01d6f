//! Connections to peers whose bytes travel in the client's own messages (MST-68, 89, 90).
//!
//! A dialect that has no second connection for each peer carries a peer's stream in chunks, beside
//! requests and answers. The first chunk for a peer that is not connected calls it from the relayed
//! address; peers that have a permission may call. Chunks are bytes of a stream: their borders mean
//! nothing, none is altered, and where one is lost the connection ends. The shell keeps the sockets
//! and what waits at them.

use crate::addr::{AllocationId, ConnectionId, FiveTuple, PeerAddr, RelayId, RelayedAddr};
use crate::dialect::Wrap;
use crate::marks::Marks;
use crate::now::Now;
use crate::policy::Ledger;
use crate::policy::bandwidth::Direction;
use crate::reject::DropReason;
use crate::turn::action::{Action, Span, Verdict};
use crate::turn::channel::Way;
use crate::turn::connection::{Connection, Side, State};
use crate::turn::forward::span;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// A chunk for a peer that the client may reach: on its connection, which is made if need be.
    pub(super) fn convey_chunk(
        &mut self,
        id: AllocationId,
        peer: PeerAddr,
        payload: Span,
    ) -> Result<Verdict, DropReason> {
        let connection = match self.connection_to(id, peer) {
            Some(connection) => connection,
            None => self.reach(id, peer)?,
        };
        let allocation = self.table.open(id).ok_or(DropReason::NoAllocation)?;
        let (len, client) = (payload.len as usize, allocation.client);
        allocation.usage.to_peer.add(len);
        if let Some(meter) = &mut allocation.meter {
            meter.spend(&mut self.trunk, Direction::ToPeer, len as u64);
        }
        self.tally.via_connection.to_peer.add(len);
        if let Some(listener) = self.listeners.get_mut(client.listener.index()) {
            listener.relayed.to_peer.add(len);
        }
        Ok(Verdict::ToConnection { connection, payload })
    }

    /// The client in whose messages the bytes of a connection travel; `None` if they travel on a
    /// connection of their own.
    pub fn carries(&mut self, id: ConnectionId) -> Option<FiveTuple> {
        let connection = self.connections.find(id)?;
        let allocation = self.table.open(connection.allocation)?;
        allocation.dialect.rules().chunks.then_some(allocation.client)
    }

    /// The connection of an allocation to a peer.
    fn connection_to(&mut self, id: AllocationId, peer: PeerAddr) -> Option<ConnectionId> {
        let connections = &self.connections;
        let leads = |id: &ConnectionId| connections.find(*id).is_some_and(|it| it.peer == peer);
        self.table.open(id)?.owner.connections.iter().copied().find(leads)
    }

    /// Calls a peer from the relayed address.
    fn reach(&mut self, id: AllocationId, to: PeerAddr) -> Result<ConnectionId, DropReason> {
        let allocation = self.table.open(id).ok_or(DropReason::NoAllocation)?;
        let from = allocation.relay(to.family()).ok_or(DropReason::PeerFamily)?.addr();
        let lease = self.charge_connection(id).ok_or(DropReason::NoAllocation)??;
        let (begun_by, state) = (Side::Client, State::Reaching);
        let connection = Connection { allocation: id, peer: to, begun_by, lease, state };
        let connection = self.add_connection(connection).ok_or(DropReason::NoAllocation)?;
        self.actions.push_back(Action::ConnectPeer { connection, from, to });
        Ok(connection)
    }

    /// A peer was reached, or could not be: of which the client hears nothing, as Send has no
    /// answer (MST-85). What it sends next calls again.
    pub(super) fn reached(&mut self, now: Now, id: ConnectionId, there: bool) {
        if there {
            self.connections.advance(id, State::Bound);
        } else {
            self.connection_closed(now, id);
        }
    }

    /// A peer called, and has a permission: what it says is for the client at once. A connection
    /// that had the same two ends is one the peer has given up.
    pub(super) fn welcome_peer(
        &mut self,
        now: Now,
        at: RelayId,
        from: PeerAddr,
    ) -> Result<ConnectionId, DropReason> {
        if let Some(old) = self.connection_to(at.allocation, from) {
            self.close_connection(now, old);
        }
        let lease = self.charge_connection(at.allocation).ok_or(DropReason::StaleRelay)??;
        let (begun_by, state) = (Side::Peer, State::Bound);
        let connection =
            Connection { allocation: at.allocation, peer: from, begun_by, lease, state };
        self.add_connection(connection).ok_or(DropReason::StaleRelay)
    }

    /// Bytes that came on the connection of a peer. Whatever is not sent to the client ends the
    /// connection: the stream would have a hole.
    pub fn connection_input(&mut self, id: ConnectionId, bytes: &[u8]) -> Verdict {
        match self.take_chunk(id, bytes.len()) {
            Ok(verdict) => verdict,
            Err(reason) => self.dropped(reason),
        }
    }

    fn take_chunk(&mut self, id: ConnectionId, len: usize) -> Result<Verdict, DropReason> {
        let connection = self.connections.find(id).ok_or(DropReason::StaleRelay)?;
        let (id, peer) = (connection.allocation, connection.peer);
        let allocation = self.table.open(id).ok_or(DropReason::StaleRelay)?;
        let permission = allocation.permission(peer.ip()).ok_or(DropReason::NoPermission)?;
        if permission.hairpin()
            && !self.ledger.is_live(RelayedAddr::new(peer.socket()), allocation.carried())
        {
            return Err(DropReason::PeerDenied);
        }
        let (to, dialect) = (allocation.client, allocation.dialect);
        let wrap = match allocation.way_to(peer) {
            Some(Way::Bare) => Wrap::Raw,
            Some(Way::Number(_)) | None => {
                dialect.indication(self.config.edge.present(peer), self.random.any_transaction())
            }
        };
        allocation.usage.to_client.add(len);
        if let Some(meter) = &mut allocation.meter {
            meter.spend(&mut self.trunk, Direction::ToClient, len as u64);
        }
        self.tally.via_connection.to_client.add(len);
        if let Some(listener) = self.listeners.get_mut(to.listener.index()) {
            listener.relayed.to_client.add(len);
        }
        Ok(Verdict::ToClient { to, wrap, marks: Marks::PLAIN, payload: span(0, len) })
    }
}
