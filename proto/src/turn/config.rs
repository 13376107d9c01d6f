//! What a server needs to know, already valid.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::addr::{Side, Transport};
use crate::auth::Authority;
use crate::dialect::{Dialect, PerDialect};
use crate::policy::{Asker, Bandwidth, Edge, Limits, PeerAcl};
use crate::turn::allocation::Allocation;
use crate::turn::refresh::LIFETIME_DEFAULT;

/// Which part of the relayed ports this server owns: pair `port / 2` belongs to worker
/// `(port / 2) % of`, so that an even port and its successor have one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of this worker.
    pub index: u16,
    /// How many workers there are; at least 1.
    pub of: u16,
}

/// What becomes of clients that ask for mobility (RFC 8016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MobilityPolicy {
    /// Their wish is ignored, as by servers that never heard of it.
    Ignored,
    /// They are told that it is forbidden.
    Forbidden,
    /// They get tickets.
    Allowed,
}

/// What is granted to clients of older documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compat {
    /// Accept channel numbers 0x5000–0x7FFF of RFC 5766 clients.
    pub rfc5766_channels: bool,
    /// Answer Binding requests of RFC 3489 clients, which send no magic cookie.
    pub rfc3489: bool,
}

/// Where clients are sent that this relay does not take (RFC 8489 §10).
#[derive(Clone, Debug, Default)]
pub struct Redirect {
    /// Other relays, by [`Family::index`](crate::addr::Family::index); clients are spread over those of their family.
    pub alternates: [Vec<SocketAddr>; 2],
    /// The name in the others' certificate, if it is not the one of this relay's: at most 255
    /// characters of ASCII.
    pub domain: Option<String>,
    /// Whether this is done while the relay drains.
    pub when_draining: bool,
    /// Whether this is done while it holds as many allocations as it may.
    pub when_full: bool,
}

/// What clients of one dialect are granted.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Payload of one allocation, of one user, and so on.
    pub bandwidth: Bandwidth,
    /// The lifetime of an allocation whose client names none, and the least that is granted.
    pub lifetime: Duration,
    /// The same for clients on connections.
    pub lifetime_on_stream: Duration,
}

impl Terms {
    /// Those of the RFCs (RFC 8656 §3.2).
    pub const fn rfc(bandwidth: Bandwidth) -> Self {
        Self { bandwidth, lifetime: LIFETIME_DEFAULT, lifetime_on_stream: LIFETIME_DEFAULT }
    }

    /// Those of MS-TURN, whose `lifetime` over UDP is the operator's (MST-79).
    ///
    /// A connection tells by its end that the client is gone (MST-78, MST-80), so there the
    /// longest is granted: libnice 0.1.21 refreshes there too, if it ever has to, and takes the
    /// answer for the beginning of a peer's message, which is the end of its call.
    pub const fn microsoft(bandwidth: Bandwidth, lifetime: Duration, longest: Duration) -> Self {
        Self { bandwidth, lifetime, lifetime_on_stream: longest }
    }
}

/// Configuration of one server. Every field is valid: the shell refuses anything else.
#[derive(Clone, Debug)]
pub struct Config {
    /// The realm of the long-term credentials: 1–127 characters.
    pub realm: String,
    /// Value of SOFTWARE in authenticated Allocate and Refresh responses; `None` hides it.
    pub software: Option<String>,
    /// Listeners, relay addresses, 1:1 NAT.
    pub edge: Edge,
    /// Which peers may be reached.
    pub peers: PeerAcl,
    /// Quotas and sizes.
    pub limits: Limits,
    /// Verifies credentials.
    pub authority: Authority,
    /// Relayed ports.
    pub ports: RangeInclusive<u16>,
    /// This server's part of them.
    pub share: Share,
    /// Upper bound of an allocation's lifetime (RFC 8656 §7.2: at most an hour).
    pub lifetime_max: Duration,
    /// How long a nonce is good (RFC 8656 §5: at most an hour).
    pub nonce_lifetime: Duration,
    /// How long after a credential's expiry its allocation may still be refreshed.
    pub refresh_grace: Duration,
    /// How long a released port rests before it is given out again.
    pub port_quarantine: Duration,
    /// What is granted to clients of older documents.
    pub compat: Compat,
    /// Whether an allocation may follow its client to another address.
    pub mobility: MobilityPolicy,
    /// Whether clients may have relays for UDP.
    pub udp_relays: bool,
    /// Whether clients may have relays for TCP (RFC 6062).
    pub tcp_relays: bool,
    /// Whether MS-TURN is spoken beside TURN of the RFCs.
    pub microsoft: bool,
    /// What clients are granted.
    pub terms: PerDialect<Terms>,
    /// Where clients are sent that are not taken here.
    pub redirect: Redirect,
    /// Which allocations have the quality of their media measured, if any have.
    pub measured: Option<Measured>,
}

/// Allocations that have the quality of their media measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// One of so many.
    pub every: NonZeroU32,
    /// Whether they have no routes, so that every packet of theirs is heard.
    pub whole: bool,
}

impl Config {
    /// Who asks for a peer: a client, by where it was seen last and what its credential says.
    pub(crate) fn asker<'a>(&self, allocation: &'a Allocation) -> Asker<'a> {
        let client = allocation.newest().unwrap_or(allocation.client);
        let listener = self.edge.listener(client.listener);
        let side = listener.map_or(Side::External, |listener| listener.side);
        Asker { side, peers: allocation.owner.peers.as_deref() }
    }

    /// The lifetime of an allocation whose client names none, and the least that is granted.
    pub(crate) fn lifetime_default(&self, dialect: Dialect, transport: Transport) -> Duration {
        let terms = self.terms.of(dialect);
        if transport.is_stream() { terms.lifetime_on_stream } else { terms.lifetime }
    }
}
