//! How a request ended: the ten phrases of [MS-AVEDGEA] §2.2.4.7.

use crate::sip::answer::Status;

/// `reasonPhrase` of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Credentials are in the response.
    Ok,
    /// The XML is none of the schema, or an address is no SIP URI.
    RequestMalformed,
    /// More than 100 credentials at once.
    RequestTooLarge,
    /// No relay is configured for what is asked.
    NotSupported,
    /// The server or the user asks more often than it may.
    ServerBusy,
    /// Minting took longer than a request may.
    TimeOut,
    /// The configuration does not allow this identity.
    Forbidden,
    /// The operating system gives no random numbers.
    InternalServerError,
    /// The pool key makes no token; nobody has seen it happen.
    OtherFailure,
    /// Another version than 1.0, 2.0 or 3.0.
    VersionMismatch,
}

/// Each with its phrase, and the status of SIP that goes with it: always 200, as the known
/// clients expect; what the product sends is not confirmed (MRAS-21).
const TABLE: [(Reason, &str, Status); 10] = [
    (Reason::Ok, "OK", Status::Ok),
    (Reason::RequestMalformed, "Request Malformed", Status::Ok),
    (Reason::RequestTooLarge, "Request Too Large", Status::Ok),
    (Reason::NotSupported, "Not Supported", Status::Ok),
    (Reason::ServerBusy, "Server Busy", Status::Ok),
    (Reason::TimeOut, "Time Out", Status::Ok),
    (Reason::Forbidden, "Forbidden", Status::Ok),
    (Reason::InternalServerError, "Internal Server Error", Status::Ok),
    (Reason::OtherFailure, "Other Failure", Status::Ok),
    (Reason::VersionMismatch, "Version Mismatch", Status::Ok),
];

impl Reason {
    /// Every phrase, in order of its index.
    pub(crate) fn phrases() -> impl Iterator<Item = &'static str> {
        TABLE.into_iter().map(|(_, phrase, _)| phrase)
    }

    /// The phrase.
    pub(crate) fn phrase(self) -> &'static str {
        self.row().1
    }

    /// The status of the SIP response.
    pub(crate) fn status(self) -> Status {
        self.row().2
    }

    /// Position among the phrases.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    fn row(self) -> (Self, &'static str, Status) {
        TABLE[self.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mras_021_phrases_stand_in_the_order_of_their_reasons() {
        for (index, (reason, phrase, status)) in TABLE.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{phrase}");
            assert_eq!((reason.phrase(), reason.status()), (phrase, status));
        }
    }
}
