//! A peer whose bytes travel in the messages of its client's own connection.
//!
//! Not a pipe: the client's end is the stream of its requests, shared with other peers. So both
//! directions are bounded by reading less. What the peer does not take waits here, and beyond a
//! bound its client is not read; what the client does not take waits in its queue, and meanwhile
//! the peer is not read. A limit of bandwidth acts in the same way: who has sent what may pass is
//! read when more may. No byte in between is ever dropped: where one would be, the connection ends.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use proto::addr::FiveTuple;

use super::pace::Pace;
use super::pipe::Readiness;

/// Bytes of a peer that become one message: a few segments.
pub(super) const CHUNK: usize = 8 * 1024;

/// Bytes that wait for a peer beyond which its client is not read; one read of the client may
/// come on top.
const FULL: usize = 64 * 1024;

/// How long a peer may take nothing while bytes wait for it: its client is not read meanwhile.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// The connection of one peer, and what waits for it.
#[derive(Debug)]
pub(super) struct Link {
    socket: TcpStream,
    /// In whose messages its bytes travel.
    pub(super) client: FiveTuple,
    pub(super) readiness: Readiness,
    /// Whether the peer was reached.
    pub(super) connected: bool,
    waiting: Vec<u8>,
    /// How many of them have left.
    left: usize,
    /// When bytes left last, or began to wait.
    moved: Instant,
    /// Whether its client is not read because of it.
    pub(super) holds: bool,
    /// What may be read of the peer.
    pub(super) to_client: Pace,
    /// What may be read of the client, for this peer.
    pub(super) to_peer: Pace,
}

impl Link {
    /// A peer that is being called, or is there.
    pub(super) fn new(
        now: Instant,
        socket: TcpStream,
        client: FiveTuple,
        connected: bool,
        early: Vec<u8>,
    ) -> Self {
        Self {
            socket,
            client,
            readiness: Readiness { readable: connected, writable: connected, closed: false },
            connected,
            waiting: early,
            left: 0,
            moved: now,
            holds: false,
            to_client: Pace::UNKNOWN,
            to_peer: Pace::UNKNOWN,
        }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The peer was reached.
    pub(super) fn reached(&mut self) {
        self.connected = true;
        self.readiness = Readiness::UNKNOWN;
    }

    /// Takes bytes for the peer, and sends on what it takes now.
    pub(super) fn send(&mut self, now: Instant, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        if self.is_empty() {
            self.moved = now;
            while self.readiness.writable && !rest.is_empty() {
                rest = &rest[self.write(rest)?..];
            }
        }
        self.waiting.extend_from_slice(rest);
        Ok(())
    }

    /// Sends on what waits, as much as the peer takes.
    pub(super) fn push(&mut self, now: Instant) -> io::Result<()> {
        while self.readiness.writable && !self.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let written = self.write(&waiting[self.left..]);
            self.waiting = waiting;
            self.left += written?;
            self.moved = now;
        }
        if self.is_empty() {
            (self.waiting, self.left) = (Vec::new(), 0);
        } else if self.left > FULL {
            self.waiting.drain(..self.left);
            self.left = 0;
        }
        Ok(())
    }

    /// Reads what the peer says; `None` if nothing is there.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readiness.readable = false;
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// Whether so much waits for the peer that its client has to.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() - self.left > FULL
    }

    /// Whether nothing waits for the peer.
    pub(super) fn is_empty(&self) -> bool {
        self.left == self.waiting.len()
    }

    /// When somebody has to look at it, whatever the kernel says.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let times = [self.stalled_at(), self.to_client.rests_until(), self.to_peer.rests_until()];
        times.into_iter().flatten().min()
    }

    /// When the peer has taken nothing for too long.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.moved + STALL)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.write(bytes) {
            Ok(written) => {
                self.readiness.writable = written == bytes.len();
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readiness.writable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}
