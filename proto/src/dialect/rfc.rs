//! Answers of STUN and TURN as the RFCs have them (RFC 8489, RFC 8656 and their extensions).
//!
//! Responses to authenticated requests are signed, the others carry as little as the RFC allows:
//! no words, no SOFTWARE (threat model T3).

use std::time::Duration;

use crate::dialect::{Answer, Rules, Signer};
use crate::request::{Allocated, Challenge, Discovered, Elsewhere, Refusal, Reply};
use crate::stun::attribute::{
    AddressErrorCode, AlternateDomain, AlternateServer, ConnectionId, ErrorCode, Lifetime,
    MappedAddress, MobilityTicket, Nonce, OtherAddress, Padding, PasswordAlgorithms, Realm,
    ReservationToken, ResponseOrigin, Software, ThirdPartyAuthorization, UnknownAttributes,
    XorMappedAddress, XorRelayedAddress,
};
use crate::stun::{BufferFull, Class, Method, TransactionId, Writer};

/// A permission lives five minutes, a channel ten (RFC 8656 §9, §12).
pub(crate) const RULES: Rules = Rules {
    permission: Duration::from_secs(300),
    route: Duration::from_secs(600),
    use_prolongs: false,
    chunks: false,
    hears_icmp: true,
    // A STUN header, and a body that its length field can say.
    longest_on_stream: 20 + 65_532,
};

/// The most padding an answer has: more than any Ethernet frame.
pub(crate) const PADDING_MAX: usize = 2_048;

/// What an answer repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// What was asked for.
    pub(crate) method: Method,
    /// The transaction.
    pub(crate) transaction: TransactionId,
}

/// Whether an error of this code names realm, nonce and algorithms (RFC 8489 §9.2.4).
pub(crate) fn challenges(code: u16) -> bool {
    matches!(code, 401 | 438)
}

impl Call {
    /// As [`Call::write`](crate::dialect::Call::write).
    pub(crate) fn write<'b>(
        self,
        answer: Answer<'_>,
        signer: Option<&Signer>,
        software: Option<&str>,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], BufferFull> {
        let class = match answer {
            Answer::Success(_) => Class::Success,
            Answer::Error(_) => Class::Error,
        };
        let mut writer = Writer::new(buffer, class, self.method, self.transaction);
        // RFC 8489 §9.2.4: a challenge is not signed.
        let mut signer = signer;
        match answer {
            Answer::Success(reply) => succeed(reply, &mut writer),
            Answer::Error(refusal) => {
                refuse(refusal, &mut writer);
                signer = signer.filter(|_| refusal.challenge.is_none());
            }
        }
        if let Some(Signer { key, integrity }) = signer {
            let named = matches!(self.method, Method::ALLOCATE | Method::REFRESH);
            if let Some(software) = software.filter(|_| named) {
                writer.add(&Software(software));
            }
            writer.sign(key, *integrity);
        }
        writer.finish()
    }
}

fn succeed(reply: Reply<'_>, writer: &mut Writer<'_>) {
    match reply {
        // The second is of a request that these documents have not.
        Reply::Done | Reply::Aimed(_) => {}
        Reply::Mapped(mapped) => {
            writer.add(&XorMappedAddress(mapped));
        }
        Reply::Discovered(found) => discovered(*found, writer),
        Reply::Allocated(held) => allocated(held, writer),
        Reply::Refreshed { lifetime, ticket } => {
            writer.add(&Lifetime(lifetime));
            if let Some(ticket) = ticket {
                writer.add(&MobilityTicket(ticket));
            }
        }
        Reply::Connected(id) => {
            writer.add(&ConnectionId(id.0));
        }
    }
}

fn allocated(held: &Allocated<'_>, writer: &mut Writer<'_>) {
    for addr in held.relayed {
        writer.add(&XorRelayedAddress(*addr));
    }
    writer.add(&Lifetime(held.lifetime)).add(&XorMappedAddress(held.mapped));
    if let Some(token) = held.token {
        writer.add(&ReservationToken(token));
    }
    if let Some(ticket) = held.ticket {
        writer.add(&MobilityTicket(ticket));
    }
    if let Some((family, code)) = held.missing {
        writer.add(&AddressErrorCode { family, code, reason: "" });
    }
}

fn discovered(found: Discovered, writer: &mut Writer<'_>) {
    writer
        .add(&XorMappedAddress(found.mapped))
        .add(&MappedAddress(found.mapped))
        .add(&ResponseOrigin(found.origin))
        .add(&OtherAddress(found.other));
    if let Some(len) = found.padding {
        let zeros = [0; PADDING_MAX];
        writer.add(&Padding(zeros.get(..len).unwrap_or(&zeros)));
    }
}

fn refuse(refusal: &Refusal<'_>, writer: &mut Writer<'_>) {
    writer.add(&ErrorCode { code: refusal.code, reason: "" });
    if !refusal.unknown.is_empty() {
        writer.add(&UnknownAttributes::new(refusal.unknown));
    }
    if let Some(Elsewhere { servers, domain }) = &refusal.elsewhere {
        for server in servers.iter().flatten() {
            writer.add(&AlternateServer(*server));
        }
        if let Some(domain) = domain {
            writer.add(&AlternateDomain(domain));
        }
    }
    if let Some(Challenge { realm, nonce, authorization, .. }) = refusal.challenge {
        writer.add(&Realm(realm)).add(&Nonce(nonce)).add(&PasswordAlgorithms::OFFERED);
        if let Some(name) = authorization {
            writer.add(&ThirdPartyAuthorization(name));
        }
    }
}
