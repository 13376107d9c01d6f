//! Writes a message into a lent buffer.

use crate::stun::attribute::{AttributeType, Value};
use crate::stun::header::{Class, MAGIC_COOKIE, Method, TransactionId, join_type};
use crate::stun::integrity::{Integrity, MessageKey, crc, hmac_sha1, hmac_sha256};
use crate::stun::sheet::{BufferFull, Sheet};

/// Appends attributes in the order of the calls; nothing is written past the buffer.
///
/// What does not fit is remembered and reported once, by [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<'b> {
    sheet: Sheet<'b>,
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
        let mut writer = Self { sheet: Sheet::new(buffer), transaction };
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
        let mut writer = Self { sheet: Sheet::new(buffer), transaction };
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
            Integrity::Sha1 => (AttributeType::MESSAGE_INTEGRITY, 4 + 20),
            Integrity::Sha256 => (AttributeType::MESSAGE_INTEGRITY_SHA256, 4 + 32),
        };
        self.sheet.end_behind(size);
        let parts = &[self.sheet.written()];
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
        self.sheet.end_behind(8);
        let value = crc(self.sheet.written()).to_be_bytes();
        self.append(AttributeType::FINGERPRINT, &value)
    }

    /// The finished message.
    pub fn finish(self) -> Result<&'b [u8], BufferFull> {
        self.sheet.finish()
    }

    /// Appends raw bytes: a piece of a value.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.sheet.put(bytes);
    }

    /// Appends one attribute: head, whatever `value` puts, zeros up to a multiple of four.
    fn attribute(&mut self, kind: AttributeType, value: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.sheet.len();
        self.put(&kind.0.to_be_bytes());
        self.put(&[0, 0]);
        value(self);
        let length = self.sheet.len().saturating_sub(start).saturating_sub(4);
        let padding = length.next_multiple_of(4).saturating_sub(length);
        self.put([0; 3].get(..padding).unwrap_or_default());
        self.sheet.set(start.saturating_add(2), length);
        self.sheet.end_behind(0);
        self
    }
}
