//! Connections between a relayed TCP address and its peers (RFC 6062).
//!
//! A connection is begun by the client's Connect or by the peer, waits to be claimed by a
//! `ConnectionBind`, and is then a pipe that the shell keeps. Its id is what the client claims it
//! with: random, so that nobody guesses it, and by its remainder the number of the worker that
//! has it. Deadlines of what is not yet a pipe lie beside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::addr::{AllocationId, ConnectionId, Family, PeerAddr};
use crate::now::Now;
use crate::policy::bandwidth::{Allowance, Direction};
use crate::policy::{Crowded, Ledger, Limits, PeerLease};
use crate::reject::Why;
use crate::turn::action::Action;
use crate::turn::config::Share;
use crate::turn::exchange::Exchange;
use crate::turn::random::Random;
use crate::turn::server::Server;
use crate::turn::tally::Usage;

/// How long the server tries to reach a peer (RFC 6062 §5.2: at least 30 s).
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection waits for its `ConnectionBind` (RFC 6062 §5.2, §5.3: 30 s).
pub const CLAIM_PATIENCE: Duration = Duration::from_secs(30);

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_id: BTreeMap<ConnectionId, Connection>,
    deadlines: BTreeSet<(Instant, ConnectionId)>,
}

/// One connection to a peer.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Whose it is.
    pub(crate) allocation: AllocationId,
    /// The peer, in local form if it is one of our own relayed addresses.
    pub(crate) peer: PeerAddr,
    /// Who began it.
    pub(crate) begun_by: Side,
    /// What it is charged.
    pub(crate) lease: PeerLease,
    /// How far it is.
    pub(crate) state: State,
}

/// Which end of a connection began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client, by a Connect.
    Client,
    /// The peer.
    Peer,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum State {
    /// The peer is being called; the Connect will be answered.
    Calling { request: Box<Exchange>, until: Instant },
    /// The peer is being called, and bytes for it wait in the shell, which knows when to give up.
    Reaching,
    /// The peer is there, and the client has not claimed it.
    Unclaimed { until: Instant },
    /// Bytes flow between the peer and the client's connection, or in its messages.
    Bound,
}

impl State {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Calling { until, .. } | Self::Unclaimed { until } => Some(*until),
            Self::Reaching | Self::Bound => None,
        }
    }
}

impl Connections {
    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The connection of this id.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<&Connection> {
        self.by_id.get(&id)
    }

    /// Takes a new connection in and names it.
    fn insert(
        &mut self,
        random: &mut Random,
        share: Share,
        connection: Connection,
    ) -> ConnectionId {
        let id = loop {
            let id = ConnectionId::of_worker(random.number(), share.index, share.of);
            if !self.by_id.contains_key(&id) {
                break id;
            }
        };
        self.deadlines.extend(connection.state.deadline().map(|at| (at, id)));
        self.by_id.insert(id, connection);
        id
    }

    /// Takes a connection one step further; returns the state before.
    pub(super) fn advance(&mut self, id: ConnectionId, state: State) -> Option<State> {
        let connection = self.by_id.get_mut(&id)?;
        let before = std::mem::replace(&mut connection.state, state);
        let after = connection.state.deadline();
        if let Some(at) = before.deadline() {
            self.deadlines.remove(&(at, id));
        }
        self.deadlines.extend(after.map(|at| (at, id)));
        Some(before)
    }

    /// Whether one more fits beside these: neither too many are there, nor do too many wait.
    fn has_room(&self, beside: &BTreeSet<ConnectionId>, limits: &Limits) -> bool {
        let waits = |id: &&ConnectionId| {
            let found = self.find(**id);
            found.is_some_and(|it| !matches!(it.state, State::Bound))
        };
        beside.len() < limits.peer_connections
            && beside.iter().filter(waits).count() < limits.peer_connections_waiting
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.by_id.remove(&id)?;
        if let Some(at) = connection.state.deadline() {
            self.deadlines.remove(&(at, id));
        }
        Some(connection)
    }

    /// The first connection whose time is over.
    fn due(&self, now: Instant) -> Option<ConnectionId> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Panics unless deadlines and connections agree.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        let expected = self.by_id.iter();
        let expected = expected.filter_map(|(id, it)| Some((it.state.deadline()?, *id)));
        assert_eq!(self.deadlines, expected.collect(), "every wait has its deadline");
    }
}

impl<L: Ledger> Server<L> {
    /// Charges one more connection to an allocation; `None` if there is no such allocation.
    pub(super) fn charge_connection(
        &mut self,
        id: AllocationId,
    ) -> Option<Result<PeerLease, Crowded>> {
        let owner = &self.table.open(id)?.owner;
        if !self.connections.has_room(&owner.connections, &self.config.limits) {
            return Some(Err(Crowded::Allocation));
        }
        Some(self.ledger.connect(&owner.lease, &self.config.limits))
    }

    /// Adds a connection to an allocation.
    pub(super) fn add_connection(&mut self, connection: Connection) -> Option<ConnectionId> {
        let Some(allocation) = self.table.open(connection.allocation) else {
            self.ledger.disconnect(connection.lease);
            return None;
        };
        let id = self.connections.insert(&mut self.random, self.config.share, connection);
        allocation.owner.connections.insert(id);
        Some(id)
    }

    /// A pipe, or a peer that waits, has closed its connection.
    pub fn connection_closed(&mut self, now: Now, id: ConnectionId) {
        self.end_connection(now, id);
    }

    /// How much the connection of a peer may carry one way now: the shell reads no more than that.
    pub fn allowance(&mut self, now: Now, id: ConnectionId, direction: Direction) -> Allowance {
        let connection = self.connections.find(id);
        let allocation = connection.and_then(|it| self.table.open(it.allocation));
        let Some(meter) = allocation.and_then(|it| it.meter.as_mut()) else {
            return Allowance::Unlimited;
        };
        let allowance = meter.allowance(&mut self.trunk, now.mono, direction);
        self.tally.paced += u64::from(matches!(allowance, Allowance::NotBefore(_)));
        allowance
    }

    /// Bytes that a pipe has carried since it was last reported.
    pub fn connection_carried(&mut self, id: ConnectionId, usage: Usage) {
        let Some(connection) = self.connections.find(id) else { return };
        let Some(allocation) = self.table.open(connection.allocation) else { return };
        allocation.usage += usage;
        if let Some(meter) = &mut allocation.meter {
            meter.spend(&mut self.trunk, Direction::ToPeer, usage.to_peer.bytes);
            meter.spend(&mut self.trunk, Direction::ToClient, usage.to_client.bytes);
        }
        self.tally.via_connection += usage;
        let listener = allocation.client.listener.index();
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.relayed += usage;
        }
    }

    /// Ends connections whose time is over.
    pub(super) fn expire_connections(&mut self, now: Now) {
        while let Some(id) = self.connections.due(now.mono) {
            self.close_connection(now, id);
        }
    }

    /// Closes the connections of an allocation to peers of a family.
    pub(super) fn close_connections(&mut self, now: Now, id: AllocationId, family: Family) {
        let Some(allocation) = self.table.open(id) else { return };
        let of_family = |id: &ConnectionId| {
            self.connections.find(*id).is_some_and(|it| it.peer.family() == family)
        };
        let connections = allocation.owner.connections.iter().copied();
        for id in connections.filter(of_family).collect::<Vec<_>>() {
            self.close_connection(now, id);
        }
    }

    /// Closes a connection at both ends.
    pub(super) fn close_connection(&mut self, now: Now, id: ConnectionId) {
        self.actions.push_back(Action::ClosePeer(id));
        self.end_connection(now, id);
    }

    /// Forgets a connection; a Connect that still waits hears that it failed.
    fn end_connection(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.remove(id) else { return };
        self.ledger.disconnect(connection.lease);
        if let Some(allocation) = self.table.open(connection.allocation) {
            allocation.owner.connections.remove(&id);
        }
        if let State::Calling { request, .. } = connection.state {
            self.refuse(now, &request, &Why::PeerUnreachable.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcpa_008_ids_are_unique_unpredictable_and_name_their_worker() {
        let mut random = Random::new([3; 32], 0);
        let (mut seen, mut low_bits) = (BTreeSet::new(), 0);
        for of in [1, 2, 3, 7, 256] {
            for index in [0, of - 1] {
                for _ in 0..1_000 {
                    let id = ConnectionId::of_worker(random.number(), index, of);
                    assert_eq!(id.worker(of), index);
                    assert!(seen.insert(id), "{id:?} twice");
                    low_bits += (id.0 >> 16).count_ones();
                }
            }
        }
        let share = f64::from(low_bits) / f64::from(10_000 * 16);
        assert!((0.49..0.51).contains(&share), "{share} of the upper bits are set");
    }
}
