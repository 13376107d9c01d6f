//! What the timestamps of a source mean: how many of its ticks are a second.
//!
//! The fixed payload types say it (RFC 3551 §6). The others are agreed on by the two ends, in
//! signalling that a relay never sees; for them the ticks that pass while time passes are counted,
//! until they fit one of the rates that are in use.

/// Rates in use, in ticks a second, the usual ones first.
const RATES: [u32; 8] = [48_000, 90_000, 8_000, 16_000, 32_000, 24_000, 44_100, 12_000];

/// When a rate is guessed. The guess is judged again after twice, four times, … as long.
const FIRST_LOOK: u64 = 1_000_000_000;

/// How much a guess may be off, in thousandths: 60 ms of jitter, and no rate but 44,100 is nearer to
/// another. Which of the two it is will be known at the next look.
const GUESS: u64 = 60;

/// How much it may be off later on.
const CERTAIN: u64 = 30;

/// When the guess is judged for good. Without one, counting begins anew.
const LAST_LOOK: u64 = 16 * FIRST_LOOK;

/// Ticks of a source. What every packet asks for stands together, first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Clock {
    /// Nanoseconds of a tick, times 2³²; 0 while unknown.
    tick: u64,
    /// When to look; never again once it is settled.
    look: u64,
    /// Ticks a second.
    rate: u32,
    /// Where counting began.
    from: u32,
    /// When, in nanoseconds.
    since: u64,
}

impl Clock {
    /// The clock of a payload type, heard with this timestamp at this time.
    pub fn new(payload_type: u8, timestamp: u32, at: u64) -> Self {
        let look = at.saturating_add(FIRST_LOOK);
        let clock = Self { tick: 0, rate: 0, from: timestamp, since: at, look };
        match fixed(payload_type) {
            Some(rate) => Self { look: u64::MAX, ..clock.with(rate) },
            None => clock,
        }
    }

    /// Ticks a second, if that is known.
    #[inline]
    pub fn rate(&self) -> Option<u32> {
        (self.rate != 0).then_some(self.rate)
    }

    /// Whether it can tell how long ticks are.
    #[inline]
    pub fn is_known(&self) -> bool {
        self.tick != 0
    }

    /// How long so many ticks are, in nanoseconds; negative if they are backwards.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "four billion ticks are 2^49 ns at most")]
    pub fn span(&self, from: u32, to: u32) -> i64 {
        let ticks = i64::from(to.wrapping_sub(from).cast_signed());
        // Of two 64-bit factors with a sign, a processor makes 128 bits at once.
        ((i128::from(ticks) * i128::from(self.tick.cast_signed())) >> 32) as i64
    }

    /// When it is time to [`Clock::learn`].
    pub fn due(&self) -> u64 {
        self.look
    }

    /// Whether that time has come.
    pub fn is_due(&self, at: u64) -> bool {
        at >= self.look
    }

    /// Looks at one more timestamp; whether the rate is another one now.
    #[cold]
    pub fn learn(&mut self, timestamp: u32, at: u64) -> bool {
        let passed = at.saturating_sub(self.since).max(1);
        let ticks = timestamp.wrapping_sub(self.from);
        let seen = u64::from(ticks).saturating_mul(1_000_000_000) / passed;
        let tolerance = if passed < 2 * FIRST_LOOK { GUESS } else { CERTAIN };
        let off = |rate: u32| seen.abs_diff(u64::from(rate)) * 1_000;
        let fits = |rate: &u32| off(*rate) <= u64::from(*rate) * tolerance;
        let (before, found) = (self.rate, RATES.into_iter().find(fits));
        if let Some(rate) = found {
            *self = self.with(rate);
        }
        self.look = at.saturating_add(passed);
        if passed >= LAST_LOOK && found.is_some() {
            self.look = u64::MAX;
        } else if passed >= LAST_LOOK {
            *self = Self { tick: 0, rate: 0, from: timestamp, since: at, look: at + FIRST_LOOK };
        }
        self.rate != before
    }

    fn with(self, rate: u32) -> Self {
        Self { rate, tick: (1_000_000_000 << 32) / u64::from(rate), ..self }
    }
}

/// The rate of a payload type that means the same everywhere (RFC 3551 tables 4 and 5). Type 10
/// and 11 are sound at 44,100, 14 is sound at 90,000.
fn fixed(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        16 => Some(11_025),
        17 => Some(22_050),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        _ => None,
    }
}

/// Whether streams of a payload type with this rate are video.
pub(super) fn is_video(payload_type: u8, rate: u32) -> bool {
    rate == 90_000 && payload_type != 14
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "timestamps go round")]
mod tests {
    use super::*;

    /// A source of this rate, of which packets are late now and then; what is believed of it
    /// after so many seconds.
    fn learned(payload_type: u8, rate: u64, late_ms: [u64; 4], seconds: u64) -> Option<u32> {
        let first = u32::MAX - 5_000;
        let mut clock = Clock::new(payload_type, first, late_ms[0] * 1_000_000);
        for packet in 1..seconds * 50 {
            let ms = packet * 20;
            let timestamp = first.wrapping_add((ms * rate / 1_000) as u32);
            let at = (ms + late_ms[packet as usize % 4]) * 1_000_000;
            if clock.is_due(at) {
                clock.learn(timestamp, at);
            }
        }
        clock.rate()
    }

    #[test]
    fn rates_are_known_by_type_or_learned_from_what_passes() {
        for (case, payload_type, rate, late_ms, expected) in [
            ("PCMU", 0, 8_000, [0; 4], Some(8_000)),
            ("G.722, whose clock is half of what it samples", 9, 8_000, [0; 4], Some(8_000)),
            ("a fixed type is believed", 8, 48_000, [0; 4], Some(8_000)),
            ("Opus", 111, 48_000, [0; 4], Some(48_000)),
            ("Opus, jittery", 111, 48_000, [0, 13, 4, 28], Some(48_000)),
            ("44,100 is not 48,000", 120, 44_100, [3, 0, 9, 5], Some(44_100)),
            ("Siren of the Microsoft dialect", 111, 16_000, [0, 5, 0, 12], Some(16_000)),
            ("video", 96, 90_000, [0, 30, 20, 10], Some(90_000)),
            ("a clock nobody has", 97, 70_000, [0; 4], None),
            ("a clock that stands", 97, 0, [0; 4], None),
        ] {
            for seconds in [2, 5, 40] {
                assert_eq!(learned(payload_type, rate, late_ms, seconds), expected, "{case}");
            }
        }
    }

    #[test]
    fn a_guess_that_a_late_beginning_misled_is_put_right() {
        let at = |ms: u64| ms * 1_000_000;
        let mut clock = Clock::new(100, 0, at(0));
        assert!(clock.learn(44_100, at(1_000)), "a second of 48,000, seen 80 ms late");
        assert_eq!(clock.rate(), Some(44_100));
        assert!(!clock.is_due(at(1_999)) && clock.is_due(at(2_000)));
        assert!(clock.learn(96_000, at(2_005)));
        assert_eq!(clock.rate(), Some(48_000));
        for s in [5, 10] {
            assert!(clock.is_due(at(s * 1_000)));
            assert!(!clock.learn(s as u32 * 48_000, at(s * 1_000)));
        }
        assert!(!clock.learn(960_000, at(20_000)));
        assert!(!clock.is_due(u64::MAX - 1), "it is settled");
    }

    #[test]
    fn every_rate_is_learned_and_ticks_become_time() {
        for rate in RATES {
            assert_eq!(learned(100, u64::from(rate), [0, 1, 3, 2], 30), Some(rate));
            let clock = Clock::new(100, 0, 0).with(rate);
            let second = clock.span(u32::MAX - 7, rate.wrapping_sub(8));
            assert!((second - 1_000_000_000).abs() <= 1, "{rate}: {second}");
            let back = clock.span(rate, 0);
            assert!((back + 1_000_000_000).abs() <= 1, "{rate}: {back}");
        }
    }
}
