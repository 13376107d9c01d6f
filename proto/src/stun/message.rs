//! A message as a validated view.

use std::num::NonZeroU32;

use crate::stun::attribute::{AttributeType, Value};
use crate::stun::header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, split_type};
use crate::stun::integrity::{Integrity, MessageKey, crc, equal, hmac_sha1, hmac_sha256};

/// Why bytes are no message. All of it is dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Fewer bytes than a header has.
    Short,
    /// The two top bits are not zero.
    NotStun,
    /// The magic cookie is missing.
    Cookie,
    /// The length field is no multiple of four, or not the length of what follows.
    Length,
    /// An attribute runs past the end of the message.
    Attribute,
    /// Something follows FINGERPRINT.
    AfterFingerprint,
}

/// An attribute of this type has an impossible length or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BadValue(pub AttributeType);

/// One attribute of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: AttributeType,
    /// Its value, without padding.
    pub value: &'a [u8],
    /// Where the value starts in the message.
    pub offset: usize,
}

/// What the FINGERPRINT of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fingerprint {
    /// There is none; a server requires none.
    Absent,
    /// It fits.
    Valid,
    /// It does not: corrupted, or not STUN.
    Wrong,
}

/// Most types that [`Message::unknown_required`] lists: what a response can carry (STUN-023).
pub const UNKNOWN_MAX: usize = 64;

/// A STUN message whose header, length and attribute bounds were checked.
///
/// A message may hold any number of attributes: one pass over them at parse time, and one more
/// for each [`Message::first`], all bounded by the 64 KiB a datagram has.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Method,
    transaction: TransactionId,
    tail: Tail,
}

/// Where the attributes lie that end what a message says. Offsets of values: never zero.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    sha1: Option<NonZeroU32>,
    sha256: Option<NonZeroU32>,
    fingerprint: Option<NonZeroU32>,
}

impl Tail {
    /// Takes note of the next attribute, in wire order.
    fn note(&mut self, attribute: &Attribute<'_>) -> Result<(), Malformed> {
        if self.fingerprint.is_some() {
            return Err(Malformed::AfterFingerprint);
        }
        let at = u32::try_from(attribute.offset).ok().and_then(NonZeroU32::new);
        match attribute.kind {
            // Behind either integrity attribute an HMAC-SHA1 counts no more (RFC 8489 §14.5–14.6).
            AttributeType::MESSAGE_INTEGRITY if self.sha1.or(self.sha256).is_none() => {
                self.sha1 = at;
            }
            AttributeType::MESSAGE_INTEGRITY_SHA256 if self.sha256.is_none() => self.sha256 = at,
            AttributeType::FINGERPRINT => self.fingerprint = at,
            _ => {}
        }
        Ok(())
    }

    /// Whether the attribute whose value starts there counts: it stands before the first
    /// integrity attribute, or is one of those remembered (STUN-018).
    fn counts(&self, offset: usize) -> bool {
        let is = |at: Option<NonZeroU32>| at.is_some_and(|at| at.get() as usize == offset);
        let first = self.sha1.or(self.sha256);
        first.is_none_or(|first| offset < first.get() as usize)
            || is(self.sha1)
            || is(self.sha256)
            || is(self.fingerprint)
    }
}

impl<'a> Message<'a> {
    /// Views the bytes as one message; they must end where it ends (STUN-001).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Short)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        if t0 & 0xC0 != 0 {
            return Err(Malformed::NotStun);
        }
        if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
            return Err(Malformed::Cookie);
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if !length.is_multiple_of(4) || length != body.len() {
            return Err(Malformed::Length);
        }
        let mut tail = Tail::default();
        let mut walk = Walk { rest: body, offset: HEADER_LEN };
        while let Some(attribute) = walk.step()? {
            tail.note(&attribute)?;
        }
        let (class, method) = split_type(u16::from_be_bytes([t0, t1]));
        Ok(Self { bytes, class, method, transaction: TransactionId(transaction), tail })
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Its method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Its transaction.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes that count, in wire order. Behind an integrity attribute these are only
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, at most one each (STUN-018).
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let tail = self.tail;
        let rest = self.bytes.get(HEADER_LEN..).unwrap_or_default();
        let mut walk = Walk { rest, offset: HEADER_LEN };
        std::iter::from_fn(move || walk.step().ok().flatten())
            .filter(move |attribute| tail.counts(attribute.offset))
    }

    /// The first attribute of this type, which is the only one that counts (STUN-017).
    pub fn attribute(&self, kind: AttributeType) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }

    /// The value of the first attribute of this type.
    pub fn first(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attribute(kind).map(|attribute| attribute.value)
    }

    /// Whether there is an attribute of this type.
    pub fn has(&self, kind: AttributeType) -> bool {
        self.attribute(kind).is_some()
    }

    /// The first attribute of this kind as a value; `None` if there is none.
    pub fn read<V: Value<'a>>(&self) -> Result<Option<V>, BadValue> {
        self.first(V::TYPE)
            .map(|value| V::read(value, self.transaction).ok_or(BadValue(V::TYPE)))
            .transpose()
    }

    /// As [`Message::read`], for an attribute that must be there.
    pub fn require<V: Value<'a>>(&self) -> Result<V, BadValue> {
        self.read()?.ok_or(BadValue(V::TYPE))
    }

    /// All attributes of this kind, for those whose definition allows several.
    pub fn read_all<V: Value<'a>>(&self) -> impl Iterator<Item = Result<V, BadValue>> + use<'a, V> {
        let transaction = self.transaction;
        self.attributes()
            .filter(|attribute| attribute.kind == V::TYPE)
            .map(move |attribute| V::read(attribute.value, transaction).ok_or(BadValue(V::TYPE)))
    }

    /// Types 0x0000–0x7FFF among the attributes that count which are not in `known`, each once,
    /// in order, at most [`UNKNOWN_MAX`]. Integrity and FINGERPRINT are known to the codec.
    pub fn unknown_required(&self, known: &[AttributeType]) -> Vec<u16> {
        unknown(self.attributes().map(|attribute| attribute.kind), known)
    }

    /// Which attribute decides about integrity: the SHA-256 one if both are there (AUTH-006);
    /// `None` if the message carries neither.
    pub fn integrity(&self) -> Option<Integrity> {
        if self.tail.sha256.is_some() {
            Some(Integrity::Sha256)
        } else {
            self.tail.sha1.map(|_| Integrity::Sha1)
        }
    }

    /// Whether the message carries this integrity attribute, at full length, made with this key.
    pub fn verify(&self, key: &MessageKey, integrity: Integrity) -> bool {
        let at = match integrity {
            Integrity::Sha1 => self.tail.sha1,
            Integrity::Sha256 => self.tail.sha256,
        };
        let Some((value, before)) = at.and_then(|at| self.before(at)) else { return false };
        // The length field as if the message ended with this attribute (RFC 8489 §14.5).
        let end = before.len().saturating_add(4).saturating_add(value.len());
        let Ok(length) = u16::try_from(end.saturating_sub(HEADER_LEN)) else { return false };
        let length = length.to_be_bytes();
        let (Some(kind), Some(rest)) = (before.get(..2), before.get(4..)) else { return false };
        match integrity {
            Integrity::Sha1 => {
                value.len() == 20 && equal(&hmac_sha1(key, &[kind, &length, rest]), value)
            }
            Integrity::Sha256 => {
                value.len() == 32 && equal(&hmac_sha256(key, &[kind, &length, rest]), value)
            }
        }
    }

    /// What its FINGERPRINT says.
    pub fn fingerprint(&self) -> Fingerprint {
        let Some(at) = self.tail.fingerprint else { return Fingerprint::Absent };
        match self.before(at) {
            // It is the last attribute, so the length field counts it already.
            Some((value, before)) if *value == crc(before).to_be_bytes() => Fingerprint::Valid,
            _ => Fingerprint::Wrong,
        }
    }

    /// The value that starts at `at`, and every byte before its attribute.
    fn before(&self, at: NonZeroU32) -> Option<(&'a [u8], &'a [u8])> {
        let start = (at.get() as usize).checked_sub(4)?;
        let (before, rest) = self.bytes.split_at_checked(start)?;
        let attribute = Walk { rest, offset: start }.step().ok().flatten()?;
        Some((attribute.value, before))
    }
}

/// Required types that are not in `known`; see [`Message::unknown_required`].
pub(super) fn unknown(
    types: impl Iterator<Item = AttributeType>,
    known: &[AttributeType],
) -> Vec<u16> {
    let mut unknown = Vec::new();
    for AttributeType(kind) in types {
        let is_known = !AttributeType(kind).is_required()
            || AttributeType(kind) == AttributeType::MESSAGE_INTEGRITY
            || AttributeType(kind) == AttributeType::MESSAGE_INTEGRITY_SHA256
            || known.contains(&AttributeType(kind));
        if !is_known && !unknown.contains(&kind) {
            unknown.push(kind);
            if unknown.len() == UNKNOWN_MAX {
                break;
            }
        }
    }
    unknown
}

/// Steps over attributes: 16-bit type, 16-bit length, value padded to four bytes.
pub(super) struct Walk<'a> {
    pub(super) rest: &'a [u8],
    pub(super) offset: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn step(&mut self) -> Result<Option<Attribute<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (head, after) = self.rest.split_first_chunk::<4>().ok_or(Malformed::Attribute)?;
        let [t0, t1, l0, l1] = *head;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let padded = length.next_multiple_of(4);
        let value = after.get(..length).ok_or(Malformed::Attribute)?;
        self.rest = after.get(padded..).ok_or(Malformed::Attribute)?;
        let offset = self.offset.saturating_add(4);
        self.offset = offset.saturating_add(padded);
        Ok(Some(Attribute { kind: AttributeType(u16::from_be_bytes([t0, t1])), value, offset }))
    }
}
