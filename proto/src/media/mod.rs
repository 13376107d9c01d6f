//! How well media arrives, told from what encryption leaves in the clear.
//!
//! SRTP encrypts what is said and not who says what when: sequence number, timestamp and SSRC of
//! every packet can be read without a key. So a relay sees what got lost before it, on either of
//! its two legs. [`Kind::of`] tells RTP from what travels beside it, [`Numbers`] counts one source's
//! packets, [`Clock`] finds out what its timestamps mean, [`Stream`] puts both together, and
//! [`Media`] keeps the streams of one allocation, by [`Leg`], in bounded memory.
//!
//! Nothing here reads a clock, allocates for a packet, or keeps a byte of payload. What is lost
//! behind the relay is seen by the next one only.

mod clock;
mod kind;
mod leg;
mod numbers;
mod report;
mod stream;
#[cfg(test)]
mod tests;

use std::time::Instant;

pub use clock::Clock;
pub use kind::{Header, Kind};
pub use leg::{Leg, MOST_STREAMS};
pub use numbers::{Arrived, Numbers};
pub use report::{LegReport, LegSummary, MediaReport, MediaTally, StreamReport};
pub use stream::Stream;

use leg::Ear;

/// What one allocation's payload says about its media.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Media {
    /// When a packet was heard last, on the clock and since it began: packets come in batches, all of
    /// which arrive at one time.
    heard: (Instant, u64),
    ears: [Ear; 2],
    begun: Instant,
}

/// What one packet told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it was.
    pub kind: Kind,
    /// How many more packets of its stream should be here since then.
    pub expected: u64,
    /// How many more of them are here: 1, or none if it was here before.
    pub received: u64,
}

impl Media {
    /// Nothing was heard yet. Times are told from here on.
    pub fn new(begun: Instant) -> Self {
        Self { heard: (begun, 0), ears: Default::default(), begun }
    }

    /// Takes in the payload of one datagram that arrived on a leg.
    ///
    /// The time is when its batch was received: packets of one batch arrive at once, so jitter is
    /// wrong by what a batch takes, which is less than a millisecond unless the relay is overloaded.
    #[inline]
    pub fn hear(&mut self, now: Instant, leg: Leg, payload: &[u8]) -> Heard {
        if now != self.heard.0 {
            self.heard = (now, nanoseconds(self.begun, now));
        }
        self.ears[leg as usize].hear(self.heard.1, payload)
    }

    /// Packets of a leg went another way and were not heard: what is heard next begins anew, and
    /// nothing between is lost.
    pub fn skip(&mut self, leg: Leg) {
        self.ears[leg as usize].skip();
    }

    /// Each leg in a few numbers; allocates nothing.
    pub fn summary(&self, now: Instant) -> [LegSummary; 2] {
        let at = nanoseconds(self.begun, now);
        self.ears.each_ref().map(|ear| ear.summary(at))
    }

    /// Everything, stream by stream.
    pub fn report(&self, now: Instant) -> MediaReport {
        let at = nanoseconds(self.begun, now);
        MediaReport { legs: self.ears.each_ref().map(|ear| ear.report(at)) }
    }
}

/// A time as nanoseconds since another: 584 years of them.
fn nanoseconds(since: Instant, now: Instant) -> u64 {
    let passed = now.saturating_duration_since(since);
    passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos())
}
