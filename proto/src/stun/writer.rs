//! Writes a message into a lent buffer.

use crate::stun::attribute::{AttributeType, Value};
use crate::stun::header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, join_type};
use crate::stun::integrity::{Integrity, MessageKey, crc, hmac_sha1, hmac_sha256};

/// The message did not fit into the buffer, or into its 16-bit length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFull;

/// Appends attributes in the order of the calls; nothing is written past the buffer.
///
/// What does not fit is remembered and reported once, by [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    len: usize,
    full: bool,
    transaction: TransactionId,
}

impl<'b> Writer<'b> {
    /// Starts a message with its header.
    pub fn new(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        transaction: TransactionId,
    ) -> Self {
        let mut writer = Self { buffer, len: 0, full: false, transaction };
        writer.header(join_type(class, method), MAGIC_COOKIE.to_be_bytes());
        writer
    }

    /// Starts the answer to a Binding request of RFC 3489; `old` stands where the cookie does.
    pub(super) fn classic(
        buffer: &'b mut [u8],
        class: Class,
        old: [u8; 4],
        transaction: TransactionId,
    ) -> Self {
        let mut writer = Self { buffer, len: 0, full: false, transaction };
        writer.header(join_type(class, Method::BINDING), old);
        writer
    }

    fn header(&mut self, kind: u16, cookie: [u8; 4]) {
        self.put(&kind.to_be_bytes());
        self.put(&[0, 0]);
        self.put(&cookie);
        self.put(&self.transaction.0.clone());
    }

    /// The transaction of the message.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// Appends a value under its own type.
    pub fn add<'v, V: Value<'v>>(&mut self, value: &V) -> &mut Self {
        self.attribute(V::TYPE, |writer| value.write(writer))
    }

    /// Appends bytes under any type.
    pub fn append(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        self.attribute(kind, |writer| writer.put(value))
    }

    /// Appends an integrity attribute over everything so far. With both, SHA-1 goes first;
    /// what is appended later receivers ignore, other than SHA-256 and FINGERPRINT.
    pub fn sign(&mut self, key: &MessageKey, integrity: Integrity) -> &mut Self {
        let (kind, size) = match integrity {
            Integrity::Sha1 => (AttributeType::MESSAGE_INTEGRITY, 20),
            Integrity::Sha256 => (AttributeType::MESSAGE_INTEGRITY_SHA256, 32),
        };
        self.set_length(self.len.saturating_add(4).saturating_add(size));
        let parts = &[self.written()];
        match integrity {
            Integrity::Sha1 => {
                let value = hmac_sha1(key, parts);
                self.append(kind, &value)
            }
            Integrity::Sha256 => {
                let value = hmac_sha256(key, parts);
                self.append(kind, &value)
            }
        }
    }

    /// Appends FINGERPRINT; must come last.
    pub fn fingerprint(&mut self) -> &mut Self {
        self.set_length(self.len.saturating_add(8));
        let value = crc(self.written()).to_be_bytes();
        self.append(AttributeType::FINGERPRINT, &value)
    }

    /// The finished message.
    pub fn finish(self) -> Result<&'b [u8], BufferFull> {
        if self.full {
            return Err(BufferFull);
        }
        let buffer: &'b [u8] = self.buffer;
        buffer.get(..self.len).ok_or(BufferFull)
    }

    /// Appends raw bytes: a piece of a value.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.buffer.get_mut(self.len..end) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.full = true,
        }
    }

    /// Appends one attribute: head, whatever `value` puts, zeros up to a multiple of four.
    fn attribute(&mut self, kind: AttributeType, value: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.len;
        self.put(&kind.0.to_be_bytes());
        self.put(&[0, 0]);
        value(self);
        let length = self.len.saturating_sub(start).saturating_sub(4);
        let padding = length.next_multiple_of(4).saturating_sub(length);
        self.put([0; 3].get(..padding).unwrap_or_default());
        self.set_u16(start.saturating_add(2), length);
        self.set_length(self.len);
        self
    }

    /// Makes the header's length field end the message at `end`.
    fn set_length(&mut self, end: usize) {
        self.set_u16(2, end.saturating_sub(HEADER_LEN));
    }

    fn set_u16(&mut self, at: usize, value: usize) {
        let room = self.buffer.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>());
        match (room, u16::try_from(value)) {
            (Some(room), Ok(value)) => *room = value.to_be_bytes(),
            _ => self.full = true,
        }
    }

    fn written(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}
