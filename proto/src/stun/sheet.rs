//! A lent buffer that a message is written into, whatever its dialect.
//!
//! Nothing is written past the buffer. What does not fit, or not into a field of sixteen bits, is
//! remembered and reported once, when the message is finished.

use crate::stun::header::HEADER_LEN;

/// The message did not fit into the buffer, or into its 16-bit length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFull;

/// A message under construction.
#[derive(Debug)]
pub(crate) struct Sheet<'b> {
    buffer: &'b mut [u8],
    len: usize,
    full: bool,
}

impl<'b> Sheet<'b> {
    /// Nothing, yet.
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0, full: false }
    }

    /// Appends bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.buffer.get_mut(self.len..end) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.full = true,
        }
    }

    /// Writes a number over what stands at a place.
    pub(crate) fn set(&mut self, at: usize, value: usize) {
        let room = self.buffer.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>());
        match (room, u16::try_from(value)) {
            (Some(room), Ok(value)) => *room = value.to_be_bytes(),
            _ => self.full = true,
        }
    }

    /// Makes the header's length field end the message so many bytes behind what stands.
    pub(crate) fn end_behind(&mut self, more: usize) {
        self.set(2, self.len.saturating_add(more).saturating_sub(HEADER_LEN));
    }

    /// How many bytes stand.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What stands.
    pub(crate) fn written(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// The finished message.
    pub(crate) fn finish(self) -> Result<&'b [u8], BufferFull> {
        if self.full {
            return Err(BufferFull);
        }
        let buffer: &'b [u8] = self.buffer;
        buffer.get(..self.len).ok_or(BufferFull)
    }
}
