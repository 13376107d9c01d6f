//! A tap: copies of what one allocation sends and gets, for whoever looks for a fault.
//!
//! It lies where verdicts are given, so clients of every transport are seen alike and unsealed, each
//! datagram on both its legs. Copies end with the headers unless more is asked for: what people say
//! is nobody's business. There is one tap at a time; the shell takes copies out after a batch of
//! inputs, and what found no room until then is counted. Without a tap a packet costs one look at
//! whether there is one.

use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use crate::addr::{AllocationId, FiveTuple, PeerAddr, RelayId};
use crate::channel_data;
use crate::demux;
use crate::dialect::Wrap;
use crate::media::{Kind, Leg};
use crate::now::Now;
use crate::policy::Ledger;
use crate::stun::header::HEADER_LEN as STUN_HEADER;
use crate::turn::action::{Action, Span, Verdict};
use crate::turn::server::Server;

/// Copies between two batches, at most.
const MOST_SIGHTS: usize = 2_048;

/// Bytes of them.
const MOST_BYTES: usize = 256 << 10;

/// How much of a datagram is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The headers of TURN and of what is in it.
    Headers,
    /// All of it.
    Whole,
}

/// Why there is no tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untapped {
    /// There is no such allocation.
    Gone,
    /// It relays connections, whose bytes are no datagrams.
    Streams,
    /// There is one already.
    Busy,
}

/// One datagram on one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// When it came, or what it was sent for.
    pub at: Instant,
    /// Where.
    pub leg: Leg,
    /// Whether the relay sent it.
    pub sent: bool,
    /// Whence.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// How it is dressed, if that is not in the bytes.
    pub wrap: Wrap,
    /// How many bytes it has without that.
    pub len: u32,
    /// The first of them.
    pub bytes: Box<[u8]>,
}

/// What was seen since this was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sights {
    /// In order.
    pub seen: Vec<Sight>,
    /// How many more there were, by [`Leg`].
    pub missed: [u64; 2],
    /// Whether the allocation has ended.
    pub over: bool,
}

/// The tap.
#[derive(Debug)]
pub(super) struct Tap {
    id: AllocationId,
    depth: Depth,
    /// The client, also behind the end of the allocation: its last answer is still to come.
    client: FiveTuple,
    /// When the last input came.
    now: Instant,
    sights: Sights,
    bytes: usize,
}

impl Tap {
    fn see(&mut self, sight: Sight) {
        if self.sights.seen.len() >= MOST_SIGHTS || self.bytes + sight.bytes.len() > MOST_BYTES {
            self.sights.missed[sight.leg as usize] += 1;
            return;
        }
        self.bytes += sight.bytes.len();
        self.sights.seen.push(sight);
    }

    /// As much of a message as may be seen; its payload begins at `payload`, if it has some.
    fn cut<'b>(&self, message: &'b [u8], payload: Option<usize>) -> &'b [u8] {
        let most = match (self.depth, payload) {
            (Depth::Whole, _) => message.len(),
            (Depth::Headers, Some(start)) => {
                start + message.get(start..).map_or(0, |payload| Kind::head_of(payload).len())
            }
            (Depth::Headers, None) => STUN_HEADER,
        };
        message.get(..most).unwrap_or(message)
    }
}

impl<L: Ledger> Server<L> {
    /// Lays a tap at an allocation. What a kernel relays by itself nobody sees, so it has no routes
    /// from here on.
    pub fn tap(&mut self, now: Now, id: AllocationId, depth: Depth) -> Result<(), Untapped> {
        let allocation = self.table.get(id).ok_or(Untapped::Gone)?;
        if allocation.relays_tcp {
            return Err(Untapped::Streams);
        }
        if self.tap.is_some() {
            return Err(Untapped::Busy);
        }
        let (client, sights) = (allocation.client, Sights::default());
        self.tap = Some(Box::new(Tap { id, depth, client, now: now.mono, sights, bytes: 0 }));
        self.routes_changed(id);
        Ok(())
    }

    /// Takes it away.
    pub fn untap(&mut self) {
        if let Some(tap) = self.tap.take() {
            self.routes_changed(tap.id);
        }
    }

    /// Whether the packets of an allocation are being looked at.
    pub(super) fn is_tapped(&self, id: AllocationId) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.id == id)
    }

    /// What the tap has seen.
    pub fn sights(&mut self) -> Sights {
        let Some(tap) = &mut self.tap else { return Sights { over: true, ..Sights::default() } };
        tap.bytes = 0;
        Sights { over: self.table.get(tap.id).is_none(), ..mem::take(&mut tap.sights) }
    }

    /// Looks at what a client sent.
    #[cold]
    pub(super) fn see_from_client(
        &mut self,
        now: Now,
        from: FiveTuple,
        message: &[u8],
        verdict: Verdict,
    ) {
        let Some(tap) = &mut self.tap else { return };
        tap.now = now.mono;
        let allocation = self.table.get(tap.id);
        let before = tap.client;
        tap.client = allocation.map_or(before, |it| it.client);
        if from != tap.client && from != before {
            return;
        }
        let Some(listener) = self.config.edge.listener(from.listener) else { return };
        let sight = Sight {
            at: now.mono,
            leg: Leg::Client,
            sent: false,
            from: from.client.socket(),
            to: listener.local,
            wrap: Wrap::Raw,
            len: length(message),
            bytes: Box::default(),
        };
        let Verdict::ToPeer { via, peer, payload, .. } = verdict else {
            let bytes = tap.cut(message, unread(message)).into();
            return tap.see(Sight { bytes, ..sight });
        };
        let bytes = tap.cut(message, Some(payload.start as usize)).into();
        tap.see(Sight { bytes, ..sight });
        let Some(relay) = allocation.and_then(|it| it.relay(via.family)) else { return };
        let (from, to) = (relay.addr().socket(), peer.socket());
        let payload = part(message, payload);
        let (bytes, len) = (tap.cut(payload, Some(0)).into(), length(payload));
        tap.see(Sight { leg: Leg::Peer, sent: true, from, to, len, bytes, ..sight });
    }

    /// Looks at what a peer sent.
    #[cold]
    pub(super) fn see_from_peer(
        &mut self,
        now: Now,
        (at, from): (RelayId, PeerAddr),
        payload: &[u8],
        verdict: Verdict,
    ) {
        let Some(tap) = self.tap.as_mut().filter(|tap| tap.id == at.allocation) else { return };
        tap.now = now.mono;
        let Some(relay) = self.table.get(tap.id).and_then(|it| it.relay(at.family)) else { return };
        let sight = Sight {
            at: now.mono,
            leg: Leg::Peer,
            sent: false,
            from: from.socket(),
            to: relay.addr().socket(),
            wrap: Wrap::Raw,
            len: length(payload),
            bytes: tap.cut(payload, Some(0)).into(),
        };
        tap.see(sight.clone());
        let Verdict::ToClient { to, wrap, .. } = verdict else { return };
        let Some(listener) = self.config.edge.listener(to.listener) else { return };
        let (from, to) = (listener.local, to.client.socket());
        tap.see(Sight { leg: Leg::Client, sent: true, from, to, wrap, ..sight });
    }

    /// Looks at what a client is answered.
    #[cold]
    pub(super) fn see_answer(&mut self, action: &Action) {
        let (Some(tap), Action::Send { to, bytes }) = (&mut self.tap, action) else { return };
        let Some(listener) = self.config.edge.listener(to.listener) else { return };
        if *to == tap.client {
            tap.see(Sight {
                at: tap.now,
                leg: Leg::Client,
                sent: true,
                from: listener.local,
                to: to.client.socket(),
                wrap: Wrap::Raw,
                len: length(bytes),
                bytes: tap.cut(bytes, None).into(),
            });
        }
    }
}

/// Where the payload of a message begins that went nowhere; `None` for messages of STUN.
fn unread(message: &[u8]) -> Option<usize> {
    match demux::Kind::of_rfc5766(message) {
        demux::Kind::ChannelData => Some(channel_data::HEADER_LEN.min(message.len())),
        demux::Kind::Stun => None,
        demux::Kind::Other => Some(0),
    }
}

fn part(message: &[u8], span: Span) -> &[u8] {
    let (start, len) = (span.start as usize, span.len as usize);
    message.get(start..start + len).unwrap_or_default()
}

/// A datagram is shorter than 64 KiB.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
