//! What waits to be written to one client: bounded, and media gives way to what is newer.
//!
//! Frames lie back to back in one buffer, so that everything of a turn leaves in one call. A
//! frame that has begun to leave is never dropped: the stream would be lost. A dropped one stays
//! in the buffer, dead, until the next write or until the dead ones weigh as much as the bound.
//! A queue that is empty has no buffer: it went back to the [`Spares`] of the worker.

use std::collections::VecDeque;

/// Buffers that a worker keeps for the next busy connections.
const SPARES: usize = 64;

/// A buffer that grew beyond this is not kept.
const LARGEST_SPARE: usize = 128 * 1024;

/// Frames that wait for one client.
#[derive(Debug, Default)]
pub(super) struct Queue(Option<Box<Buffer>>);

/// Empty buffers of one worker.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "boxes go in and out: a queue without one is a null pointer")]
pub(super) struct Spares(Vec<Box<Buffer>>);

/// How dear a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Relayed payload: what is late is worth nothing.
    Media,
    /// A piece of a peer's stream: without it the rest is worth nothing.
    Chunk,
    /// An answer the client waits for.
    Control,
}

/// Control found no room, and nothing that waits may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Frames dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// How many.
    pub(super) frames: u64,
    /// Their bytes, headers and padding included.
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Bytes in front that have left.
    left: usize,
    frames: VecDeque<Frame>,
    /// Bytes that wait; dead frames do not.
    waiting: usize,
    /// No frame before this one is droppable.
    oldest_media: usize,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    len: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Droppable,
    /// Control, or begun to leave.
    Kept,
    Dead,
}

impl Queue {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Puts a frame in, given in parts; says what was dropped for it, which is the frame itself
    /// if it is media and all that waits is dearer or has begun to leave.
    pub(super) fn put(
        &mut self,
        worth: Worth,
        parts: &[&[u8]],
        limit: usize,
        spares: &mut Spares,
    ) -> Result<Loss, Full> {
        let buffer = self.0.get_or_insert_with(|| spares.take());
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut loss = Loss::default();
        while buffer.waiting > 0 && buffer.waiting + len > limit {
            match buffer.drop_oldest() {
                Some(bytes) => loss.add(bytes),
                None if worth == Worth::Media => {
                    loss.add(len);
                    return Ok(loss);
                }
                None => return Err(Full),
            }
        }
        buffer.append(worth, parts, len);
        if buffer.bytes.len() - buffer.left > buffer.waiting + limit {
            buffer.compact();
        }
        Ok(loss)
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.waiting)
    }

    /// Everything that waits, oldest first.
    pub(super) fn waiting(&mut self) -> &[u8] {
        let Some(buffer) = &mut self.0 else { return &[] };
        if buffer.bytes.len() - buffer.left > buffer.waiting {
            buffer.compact();
        }
        &buffer.bytes[buffer.left..]
    }

    /// The oldest frame, or what is left of it.
    pub(super) fn first(&mut self) -> &[u8] {
        let len = self.0.as_ref().map_or(0, |buffer| buffer.first_waiting());
        &self.waiting()[..len]
    }

    /// So many bytes of [`Queue::waiting`] have left.
    pub(super) fn advance(&mut self, bytes: usize, spares: &mut Spares) {
        let Some(buffer) = &mut self.0 else { return };
        buffer.advance(bytes);
        if buffer.waiting == 0 {
            self.clear(spares);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, spares: &mut Spares) {
        if let Some(buffer) = self.0.take() {
            spares.put(buffer);
        }
    }
}

impl Loss {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }
}

impl Spares {
    #[expect(clippy::unnecessary_box_returns, reason = "the box itself is what is spared")]
    fn take(&mut self) -> Box<Buffer> {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, mut buffer: Box<Buffer>) {
        if self.0.len() < SPARES && buffer.bytes.capacity() <= LARGEST_SPARE {
            buffer.bytes.clear();
            buffer.frames.clear();
            (buffer.left, buffer.waiting, buffer.oldest_media) = (0, 0, 0);
            self.0.push(buffer);
        }
    }
}

impl Buffer {
    fn append(&mut self, worth: Worth, parts: &[&[u8]], len: usize) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        let state = match worth {
            Worth::Media => State::Droppable,
            Worth::Chunk | Worth::Control => State::Kept,
        };
        self.frames.push_back(Frame { len, state });
        self.waiting += len;
    }

    /// Drops the oldest media; says how long it was.
    fn drop_oldest(&mut self) -> Option<usize> {
        let behind = self.frames.iter_mut().enumerate().skip(self.oldest_media);
        let (index, frame) =
            behind.into_iter().find(|(_, frame)| frame.state == State::Droppable)?;
        frame.state = State::Dead;
        let len = frame.len;
        self.oldest_media = index + 1;
        self.waiting -= len;
        Some(len)
    }

    /// Bytes of the oldest frame that waits.
    fn first_waiting(&self) -> usize {
        let mut waiting = self.frames.iter().filter(|frame| frame.state != State::Dead);
        waiting.next().map_or(0, |frame| frame.len)
    }

    /// Takes dead frames and what has left out of the buffer.
    fn compact(&mut self) {
        let (mut from, mut to) = (self.left, 0);
        for frame in &self.frames {
            if frame.state != State::Dead {
                self.bytes.copy_within(from..from + frame.len, to);
                to += frame.len;
            }
            from += frame.len;
        }
        self.bytes.truncate(to);
        self.frames.retain(|frame| frame.state != State::Dead);
        self.left = 0;
        self.oldest_media = 0;
    }

    fn advance(&mut self, mut bytes: usize) {
        self.left += bytes;
        self.waiting -= bytes;
        while bytes > 0
            && let Some(frame) = self.frames.front_mut()
        {
            if frame.len > bytes {
                frame.len -= bytes;
                frame.state = State::Kept;
                break;
            }
            bytes -= frame.len;
            self.frames.pop_front();
            self.oldest_media = self.oldest_media.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Worth::{Control, Media};
    use super::*;

    const LIMIT: usize = 100;

    /// A queue of frames `a`, `b`, … of these lengths.
    struct Stage {
        queue: Queue,
        spares: Spares,
        next: u8,
    }

    impl Stage {
        fn of(frames: &[(Worth, usize)]) -> Self {
            let mut stage = Self { queue: Queue::default(), spares: Spares::default(), next: b'a' };
            for &(worth, len) in frames {
                assert_eq!(stage.put(worth, len), lost(&[]));
            }
            stage
        }

        fn put(&mut self, worth: Worth, len: usize) -> Result<Loss, Full> {
            let bytes = vec![self.next; len];
            self.next += 1;
            let (head, tail) = bytes.split_at(len / 2);
            self.queue.put(worth, &[head, tail], LIMIT, &mut self.spares)
        }

        fn leave(&mut self, bytes: usize) {
            self.queue.advance(bytes, &mut self.spares);
        }

        /// What waits, one letter a run.
        fn order(&mut self) -> String {
            let mut letters = self.queue.waiting().to_vec();
            letters.dedup();
            String::from_utf8(letters).unwrap()
        }
    }

    /// What a frame costs that found room when these were dropped.
    #[expect(clippy::unnecessary_wraps, reason = "compared with results")]
    fn lost(frames: &[usize]) -> Result<Loss, Full> {
        let mut loss = Loss::default();
        for &bytes in frames {
            loss.add(bytes);
        }
        Ok(loss)
    }

    #[test]
    fn media_is_dropped_oldest_first_and_control_stays() {
        let mut stage = Stage::of(&[(Media, 30), (Control, 10), (Media, 30), (Media, 30)]);
        assert_eq!(stage.put(Media, 20), lost(&[30]));
        assert_eq!(stage.order(), "bcde");
        assert_eq!(stage.put(Control, 40), lost(&[30]));
        assert_eq!(stage.order(), "bdef");
        assert_eq!(stage.put(Media, 60), lost(&[30, 20, 60]), "control beside it leaves no room");
        assert_eq!(stage.put(Control, 51), Err(Full));
        assert_eq!(stage.order(), "bf", "what was dropped in vain stays dropped");
    }

    #[test]
    fn a_frame_that_has_begun_to_leave_is_never_dropped() {
        let mut stage = Stage::of(&[(Media, 50), (Media, 50)]);
        stage.leave(1);
        assert_eq!(stage.put(Media, 40), lost(&[50]));
        assert_eq!(stage.queue.waiting().len(), 49 + 40);
        assert_eq!(stage.order(), "ac");
        assert_eq!(stage.queue.first().len(), 49);
        stage.leave(49);
        assert_eq!(stage.order(), "c");
        stage.leave(40);
        assert!(stage.queue.is_empty());
    }

    #[test]
    fn one_frame_larger_than_the_bound_may_wait_alone() {
        let mut stage = Stage::of(&[(Media, 200)]);
        assert_eq!(stage.put(Media, 10), lost(&[200]));
        assert_eq!(stage.order(), "b");
    }

    #[test]
    fn a_reader_that_stands_still_costs_bounded_memory() {
        let mut stage = Stage::of(&[(Media, 50)]);
        stage.leave(1);
        for _ in 0..10_000 {
            stage.next = b'z';
            assert_ne!(stage.put(Media, 7), Err(Full));
            let buffer = stage.queue.0.as_ref().unwrap();
            assert!(buffer.waiting <= LIMIT && buffer.bytes.len() <= 2 * LIMIT + 57);
            assert!(buffer.frames.len() <= 50);
        }
        assert_eq!(stage.order(), "az");
    }

    #[test]
    fn an_empty_queue_gives_its_buffer_back() {
        let mut stage = Stage::of(&[(Control, 10)]);
        stage.leave(10);
        assert!(stage.queue.is_empty());
        assert_eq!(stage.spares.0.len(), 1);
        assert_eq!(stage.put(Media, 10), lost(&[]));
        assert_eq!((stage.spares.0.len(), stage.order().as_str()), (0, "b"));
    }
}
