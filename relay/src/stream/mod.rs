//! Clients on streams: accepted, read, cut into frames, written, closed.
//!
//! Every worker has listening sockets of its own and keeps what it accepts. Readiness comes from
//! the engine's wait. Bytes are read into the memory of the batch, so that payload goes to peers
//! from where it was read; what goes to a client waits in its queue until the turn ends and then
//! leaves in one write. Who reads slowly loses its own media and disturbs nobody.
//!
//! `door` is where they come in, `entrance` how, `opening` what they turn out to be; `connection` knows one
//! client, `tls` its encryption, `frames` what it says, `queue` what waits for it; `roster` knows
//! who is where, `passage` who is passed on to another server, `guest` who leaves for another worker or to be joined to a
//! peer, `tally` what is counted.

mod connection;
mod door;
mod entrance;
mod frames;
mod guest;
mod opening;
mod passage;
mod queue;
mod roster;
mod tally;
mod tls;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use proto::addr::{FiveTuple, ListenerId, Transport};
use proto::framing::{ms, turn as framing};
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{Server, Wrap};
use rustls::ServerConfig;

use crate::chronicle::{Below, Tidings};
use crate::clock::Clock;
use crate::engine::{self, Batch, FOREIGN};
use crate::ledger::{Bounds, SharedLedger};

pub(crate) use connection::{Got, Tools};
pub(crate) use door::DoorPlan;
pub(crate) use guest::{CHUNK, Guest};
pub(crate) use opening::PassThrough;
pub use tally::{Ending, Refusal};
pub(crate) use tally::{StreamTally, TRANSPORTS};

use connection::{Layer, Overdue, READ};
use door::Doors;
use frames::{Bench, Framing};
use passage::Passages;
use queue::{Loss, Worth};
use roster::{Key, Roster};

/// Slots of tokens from here on are doors.
const FIRST_DOOR: usize = 0x7FFF_0000;

/// The bit of a slot that makes it a side of a passage.
const PASSAGE: usize = 1 << 30;

/// Room that one read may fill: a begun frame, and what a read brings, after TLS or without it.
const ROOM: usize = framing::LONGEST + READ + tls::LONGEST_RECORD;

/// Bytes that wait for a client that has not logged in: answers to a few requests.
const STRANGER_QUEUE: usize = 8 * 1024;

/// Bounds of streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamLimits {
    /// Connections without an allocation.
    pub(crate) strangers: Bounds,
    /// Bytes that wait for one client.
    pub(crate) queue_bytes: usize,
}

/// What the streams of a worker are told.
#[derive(Clone, Debug)]
pub(crate) struct StreamConfig {
    /// Bounds.
    pub(crate) limits: StreamLimits,
    /// By listener: the transport, if it is a stream.
    pub(crate) transports: Vec<Option<Transport>>,
    /// Whether channel numbers of RFC 5766 are spoken.
    pub(crate) rfc5766_channels: bool,
    /// Whether the Microsoft dialect is spoken.
    pub(crate) microsoft: bool,
    /// What TLS is served with.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Where foreign TLS goes.
    pub(crate) pass_through: Option<PassThrough>,
}

/// The streams of one worker.
pub(crate) struct Streams {
    config: StreamConfig,
    registry: Registry,
    doors: Doors,
    ledger: SharedLedger,
    roster: Roster,
    /// Connections to read.
    ready: VecDeque<Key>,
    /// Connections something was queued for, or that can be written to again.
    dirty: Vec<Key>,
    /// Connections that the server has to hear the end of.
    ended: Vec<Key>,
    passages: Passages,
    tools: Tools,
    tidings: Tidings,
}

impl Streams {
    /// Streams that come in through these doors.
    pub(crate) fn new(
        config: StreamConfig,
        registry: Registry,
        doors: Vec<(DoorPlan, std::net::TcpListener)>,
        ledger: SharedLedger,
    ) -> io::Result<Self> {
        let token = |index| Token(FOREIGN | (FIRST_DOOR + index));
        Ok(Self {
            doors: Doors::open(doors, &registry, token)?,
            config,
            registry,
            ledger,
            roster: Roster::new(random_secret()?),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            ended: Vec::new(),
            passages: Passages::default(),
            tools: Tools::new(Clock::new().last().mono),
            tidings: Tidings::default(),
        })
    }

    /// Whether clients of this listener are on streams.
    pub(crate) fn serves(&self, listener: ListenerId) -> bool {
        matches!(self.config.transports.get(listener.index()), Some(Some(_)))
    }

    /// How long the handshakes of TLS took that were done since this was asked last.
    pub(crate) fn handshakes(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.tools.handshakes.drain(..)
    }

    /// Counters.
    pub(crate) fn tally(&self) -> StreamTally {
        StreamTally {
            passing: self.passages.count() as u64,
            passed_idle: self.passages.idle(),
            paused: u64::from(self.doors.reopen_at().is_some()),
            ..self.tools.tally
        }
    }

    /// How long the engine may wait because of streams; `None`: for ever.
    pub(crate) fn patience(&mut self, now: Instant) -> Option<Duration> {
        let pending = !self.ready.is_empty() || !self.ended.is_empty();
        if pending || self.doors.are_ready() || self.passages.are_ready() {
            return Some(Duration::ZERO);
        }
        let next =
            [self.roster.next_deadline(), self.doors.reopen_at(), self.passages.next_deadline()];
        next.into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
    }

    /// Takes in what the kernel says about a socket.
    pub(crate) fn wake(&mut self, event: &Event) {
        let token = event.token().0 & !FOREIGN;
        let slot = token & 0x7FFF_FFFF;
        if slot >= FIRST_DOOR {
            self.doors.knock(slot - FIRST_DOOR);
            return;
        }
        if slot & PASSAGE != 0 {
            let readable = event.is_readable() || event.is_read_closed() || event.is_error();
            self.passages.wake(token & !PASSAGE, readable, event.is_writable());
            return;
        }
        let key = Key::from_token(token);
        let Some(connection) = self.roster.find(key) else { return };
        if event.is_writable() {
            connection.unblock();
            if !connection.has_left() && !std::mem::replace(&mut connection.dirty, true) {
                self.dirty.push(key);
            }
        }
        connection.half_closed |= event.is_read_closed() || event.is_error();
        let worth = event.is_readable() || connection.half_closed;
        if worth && connection.ending.is_none() && !std::mem::replace(&mut connection.ready, true) {
            self.ready.push_back(key);
        }
    }

    /// One turn: those who ended are reported, new ones taken, frames cut and judged.
    pub(crate) fn turn<L: Ledger>(&mut self, now: Now, server: &mut Server<L>, batch: &mut Batch) {
        self.tools.now = now.mono;
        self.report(now, server);
        while let Some(key) = self.roster.due(now.mono) {
            self.look_after(now, key, server);
        }
        self.accept(now, server);
        for _ in 0..self.ready.len() {
            if batch.stream_room().len() < ROOM {
                break;
            }
            if let Some(key) = self.ready.pop_front() {
                self.attend(now, key, server, batch);
            }
        }
        for client in self.passages.turn(now.mono, &mut self.tools.records) {
            self.ledger.dismiss_passage(client);
        }
    }

    /// Queues relayed payload for a client.
    pub(crate) fn relay(&mut self, to: FiveTuple, wrap: Wrap, payload: &[u8]) {
        self.dress(to, (Worth::Media, wrap), payload);
    }

    /// Queues a piece of a peer's stream, for which [`Streams::has_room`].
    pub(crate) fn relay_chunk(&mut self, to: FiveTuple, wrap: Wrap, payload: &[u8]) {
        self.dress(to, (Worth::Chunk, wrap), payload);
    }

    /// Whether a client has read so much of what was queued for it that more may be.
    pub(crate) fn has_room(&mut self, client: FiveTuple) -> bool {
        let half = self.config.limits.queue_bytes / 2;
        self.roster.of(client).is_some_and(|(_, connection)| connection.queue.len() < half)
    }

    /// Reads a client no more: somebody takes too slowly what it sends.
    pub(crate) fn hold(&mut self, client: FiveTuple) {
        if let Some((_, connection)) = self.roster.of(client) {
            connection.holders += 1;
        }
    }

    /// Undoes one [`Streams::hold`].
    pub(crate) fn let_go(&mut self, client: FiveTuple) {
        let Some((key, connection)) = self.roster.of(client) else { return };
        connection.holders = connection.holders.saturating_sub(1);
        if connection.holders == 0
            && connection.ending.is_none()
            && !std::mem::replace(&mut connection.ready, true)
        {
            self.ready.push_back(key);
        }
    }

    fn dress(&mut self, to: FiveTuple, (worth, wrap): (Worth, Wrap), payload: &[u8]) {
        let mut head = [0; engine::LONGEST_HEAD];
        #[expect(clippy::cast_possible_truncation, reason = "a datagram has less than 64 KiB")]
        let len = engine::head(wrap, payload.len() as u32, &mut head);
        let Some((key, connection)) = self.roster.of(to) else { return };
        let (head, len) = (&head[..len], len + payload.len());
        if connection.framing != Framing::Ms {
            // Attributes fill words anyway, and ChannelData does in a stream (RFC 8656 §12.5).
            let padding = &[0; 3][..framing::padding(payload.len())];
            return self.put(key, worth, &[head, payload, padding]);
        }
        let kind = if head.is_empty() { ms::Kind::Data } else { ms::Kind::Control };
        if let Some(frame) = ms::header(kind, len) {
            self.put(key, worth, &[&frame, head, payload]);
        } else {
            // A few bytes more than a frame of this dialect can have, and a datagram cannot.
            self.tools.tally.dropped_frames += 1;
            self.tools.tally.dropped_bytes += len as u64;
        }
    }

    /// Queues a control message for a client.
    pub(crate) fn reply(&mut self, to: FiveTuple, bytes: &[u8]) {
        let Some((key, connection)) = self.roster.of(to) else { return };
        match (connection.framing, ms::header(ms::Kind::Control, bytes.len())) {
            (Framing::Ms, Some(header)) => self.put(key, Worth::Control, &[&header, bytes]),
            _ => self.put(key, Worth::Control, &[bytes]),
        }
    }

    /// A client has an allocation: it is no stranger any more.
    pub(crate) fn admitted(&mut self, client: FiveTuple) {
        if let Some((_, connection)) = self.roster.of(client)
            && std::mem::replace(&mut connection.stranger, false)
        {
            self.ledger.dismiss_stranger(client.client.ip());
        }
    }

    /// Memory and counters for connections that left.
    pub(crate) fn tools(&mut self) -> &mut Tools {
        &mut self.tools
    }

    /// Closes a client's connection behind what waits for it.
    pub(crate) fn close(&mut self, client: FiveTuple) {
        if let Some((key, _)) = self.roster.of(client) {
            self.end(key, Ending::Told);
        }
    }

    /// Ends a turn: writes what was queued.
    pub(crate) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            let Some(connection) = self.roster.find(key) else { continue };
            connection.dirty = false;
            let broken = connection.write(&mut self.tools).is_err();
            if broken {
                connection.silence(&mut self.tools.spares);
            }
            match connection.ending {
                None if broken => self.end(key, Ending::Reset),
                Some(_) if connection.has_left() && connection.reported => {
                    self.remove(key);
                }
                None | Some(_) => {}
            }
        }
        self.dirty = dirty;
    }

    /// Ends every connection, behind as much of what waits as the kernel takes now.
    pub(crate) fn close_all(&mut self) {
        self.ready.clear();
        self.ended.clear();
        for key in self.roster.keys() {
            if let Some(connection) = self.roster.find(key) {
                // What cannot be written now is lost with the connection.
                let _ = connection.write(&mut self.tools);
                connection.ending.get_or_insert(Ending::ShutDown);
                connection.silence(&mut self.tools.spares);
            }
            self.remove(key);
        }
        for client in self.passages.close_all() {
            self.ledger.dismiss_passage(client);
        }
    }

    /// Queues a frame for a connection, given in parts.
    fn put(&mut self, key: Key, worth: Worth, parts: &[&[u8]]) {
        let Some(connection) = self.roster.find(key) else { return };
        if matches!(connection.ending, Some(Ending::QueueFull | Ending::Reset)) {
            return;
        }
        let of_clients = self.config.limits.queue_bytes;
        let limit = if connection.stranger { of_clients.min(STRANGER_QUEUE) } else { of_clients };
        let Ok(Loss { frames, bytes }) =
            connection.queue.put(worth, parts, limit, &mut self.tools.spares)
        else {
            connection.silence(&mut self.tools.spares);
            return self.end(key, Ending::QueueFull);
        };
        self.tools.tally.dropped_frames += frames;
        self.tools.tally.dropped_bytes += bytes;
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(key);
        }
    }

    /// Tells the server who has ended, and closes what has nothing left to write.
    fn report<L: Ledger>(&mut self, now: Now, server: &mut Server<L>) {
        for key in std::mem::take(&mut self.ended) {
            let Some(connection) = self.roster.find(key) else { continue };
            server.client_gone(now, connection.client);
            connection.reported = true;
            if connection.has_left() {
                self.remove(key);
            } else {
                connection.linger(now.mono);
                self.roster.strike(key);
                self.roster.arm(key);
            }
        }
    }

    /// A deadline of a connection has passed.
    fn look_after<L: Ledger>(&mut self, now: Now, key: Key, server: &Server<L>) {
        let Some(connection) = self.roster.find(key) else { return };
        let has_allocation = server.serves(connection.client);
        match connection.overdue(now.mono, has_allocation) {
            Overdue::Nothing => self.roster.arm(key),
            Overdue::End(ending) => self.end(key, ending),
            Overdue::Drop => self.remove(key),
        }
    }

    /// A connection has something to say.
    fn attend<L: Ledger>(&mut self, now: Now, key: Key, server: &mut Server<L>, batch: &mut Batch) {
        let Some(connection) = self.roster.find(key) else { return };
        connection.ready = false;
        if connection.ending.is_some() || connection.leaving || connection.holders > 0 {
            return;
        }
        let ending = if let Layer::Unknown { door, proxied } = connection.layer {
            self.recognise(now, key, (door, proxied), server)
        } else {
            self.read(now, key, server, batch)
        };
        if let Some(ending) = ending {
            self.end(key, ending);
        }
    }

    /// Reads one connection once and judges every frame that is complete.
    fn read<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        server: &mut Server<L>,
        batch: &mut Batch,
    ) -> Option<Ending> {
        let connection = self.roster.find(key)?;
        let begun = connection.begun.len();
        let room = &mut batch.stream_room()[begun..];
        let (bytes, more) = match connection.read(room, READ, &mut self.tools) {
            Ok(Got::Nothing) => return None,
            Ok(Got::End) => return Some(Ending::ByClient),
            Ok(Got::Failed) => return Some(Ending::Tls),
            Ok(Got::Bytes { bytes, more }) => (bytes, more),
            Err(_) => return Some(Ending::Reset),
        };
        if more || connection.half_closed {
            connection.ready = true;
            self.ready.push_back(key);
        }
        let StreamConfig { rfc5766_channels, microsoft, .. } = self.config;
        let for_discovery = connection.is_for_discovery();
        let ending = Bench { now, server, batch, rfc5766_channels, microsoft, for_discovery }
            .digest(connection, bytes);
        ending.or_else(|| {
            let finished = connection.has_finished() && !connection.leaving;
            finished.then_some(Ending::ByClient)
        })
    }

    /// A connection reads no more. The server hears of it in the next turn, when what the client
    /// asked for before has been answered.
    fn end(&mut self, key: Key, ending: Ending) {
        let Some(connection) = self.roster.find(key) else { return };
        if connection.ending.is_none() {
            connection.ending = Some(ending);
            self.ended.push(key);
        }
    }

    /// Closes a connection.
    fn remove(&mut self, key: Key) {
        let Some(mut connection) = self.roster.remove(key) else { return };
        if connection.ending != Some(Ending::Reset) {
            connection.take_leave(&mut self.tools);
        }
        connection.silence(&mut self.tools.spares);
        if connection.stranger {
            self.ledger.dismiss_stranger(connection.client.client.ip());
        }
        self.count_open(connection.client, false);
        let ending = connection.ending.unwrap_or(Ending::ShutDown);
        self.tools.tally.closed[ending as usize] += 1;
        self.tidings.tell(connection.client, Below::Ended(ending));
    }

    /// What befell clients since this was asked last.
    pub(crate) fn tidings(&mut self) -> &mut Tidings {
        &mut self.tidings
    }

    /// Counts a connection that is not taken.
    fn refuse(&mut self, client: FiveTuple, refusal: Refusal) {
        self.tools.tally.refused[refusal as usize] += 1;
        self.tidings.tell(client, Below::Refused(refusal));
    }

    /// Counts a connection that came or went, by its transport.
    fn count_open(&mut self, client: FiveTuple, came: bool) {
        let transport = self.config.transports.get(client.listener.index()).copied().flatten();
        if let Some(place) = TRANSPORTS.iter().position(|&it| Some(it) == transport) {
            let open = &mut self.tools.tally.open[place];
            *open = if came { *open + 1 } else { *open - 1 };
        }
    }
}

/// Randomness of the operating system.
fn random_secret() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
