//! What five seconds of an allocation were like, in twenty bytes.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples of an allocation: ten minutes.
pub(super) const MOST: usize = 120;

/// Stands for what is not known.
const UNKNOWN: u16 = u16::MAX;

/// The whole of a ratio.
const WHOLE: f64 = 60_000.0;

/// A step of jitter, in seconds: the most is 1.3 s.
const STEP: f64 = 20e-6;

/// One sample. Rates in bytes a second, to the peer and to the client; the rest by leg, the
/// client's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::office) struct Sample {
    /// Tenths of a second since the relay began: thirteen years.
    at: u32,
    /// By direction.
    pub(in crate::office) rates: [u32; 2],
    loss: [u16; 2],
    jitter: [u16; 2],
}

impl Sample {
    /// Packs.
    pub(super) fn new(
        at: Duration,
        rates: [u64; 2],
        loss: [Option<f64>; 2],
        jitter: [Option<Duration>; 2],
    ) -> Self {
        Self {
            at: u32::try_from(at.as_millis() / 100).unwrap_or(u32::MAX),
            rates: rates.map(|rate| u32::try_from(rate).unwrap_or(u32::MAX)),
            loss: loss.map(|ratio| ratio.map_or(UNKNOWN, |it| pack(it.min(1.0) * WHOLE))),
            jitter: jitter.map(|it| it.map_or(UNKNOWN, |it| pack(it.as_secs_f64() / STEP))),
        }
    }

    /// When it was taken, since the relay began.
    pub(in crate::office) fn at(&self) -> Duration {
        Duration::from_millis(u64::from(self.at) * 100)
    }

    /// The share of packets that did not come, by leg.
    pub(in crate::office) fn loss(&self) -> [Option<f64>; 2] {
        self.loss.map(|packed| unpack(packed).map(|it| it / WHOLE))
    }

    /// Jitter in seconds, by leg.
    pub(in crate::office) fn jitter(&self) -> [Option<f64>; 2] {
        self.jitter.map(|packed| unpack(packed).map(|it| it * STEP))
    }

    /// Bytes a second, both ways.
    pub(in crate::office) fn rate(&self) -> u64 {
        self.rates.iter().copied().map(u64::from).sum()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
fn pack(value: f64) -> u16 {
    value.round().clamp(0.0, f64::from(UNKNOWN - 1)) as u16
}

fn unpack(packed: u16) -> Option<f64> {
    (packed != UNKNOWN).then(|| f64::from(packed))
}

/// The last samples of an allocation, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<Sample>);

impl Ring {
    /// One more; the oldest makes room.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_keeps_what_it_was_told_in_twenty_bytes() {
        assert_eq!(size_of::<Sample>(), 20);
        let at = Duration::from_millis(123_400);
        let jitter = [Some(Duration::from_micros(12_340)), None];
        let sample = Sample::new(at, [5, 1 << 40], [Some(0.025), None], jitter);
        assert_eq!((sample.at(), sample.rates), (at, [5, u32::MAX]));
        let [loss, unknown] = sample.loss();
        assert!(loss.is_some_and(|it| (it - 0.025).abs() < 1e-4) && unknown.is_none(), "{loss:?}");
        let [jitter, unknown] = sample.jitter();
        let jitter = jitter.expect("it is known");
        assert!((jitter - 0.012_34).abs() < STEP && unknown.is_none(), "{jitter}");
        let long = Sample::new(at, [0; 2], [Some(1.5), Some(0.0)], [Some(at), Some(at)]);
        assert_eq!(long.loss(), [Some(1.0), Some(0.0)]);
        assert!(long.jitter().iter().all(Option::is_some), "the most is not the unknown");
    }

    #[test]
    fn ten_minutes_are_kept() {
        let mut ring = Ring::default();
        for tenth in 0..500_u64 {
            ring.push(Sample::new(
                Duration::from_millis(tenth * 100),
                [0; 2],
                [None; 2],
                [None; 2],
            ));
        }
        assert_eq!(ring.iter().len(), MOST);
        assert_eq!(ring.iter().next().map(Sample::at), Some(Duration::from_secs(38)));
    }
}
