//! A pipe: what comes from one end goes to the other, as it is.
//!
//! Bytes are read into a memory that all pipes of a worker share and written from there. What the
//! other end does not take waits in a buffer, one read at most, and nothing more is read until
//! it has left: so a slow reader slows its writer, and nobody else. A limit of bandwidth does the
//! same: who has sent what may pass is read when more may. The end of a stream is passed on behind
//! the last byte; when both have ended the pipe is over.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use proto::policy::bandwidth::{Allowance, Direction};
use proto::turn::tally::{Flow as Count, Usage};

use super::pace::Pace;
use crate::stream::{CHUNK, Got, Guest, Tools};

/// Chunks that one direction may carry in a turn.
const BUDGET: u32 = 8;

/// How long a pipe may be still after one end closed it: who only shuts one direction goes on
/// sending or receiving, and who closed it altogether does neither.
pub(super) const LINGER: Duration = Duration::from_secs(30);

/// Buffers that a worker keeps for pipes that stall.
const SPARES: usize = 64;

/// One end of a pipe.
pub(super) trait End {
    /// Takes bytes out, about so many at most; `room` has [`CHUNK`] bytes.
    fn take(&mut self, room: &mut [u8], most: usize, tools: &mut Tools) -> io::Result<Got>;
    /// Puts bytes in, as many as are taken.
    fn put(&mut self, bytes: &[u8], tools: &mut Tools) -> io::Result<usize>;
    /// Sends on what the layers between here and the kernel hold; false while some is left.
    fn push(&mut self, tools: &mut Tools) -> io::Result<bool>;
    /// Ends the stream behind what was put in.
    fn shut(&mut self, tools: &mut Tools) -> io::Result<()>;
}

/// Two ends, and what is under way between them.
#[derive(Debug)]
pub(super) struct Pipe {
    peer: TcpStream,
    client: Guest,
    pub(super) at_peer: Readiness,
    pub(super) at_client: Readiness,
    to_client: Way,
    to_peer: Way,
    /// Bytes the client sent before there was a pipe, until they are counted.
    early: usize,
    /// When bytes moved last.
    moved: Instant,
}

/// What the kernel said about an end last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The stream has ended, perhaps behind bytes.
    pub(super) closed: bool,
}

impl Readiness {
    /// Everything may be tried.
    pub(super) const UNKNOWN: Self = Self { readable: true, writable: true, closed: false };
}

/// One direction.
#[derive(Debug)]
struct Way {
    waiting: Vec<u8>,
    /// How many of them have left.
    left: usize,
    pace: Pace,
    /// Nothing more will come.
    ended: bool,
    /// The other end knows.
    shut: bool,
}

/// Memory that the pipes of a worker share.
pub(super) struct Bench {
    chunk: Box<[u8]>,
    spares: Vec<Vec<u8>>,
}

/// How a pipe is after it was pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There may be more to carry at once.
    More,
    /// It waits for one of its ends.
    Waits,
    /// Both ends are closed, or one broke.
    Over,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self { chunk: vec![0; CHUNK].into(), spares: Vec::new() }
    }

    /// Some of the memory.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.chunk[..bytes]
    }

    fn give_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.spares.len() < SPARES {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}

impl Pipe {
    /// A pipe whose client has sent `early` bytes already.
    pub(super) fn new(now: Instant, peer: TcpStream, client: Guest, early: Vec<u8>) -> Self {
        Self {
            peer,
            client,
            at_peer: Readiness::UNKNOWN,
            at_client: Readiness::UNKNOWN,
            to_client: Way::new(Vec::new()),
            early: early.len(),
            to_peer: Way::new(early),
            moved: now,
        }
    }

    /// Asks what may be read now, where there is something to read.
    pub(super) fn pace(&mut self, mut ask: impl FnMut(Direction) -> Allowance) {
        for (direction, way, source) in [
            (Direction::ToPeer, &mut self.to_peer, &self.at_client),
            (Direction::ToClient, &mut self.to_client, &self.at_peer),
        ] {
            if !way.ended && (source.readable || source.closed) {
                way.pace.ask(|| ask(direction));
            }
        }
    }

    /// Directions that have rested long enough go on.
    pub(super) fn wake(&mut self, now: Instant) {
        self.to_peer.pace.wake(now);
        self.to_client.pace.wake(now);
    }

    /// Carries what can be carried now; says how much in each direction.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        bench: &mut Bench,
        tools: &mut Tools,
    ) -> (Outcome, Usage) {
        let mut usage = Usage::default();
        if self.early > 0 {
            usage.to_peer.add(std::mem::take(&mut self.early));
        }
        let there = Self::carry(
            &mut self.to_peer,
            ((&mut self.client, &mut self.at_client), (&mut self.peer, &mut self.at_peer)),
            (bench, tools),
            &mut usage.to_peer,
        );
        let back = Self::carry(
            &mut self.to_client,
            ((&mut self.peer, &mut self.at_peer), (&mut self.client, &mut self.at_client)),
            (bench, tools),
            &mut usage.to_client,
        );
        if usage != Usage::default() {
            self.moved = now;
        }
        let outcome = match (there, back) {
            (Ok(_), Ok(_)) if self.to_peer.shut && self.to_client.shut => Outcome::Over,
            (Ok(there), Ok(back)) if there || back => Outcome::More,
            (Ok(_), Ok(_)) => Outcome::Waits,
            (Err(_), _) | (_, Err(_)) => Outcome::Over,
        };
        (outcome, usage)
    }

    /// When somebody has to look at it, whatever the kernel says.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.over_at(), self.resumes_at()].into_iter().flatten().min()
    }

    /// When a pipe that one end has closed is over unless bytes move: not while it may not.
    pub(super) fn over_at(&self) -> Option<Instant> {
        let begin = self.resumes_at().map_or(self.moved, |at| at.max(self.moved));
        (self.to_peer.ended || self.to_client.ended).then_some(begin + LINGER)
    }

    /// When a direction that rests may go on.
    fn resumes_at(&self) -> Option<Instant> {
        let rests = [self.to_peer.pace.rests_until(), self.to_client.pace.rests_until()];
        rests.into_iter().flatten().min()
    }

    /// Gives its buffers back.
    pub(super) fn end(self, bench: &mut Bench) {
        bench.give_back(self.to_peer.waiting);
        bench.give_back(self.to_client.waiting);
    }

    /// Carries bytes one way; true if there may be more at once.
    fn carry<F: End, T: End>(
        way: &mut Way,
        ((from, source), (to, sink)): ((&mut F, &mut Readiness), (&mut T, &mut Readiness)),
        (bench, tools): (&mut Bench, &mut Tools),
        count: &mut Count,
    ) -> io::Result<bool> {
        sink.writable = sink.writable && to.push(tools)?;
        for _ in 0..BUDGET {
            if way.left < way.waiting.len() {
                if sink.writable {
                    way.left += put(to, sink, &way.waiting[way.left..], tools)?;
                }
                if way.left < way.waiting.len() {
                    return Ok(false);
                }
                bench.give_back(std::mem::take(&mut way.waiting));
                way.left = 0;
            }
            if way.ended {
                if !way.shut && sink.writable {
                    to.shut(tools)?;
                    way.shut = true;
                }
                return Ok(false);
            }
            if !source.readable && !source.closed {
                return Ok(false);
            }
            if way.pace.room() == 0 {
                // Who does not rest asks again in the next turn.
                return Ok(way.pace.rests_until().is_none());
            }
            let read = match from.take(&mut bench.chunk, way.pace.room(), tools)? {
                Got::Bytes { bytes, more } => {
                    source.readable = more;
                    bytes
                }
                Got::End => {
                    way.ended = true;
                    continue;
                }
                Got::Nothing => {
                    source.readable = false;
                    return Ok(false);
                }
                Got::Failed => return Err(io::ErrorKind::InvalidData.into()),
            };
            if read == 0 {
                continue;
            }
            count.add(read);
            way.pace.spend(read);
            let bytes = &bench.chunk[..read];
            let written = if sink.writable { put(to, sink, bytes, tools)? } else { 0 };
            if written < read {
                way.waiting = bench.spares.pop().unwrap_or_default();
                way.waiting.extend_from_slice(&bench.chunk[written..read]);
            }
        }
        Ok(true)
    }
}

impl Way {
    /// One for which so many bytes wait already.
    fn new(waiting: Vec<u8>) -> Self {
        Self { waiting, left: 0, pace: Pace::UNKNOWN, ended: false, shut: false }
    }
}

/// Puts bytes into an end and sends them on; what it does not take makes it unwritable.
fn put(
    to: &mut impl End,
    sink: &mut Readiness,
    bytes: &[u8],
    tools: &mut Tools,
) -> io::Result<usize> {
    let written = to.put(bytes, tools)?;
    sink.writable = to.push(tools)? && written == bytes.len();
    Ok(written)
}

impl End for TcpStream {
    fn take(&mut self, room: &mut [u8], most: usize, _: &mut Tools) -> io::Result<Got> {
        let most = most.min(room.len());
        let room = &mut room[..most];
        match self.read(room) {
            Ok(0) => Ok(Got::End),
            Ok(bytes) => Ok(Got::Bytes { bytes, more: bytes == room.len() }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Got::Nothing),
            Err(error) => Err(error),
        }
    }

    fn put(&mut self, bytes: &[u8], _: &mut Tools) -> io::Result<usize> {
        match self.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            outcome => outcome,
        }
    }

    fn push(&mut self, _: &mut Tools) -> io::Result<bool> {
        Ok(true)
    }

    fn shut(&mut self, _: &mut Tools) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl End for Guest {
    fn take(&mut self, room: &mut [u8], most: usize, tools: &mut Tools) -> io::Result<Got> {
        self.read(room, most, tools)
    }

    fn put(&mut self, bytes: &[u8], tools: &mut Tools) -> io::Result<usize> {
        self.write(bytes, tools)
    }

    fn push(&mut self, tools: &mut Tools) -> io::Result<bool> {
        Self::push(self, tools)
    }

    fn shut(&mut self, tools: &mut Tools) -> io::Result<()> {
        Self::shut(self, tools)
    }
}
