//! Binding requests of RFC 3489 (RFC 8489 §11).
//!
//! That RFC had no magic cookie: sixteen bytes name the transaction, all of them are repeated in
//! the answer. No other message of it is read, none is written but the answer.

use crate::stun::attribute::AttributeType;
use crate::stun::header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, join_type};
use crate::stun::message::{Malformed, Walk, unknown};
use crate::stun::writer::Writer;

/// A Binding request without the magic cookie, whose bounds were checked.
#[derive(Clone, Copy, Debug)]
pub struct ClassicBinding<'a> {
    /// What stands where the magic cookie does today.
    old: [u8; 4],
    transaction: TransactionId,
    body: &'a [u8],
}

impl<'a> ClassicBinding<'a> {
    /// Views the bytes as one Binding request of RFC 3489.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Short)?;
        let [t0, t1, l0, l1, o0, o1, o2, o3, transaction @ ..] = *header;
        if u16::from_be_bytes([t0, t1]) != join_type(Class::Request, Method::BINDING) {
            return Err(Malformed::NotStun);
        }
        let old = [o0, o1, o2, o3];
        if old == MAGIC_COOKIE.to_be_bytes() {
            return Err(Malformed::Cookie);
        }
        if usize::from(u16::from_be_bytes([l0, l1])) != body.len() {
            return Err(Malformed::Length);
        }
        let mut walk = Walk { rest: body, offset: HEADER_LEN };
        while walk.step()?.is_some() {}
        Ok(Self { old, transaction: TransactionId(transaction), body })
    }

    /// What names its transaction, but for what stands in the cookie's place.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// As [`unknown_required`](crate::stun::Message::unknown_required) of a message.
    pub fn unknown_required(&self, known: &[AttributeType]) -> Vec<u16> {
        let mut walk = Walk { rest: self.body, offset: HEADER_LEN };
        let types = std::iter::from_fn(|| walk.step().ok().flatten().map(|found| found.kind));
        unknown(types, known)
    }

    /// Starts the answer.
    pub fn answer<'b>(&self, buffer: &'b mut [u8], class: Class) -> Writer<'b> {
        Writer::classic(buffer, class, self.old, self.transaction)
    }
}
