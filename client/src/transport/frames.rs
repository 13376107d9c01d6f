//! Messages cut out of a byte stream at the lengths they carry.

use std::io;

/// Bytes of a stream that no message was made of yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Takes what was read.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, without its padding, in `buffer`.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let waiting = self.bytes.get(self.start..).unwrap_or_default();
        let Some(frame) = Frame::starting(waiting)? else { return Ok(None) };
        let Some(whole) = waiting.get(..frame.padded) else { return Ok(None) };
        let message = whole.get(..frame.message).unwrap_or_default();
        let room = buffer.get_mut(..frame.message).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than the buffer")
        })?;
        room.copy_from_slice(message);
        self.start += frame.padded;
        Ok(Some(frame.message))
    }

    /// Takes bytes as they are; how many.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let waiting = self.bytes.get(self.start..).unwrap_or_default();
        let len = waiting.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(waiting) {
            *to = *from;
        }
        self.start += len;
        len
    }
}

/// The extent of a message and of the padding behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    message: usize,
    padded: usize,
}

impl Frame {
    /// Of the message that starts here; `None` if too little of it is there.
    fn starting(bytes: &[u8]) -> io::Result<Option<Self>> {
        let &[first, _, l0, l1, ..] = bytes else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        match first {
            0..=3 => Ok(Some(Self { message: 20 + len, padded: 20 + len })),
            0x40..=0x7F => Ok(Some(Self { message: 4 + len, padded: 4 + len.next_multiple_of(4) })),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{first:#04x} starts neither STUN nor ChannelData: the stream is garbled"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A STUN message, ChannelData with padding, an empty one, and the start of another.
    fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut stun = vec![0, 1, 0, 4, 0x21, 0x12, 0xA4, 0x42];
        stun.resize(24, 7);
        let data = [0x40, 1, 0, 3, 9, 9, 9].to_vec();
        let empty = [0x4F, 0xFF, 0, 0].to_vec();
        let bytes = [&stun[..], &data, &[0], &empty, &[0x40, 0, 0]].concat();
        (bytes, vec![stun, data, empty])
    }

    #[test]
    fn messages_are_whole_however_the_stream_is_cut() {
        let (bytes, expected) = stream();
        for step in [1, 2, 3, 5, 7, 24, 25, 100] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            let mut buffer = [0; 64];
            for piece in bytes.chunks(step) {
                frames.add(piece);
                while let Some(len) = frames.next(&mut buffer).expect("it is no garbage") {
                    found.push(buffer[..len].to_vec());
                }
            }
            assert_eq!(found, expected, "pieces of {step}");
            assert_eq!(frames.take(&mut buffer), 3, "the rest waits");
        }
    }

    #[test]
    fn garbage_and_messages_beyond_the_buffer_are_errors() {
        let mut frames = Frames::default();
        frames.add(&[0x80, 0, 0, 0]);
        assert_eq!(frames.next(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut frames = Frames::default();
        frames.add(&[0x40, 0, 0, 4, 1, 2, 3, 4]);
        assert_eq!(frames.next(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
