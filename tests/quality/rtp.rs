//! A source of RTP, and what one who keeps everything in mind counts of it.

use std::collections::BTreeSet;
use std::time::Duration;

/// A source that has no name, with a packet every so often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    /// Ticks a second.
    pub(crate) rate: u32,
    /// Between packets.
    pub(crate) every: Duration,
    /// The first number, which is near the end of its round.
    pub(crate) first: u16,
}

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Its place among those sent.
    pub(crate) place: u64,
    /// When.
    pub(crate) at: Duration,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) late: u64,
    /// Mean of RFC 3550 A.8 over all packets, in seconds.
    pub(crate) mean_jitter: f64,
    /// Its last value.
    pub(crate) jitter: f64,
}

impl Source {
    /// The packet at a place.
    pub(crate) fn packet(&self, place: u64) -> Vec<u8> {
        let [.., n0, n1] = (u64::from(self.first) + place).to_be_bytes();
        let [.., t0, t1, t2, t3] = self.ticks(place).to_be_bytes();
        let [s0, s1, s2, s3] = self.ssrc.to_be_bytes();
        let mut bytes = vec![0x80, self.payload_type, n0, n1, t0, t1, t2, t3, s0, s1, s2, s3];
        // Of the payload nothing is read; its place makes it another one each time.
        bytes.extend(place.to_be_bytes());
        bytes.resize(172, 0xE5);
        bytes
    }

    /// The place of a packet of this source; `None` for others.
    pub(crate) fn place(&self, bytes: &[u8]) -> Option<u64> {
        let ours = bytes.get(8..12)? == self.ssrc.to_be_bytes();
        let place = bytes.get(12..20)?.try_into().ok()?;
        (ours && bytes.len() == 172).then(|| u64::from_be_bytes(place))
    }

    fn ticks(&self, place: u64) -> u64 {
        let micros = u64::try_from(self.every.as_micros()).expect("a pause that is short");
        // Not from zero, so that timestamps go round as well.
        u64::from(u32::MAX - 9_000) + place * micros * u64::from(self.rate) / 1_000_000
    }

    /// What these packets are, by a model that forgets nothing. Jitter counts from when the clock is
    /// known: at once, or with the first packet that is a second younger than the first.
    pub(crate) fn count(&self, packets: &[Seen]) -> Counted {
        let mut seen = BTreeSet::new();
        let mut counted = Counted::default();
        let mut before: Option<f64> = None;
        let (mut sum, mut count, mut begun) = (0.0, 0.0, false);
        for Seen { place, at } in packets {
            let highest = seen.last().copied();
            if !seen.insert(*place) {
                counted.duplicates += 1;
            } else if highest.is_some_and(|highest| *place < highest) {
                counted.late += 1;
            }
            #[expect(clippy::cast_precision_loss, reason = "ticks of minutes")]
            let sent = self.ticks(*place) as f64 / f64::from(self.rate);
            let transit = at.as_secs_f64() - sent;
            let known = self.payload_type < 96 || *at >= packets[0].at + Duration::from_secs(1);
            begun |= known && highest.is_none_or(|highest| *place > highest);
            if let Some(before) = before.filter(|_| begun) {
                counted.jitter += ((transit - before).abs() - counted.jitter) / 16.0;
                sum += counted.jitter;
                count += 1.0;
            }
            before = Some(transit);
        }
        counted.received = seen.len() as u64;
        let span = seen.first().zip(seen.last()).map_or(0, |(first, last)| last - first + 1);
        counted.lost = span - counted.received;
        counted.mean_jitter = if count > 0.0 { sum / count } else { 0.0 };
        counted
    }
}
