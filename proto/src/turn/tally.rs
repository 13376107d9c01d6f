//! Counters as plain integers.
//!
//! The core adds; the shell copies them out when somebody asks. Names, units and labels are the
//! business of the shell's exposition.

use std::net::SocketAddr;
use std::time::Duration;

use crate::addr::{AllocationId, FiveTuple, Transport};
pub use crate::flow::Flow;
use crate::media::{LegSummary, MediaTally};
use crate::policy::UserKey;
use crate::policy::bandwidth::Pressure;
use crate::reject::{DropReason, Why};
use crate::stun::Method;
use crate::turn::action::CloseReason;

/// What was relayed, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Client to peer.
    pub to_peer: Flow,
    /// Peer to client.
    pub to_client: Flow,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.to_peer += other.to_peer;
        self.to_client += other.to_client;
    }
}

/// Everything one listener saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerTally {
    /// What clients of this listener relayed.
    pub relayed: Usage,
    /// Bytes and messages received as control (STUN), requests and indications without payload.
    pub control_in: Flow,
    /// Control messages sent.
    pub control_out: Flow,
    /// What its clients asked for, and what became of them.
    pub demand: Demand,
}

/// What clients asked for, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Requests received, by [`Procedure`]; those of strangers and repetitions as well.
    pub requests: [u64; Procedure::ALL.len()],
    /// Requests answered with a code of 400 to 499, by [`Procedure`].
    pub client_errors: [u64; Procedure::ALL.len()],
    /// Set Active Destinations answered with an error, whatever its code.
    pub destination_errors: u64,
    /// Requests whose credentials proved nothing.
    pub failed_logins: u64,
    /// Allocates of users that hold as many allocations as they may.
    pub over_user_quota: u64,
    /// Clients sent to another relay.
    pub redirected: u64,
    /// Allocations opened.
    pub opened: u64,
    /// Allocations ended, by [`CloseReason`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Payload that nothing permits or nobody waits for: see [`DropReason::is_for_nobody`].
    pub not_forwarded: u64,
    /// Packets dropped for any other reason.
    pub dropped: u64,
}

impl Demand {
    /// Counts a refusal that the client hears with this code.
    pub(crate) fn refuse(&mut self, procedure: Procedure, why: Why, code: u16) {
        match code {
            300 => self.redirected += 1,
            400..=499 => self.client_errors[procedure as usize] += 1,
            _ => {}
        }
        self.destination_errors += u64::from(procedure == Procedure::SetActiveDestination);
        self.failed_logins += u64::from(why.is_failed_login());
        self.over_user_quota += u64::from(why == Why::UserQuota);
    }

    /// Counts packets that end here.
    pub(crate) fn drop(&mut self, reason: DropReason, count: u64) {
        let place =
            if reason.is_for_nobody() { &mut self.not_forwarded } else { &mut self.dropped };
        *place += count;
    }
}

/// The methods whose outcomes are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    /// Binding.
    Binding,
    /// Allocate.
    Allocate,
    /// Refresh.
    Refresh,
    /// `CreatePermission`.
    CreatePermission,
    /// `ChannelBind`.
    ChannelBind,
    /// Connect.
    Connect,
    /// `ConnectionBind`.
    ConnectionBind,
    /// Set Active Destination of MS-TURN.
    SetActiveDestination,
}

impl Procedure {
    /// Every procedure, in order of its index.
    pub const ALL: [Self; 8] = [
        Self::Binding,
        Self::Allocate,
        Self::Refresh,
        Self::CreatePermission,
        Self::ChannelBind,
        Self::Connect,
        Self::ConnectionBind,
        Self::SetActiveDestination,
    ];

    /// The procedure of a request's method; `None` for methods that a server does not serve.
    pub fn of(method: Method) -> Option<Self> {
        match method {
            Method::BINDING => Some(Self::Binding),
            Method::ALLOCATE => Some(Self::Allocate),
            Method::REFRESH => Some(Self::Refresh),
            Method::CREATE_PERMISSION => Some(Self::CreatePermission),
            Method::CHANNEL_BIND => Some(Self::ChannelBind),
            Method::CONNECT => Some(Self::Connect),
            Method::CONNECTION_BIND => Some(Self::ConnectionBind),
            _ => None,
        }
    }

    /// The name used in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::Allocate => "allocate",
            Self::Refresh => "refresh",
            Self::CreatePermission => "create_permission",
            Self::ChannelBind => "channel_bind",
            Self::Connect => "connect",
            Self::ConnectionBind => "connection_bind",
            Self::SetActiveDestination => "set_active_destination",
        }
    }
}

/// Counters of one worker's server; monotonic but for the gauges at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Requests answered with success, by [`Procedure`].
    pub succeeded: [u64; Procedure::ALL.len()],
    /// Requests refused, by [`Why::index`].
    pub rejected: [u64; Why::COUNT],
    /// Packets dropped, by [`DropReason::index`].
    pub dropped: [u64; DropReason::COUNT],
    /// Allocations ended, by [`CloseReason`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Allocations opened.
    pub opened: u64,
    /// Relayed through ChannelData, both directions.
    pub via_channel: Usage,
    /// Relayed through Send and Data indications, both directions.
    pub via_indication: Usage,
    /// Relayed bare between MS-TURN clients and their active destinations, both directions.
    pub via_destination: Usage,
    /// Relayed through TCP connections, both directions; a packet is what was read at once.
    pub via_connection: Usage,
    /// What was relayed as datagrams, by what it is, of those allocations that are measured.
    pub media: MediaTally,
    /// How often a TCP relay was read no more because a limit of bandwidth was reached.
    pub paced: u64,
    /// ICMP messages that clients were told of.
    pub icmp_reported: u64,
    /// Gauge: allocations alive.
    pub allocations: u64,
    /// Gauge: permissions alive.
    pub permissions: u64,
    /// Gauge: channels bound, and active destinations set.
    pub channels: u64,
    /// Gauge: TCP connections to peers, being made, waiting or joined.
    pub connections: u64,
    /// Gauge: relayed ports in use or reserved.
    pub ports_used: u64,
    /// Gauge: relayed ports of this worker's share, over all relay addresses.
    pub ports_total: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            succeeded: [0; Procedure::ALL.len()],
            rejected: [0; Why::COUNT],
            dropped: [0; DropReason::COUNT],
            closed: [0; CloseReason::ALL.len()],
            opened: 0,
            via_channel: Usage::default(),
            via_indication: Usage::default(),
            via_destination: Usage::default(),
            via_connection: Usage::default(),
            media: MediaTally::default(),
            paced: 0,
            icmp_reported: 0,
            allocations: 0,
            permissions: 0,
            channels: 0,
            connections: 0,
            ports_used: 0,
            ports_total: 0,
        }
    }
}

/// One allocation as an observer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationView {
    /// Its name, unique in its worker.
    pub id: AllocationId,
    /// The client.
    pub client: FiveTuple,
    /// Transport between client and relay.
    pub transport: Transport,
    /// Keyed hash of the user.
    pub user: UserKey,
    /// Advertised relayed addresses, by family.
    pub relayed: [Option<SocketAddr>; 2],
    /// Time since it was opened.
    pub age: Duration,
    /// Time until it expires unless refreshed.
    pub expires_in: Duration,
    /// Live permissions.
    pub permissions: usize,
    /// Bound channels.
    pub channels: usize,
    /// What it carried so far.
    pub usage: Usage,
    /// Packets among that which its routes carried beside the server, unheard.
    pub beside: u64,
    /// How far it is from its limits of bandwidth.
    pub pressure: Pressure,
    /// How well its media arrives, by [`crate::media::Leg`], if that is measured.
    pub media: Option<[LegSummary; 2]>,
}
