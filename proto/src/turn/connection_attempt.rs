//! `ConnectionAttempt` (RFC 6062 §5.3): a peer has connected to the relayed address.

use crate::addr::{ConnectionId, PeerAddr, RelayId, RelayedAddr};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::DropReason;
use crate::stun::attribute::{ConnectionId as WireConnectionId, XorPeerAddress};
use crate::stun::{Class, Method, Writer};
use crate::turn::connection::{CLAIM_PATIENCE, Connection, Side, State};
use crate::turn::server::Server;

/// Bytes of the indication for an IPv6 peer.
const INDICATION: usize = 20 + 24 + 8;

impl<L: Ledger> Server<L> {
    /// A peer's connection was accepted at a relayed address: the name to keep it under, or
    /// `None` if it must be closed at once.
    pub fn peer_arrived(&mut self, now: Now, at: RelayId, from: PeerAddr) -> Option<ConnectionId> {
        match self.attempt(now, at, from) {
            Ok(id) => Some(id),
            Err(reason) => {
                self.dropped(reason);
                None
            }
        }
    }

    fn attempt(
        &mut self,
        now: Now,
        at: RelayId,
        from: PeerAddr,
    ) -> Result<ConnectionId, DropReason> {
        let allocation = self.table.open(at.allocation).ok_or(DropReason::StaleRelay)?;
        let permission = allocation.permission(from.ip()).ok_or(DropReason::NoPermission)?;
        // A connection is a way to the peer, too.
        let asker = self.config.asker(allocation);
        let reach = permission.reach;
        if !self.config.peers.opens(&self.config.edge, asker, from, reach)
            || permission.hairpin()
                && !self.ledger.is_live(RelayedAddr::new(from.socket()), allocation.carried())
        {
            return Err(DropReason::PeerDenied);
        }
        if allocation.away {
            return Err(DropReason::ClientAway);
        }
        if allocation.dialect.rules().chunks {
            return self.welcome_peer(now, at, from);
        }
        let client = allocation.client;
        let charged = self.charge_connection(at.allocation).ok_or(DropReason::StaleRelay)?;
        let connection = Connection {
            allocation: at.allocation,
            peer: from,
            begun_by: Side::Peer,
            lease: charged?,
            state: State::Unclaimed { until: now.mono + CLAIM_PATIENCE },
        };
        let id = self.add_connection(connection).ok_or(DropReason::StaleRelay)?;
        let mut buffer = [0; INDICATION];
        let (class, method) = (Class::Indication, Method::CONNECTION_ATTEMPT);
        let mut writer = Writer::new(&mut buffer, class, method, self.random.transaction());
        writer
            .add(&XorPeerAddress(self.config.edge.present(from).socket()))
            .add(&WireConnectionId(id.0));
        if let Ok(bytes) = writer.finish() {
            self.send_control(client, bytes.into());
        }
        Ok(id)
    }
}
