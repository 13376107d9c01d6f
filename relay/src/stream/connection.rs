//! One client on a stream.
//!
//! A connection that is idle owns its descriptor and nothing else: what it reads goes into the
//! memory of the batch, and only the beginning of a frame whose rest has not come is kept here;
//! what waits to be written lies in a buffer that is borrowed from the worker.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use proto::addr::FiveTuple;

use super::queue::{Queue, Spares};
use super::tally::{Ending, StreamTally};

/// How long a connection may be without an allocation, from its beginning or after the last.
/// Whatever arrives meanwhile does not prolong it.
pub(super) const STRANGER: Duration = Duration::from_secs(30);

/// How long a frame may take from its first byte to its last.
pub(super) const FRAME: Duration = Duration::from_secs(30);

/// How long a connection that was ended may take to read what was written before.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// One client on a stream.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct Connection {
    socket: TcpStream,
    /// Who it is.
    pub(super) client: FiveTuple,
    /// The beginning of a frame whose rest has not come.
    pub(super) begun: Vec<u8>,
    /// Bytes without which that frame cannot be cut.
    pub(super) missing: usize,
    /// When that frame began.
    pub(super) since: Instant,
    /// What waits to be written.
    pub(super) queue: Queue,
    /// Whether it waits to be read.
    pub(super) ready: bool,
    /// Whether something was queued in this turn.
    pub(super) dirty: bool,
    /// Whether the kernel takes nothing now.
    blocked: bool,
    /// Whether the end of the stream has arrived, perhaps behind bytes.
    pub(super) half_closed: bool,
    /// Whether it counts as a stranger.
    pub(super) stranger: bool,
    /// Whether it had an allocation when it was looked at last.
    served: bool,
    /// When it is looked at next, to see whether it has an allocation.
    patience: Instant,
    /// What is in the heap of deadlines for it.
    pub(super) armed: Instant,
    /// How it ends, when it does.
    pub(super) ending: Option<Ending>,
    /// Whether the server knows that it ended.
    pub(super) reported: bool,
}

/// What a deadline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing yet.
    Nothing,
    /// It has to end.
    End(Ending),
    /// It has ended, and has had time enough to read what was left.
    Drop,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, client: FiveTuple, now: Instant) -> Self {
        let mut connection = Self {
            socket,
            client,
            begun: Vec::new(),
            missing: 0,
            since: now,
            queue: Queue::default(),
            ready: false,
            dirty: false,
            blocked: false,
            half_closed: false,
            stranger: true,
            served: false,
            patience: now + STRANGER,
            armed: now,
            ending: None,
            reported: false,
        };
        connection.armed = connection.deadline();
        connection
    }

    /// Reads into `room`, behind the bytes of a frame that has begun; `None` if nothing is there.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.socket.read(room) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps the beginning of a frame that lacks so many bytes at least.
    pub(super) fn keep_begun(&mut self, begun: &[u8], missing: usize) {
        self.begun.clear();
        if begun.is_empty() {
            // Most reads end with a frame: an idle connection keeps no memory.
            self.begun = Vec::new();
            self.missing = 0;
        } else {
            self.begun.extend_from_slice(begun);
            self.missing = missing;
        }
    }

    /// The kernel takes bytes again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes what waits, as much as the kernel takes.
    pub(super) fn write(&mut self, spares: &mut Spares, tally: &mut StreamTally) -> io::Result<()> {
        while !self.blocked && !self.queue.is_empty() {
            let waiting = self.queue.waiting();
            let all = waiting.len();
            tally.writes += 1;
            match self.socket.write(waiting) {
                Ok(written) => {
                    tally.bytes_out += written as u64;
                    self.blocked = written < all;
                    self.queue.advance(written, spares);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// When somebody has to look at it next.
    pub(super) fn deadline(&self) -> Instant {
        if self.begun.is_empty() || self.ending.is_some() {
            self.patience
        } else {
            self.patience.min(self.since + FRAME)
        }
    }

    /// It ends, and has a while to read what was left.
    pub(super) fn linger(&mut self, now: Instant) {
        self.patience = now + LINGER;
    }

    /// What has to be done at a deadline; `served` says whether it has an allocation.
    ///
    /// A connection whose allocation ended is granted the time of a stranger once more.
    pub(super) fn overdue(&mut self, now: Instant, served: bool) -> Overdue {
        if self.ending.is_some() {
            return if self.patience <= now { Overdue::Drop } else { Overdue::Nothing };
        }
        if !self.begun.is_empty() && self.since + FRAME <= now {
            return Overdue::End(Ending::HalfFrame);
        }
        if self.patience <= now {
            if !served && !self.served {
                return Overdue::End(Ending::Idle);
            }
            self.served = served;
            self.patience = now + STRANGER;
        }
        Overdue::Nothing
    }
}
