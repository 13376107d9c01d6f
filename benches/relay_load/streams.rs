//! Who reads a stream to its end: clients on TCP or TLS, and both ends of a TCP relay.
//!
//! A link's counter says nothing of frames on a stream, so they are read here, by the core of the
//! load, in the order in which they were sent: where something is expected, it is looked first.

use std::collections::VecDeque;
use std::io;

use client::transport::Link;

/// The readers, and what each still expects.
#[derive(Debug)]
pub(crate) struct Readers<'a> {
    links: Vec<Reader<'a>>,
    /// Those that expect something, in the order of sending.
    expecting: VecDeque<usize>,
    frame: usize,
    frames: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Reader<'a> {
    link: &'a mut Link,
    expected: usize,
    /// Bytes of a frame that has come in part.
    rest: usize,
}

impl<'a> Readers<'a> {
    /// Readers of frames of this length.
    pub(crate) fn new(links: Vec<&'a mut Link>, frame: usize) -> Self {
        let reader = |link| Reader { link, expected: 0, rest: 0 };
        Self {
            links: links.into_iter().map(reader).collect(),
            expecting: VecDeque::new(),
            frame,
            frames: 0,
            buffer: vec![0; 64 * 1024],
        }
    }

    /// Says that so many frames were sent to a reader.
    pub(crate) fn expect(&mut self, index: usize, packets: usize) {
        let Some(reader) = self.links.get_mut(index) else { return };
        if reader.expected == 0 {
            self.expecting.push_back(index);
        }
        reader.expected += packets;
    }

    /// Whether anybody expects anything.
    pub(crate) fn waits(&self) -> bool {
        !self.expecting.is_empty()
    }

    /// Lets each who expects something read once; frames that have arrived, ever.
    pub(crate) fn read(&mut self) -> io::Result<u64> {
        for _ in 0..self.expecting.len() {
            let Some(index) = self.expecting.pop_front() else { break };
            let Some(reader) = self.links.get_mut(index) else { continue };
            let bytes = reader.rest + reader.link.drain(&mut self.buffer)?;
            let frames = bytes / self.frame;
            reader.rest = bytes % self.frame;
            reader.expected = reader.expected.saturating_sub(frames);
            self.frames += frames as u64;
            if reader.expected > 0 {
                self.expecting.push_back(index);
            }
        }
        Ok(self.frames)
    }
}
