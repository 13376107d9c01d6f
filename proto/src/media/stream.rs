//! One source on one leg: what came, what did not, and how evenly.
//!
//! Times are nanoseconds since the allocation began to be measured.

use std::time::Duration;

use super::clock::{Clock, is_video};
use super::kind::Header;
use super::numbers::{Arrived, Numbers};
use super::report::StreamReport;
use crate::flow::Flow;

/// A gap longer than this is a freeze, in nanoseconds: nobody conceals so much.
const FREEZE: u64 = 200_000_000;

/// A timestamp that is off by more than this says nothing about the network: the sender's clock
/// was set.
const LEAP: u64 = 5_000_000_000;

/// How long frames of video are counted for a rate.
const COUNTED: u64 = 1_000_000_000;

/// After so many packets of another payload type in a row the source has changed it.
const CHANGED: u8 = 8;

/// A clock that is not known yet is taken for the slowest one.
const SLOWEST: u32 = 8_000;

/// One source. What every packet changes stands together, first: of many thousand streams none is in
/// the cache when its next packet comes, and each line of memory that must be fetched costs as much as
/// all the rest.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Stream {
    /// When the last packet came.
    heard: u64,
    /// When the last timestamp came.
    stamped: u64,
    /// The last timestamp of the clock.
    timestamp: u32,
    /// The number of the next packet, if none is missing.
    next: u16,
    /// What the clock is of.
    payload_type: u8,
    /// Packets that came with the last one, as those of a picture do: see [`Stream::settle`].
    company: u32,
    /// Frames since `counting`.
    counted: u32,
    /// Until when nothing is due; 0 while packets are not as most are.
    calm: u64,
    /// Bytes of all that came.
    bytes: u64,
    /// Packets of all that came, without the company.
    packets: u64,
    longest_gap: u64,
    /// Packets of another payload type since the last one of this.
    others: u8,
    /// Whether numbers have shown that it is a source.
    proven: bool,
    /// Whether packets went by unheard since the last one.
    skipped: bool,
    /// How often `shaken` grew.
    shakes: u32,
    /// RFC 3550 A.8, in sixteenths of a nanosecond.
    jitter: u64,
    longest_jitter: u64,
    /// The sum of what it was, in nanoseconds.
    shaken: u64,
    clock: Clock,
    numbers: Numbers,
    counting: u64,
    /// Frames before `counting`.
    frames: u64,
    frozen: u64,
    freezes: u32,
    /// Thousandths of a frame a second.
    frame_rate: u32,
    begun: u64,
}

impl Stream {
    /// A source whose first packet came, with so many bytes.
    pub fn new(at: u64, header: Header, bytes: usize) -> Self {
        Self {
            heard: at,
            stamped: at,
            timestamp: header.timestamp,
            next: header.sequence.wrapping_add(1),
            payload_type: header.payload_type,
            company: 0,
            counted: u32::from(header.marker),
            calm: 0,
            bytes: bytes as u64,
            packets: 1,
            longest_gap: 0,
            others: 0,
            proven: false,
            skipped: false,
            shakes: 0,
            jitter: 0,
            longest_jitter: 0,
            shaken: 0,
            clock: Clock::new(header.payload_type, header.timestamp, at),
            numbers: Numbers::new(header.sequence),
            counting: at,
            frames: 0,
            frozen: 0,
            freezes: 0,
            frame_rate: 0,
            begun: at,
        }
    }

    /// Another packet; how many more are expected and received by it.
    #[inline]
    pub fn hear(&mut self, at: u64, header: Header, bytes: usize) -> (u64, u64) {
        self.bytes += bytes as u64;
        let is_next = header.sequence == self.next
            && header.payload_type == self.payload_type
            && at < self.calm;
        if !is_next {
            return self.judge(at, header);
        }
        if at == self.stamped && header.timestamp == self.timestamp {
            self.company += 1;
        } else {
            self.settle();
            let sent = self.clock.span(self.timestamp, header.timestamp);
            if !self.is_in_time(at, sent) {
                return self.judge(at, header);
            }
            self.packets += 1;
            self.numbers.add_next(1);
            self.wobble(at, header.timestamp, sent);
            self.heard = at;
        }
        self.next = header.sequence.wrapping_add(1);
        self.counted = self.counted.saturating_add(u32::from(header.marker));
        (1, 1)
    }

    /// Whether a packet is not late by what it says when it was `sent` after the last one. If it is
    /// the next one and nothing is due, all that [`Stream::judge`] would do is what
    /// [`Stream::hear`] does.
    #[inline]
    fn is_in_time(&self, at: u64, sent: i64) -> bool {
        let gap = at.saturating_sub(self.heard);
        gap <= self.longest_gap.min(FREEZE) || sent >= (gap / 2).cast_signed()
    }

    /// Takes in the packets that came together with the last one and were sent with it: what they
    /// say of the network is what that one said, so they are only counted when they come.
    #[inline]
    fn settle(&mut self) {
        if self.company > 0 {
            self.take_company();
        }
    }

    #[inline(never)]
    fn take_company(&mut self) {
        let company = std::mem::take(&mut self.company);
        self.packets += u64::from(company);
        self.numbers.add_next(company);
        if !self.clock.is_known() {
            return;
        }
        // What [`Stream::wobble`] makes of packets that came as they were sent: jitter fades, until so
        // little is left that it stays.
        let (mut jitter, mut shaken) = (self.jitter, self.shaken);
        for left in (1..=u64::from(company)).rev() {
            let fades = (jitter + 8) >> 4;
            if fades == 0 {
                shaken = shaken.saturating_add((jitter >> 4) * left);
                break;
            }
            jitter -= fades;
            shaken = shaken.saturating_add(jitter >> 4);
        }
        (self.jitter, self.shaken) = (jitter, shaken);
        self.shakes = self.shakes.saturating_add(company);
    }

    /// As it is when nothing is put off.
    fn settled(&self) -> Self {
        let mut settled = *self;
        settled.settle();
        settled
    }

    /// A packet of any kind.
    #[inline(never)]
    fn judge(&mut self, at: u64, header: Header) -> (u64, u64) {
        self.settle();
        self.packets += 1;
        let counts = self.weigh(at, header);
        self.next = self.numbers.next();
        let is_calm = self.proven && !self.skipped && self.others == 0;
        let due = self.clock.due().min(self.counting.saturating_add(COUNTED));
        self.calm = if is_calm { due } else { 0 };
        counts
    }

    fn weigh(&mut self, at: u64, header: Header) -> (u64, u64) {
        let before = (self.numbers.expected(), self.numbers.received());
        if self.skipped {
            self.resume(at, header);
            return (1, 1);
        }
        let arrived = self.numbers.add(header.sequence);
        let gap = at.saturating_sub(self.heard);
        match arrived {
            Arrived::Next(ahead) => {
                self.proven = true;
                if gap > self.longest_gap || gap > FREEZE {
                    self.pause(ahead, header, gap);
                }
                if header.payload_type == self.payload_type {
                    self.others = 0;
                    if self.clock.is_due(at) && self.clock.learn(header.timestamp, at) {
                        (self.jitter, self.longest_jitter) = (0, 0);
                        (self.shaken, self.shakes) = (0, 0);
                    }
                    self.shake(at, header);
                } else {
                    self.change(at, header);
                }
            }
            Arrived::Late | Arrived::Duplicate if header.payload_type == self.payload_type => {
                self.shake(at, header);
            }
            Arrived::Late | Arrived::Duplicate => {}
            // Not yet believed, or nothing that could be compared with what was before.
            Arrived::Stray => return (0, 0),
            Arrived::Restart => {
                self.proven = true;
                self.adopt(at, header);
            }
        }
        self.heard = at;
        if header.marker && arrived != Arrived::Duplicate {
            self.counted = self.counted.saturating_add(1);
        }
        if at.saturating_sub(self.counting) >= COUNTED {
            self.count(at);
        }
        (self.numbers.expected() - before.0, self.numbers.received() - before.1)
    }

    /// Packets go by unheard.
    pub(super) fn skip(&mut self) {
        self.settle();
        self.skipped = true;
        self.calm = 0;
    }

    /// The first packet that is heard again: what lies between says nothing.
    #[cold]
    fn resume(&mut self, at: u64, header: Header) {
        self.skipped = false;
        self.numbers.resume(header.sequence);
        self.adopt(at, header);
        (self.heard, self.counting) = (at, at);
        self.frames += u64::from(self.counted);
        self.counted = u32::from(header.marker);
    }

    /// A packet whose timestamp can be compared with the last one.
    fn shake(&mut self, at: u64, header: Header) {
        let sent = self.clock.span(self.timestamp, header.timestamp);
        self.wobble(at, header.timestamp, sent);
    }

    /// RFC 3550 A.8: by how much packets came closer together or farther apart than they were sent.
    #[inline]
    fn wobble(&mut self, at: u64, timestamp: u32, sent: i64) {
        let gap = at.saturating_sub(self.stamped);
        (self.timestamp, self.stamped) = (timestamp, at);
        let off = gap.wrapping_sub(sent.cast_unsigned()).cast_signed().unsigned_abs();
        if !self.clock.is_known() || off > LEAP {
            return;
        }
        self.jitter = self.jitter + off - ((self.jitter + 8) >> 4);
        self.longest_jitter = self.longest_jitter.max(self.jitter);
        self.shaken = self.shaken.saturating_add(self.jitter >> 4);
        self.shakes = self.shakes.saturating_add(1);
    }

    /// A gap that is long. A sender that pauses on purpose goes on with the next number, and with
    /// a timestamp that tells of the pause.
    #[cold]
    fn pause(&mut self, ahead: u16, header: Header, gap: u64) {
        let ticks = u64::from(header.timestamp.wrapping_sub(self.timestamp));
        let rate = u64::from(self.clock.rate().unwrap_or(SLOWEST));
        if ahead == 1 && ticks * 1_000_000_000 / rate >= gap / 2 {
            return;
        }
        self.longest_gap = self.longest_gap.max(gap);
        if gap > FREEZE {
            self.freezes = self.freezes.saturating_add(1);
            self.frozen += gap;
        }
    }

    /// A packet of another payload type: tones or comfort noise beside the voice, or another codec.
    #[cold]
    fn change(&mut self, at: u64, header: Header) {
        self.others += 1;
        if self.others >= CHANGED {
            self.adopt(at, header);
        }
    }

    /// Begins anew with what this packet's timestamp means.
    fn adopt(&mut self, at: u64, header: Header) {
        self.others = 0;
        (self.timestamp, self.stamped) = (header.timestamp, at);
        if header.payload_type != self.payload_type {
            self.payload_type = header.payload_type;
            self.clock = Clock::new(header.payload_type, header.timestamp, at);
            self.jitter = 0;
        } else if self.clock.rate().is_none() {
            self.clock = Clock::new(header.payload_type, header.timestamp, at);
        }
    }

    /// A second or more has been counted.
    #[cold]
    fn count(&mut self, at: u64) {
        let counted = u64::from(self.counted).saturating_mul(1_000_000_000_000);
        let thousandths = counted / at.saturating_sub(self.counting).max(1);
        self.frame_rate = u32::try_from(thousandths).unwrap_or(u32::MAX);
        self.frames += u64::from(self.counted);
        (self.counted, self.counting) = (0, at);
    }

    /// When the last packet came.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether two packets have shown that it is a source, and no noise.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// All that came of it.
    pub(super) fn flow(&self) -> Flow {
        Flow { packets: self.packets + u64::from(self.company), bytes: self.bytes }
    }

    /// Everything about it.
    pub(super) fn report(&self, ssrc: u32, at: u64) -> StreamReport {
        self.settled().tell(ssrc, at)
    }

    fn tell(&self, ssrc: u32, at: u64) -> StreamReport {
        let rate = self.clock.rate();
        StreamReport {
            ssrc,
            payload_type: self.payload_type,
            clock_rate: rate,
            video: rate.is_some_and(|rate| is_video(self.payload_type, rate)),
            bytes: self.bytes,
            expected: self.numbers.expected(),
            received: self.numbers.received(),
            duplicates: self.numbers.duplicates(),
            late: self.numbers.late(),
            restarts: self.numbers.restarts(),
            jitter: Duration::from_nanos(self.jitter >> 4),
            longest_jitter: Duration::from_nanos(self.longest_jitter >> 4),
            mean_jitter: Duration::from_nanos(self.shaken / u64::from(self.shakes.max(1))),
            longest_gap: Duration::from_nanos(self.longest_gap),
            freezes: self.freezes,
            frozen: Duration::from_nanos(self.frozen),
            frames: self.frames + u64::from(self.counted),
            frame_rate: self.frame_rate,
            age: Duration::from_nanos(at.saturating_sub(self.begun)),
            silent: Duration::from_nanos(at.saturating_sub(self.heard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One packet behind another: how much later, how many numbers and ticks on, whether it ends a
    /// frame, and whether it is of another payload type.
    fn step() -> impl Strategy<Value = (u64, u16, u32, bool, bool)> {
        let later = prop_oneof![6 => Just(0), 3 => Just(33_000_000), 1 => 0..2_000_000_000_u64];
        let on =
            prop_oneof![12 => Just(1), 1 => 0..5_u16, 1 => 65_500..=65_535_u16, 1 => any::<u16>()];
        let ticks = prop_oneof![6 => Just(0), 3 => Just(2_970), 1 => any::<u32>()];
        (later, on, ticks, any::<bool>(), prop::bool::weighted(0.02))
    }

    proptest! {
        /// What is put off, or not looked at, is what looking at every packet would have found.
        #[test]
        fn packets_that_are_as_most_are_need_no_judgement(
            first: u16,
            steps in prop::collection::vec(step(), 1..400),
            skips in prop::collection::btree_set(0..400_usize, 0..3),
        ) {
            let mut header = Header { ssrc: 7, sequence: first, timestamp: 9, payload_type: 34, marker: false };
            let (mut usual, mut judged) = (Stream::new(0, header, 100), Stream::new(0, header, 100));
            let mut at = 0;
            for (index, (later, on, ticks, marker, other)) in steps.into_iter().enumerate() {
                at += later;
                header.sequence = header.sequence.wrapping_add(on);
                header.timestamp = header.timestamp.wrapping_add(ticks);
                header.marker = marker;
                let header = Header { payload_type: 34 - 8 * u8::from(other), ..header };
                if skips.contains(&index) {
                    usual.skip();
                    judged.skip();
                }
                judged.bytes += 100;
                prop_assert_eq!(usual.hear(at, header, 100), judged.judge(at, header));
                prop_assert_eq!(usual.report(7, at), judged.report(7, at));
                prop_assert_eq!((usual.flow(), usual.next), (judged.flow(), judged.next));
            }
            let settled = usual.settled();
            prop_assert_eq!(format!("{settled:?}"), format!("{judged:?}"));
        }
    }
}
