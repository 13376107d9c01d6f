//! Control messages: what the kernel says of a datagram beside its bytes, and is told of one.
//!
//! A row of headers (length, level, type), each with a value behind it and padded to a word.

use super::length;

/// Bytes of a header.
const HEADER: usize = size_of::<libc::cmsghdr>();

/// Bytes of the length at the begin of a header.
const WORD: usize = size_of::<usize>();

/// Bytes that a message with so long a value fills.
pub(super) const fn space(value: usize) -> usize {
    HEADER + value.next_multiple_of(WORD)
}

/// Room for control messages.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control<const ROOM: usize> {
    bytes: [u8; ROOM],
    len: usize,
}

impl<const ROOM: usize> Control<ROOM> {
    /// No message.
    pub(super) const EMPTY: Self = Self { bytes: [0; ROOM], len: 0 };

    /// Adds a message with a `c_int`. What finds no room is left out: callers know their room.
    pub(super) fn add(&mut self, level: libc::c_int, kind: libc::c_int, value: libc::c_int) {
        self.add_bytes(level, kind, &value.to_ne_bytes());
    }

    /// Adds a message with these bytes.
    pub(super) fn add_bytes(&mut self, level: libc::c_int, kind: libc::c_int, value: &[u8]) {
        let Some(place) = self.bytes.get_mut(self.len..self.len + space(value.len())) else {
            debug_assert!(false, "no room for a control message");
            return;
        };
        place[..WORD].copy_from_slice(&(HEADER + value.len()).to_ne_bytes());
        place[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        place[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        place[HEADER..HEADER + value.len()].copy_from_slice(value);
        self.len += place.len();
    }

    /// Where the kernel reads them, and how many bytes; null when there is none.
    pub(super) fn written(&mut self) -> (*mut libc::c_void, u32) {
        match self.len {
            0 => (std::ptr::null_mut(), 0),
            len => (self.bytes.as_mut_ptr().cast(), length(len)),
        }
    }

    /// Where the kernel may write some, and how many bytes.
    pub(super) fn room(&mut self) -> (*mut libc::c_void, u32) {
        (self.bytes.as_mut_ptr().cast(), length(ROOM))
    }

    /// The messages in the first `len` bytes, which the kernel wrote.
    pub(super) fn received(&self, len: usize) -> impl Iterator<Item = Message<'_>> {
        let mut rest = self.bytes.get(..len).unwrap_or_default();
        std::iter::from_fn(move || {
            let (message, behind) = Message::split(rest)?;
            rest = behind;
            Some(message)
        })
    }
}

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// The protocol it is about.
    pub(super) level: libc::c_int,
    /// Which of that protocol's messages.
    pub(super) kind: libc::c_int,
    /// What it says.
    pub(super) value: &'a [u8],
}

impl<'a> Message<'a> {
    /// The value as a `c_int`, or as the one byte that it is.
    pub(super) fn number(&self) -> Option<libc::c_int> {
        match *self.value {
            [byte] => Some(byte.into()),
            [a, b, c, d, ..] => Some(libc::c_int::from_ne_bytes([a, b, c, d])),
            _ => None,
        }
    }

    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (len, rest) = bytes.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<4>()?;
        let len = usize::from_ne_bytes(*len);
        let message = Self {
            level: libc::c_int::from_ne_bytes(*level),
            kind: libc::c_int::from_ne_bytes(*kind),
            value: bytes.get(HEADER..len)?,
        };
        Some((message, bytes.get(len.next_multiple_of(WORD)..).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut control = Control::<96>::EMPTY;
        control.add(1, 2, 70_000);
        control.add_bytes(3, 4, &[5, 6]);
        control.add_bytes(7, 8, &[9]);
        let (_, len) = control.written();
        let seen: Vec<_> = control.received(len as usize).collect();
        assert_eq!(
            seen.iter().map(|m| (m.level, m.kind)).collect::<Vec<_>>(),
            [(1, 2), (3, 4), (7, 8)]
        );
        assert_eq!(seen[0].number(), Some(70_000));
        assert_eq!(seen[1].value, [5, 6]);
        assert_eq!(seen[2].number(), Some(9));
    }

    #[test]
    fn broken_lengths_end_the_row() {
        for len in [0, HEADER - 1, 1_000, usize::MAX] {
            let mut control = Control::<96>::EMPTY;
            control.add(1, 2, 3);
            control.bytes[..WORD].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(control.received(96).count(), 0, "{len}");
        }
    }
}
