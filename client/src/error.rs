//! What can go wrong between a client and its server.

use std::io;
use std::time::Duration;

/// Why a request brought no success.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no.
    #[error("refused with {code} {reason}")]
    Refused {
        /// The code of ERROR-CODE.
        code: u16,
        /// The reason phrase beside it.
        reason: String,
        /// Whether the answer was signed with the client's own key.
        signed: bool,
    },
    /// Nothing came back in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Silence(Duration),
    /// An answer that proves nothing: unsigned, or signed with another key.
    #[error("the answer carries no valid message integrity")]
    Unverified,
    /// An answer that cannot be what the request asked for.
    #[error("the answer makes no sense: {0}")]
    Garbled(String),
    /// Something between the client and the server removed the stronger algorithms from the
    /// challenge (RFC 8489 §9.2.5).
    #[error("the challenge promises password algorithms and lists none")]
    BidDown,
    /// The request could not be written: a name too long, a character that is not allowed.
    #[error("the request cannot be written: {0}")]
    Unsendable(String),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The error code, if the server refused.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Silence(_)
            | Self::Unverified
            | Self::Garbled(_)
            | Self::BidDown
            | Self::Unsendable(_)
            | Self::Io(_) => None,
        }
    }
}
