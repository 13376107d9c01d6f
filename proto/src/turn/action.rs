//! What the server answers to its shell: verdicts, actions and changes.
//!
//! A [`Verdict`] is the return value for one packet and says where its payload goes: no queue,
//! no copy. An [`Action`] is rare work the shell carries out after the batch. A [`Change`] is a
//! fact for followers (log, metrics, journal, kernel offload).

use std::time::Duration;

use crate::addr::{AllocationId, ConnectionId, FiveTuple, PeerAddr, RelayId, RelayedAddr};
use crate::auth::Trace;
use crate::channel_data::ChannelNumber;
use crate::dialect::Wrap;
use crate::marks::Marks;
use crate::media::MediaReport;
use crate::policy::UserKey;
use crate::reject::DropReason;
use crate::turn::tally::Usage;

/// A range inside the bytes a verdict was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes; zero is a valid, empty datagram.
    pub len: u32,
}

/// What to do with one packet, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the span from the relayed address `via` to `peer`.
    ToPeer {
        /// The socket to send from.
        via: RelayId,
        /// The destination, already in local form if it is one of our own relayed addresses.
        peer: PeerAddr,
        /// What its header shall say.
        marks: Marks,
        /// The payload.
        payload: Span,
    },
    /// Send the span, wrapped, to a client.
    ToClient {
        /// The client and the listener to send from.
        to: FiveTuple,
        /// How to dress the payload.
        wrap: Wrap,
        /// What its header shall say, if it leaves as a datagram.
        marks: Marks,
        /// The payload.
        payload: Span,
    },
    /// Send the span, as it is, on the connection of a peer.
    ToConnection {
        /// The connection; perhaps one that an action still has to make.
        connection: ConnectionId,
        /// The payload.
        payload: Span,
    },
    /// A control message; actions may be waiting.
    Handled,
    /// A control message after which the client's stream goes elsewhere, as an action says: what
    /// it sent behind the message is not for this server.
    Leaves,
    /// Silence; counted already.
    Dropped(DropReason),
}

/// Work for the shell. Contract: after any batch of inputs, poll actions until `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a control message to a client, from the listener its five-tuple names.
    Send {
        /// Where to.
        to: FiveTuple,
        /// The complete message.
        bytes: Box<[u8]>,
    },
    /// Open a relayed socket at exactly this address, then report `Server::relay_opened`.
    OpenRelay {
        /// The name the socket will have.
        id: RelayId,
        /// Local address and port to bind.
        want: RelayedAddr,
    },
    /// Listen for TCP connections of peers at exactly this address, then report
    /// `Server::relay_opened`. The connections that [`Action::ConnectPeer`] asks for leave from
    /// the same port.
    ListenRelay {
        /// The name the socket will have.
        id: RelayId,
        /// Local address and port to bind.
        want: RelayedAddr,
    },
    /// Close a relayed socket.
    CloseRelay(RelayId),
    /// Connect to a peer, then report `Server::peer_connected`; at latest when
    /// [`Action::ClosePeer`] says so, nobody waits for it any more.
    ConnectPeer {
        /// The name the connection will have.
        connection: ConnectionId,
        /// Local address and port to connect from.
        from: RelayedAddr,
        /// The peer.
        to: PeerAddr,
    },
    /// Join the stream of a client, behind what was sent to it before, to the connection of a
    /// peer: from here on each end gets the bytes of the other, as they are. Report
    /// `Server::connection_carried`, and `Server::connection_closed` when both are closed.
    Join {
        /// The connection.
        connection: ConnectionId,
        /// The client's stream.
        client: FiveTuple,
    },
    /// Close the connection of a peer, and the stream of the client that is joined to it.
    ClosePeer(ConnectionId),
    /// Close a client's stream, once what was sent to it before has left.
    CloseClient(FiveTuple),
    /// Bring a client's message to another worker, whose allocation it speaks of: call
    /// `Server::client_input` there. A client that speaks over a stream goes with it, for good; one
    /// that speaks over DTLS, for as long as its datagrams are diverted.
    HandOver {
        /// The client.
        client: FiveTuple,
        /// The worker.
        worker: u16,
        /// The message.
        bytes: Box<[u8]>,
    },
    /// Let datagrams of this client arrive here, although the listener's steering brings them to
    /// another worker.
    Divert(FiveTuple),
    /// Leave the datagrams of this client to steering again.
    EndDiversion(FiveTuple),
    /// A fact for followers.
    Changed(Change),
}

/// Why a relayed socket could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// Another process holds the port: the server tries another.
    PortTaken,
    /// Out of descriptors or kernel memory.
    Exhausted,
    /// Anything else.
    Other,
}

/// Why a peer could not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// It refused, or the network does not lead to it.
    Unreachable,
    /// Out of descriptors or kernel memory.
    Exhausted,
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Refresh with lifetime zero.
    Released,
    /// Nobody refreshed it.
    Expired,
    /// The relay shut down with the allocation alive.
    ShutDown,
    /// The client's stream ended, and nothing can reach it any more.
    ClientGone,
    /// An operator ended it.
    Ended,
}

impl CloseReason {
    /// Every reason, in order of its index.
    pub const ALL: [Self; 5] =
        [Self::Released, Self::Expired, Self::ShutDown, Self::ClientGone, Self::Ended];

    /// The name used in labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::ShutDown => "shut_down",
            Self::ClientGone => "client_gone",
            Self::Ended => "ended",
        }
    }
}

/// A fact that happened to state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An allocation is ready.
    AllocationOpened {
        /// Its name.
        id: AllocationId,
        /// The client.
        client: FiveTuple,
        /// Keyed hash of the user.
        user: UserKey,
        /// The relayed addresses, local form; one or one per family.
        relayed: [Option<RelayedAddr>; 2],
        /// How long the client has waited since it was challenged; `None` if it was not.
        waited: Option<Duration>,
        /// The trace its credential was minted in.
        trace: Option<Trace>,
    },
    /// An allocation ended.
    AllocationClosed {
        /// Its name.
        id: AllocationId,
        /// Why.
        reason: CloseReason,
        /// How long it lived.
        lived: Duration,
        /// What it carried.
        usage: Usage,
        /// How well its media arrived, if that was measured.
        media: Option<Box<MediaReport>>,
    },
    /// A client took its allocation to another address.
    ClientMoved {
        /// The allocation.
        id: AllocationId,
        /// Where the client is now.
        client: FiveTuple,
    },
    /// A permission was installed or renewed.
    PermissionSet {
        /// The allocation.
        id: AllocationId,
        /// The peer; the port means nothing.
        peer: PeerAddr,
    },
    /// A client of MS-TURN chose its active destination.
    DestinationSet {
        /// The allocation.
        id: AllocationId,
        /// The peer.
        peer: PeerAddr,
    },
    /// A channel was bound or renewed.
    ChannelSet {
        /// The allocation.
        id: AllocationId,
        /// The number.
        number: ChannelNumber,
        /// The peer.
        peer: PeerAddr,
    },
    /// What may pass without being asked about is another in some other way: prolonged, expired,
    /// revoked, or the client is elsewhere. `Server::routes` tells what it is now.
    RoutesChanged {
        /// The allocation.
        id: AllocationId,
    },
}

impl Change {
    /// The allocation it is about.
    pub fn allocation(&self) -> AllocationId {
        match *self {
            Self::AllocationOpened { id, .. }
            | Self::AllocationClosed { id, .. }
            | Self::ClientMoved { id, .. }
            | Self::PermissionSet { id, .. }
            | Self::DestinationSet { id, .. }
            | Self::ChannelSet { id, .. }
            | Self::RoutesChanged { id } => id,
        }
    }
}
