//! What is heard on one leg, in bounded memory.
//!
//! A leg has room for [`MOST_STREAMS`] sources. One more takes the place of a source that turned
//! out to be none, or of the one that has said nothing for longest, if that is ten seconds or more;
//! what was counted of it stays in the sums. While all are speaking, a further one is counted as
//! unmeasured, so that nobody who sends one packet under each of four billion names pushes a
//! stream out.

use super::Heard;
use super::kind::{Header, Kind};
use super::report::{LegReport, LegSummary};
use super::stream::Stream;
use crate::flow::Flow;

/// Sources measured at a time on one leg of an allocation.
pub const MOST_STREAMS: usize = 16;

/// A source that said nothing for so long may give up its place, in nanoseconds.
const SILENCE: u64 = 10_000_000_000;

/// A source of which nothing but one packet came may do so much earlier.
const DOUBT: u64 = 1_000_000_000;

/// A jitter that is older than this says nothing about now.
const LATELY: u64 = 5_000_000_000;

/// Where packets come from: one of the two networks that meet in a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Between the client and the relay: what the client sends.
    Client,
    /// Between the peer and the relay: what the peer sends.
    Peer,
}

impl Leg {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Peer];

    /// What metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// Listens to one leg.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Ear {
    /// The name of the last source, and its place.
    last: (u32, u32),
    streams: Vec<Stream>,
    rest: Box<Rest>,
}

/// What not every packet touches.
#[derive(Clone, Debug, Default)]
struct Rest {
    /// By [`Kind::index`]; of RTP without what belongs to a stream of now.
    kinds: [Flow; Kind::COUNT],
    /// Of RTP: packets of sources there was no room for.
    unmeasured: u64,
    /// Whose the streams are.
    names: [u32; MOST_STREAMS],
    past: LegSummary,
}

impl Default for Ear {
    fn default() -> Self {
        // No source has this place.
        Self { last: (0, u32::MAX), streams: Vec::new(), rest: Box::default() }
    }
}

impl Ear {
    /// A payload.
    #[inline]
    pub(super) fn hear(&mut self, at: u64, payload: &[u8]) -> Heard {
        let Some(header) = Header::of(payload) else { return self.other(payload) };
        let (expected, received) = self.rtp(at, header, payload.len());
        Heard { kind: Kind::Rtp, expected, received }
    }

    /// What is no RTP.
    #[inline(never)]
    fn other(&mut self, payload: &[u8]) -> Heard {
        let kind = Kind::of(payload);
        self.rest.kinds[kind.index()].add(payload.len());
        Heard { kind, expected: 0, received: 0 }
    }

    #[inline]
    fn rtp(&mut self, at: u64, header: Header, bytes: usize) -> (u64, u64) {
        let (name, place) = self.last;
        match self.streams.get_mut(place as usize) {
            Some(stream) if name == header.ssrc => stream.hear(at, header, bytes),
            _ => self.turn(at, header, bytes),
        }
    }

    /// A packet of another source than the last one.
    #[inline(never)]
    fn turn(&mut self, at: u64, header: Header, bytes: usize) -> (u64, u64) {
        let mut named = self.rest.names.iter().zip(&mut self.streams).zip(0..);
        match named.find(|((name, _), _)| **name == header.ssrc) {
            Some(((_, stream), place)) => {
                self.last = (header.ssrc, place);
                stream.hear(at, header, bytes)
            }
            None => self.begin(at, header, bytes),
        }
    }

    /// The first packet of a source.
    #[cold]
    fn begin(&mut self, at: u64, header: Header, bytes: usize) -> (u64, u64) {
        let stream = Stream::new(at, header, bytes);
        let place = if self.streams.len() < MOST_STREAMS {
            self.streams.push(stream);
            self.streams.len() - 1
        } else if let Some(place) = self.quiet(at) {
            let old = std::mem::replace(&mut self.streams[place], stream);
            self.leave(&old);
            place
        } else {
            self.rest.unmeasured += 1;
            self.rest.kinds[Kind::RTP].add(bytes);
            return (0, 0);
        };
        self.rest.names[place] = header.ssrc;
        self.last = (header.ssrc, u32::try_from(place).unwrap_or(u32::MAX));
        (1, 1)
    }

    /// The place of whoever must go: silent for longest among those who may.
    fn quiet(&self, at: u64) -> Option<usize> {
        let silent = |stream: &Stream| at.saturating_sub(stream.heard());
        let may_go =
            |stream: &Stream| silent(stream) >= if stream.is_proven() { SILENCE } else { DOUBT };
        let candidates = self.streams.iter().enumerate().filter(|(_, stream)| may_go(stream));
        // One that is no source goes before all others.
        let first = |(_, stream): &(usize, &Stream)| (!stream.is_proven(), silent(stream));
        candidates.max_by_key(first).map(|(place, _)| place)
    }

    /// Keeps what was counted of a stream that gives up its place.
    fn leave(&mut self, old: &Stream) {
        self.rest.kinds[Kind::RTP] += old.flow();
        if old.is_proven() {
            self.rest.past.add(&old.report(0, old.heard()), false);
        } else {
            self.rest.unmeasured += 1;
        }
    }

    /// Packets go by unheard.
    pub(super) fn skip(&mut self) {
        self.streams.iter_mut().for_each(Stream::skip);
    }

    /// In a few numbers.
    pub(super) fn summary(&self, at: u64) -> LegSummary {
        let Rest { kinds, unmeasured, past, .. } = *self.rest;
        let mut sum = LegSummary { kinds, unmeasured, ..past };
        self.streams.iter().for_each(|stream| sum.kinds[Kind::RTP] += stream.flow());
        for stream in self.streams.iter().filter(|stream| stream.is_proven()) {
            let lately = at.saturating_sub(stream.heard()) <= LATELY;
            sum.add(&stream.report(0, at), lately);
        }
        sum
    }

    /// Stream by stream.
    pub(super) fn report(&self, at: u64) -> LegReport {
        let streams = self.rest.names.iter().zip(&self.streams).filter(|(_, it)| it.is_proven());
        LegReport {
            summary: self.summary(at),
            streams: streams.map(|(ssrc, stream)| stream.report(*ssrc, at)).collect(),
        }
    }
}
