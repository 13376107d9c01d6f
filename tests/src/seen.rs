//! What happens at the server of a world, for a [`crate::shadow::Shadow`] to judge.

use std::net::SocketAddr;
use std::time::Instant;

use proto::addr::{ConnectionId, FiveTuple, PeerAddr};
use proto::turn::Verdict;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub now: Instant,
    /// What.
    pub what: What,
}

/// What can happen at the server.
#[derive(Clone, Debug)]
pub enum What {
    /// A datagram came from a client.
    FromClient(FiveTuple, Vec<u8>, Verdict),
    /// A datagram came to a relayed address (local form).
    FromPeer(SocketAddr, PeerAddr, Vec<u8>, Verdict),
    /// A control message left for a client.
    Reply(FiveTuple, Vec<u8>),
    /// The stream of a client ended.
    ClientGone(FiveTuple),
    /// The server called a peer from a relayed address.
    Called(ConnectionId, SocketAddr, SocketAddr),
    /// A peer called a relayed address: the connection, if it was let in.
    CalledBy(Option<ConnectionId>, SocketAddr, SocketAddr),
    /// Bytes came on the connection of a peer.
    FromConnection(ConnectionId, Vec<u8>, Verdict),
}
