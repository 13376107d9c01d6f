//! What clients ask for and what they hear, in no dialect: the words between `dialect` and `turn`.
//!
//! A procedure that serves more than one dialect takes and gives these. Requests that one dialect
//! alone knows are read where they are served.

use std::net::SocketAddr;

use crate::addr::{ConnectionId, Family};

/// What an Allocate asks for, after its syntax was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// A relay for TCP, not UDP.
    pub(crate) tcp: bool,
    /// The port that was reserved with another allocation.
    pub(crate) token: Option<[u8; 8]>,
    /// Which families, by [`Family::index`].
    pub(crate) families: [bool; 2],
    /// What the port must be.
    pub(crate) parity: Parity,
    /// Seconds.
    pub(crate) lifetime: Option<u32>,
    /// A ticket that moves the allocation.
    pub(crate) mobile: bool,
}

/// What an Allocate asks of its port (RFC 8656 §7.2 step 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parity {
    /// Any port.
    Any,
    /// An even port.
    Even,
    /// An even port whose successor is kept for a second allocation.
    Pair,
}

/// Which connection a message belongs to, and the how manieth of it this is (MST-71).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Chosen by the server, once an allocation.
    pub connection: [u8; 20],
    /// Counts Sends and Set Active Destinations.
    pub number: u32,
}

/// What a success says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'a> {
    /// Nothing but itself.
    Done,
    /// Where the client is.
    Mapped(SocketAddr),
    /// Where the client is, and where answers come from.
    Discovered(&'a Discovered),
    /// What the client holds.
    Allocated(&'a Allocated<'a>),
    /// How many seconds an allocation has left.
    Refreshed {
        /// Seconds.
        lifetime: u32,
        /// What moves it next.
        ticket: Option<&'a [u8]>,
    },
    /// A peer was reached.
    Connected(ConnectionId),
    /// The active destination is another one now.
    Aimed(Numbered),
}

/// What a client holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocated<'a> {
    /// As peers see it, a relayed address a family.
    pub(crate) relayed: &'a [SocketAddr],
    /// Seconds.
    pub(crate) lifetime: u32,
    /// Where the client is.
    pub(crate) mapped: SocketAddr,
    /// Stands for the port that was reserved with it.
    pub(crate) token: Option<[u8; 8]>,
    /// What moves it.
    pub(crate) ticket: Option<&'a [u8]>,
    /// The family that could not be served, and the code that says why.
    pub(crate) missing: Option<(Family, u16)>,
    /// How its requests are numbered, where they are.
    pub(crate) numbered: Option<Numbered>,
}

impl Allocated<'_> {
    /// Nothing any more.
    pub(crate) fn nothing(mapped: SocketAddr) -> Self {
        let (token, ticket, missing, numbered) = (None, None, None, None);
        Self { relayed: &[], lifetime: 0, mapped, token, ticket, missing, numbered }
    }
}

/// What NAT behaviour discovery says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Discovered {
    /// Where the client is.
    pub(crate) mapped: SocketAddr,
    /// Where the answer comes from.
    pub(crate) origin: SocketAddr,
    /// Where it comes from if host and port shall be others.
    pub(crate) other: SocketAddr,
    /// Bytes without meaning.
    pub(crate) padding: Option<usize>,
}

/// What an error says.
#[derive(Clone, Debug)]
pub(crate) struct Refusal<'a> {
    /// The code.
    pub(crate) code: u16,
    /// The types of attributes that were not understood.
    pub(crate) unknown: &'a [u16],
    /// How to authenticate.
    pub(crate) challenge: Option<Challenge<'a>>,
    /// Who serves the client instead.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// How to authenticate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Challenge<'a> {
    /// The realm.
    pub(crate) realm: &'a str,
    /// The nonce.
    pub(crate) nonce: &'a [u8],
    /// The server name of access tokens, where they are taken.
    pub(crate) authorization: Option<&'a str>,
    /// What this server is called outside a NAT, if it stands behind one.
    pub(crate) here: Option<SocketAddr>,
}

/// Where a client is sent.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// Other servers, the first choice first.
    pub(crate) servers: [Option<SocketAddr>; 2],
    /// The name in their certificate.
    pub(crate) domain: Option<String>,
}
