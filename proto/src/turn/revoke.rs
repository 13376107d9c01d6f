//! The peer policy may change while calls go on: then every peer is judged again (SEC-002).
//!
//! What it no longer lets pass ends at once, so that the packet path need not ask: what is still
//! permitted is what the policy in force admits. The same is done for a client that moved to a
//! listener on the other side of the edge.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::addr::{AllocationId, ConnectionId, PeerAddr};
use crate::now::Now;
use crate::policy::{Ledger, PeerAcl, Reach};
use crate::turn::channel::Way;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Puts another peer policy in force, for calls that go on as well. No allocation ends.
    pub fn set_peers(&mut self, now: Now, peers: PeerAcl) {
        Arc::make_mut(&mut self.config).peers = peers;
        for id in self.table.ids() {
            self.judge_again(now, id);
        }
    }

    /// Ends permissions, channels and connections of an allocation that the policy does not admit.
    pub(super) fn judge_again(&mut self, now: Now, id: AllocationId) {
        let Some(allocation) = self.table.open(id) else { return };
        let config = &self.config;
        let asker = config.asker(allocation);
        // Peers of ours are kept in their local form, which means the same to the policy.
        let admits_host = |ip: IpAddr, reach: Reach| {
            let peer = SocketAddr::new(ip, 0);
            let admitted = config.peers.admit(&config.edge, asker, peer);
            // Where a relay of the pool is now, its relayed ports alone may be reached.
            admitted.is_ok_and(|peer| peer.reach() == reach)
        };
        let denies =
            |peer: PeerAddr| config.peers.admit_port(&config.edge, asker, peer.socket()).is_err();
        let hosts = allocation.hosts().filter(|&(ip, reach)| !admits_host(ip, reach));
        let hosts: Vec<IpAddr> = hosts.map(|(ip, _)| ip).collect();
        let ways: Vec<Way> =
            allocation.routes().filter(|(_, peer)| denies(*peer)).map(|(way, _)| way).collect();
        let peer_of = |id: &ConnectionId| self.connections.find(*id).map(|it| it.peer);
        let connections = allocation.owner.connections.iter().copied();
        let connections: Vec<ConnectionId> =
            connections.filter(|id| peer_of(id).is_some_and(denies)).collect();
        let before = (allocation.permissions(), allocation.channels());
        allocation.revoke(&hosts, &ways);
        let after = (allocation.permissions(), allocation.channels());
        self.count_gone(before, after);
        self.routes_changed(id);
        for connection in connections {
            self.close_connection(now, connection);
        }
    }
}
