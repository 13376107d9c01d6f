//! Responses: what RFC 3261 §8.2.6 wants copied from the request, and what is told.

use sha2::{Digest, Sha256};

use crate::sip::message::{Head, Start};

/// A status and its phrase (RFC 3261 §21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    MethodNotAllowed,
    EntityTooLarge,
    UnsupportedMediaType,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    /// Every refusal, in order of its index.
    pub(crate) const REFUSALS: [Self; 6] = [
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::EntityTooLarge,
        Self::UnsupportedMediaType,
        Self::NotImplemented,
        Self::VersionNotSupported,
    ];

    /// Its number.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Ok => "200",
            Self::BadRequest => "400",
            Self::MethodNotAllowed => "405",
            Self::EntityTooLarge => "413",
            Self::UnsupportedMediaType => "415",
            Self::NotImplemented => "501",
            Self::VersionNotSupported => "505",
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::EntityTooLarge => "Request Entity Too Large",
            Self::UnsupportedMediaType => "Unsupported Media Type",
            Self::NotImplemented => "Not Implemented",
            Self::VersionNotSupported => "Version Not Supported",
        }
    }
}

/// What is told beside what is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// Its type is the only one we speak; empty: none.
    pub(crate) body: String,
}

/// Whether a request can be answered at all: it was asked for, and says where the answer goes.
pub(crate) fn can_answer(head: &Head) -> bool {
    matches!(head.start(), Start::Request { method, .. } if method != "ACK")
        && head.all("via").next().is_some()
}

/// Whether a request has what every request must (RFC 3261 §8.1.1).
pub(crate) fn is_complete(head: &Head, method: &str) -> bool {
    let sequence = head.only("cseq").and_then(|value| value.split_once(BLANK));
    let counted = sequence.is_some_and(|(number, own)| {
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        digits && number.parse::<u32>().is_ok_and(|n| n < 1 << 31) && own.trim() == method
    });
    let filled = |name| head.only(name).is_some_and(|value| !value.is_empty());
    counted && ["from", "to", "call-id"].into_iter().all(filled)
}

const BLANK: [char; 2] = [' ', '\t'];

impl Answer {
    /// Without a body.
    pub(crate) fn bare(status: Status) -> Self {
        Self { status, headers: &[], body: String::new() }
    }

    /// The response to a request. It goes back on the connection that the request came on, so
    /// Via needs no more than to be copied (§18.2.2).
    pub(crate) fn to_bytes(&self, request: &Head, content_type: &str) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {} {}\r\n", self.status.code(), self.status.phrase());
        let mut line = |name: &str, value: &str| {
            text.extend([name, ": ", value, "\r\n"]);
        };
        for (name, written) in [("via", "Via"), ("record-route", "Record-Route"), ("from", "From")]
        {
            request.all(name).for_each(|value| line(written, value));
        }
        for value in request.all("to") {
            if has_tag(value) {
                line("To", value);
            } else {
                line("To", &format!("{value};tag={}", tag_of(request)));
            }
        }
        for (name, written) in [("call-id", "Call-ID"), ("cseq", "CSeq")] {
            request.all(name).for_each(|value| line(written, value));
        }
        self.headers.iter().for_each(|(name, value)| line(name, value));
        if !self.body.is_empty() {
            line("Content-Type", content_type);
        }
        line("Content-Length", &self.body.len().to_string());
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}

/// Whether To names a dialog already: a tag among the parameters behind the address.
fn has_tag(to: &str) -> bool {
    let parameters = to.rsplit('>').next().unwrap_or_default();
    parameters.split(';').skip(1).any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("tag")
    })
}

/// The same for a request that comes again (RFC 3261 §8.2.7).
fn tag_of(request: &Head) -> String {
    let mut hash = Sha256::new();
    for name in ["call-id", "from", "cseq", "via"] {
        for value in request.all(name) {
            hash.update(value);
            hash.update([0]);
        }
    }
    hash.finalize().iter().take(4).fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"))
}
