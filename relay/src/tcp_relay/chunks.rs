//! What goes over links, in both directions.

use std::io;

use proto::addr::ConnectionId;
use proto::now::Now;
use proto::policy::Ledger;
use proto::policy::bandwidth::Direction;
use proto::turn::{Server, Verdict};

use super::link::CHUNK;
use super::places::Key;
use super::{Place, TcpRelays, arm, socket};
use crate::engine::Batch;
use crate::stream::Streams;

/// Chunks taken from one peer in a turn.
const BUDGET: u32 = 8;

/// How a link is after it was looked at.
enum After {
    /// It waits for one of its ends.
    Waits,
    /// There may be more to read at once.
    More,
    /// Its client has to read first.
    Held,
}

impl TcpRelays {
    /// Sends the chunks that clients of this turn have for their peers. Those for a peer that will
    /// be called in this turn wait until then.
    pub(super) fn take_chunks<L: Ledger>(
        &mut self,
        now: Now,
        server: &mut Server<L>,
        batch: &mut Batch,
        streams: &mut Streams,
    ) {
        for (id, chunk) in batch.chunks() {
            let place = self.connections.get(&id).copied();
            let Some(key) = place else {
                self.early.entry(id).or_default().extend_from_slice(chunk);
                continue;
            };
            let Some(Place::Link { link, .. }) = self.places.find(key) else { continue };
            if link.send(now.mono, chunk).is_err() {
                self.give_up(now, id, server, streams);
                continue;
            }
            link.to_peer.ask(|| server.allowance(now, id, Direction::ToPeer));
            if link.deadline().is_some() {
                self.watch_link(key, streams);
            }
        }
        batch.forget_chunks();
    }

    /// Looks at a link that the kernel has news of.
    pub(super) fn carry_chunks<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        server: &mut Server<L>,
        streams: &mut Streams,
    ) {
        let Some(Place::Link { id, link, .. }) = self.places.find(key) else { return };
        let id = *id;
        if !link.connected {
            match socket::outcome(link.socket()) {
                None => return self.watch_link(key, streams),
                Some(Ok(())) => {
                    link.reached();
                    server.peer_connected(now, id, Ok(()));
                }
                Some(Err(error)) => {
                    server.peer_connected(now, id, Err(socket::connect_failure(&error)));
                    return self.hang_up_link(id, streams);
                }
            }
        }
        match self.pump_link(now, key, server, streams) {
            Err(_) => return self.give_up(now, id, server, streams),
            Ok(After::Waits) => {}
            Ok(After::More) => self.queue(key),
            Ok(After::Held) => self.held.push(key),
        }
        self.watch_link(key, streams);
    }

    fn pump_link<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        server: &mut Server<L>,
        streams: &mut Streams,
    ) -> io::Result<After> {
        let Some(Place::Link { id, link, .. }) = self.places.find(key) else {
            return Ok(After::Waits);
        };
        link.push(now.mono)?;
        for _ in 0..BUDGET {
            if !link.readiness.readable && !link.readiness.closed {
                return Ok(After::Waits);
            }
            if !streams.has_room(link.client) {
                return Ok(After::Held);
            }
            link.to_client.ask(|| server.allowance(now, *id, Direction::ToClient));
            if link.to_client.rests_until().is_some() {
                return Ok(After::Waits);
            }
            let room = self.bench.room(link.to_client.room().min(CHUNK));
            let bytes = match link.read(room)? {
                None => return Ok(After::Waits),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(bytes) => &room[..bytes],
            };
            let Verdict::ToClient { to, wrap, .. } = server.connection_input(*id, bytes) else {
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            streams.relay_chunk(to, wrap, bytes);
        }
        Ok(After::More)
    }

    /// Looks again at links whose clients have read what waited for them.
    pub(crate) fn resume(&mut self, streams: &mut Streams) {
        for key in std::mem::take(&mut self.held) {
            match self.places.find(key) {
                Some(Place::Link { link, .. }) if streams.has_room(link.client) => self.queue(key),
                Some(Place::Link { .. }) => self.held.push(key),
                _ => {}
            }
        }
    }

    /// Holds the client of a link that is full or has carried what it may, lets go the one of a
    /// link that is neither, and sees to it that a link comes up at its deadline.
    fn watch_link(&mut self, key: Key, streams: &mut Streams) {
        let Some(Place::Link { link, armed, .. }) = self.places.find(key) else { return };
        let holds = link.is_full() || link.to_peer.rests_until().is_some();
        if holds != link.holds {
            link.holds = holds;
            if link.holds {
                streams.hold(link.client);
            } else {
                streams.let_go(link.client);
            }
        }
        arm(&mut self.deadlines, key, armed, link.deadline());
    }

    /// The deadline of a link has passed.
    pub(super) fn link_overdue<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        server: &mut Server<L>,
        streams: &mut Streams,
    ) {
        let Some(Place::Link { id, link, armed }) = self.places.find(key) else { return };
        let id = *id;
        *armed = None;
        if link.stalled_at().is_some_and(|at| at <= now.mono) {
            return self.give_up(now, id, server, streams);
        }
        link.to_client.wake(now.mono);
        if link.to_peer.wake(now.mono) {
            link.to_peer.ask(|| server.allowance(now, id, Direction::ToPeer));
        }
        self.queue(key);
    }

    /// A stream that would have a hole ends, or its peer has ended it.
    fn give_up<L: Ledger>(
        &mut self,
        now: Now,
        id: ConnectionId,
        server: &mut Server<L>,
        streams: &mut Streams,
    ) {
        self.hang_up_link(id, streams);
        server.connection_closed(now, id);
    }

    /// Closes a peer's connection, and lets its client go.
    pub(crate) fn hang_up_link(&mut self, id: ConnectionId, streams: &mut Streams) {
        if let Some(&key) = self.connections.get(&id)
            && let Some(Place::Link { link, .. }) = self.places.find(key)
            && std::mem::take(&mut link.holds)
        {
            let client = link.client;
            streams.let_go(client);
        }
        self.hang_up(id);
    }
}
