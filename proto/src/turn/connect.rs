//! Connect (RFC 6062 §5.2): the client asks for a connection to a peer.
//!
//! Answered when the peer was reached, or could not be; the control connection serves other
//! requests meanwhile, because the request waits in its connection.

use crate::addr::{ConnectionId, Family, RelayedAddr};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::request::Reply;
use crate::stun::Message;
use crate::stun::attribute::XorPeerAddress;
use crate::turn::action::{Action, ConnectFailure};
use crate::turn::brake::Turn;
use crate::turn::connection::{CLAIM_PATIENCE, CONNECT_PATIENCE, Connection, Side, State};
use crate::turn::gate::Authenticated;
use crate::turn::permission::same_family;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Connect: calls a peer from the relayed address.
    pub(super) fn connect(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<(), Reject> {
        // The allocation (437, 441), then syntax (400), family (443), policy (403), a connection
        // that exists (446), capacity (508), too many new peers (403).
        let id = self.owned(request)?;
        let XorPeerAddress(peer) = message.require()?;
        if peer.port() == 0 {
            return Err(Why::BadAttribute.into());
        }
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        if !allocation.relays_tcp {
            return Err(Why::UdpRelay.into());
        }
        same_family(Family::ALL.map(|family| allocation.relay(family).is_some()), peer)?;
        let asker = self.config.asker(allocation);
        let denied = |why| Reject::about(why, peer);
        let peer = self.config.peers.admit_port(&self.config.edge, asker, peer).map_err(denied)?;
        if peer.hairpin()
            && !self.ledger.is_live(RelayedAddr::new(peer.addr().socket()), allocation.carried())
        {
            return Err(denied(Why::PeerDenied));
        }
        let peer = peer.addr();
        let from = allocation.relay(peer.family()).ok_or(Why::PeerFamily)?.addr();
        let connections = &allocation.owner.connections;
        let begun = |id: &ConnectionId| {
            let found = self.connections.find(*id);
            found.is_some_and(|it| it.begun_by == Side::Client && it.peer == peer)
        };
        if connections.iter().any(begun) {
            return Err(Why::ConnectionExists.into());
        }
        let lease = self.charge_connection(id).ok_or(Why::NoAllocation)?.map_err(Why::from)?;
        let turn = Turn { hosts: 0, address: Some(peer), at: now.mono };
        let (ledger, limits) = (&mut self.ledger, &self.config.limits);
        let turns = self.table.open(id).map_or(Err(Why::NoAllocation), |allocation| {
            allocation.owner.turns_to(turn, ledger, limits).map_err(Why::from)
        });
        if let Err(why) = turns {
            self.ledger.disconnect(lease);
            return Err(why.into());
        }
        let state = State::Calling {
            request: Box::new(request.exchange.clone()),
            until: now.mono + CONNECT_PATIENCE,
        };
        let connection = Connection { allocation: id, peer, begun_by: Side::Client, lease, state };
        let connection = self.add_connection(connection).ok_or(Why::NoAllocation)?;
        self.actions.push_back(Action::ConnectPeer { connection, from, to: peer });
        Ok(())
    }

    /// The answer to [`Action::ConnectPeer`].
    pub fn peer_connected(
        &mut self,
        now: Now,
        id: ConnectionId,
        outcome: Result<(), ConnectFailure>,
    ) {
        match self.connections.find(id).map(|it| &it.state) {
            Some(State::Calling { .. }) => {}
            Some(State::Reaching) => return self.reached(now, id, outcome.is_ok()),
            Some(State::Unclaimed { .. } | State::Bound) | None => return,
        }
        let until = now.mono + CLAIM_PATIENCE;
        let before = self.connections.advance(id, State::Unclaimed { until });
        let Some(State::Calling { request, .. }) = before else { return };
        match outcome {
            Ok(()) => self.succeed(&request, Reply::Connected(id)),
            Err(failure) => {
                self.connection_closed(now, id);
                let why = match failure {
                    ConnectFailure::Unreachable => Why::PeerUnreachable,
                    ConnectFailure::Exhausted => Why::OutOfDescriptors,
                };
                self.refuse(now, &request, &why.into());
            }
        }
    }
}
