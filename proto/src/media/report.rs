//! What was heard, as plain values for whoever looks.

use std::time::Duration;

use super::kind::Kind;
use super::{Heard, Leg};
use crate::flow::Flow;

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Its source.
    pub ssrc: u32,
    /// What is in it, by number.
    pub payload_type: u8,
    /// Ticks of its timestamps in a second; `None` while they are not known.
    pub clock_rate: Option<u32>,
    /// Whether it is video, by its clock.
    pub video: bool,
    /// Payload bytes with the headers of RTP; duplicates are in it.
    pub bytes: u64,
    /// Packets sent, as far as their numbers tell.
    pub expected: u64,
    /// Packets that came, each counted once: what is missing of those expected is lost.
    pub received: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came behind one with a higher number.
    pub late: u64,
    /// How often numbers began anew.
    pub restarts: u32,
    /// How unevenly packets come (RFC 3550 §6.4.1); zero while the clock is not known.
    pub jitter: Duration,
    /// The most it was.
    pub longest_jitter: Duration,
    /// Its mean over all packets.
    pub mean_jitter: Duration,
    /// The longest time without a packet that the sender did not mean.
    pub longest_gap: Duration,
    /// How many such times were longer than 200 ms.
    pub freezes: u32,
    /// Their sum.
    pub frozen: Duration,
    /// Packets with a marker: for video, frames.
    pub frames: u64,
    /// The same in a thousand seconds, measured over the last second or more.
    pub frame_rate: u32,
    /// How long ago the first packet came.
    pub age: Duration,
    /// How long ago the last one came.
    pub silent: Duration,
}

impl StreamReport {
    /// Packets that did not come.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }
}

/// One leg in a few numbers: sums over all its streams, those that are over as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegSummary {
    /// Payload, by [`Kind::index`].
    pub kinds: [Flow; Kind::COUNT],
    /// Packets of RTP that belong to no stream which is measured: noise, or more sources than
    /// [`super::MOST_STREAMS`].
    pub unmeasured: u64,
    /// Streams there were.
    pub streams: u32,
    /// Packets sent, as far as their numbers tell.
    pub expected: u64,
    /// Packets that came, each counted once.
    pub received: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came behind one with a higher number.
    pub late: u64,
    /// The worst jitter of the streams that were heard during the last five seconds.
    pub jitter: Duration,
    /// The worst of all.
    pub longest_jitter: Duration,
    /// The worst mean of a stream.
    pub mean_jitter: Duration,
    /// The longest gap of all.
    pub longest_gap: Duration,
    /// Gaps of more than 200 ms.
    pub freezes: u32,
    /// Their sum.
    pub frozen: Duration,
}

impl LegSummary {
    /// Packets that did not come.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    /// What most of the payload is; `None` without any.
    pub fn nature(&self) -> Option<&'static str> {
        let most = self.kinds.iter().zip(Kind::NAMES).max_by_key(|(flow, _)| flow.packets)?;
        (most.0.packets > 0).then_some(most.1)
    }

    /// Adds a stream; `lately` if its jitter is that of now.
    pub(super) fn add(&mut self, stream: &StreamReport, lately: bool) {
        self.streams = self.streams.saturating_add(1);
        self.expected += stream.expected;
        self.received += stream.received;
        self.duplicates += stream.duplicates;
        self.late += stream.late;
        if lately {
            self.jitter = self.jitter.max(stream.jitter);
        }
        self.longest_jitter = self.longest_jitter.max(stream.longest_jitter);
        self.mean_jitter = self.mean_jitter.max(stream.mean_jitter);
        self.longest_gap = self.longest_gap.max(stream.longest_gap);
        self.freezes = self.freezes.saturating_add(stream.freezes);
        self.frozen += stream.frozen;
    }
}

/// One leg, stream by stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegReport {
    /// The sums.
    pub summary: LegSummary,
    /// The streams that are measured.
    pub streams: Vec<StreamReport>,
}

/// Both legs of an allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaReport {
    /// By [`Leg`].
    pub legs: [LegReport; 2],
}

/// Counters of all media that a worker hears; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaTally {
    /// Payload by [`Leg`] and [`Kind::index`].
    pub kinds: [[Flow; Kind::COUNT]; 2],
    /// Packets of RTP sent, by [`Leg`], as far as their numbers tell.
    pub expected: [u64; 2],
    /// Packets of RTP that came, each counted once, by [`Leg`].
    pub received: [u64; 2],
}

impl MediaTally {
    /// Adds what one packet told.
    #[inline]
    pub fn add(&mut self, leg: Leg, heard: Heard, bytes: usize) {
        let leg = leg as usize;
        self.kinds[leg][heard.kind.index()].add(bytes);
        self.expected[leg] += heard.expected;
        self.received[leg] += heard.received;
    }
}
