//! One client on a stream.
//!
//! A connection that is idle owns its descriptor and nothing else: what it reads goes into the
//! memory of the batch, and only the beginning of a frame whose rest has not come is kept here;
//! what waits to be written lies in a buffer that is borrowed from the worker.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use proto::addr::FiveTuple;

use super::frames::Framing;
use super::queue::{Queue, Spares};
use super::tally::{Ending, StreamTally};
use super::tls::{self, Session};

/// The most that is read from one connection in a turn.
pub(super) const READ: usize = 64 * 1024;

/// How long a connection may be without an allocation, from its beginning or after the last.
/// Whatever arrives meanwhile does not prolong it.
pub(super) const STRANGER: Duration = Duration::from_secs(30);

/// How long a client may take to say what it is, and to finish a TLS handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a frame may take from its first byte to its last.
pub(super) const FRAME: Duration = Duration::from_secs(30);

/// How long a connection that was ended may take to read what was written before.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// One client on a stream.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct Connection {
    socket: TcpStream,
    pub(super) layer: Layer,
    /// Since when there is one.
    accepted: Instant,
    /// Records that wait to be written: what was sealed is never dropped.
    unsent: Vec<u8>,
    /// Bytes of them that have left.
    left: usize,
    /// Who it is.
    pub(super) client: FiveTuple,
    /// How its frames are cut.
    pub(super) framing: Framing,
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
    /// How many peers take so slowly what it sends them that it is not read.
    pub(super) holders: u32,
    /// Whether something was queued in this turn.
    pub(super) dirty: bool,
    /// Whether the kernel takes nothing now.
    blocked: bool,
    /// Whether the end of the stream has arrived, perhaps behind bytes.
    pub(super) half_closed: bool,
    /// Whether it goes elsewhere: nothing more of it is read here, and `begun` is the rest.
    pub(super) leaving: bool,
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

/// What lies between the client's bytes and its frames.
pub(super) enum Layer {
    /// Its first bytes will tell; `proxied` if they must be a PROXY header.
    Unknown {
        /// The door it came in at.
        door: usize,
        /// Whether a balancer brings it, and has not said whom.
        proxied: bool,
    },
    /// Nothing.
    Plain,
    /// TLS.
    Tls(Box<Session>),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Nothing was there.
    Nothing,
    /// So many bytes, perhaps none of them for us; there may be more at once.
    Bytes {
        /// Bytes put into the room.
        bytes: usize,
        /// Whether the socket was not read empty.
        more: bool,
    },
    /// The client sends no more.
    End,
    /// Its TLS cannot be understood.
    Failed,
}

/// What the connections of a worker share.
pub(crate) struct Tools {
    /// Empty buffers.
    pub(super) spares: Spares,
    /// Counters.
    pub(super) tally: StreamTally,
    /// Room for what is read of TLS.
    pub(super) records: Box<[u8]>,
    /// Records just sealed.
    pub(super) sealed: Vec<u8>,
    /// When the turn began.
    pub(super) now: Instant,
    /// How long the handshakes of TLS took that were done in it.
    pub(super) handshakes: Vec<Duration>,
}

impl Tools {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now,
            handshakes: Vec::new(),
            spares: Spares::default(),
            tally: StreamTally::default(),
            records: vec![0; READ + tls::LONGEST_RECORD].into_boxed_slice(),
            sealed: Vec::with_capacity(2 * tls::SEALED_AT_ONCE),
        }
    }
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
    pub(super) fn new(socket: TcpStream, layer: Layer, client: FiveTuple, now: Instant) -> Self {
        let mut connection = Self {
            socket,
            layer,
            accepted: now,
            unsent: Vec::new(),
            left: 0,
            client,
            framing: Framing::Unknown,
            begun: Vec::new(),
            missing: 0,
            since: now,
            queue: Queue::default(),
            ready: false,
            holders: 0,
            dirty: false,
            blocked: false,
            half_closed: false,
            leaving: false,
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

    /// Whether it is not known yet who speaks there, or how.
    pub(super) fn is_unshaken(&self) -> bool {
        match &self.layer {
            Layer::Unknown { .. } => true,
            Layer::Plain => false,
            Layer::Tls(session) => !session.is_open(),
        }
    }

    /// Looks at what has arrived without taking it; `None` if nothing has.
    pub(super) fn peek(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.peek(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Takes bytes that were looked at.
    pub(super) fn skip(&mut self, bytes: usize, room: &mut [u8]) -> io::Result<()> {
        self.socket.read_exact(&mut room[..bytes])
    }

    /// Reads what the client says into `room`, at most so much of what the kernel has.
    pub(super) fn read(
        &mut self,
        room: &mut [u8],
        most: usize,
        tools: &mut Tools,
    ) -> io::Result<Got> {
        let most = most.min(READ);
        let Layer::Tls(session) = &mut self.layer else {
            let room = &mut room[..most];
            return Ok(match read(&mut self.socket, room, &mut tools.tally)? {
                None => Got::Nothing,
                Some(0) => Got::End,
                Some(bytes) => Got::Bytes { bytes, more: bytes == most },
            });
        };
        let begun = session.begun.len();
        tools.records[..begun].copy_from_slice(&session.begun);
        let Tools { records, tally, .. } = tools;
        let bytes = match read(&mut self.socket, &mut records[begun..begun + most], tally)? {
            None => return Ok(Got::Nothing),
            Some(0) => return Ok(Got::End),
            Some(bytes) => bytes,
        };
        let was_open = session.is_open();
        tools.sealed.clear();
        let outcome = session.receive(&mut tools.records[..begun + bytes], room, &mut tools.sealed);
        if session.is_open() && !was_open {
            tools.tally.handshakes += 1;
            tools.handshakes.push(tools.now.saturating_duration_since(self.accepted));
        }
        self.send(tools)?;
        Ok(match outcome {
            Err(tls::Failed) => Got::Failed,
            Ok(opened) => Got::Bytes { bytes: opened, more: bytes == most },
        })
    }

    /// Whether the client has said that it sends no more.
    pub(super) fn has_finished(&self) -> bool {
        matches!(&self.layer, Layer::Tls(session) if session.is_finished())
    }

    /// Whether it is good for NAT discovery only (RFC 7443).
    pub(super) fn is_for_discovery(&self) -> bool {
        matches!(&self.layer, Layer::Tls(session) if session.is_for_discovery())
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
    pub(super) fn write(&mut self, tools: &mut Tools) -> io::Result<()> {
        while !self.blocked && !self.has_left() {
            if !self.unsent.is_empty() {
                self.left += write(&mut self.socket, &self.unsent[self.left..], &mut tools.tally)?;
                if self.left == self.unsent.len() {
                    (self.unsent, self.left) = (Vec::new(), 0);
                } else {
                    self.blocked = true;
                }
            } else if let Layer::Tls(session) = &mut self.layer {
                tools.sealed.clear();
                // A record for each frame: there are clients that read no more of a record.
                while tools.sealed.len() < tls::SEALED_AT_ONCE && !self.queue.is_empty() {
                    let sealed = session.seal(self.queue.first(), &mut tools.sealed);
                    let sealed = sealed.map_err(|tls::Failed| io::ErrorKind::InvalidData)?;
                    if sealed == 0 {
                        // Before the end of the handshake nothing may be said.
                        return Ok(());
                    }
                    self.queue.advance(sealed, &mut tools.spares);
                }
                self.send(tools)?;
            } else {
                let waiting = self.queue.waiting();
                let written = write(&mut self.socket, waiting, &mut tools.tally)?;
                self.blocked = written < waiting.len();
                self.queue.advance(written, &mut tools.spares);
            }
        }
        Ok(())
    }

    /// Whether everything that was said to the client has left.
    pub(super) fn has_left(&self) -> bool {
        self.queue.is_empty() && self.unsent.is_empty()
    }

    /// Forgets what waits.
    pub(super) fn silence(&mut self, spares: &mut Spares) {
        self.queue.clear(spares);
        (self.unsent, self.left) = (Vec::new(), 0);
    }

    /// Says good-bye if TLS demands it; then the socket may be dropped.
    pub(super) fn take_leave(&mut self, tools: &mut Tools) {
        if let Layer::Tls(session) = &mut self.layer
            && self.queue.is_empty()
            && self.unsent.is_empty()
        {
            tools.sealed.clear();
            session.say_goodbye(&mut tools.sealed);
            // Whoever does not hear it is gone already.
            drop(self.send(tools));
        }
    }

    /// Writes bytes that are no frame, as many as are taken: none while something waits.
    pub(super) fn pour(&mut self, bytes: &[u8], tools: &mut Tools) -> io::Result<usize> {
        let mut poured = 0;
        while poured < bytes.len() && self.has_left() && !self.blocked {
            let Layer::Tls(session) = &mut self.layer else {
                poured = write(&mut self.socket, bytes, &mut tools.tally)?;
                self.blocked = poured < bytes.len();
                break;
            };
            tools.sealed.clear();
            let sealed = session.seal(&bytes[poured..], &mut tools.sealed);
            poured += sealed.map_err(|tls::Failed| io::ErrorKind::InvalidData)?;
            self.send(tools)?;
        }
        Ok(poured)
    }

    /// Its socket, to be registered elsewhere.
    pub(super) fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// The socket alone, for somebody else.
    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Sends the records that were just sealed, behind those that wait.
    fn send(&mut self, tools: &mut Tools) -> io::Result<()> {
        let mut written = 0;
        if self.unsent.is_empty() && !self.blocked && !tools.sealed.is_empty() {
            written = write(&mut self.socket, &tools.sealed, &mut tools.tally)?;
            self.blocked = written < tools.sealed.len();
        }
        self.unsent.extend_from_slice(&tools.sealed[written..]);
        Ok(())
    }

    /// When somebody has to look at it next.
    pub(super) fn deadline(&self) -> Instant {
        if self.ending.is_some() {
            return self.patience;
        }
        let frame = self.owes_a_frame().then(|| self.since + FRAME);
        let handshake = self.is_unshaken().then(|| self.accepted + HANDSHAKE);
        [frame, handshake].into_iter().flatten().fold(self.patience, Instant::min)
    }

    /// Whether the rest of a frame is missing, and read as soon as it comes.
    fn owes_a_frame(&self) -> bool {
        !self.begun.is_empty() && self.holders == 0
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
        if self.leaving {
            return Overdue::Nothing;
        }
        if self.is_unshaken() && self.accepted + HANDSHAKE <= now {
            return Overdue::End(Ending::HandshakeTimeout);
        }
        if self.owes_a_frame() && self.since + FRAME <= now {
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

/// Reads once; `None` if nothing is there.
fn read(
    socket: &mut TcpStream,
    room: &mut [u8],
    tally: &mut StreamTally,
) -> io::Result<Option<usize>> {
    match socket.read(room) {
        Ok(bytes) => {
            tally.reads += 1;
            tally.bytes_in += bytes as u64;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes as much as the kernel takes.
fn write(socket: &mut TcpStream, bytes: &[u8], tally: &mut StreamTally) -> io::Result<usize> {
    tally.writes += 1;
    match socket.write(bytes) {
        Ok(written) => {
            tally.bytes_out += written as u64;
            Ok(written)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}
