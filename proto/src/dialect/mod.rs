//! The grammars of one language: what clients of TURN say and hear, as bytes.
//!
//! A dialect owns no state. [`Call`] is what an answer repeats of its request, and says in which
//! dialect it is written; [`Wrap`] is how payload is dressed.

pub(crate) mod rfc;

use crate::addr::PeerAddr;
use crate::channel_data::ChannelNumber;
use crate::request::{Refusal, Reply};
use crate::stun::{BufferFull, Integrity, MessageKey, TransactionId};

/// How payload is dressed toward a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// ChannelData (RFC 8656 §12.4).
    Channel(ChannelNumber),
    /// A Data indication (RFC 8656 §11.3) naming this peer.
    Indication(PeerAddr, TransactionId),
}

/// What an answer repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A request of STUN and TURN as the RFCs have them.
    Rfc(rfc::Call),
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
    /// Whether a refusal with this code invites the client to authenticate anew.
    pub(crate) fn challenges(&self, code: u16) -> bool {
        match self {
            Self::Rfc(_) => rfc::challenges(code),
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
        }
    }
}
