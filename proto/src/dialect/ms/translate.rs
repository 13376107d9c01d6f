//! Between messages of MS-TURN and the words that procedures know.

use crate::addr::Family;
use crate::dialect::ms::VERSION;
use crate::dialect::ms::message::{Kind, Message, Transaction, Type, Writer};
use crate::dialect::{Answer, Signer};
use crate::reject::Why;
use crate::request::{Allocated, Challenge, Parity, Refusal, Reply, Wish};
use crate::stun::BufferFull;

/// What an answer repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// What was asked for.
    pub(crate) kind: Kind,
    /// The transaction.
    pub(crate) transaction: Transaction,
}

/// What an Allocate asks for (MST-68, MST-70). There is no attribute for the transport: it is the
/// one of the request. Families count from version 4 on: a client that names none gets both, and
/// those before it IPv4.
pub(crate) fn wish(message: &Message<'_>, stream: bool) -> Wish {
    let version = message.number(Type::VERSION).unwrap_or_default();
    let named = message.first(Type::REQUESTED_ADDRESS_FAMILY).filter(|_| version >= 4);
    let family = named.and_then(<[u8]>::first).and_then(|byte| Family::from_wire(*byte));
    let both = version >= 4 && named.is_none();
    let family = family.unwrap_or(Family::V4);
    Wish {
        tcp: stream,
        token: None,
        families: Family::ALL.map(|each| both || each == family),
        parity: Parity::Any,
        lifetime: message.number(Type::LIFETIME),
        mobile: false,
    }
}

/// The code that says why, in this dialect (§11): what it has no code for is 500 (MST-59).
pub(crate) fn code(why: Why) -> u16 {
    match why {
        Why::WrongPassword => 431,
        Why::MissingUsername => 432,
        Why::MissingRealm | Why::WrongRealm => 434,
        Why::MissingNonce => 435,
        // A token for another edge, or another side of it, is nobody's here (ED-47).
        Why::UnknownUser | Why::Expired | Why::TooFarAhead | Why::WrongSide => 436,
        other => match other.code().0 {
            code @ (300 | 400 | 401 | 420 | 437 | 438 | 441) => code,
            _ => 500,
        },
    }
}

/// Whether an error of this code says how to authenticate (MST-61).
pub(crate) fn challenges(code: u16) -> bool {
    matches!(code, 401 | 431 | 432 | 434 | 435 | 436 | 438)
}

impl Call {
    /// As [`Call::write`](crate::dialect::Call::write). SOFTWARE is not of this dialect.
    pub(crate) fn write<'b>(
        self,
        answer: Answer<'_>,
        signer: Option<&Signer>,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], BufferFull> {
        let kind = match answer {
            Answer::Success(_) => self.kind.success(),
            Answer::Error(_) => self.kind.error(),
        };
        let mut writer = Writer::new(buffer, kind, self.transaction);
        let mut signer = signer;
        match answer {
            Answer::Success(reply) => succeed(reply, &mut writer),
            Answer::Error(refusal) => {
                refuse(refusal, &mut writer);
                // MST-46: the first challenge is not signed.
                signer = signer.filter(|_| refusal.code != 401);
            }
        }
        if let Some(Signer { key, .. }) = signer {
            writer.sign(key);
        }
        writer.finish()
    }
}

fn succeed(reply: Reply<'_>, writer: &mut Writer<'_>) {
    match reply {
        Reply::Allocated(held) => allocated(held, writer),
        Reply::Aimed(numbered) => {
            writer.numbered(numbered);
        }
        // Of requests that this dialect has not.
        Reply::Done
        | Reply::Mapped(_)
        | Reply::Discovered(_)
        | Reply::Refreshed { .. }
        | Reply::Connected(_) => {}
    }
}

/// In the order of genuine answers (MST-65). An allocation that is gone has no relayed address.
fn allocated(held: &Allocated<'_>, writer: &mut Writer<'_>) {
    if let Some(relayed) = held.relayed.first() {
        writer.address(Type::MAPPED_ADDRESS, *relayed);
    }
    writer
        .masked(Type::XOR_MAPPED_ADDRESS, held.mapped)
        .number(Type::LIFETIME, held.lifetime)
        .number(Type::VERSION, VERSION);
    if let Some(other) = held.relayed.get(1) {
        writer.address(Type::ALTERNATE_MAPPED_ADDRESS, *other);
    }
    if let Some(numbered) = held.numbered {
        writer.numbered(numbered);
    }
}

fn refuse(refusal: &Refusal<'_>, writer: &mut Writer<'_>) {
    // No words: strangers hear no more than they must (threat model T3).
    writer.error(refusal.code, "");
    if !refusal.unknown.is_empty() {
        let mut list = [0; 2 * crate::stun::message::UNKNOWN_MAX];
        let (pairs, _) = list.as_chunks_mut::<2>();
        for (pair, kind) in pairs.iter_mut().zip(refusal.unknown) {
            *pair = kind.to_be_bytes();
        }
        let size = refusal.unknown.len().saturating_mul(2);
        writer.append(Type::UNKNOWN_ATTRIBUTES, list.get(..size).unwrap_or(&list));
    }
    let mut alternate =
        refusal.elsewhere.as_ref().and_then(|it| it.servers.iter().flatten().next());
    if let Some(Challenge { realm, nonce, here, .. }) = &refusal.challenge {
        writer.append(Type::REALM, realm.as_bytes()).append(Type::NONCE, nonce);
        alternate = alternate.or(here.as_ref());
    }
    if let Some(server) = alternate {
        writer.address(Type::ALTERNATE_SERVER, *server);
    }
    writer.number(Type::VERSION, VERSION);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mst_059_every_refusal_has_a_code_of_the_dialect() {
        let known = [300, 400, 401, 420, 431, 432, 434, 435, 436, 437, 438, 441, 500];
        for why in Why::ALL {
            assert!(known.contains(&code(*why)), "{why:?}");
        }
        for (why, expected) in [
            (Why::UserQuota, 500),
            (Why::OutOfPorts, 500),
            (Why::RedirectedFull, 300),
            (Why::PeerDenied, 500),
            (Why::NoAllocation, 437),
            (Why::WrongSide, 436),
            (Why::OtherUser, 441),
        ] {
            assert_eq!(code(why), expected, "{why:?}");
        }
    }
}
