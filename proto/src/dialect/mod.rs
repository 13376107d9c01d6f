//! The grammars of one language: what clients of TURN say and hear, as bytes.
//!
//! A dialect owns no state. [`Call`] is what an answer repeats of its request, and says in which
//! dialect it is written; [`Wrap`] is how payload is dressed.

pub mod ms;
pub(crate) mod rfc;

use std::time::Duration;

use crate::addr::{Family, PeerAddr};
use crate::channel_data::ChannelNumber;
use crate::reject::Why;
use crate::request::{Refusal, Reply};
use crate::stun::{BufferFull, Integrity, MessageKey, TransactionId};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// STUN and TURN as the RFCs have them.
    Rfc,
    /// MS-TURN.
    Ms,
}

/// Something of which every dialect has its own.
#[derive(Clone, Copy, Debug)]
pub struct PerDialect<T> {
    /// Of TURN as the RFCs have it.
    pub rfc: T,
    /// Of MS-TURN.
    pub ms: T,
}

impl<T> PerDialect<T> {
    /// That of one dialect.
    pub fn of(&self, dialect: Dialect) -> &T {
        match dialect {
            Dialect::Rfc => &self.rfc,
            Dialect::Ms => &self.ms,
        }
    }
}

/// What the grammar of a dialect means for what its clients hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A permission.
    pub(crate) permission: Duration,
    /// A channel, or the active destination.
    pub(crate) route: Duration,
    /// Whether payload prolongs an allocation.
    pub(crate) use_prolongs: bool,
    /// Whether the bytes of TCP peers travel in the client's messages, not on a connection each.
    pub(crate) chunks: bool,
    /// Whether clients can be told what ICMP says.
    pub(crate) hears_icmp: bool,
    /// The longest message to a client on a stream.
    pub(crate) longest_on_stream: usize,
}

impl Dialect {
    /// What is different for its clients.
    pub(crate) fn rules(self) -> &'static Rules {
        match self {
            Self::Rfc => &rfc::RULES,
            Self::Ms => &ms::RULES,
        }
    }

    /// Payload that names its peer; the first bytes of `id` name the transaction.
    #[inline]
    pub(crate) fn indication(self, peer: PeerAddr, id: [u8; 16]) -> Wrap {
        match self {
            Self::Rfc => {
                let [first @ .., _, _, _, _] = id;
                Wrap::Indication(peer, TransactionId(first))
            }
            Self::Ms => Wrap::MsIndication(peer, ms::Transaction(id)),
        }
    }

    /// Bytes that such an indication adds to a payload, padding included (DATA-008).
    #[inline]
    pub(crate) fn indication_overhead(self, peer: Family, len: usize) -> usize {
        let address = match peer {
            Family::V4 => 8,
            Family::V6 => 20,
        };
        match self {
            // Header, heads of two attributes.
            Self::Rfc => 28 + address + len.next_multiple_of(4) - len,
            // Header, cookie, heads of two attributes.
            Self::Ms => 36 + address,
        }
    }
}

/// How payload is dressed toward a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// ChannelData (RFC 8656 §12.4).
    Channel(ChannelNumber),
    /// A Data indication (RFC 8656 §11.3) naming this peer.
    Indication(PeerAddr, TransactionId),
    /// A Data indication of MS-TURN naming this peer.
    MsIndication(PeerAddr, ms::Transaction),
    /// Not at all: it comes from the active destination of MS-TURN.
    Raw,
}

/// What an answer repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A request of STUN and TURN as the RFCs have them.
    Rfc(rfc::Call),
    /// A request of MS-TURN.
    Ms(ms::Call),
}

/// Key and attribute that protect the answer to an authenticated request (AUTH-010).
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    /// The key that verified the request.
    pub(crate) key: MessageKey,
    /// The attribute.
    pub(crate) integrity: Integrity,
}

/// One answer, to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer<'a> {
    /// A success response.
    Success(Reply<'a>),
    /// An error response.
    Error(&'a Refusal<'a>),
}

impl Call {
    /// The dialect.
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Rfc(_) => Dialect::Rfc,
            Self::Ms(_) => Dialect::Ms,
        }
    }

    /// The transaction.
    pub(crate) fn transaction(&self) -> &[u8] {
        match self {
            Self::Rfc(call) => &call.transaction.0,
            Self::Ms(call) => &call.transaction.0,
        }
    }

    /// The code of a refusal.
    pub(crate) fn code(&self, why: Why) -> u16 {
        match self {
            Self::Rfc(_) => why.code().0,
            Self::Ms(_) => ms::translate::code(why),
        }
    }

    /// Whether a refusal with this code invites the client to authenticate anew.
    pub(crate) fn challenges(&self, code: u16) -> bool {
        match self {
            Self::Rfc(_) => rfc::challenges(code),
            Self::Ms(_) => ms::translate::challenges(code),
        }
    }

    /// Writes an answer. `software` names us to whom it may be said.
    pub(crate) fn write<'b>(
        &self,
        answer: Answer<'_>,
        signer: Option<&Signer>,
        software: Option<&str>,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], BufferFull> {
        match self {
            Self::Rfc(call) => call.write(answer, signer, software, buffer),
            Self::Ms(call) => call.write(answer, signer, buffer),
        }
    }
}
