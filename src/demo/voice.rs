//! The voice clip of the call, and its packets.
//!
//! The clip is 8 kHz G.711 µ-law without a header, synthesised by espeak-ng from one sentence:
//! "Hello. This voice went through an open relay, and every byte arrived unchanged."

use std::time::Duration;

/// The clip, a whole number of packets.
pub(crate) const CLIP: &[u8] = include_bytes!("voice.ulaw");

/// RTP payload type of PCMU (RFC 3551 §6).
pub(crate) const PAYLOAD_TYPE: u8 = 0;

/// Samples in a packet, one byte each: also how far the RTP timestamp advances.
pub(crate) const PACKET_SAMPLES: u16 = 160;

/// Time between two packets.
pub(crate) const PACKET_INTERVAL: Duration = Duration::from_millis(20);

/// The clip cut into packets.
pub(crate) fn packets() -> impl ExactSizeIterator<Item = &'static [u8]> {
    CLIP.chunks_exact(usize::from(PACKET_SAMPLES))
}

/// How long the clip plays.
pub(crate) fn duration() -> Duration {
    PACKET_INTERVAL * u32::try_from(packets().len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_is_a_whole_number_of_packets_and_short_enough_for_a_demonstration() {
        assert_eq!(packets().flatten().count(), CLIP.len());
        assert!((Duration::from_secs(3)..Duration::from_secs(5)).contains(&duration()));
    }

    #[test]
    fn clip_is_audible_speech_in_mu_law() {
        // µ-law stores the complement: silence is 0xFF, loud samples have small magnitudes' bits.
        let linear = |byte: u8| {
            let bits = !byte;
            let exponent = (bits >> 4) & 7;
            let mantissa = i32::from(bits & 15);
            let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
            if bits & 0x80 == 0 { magnitude } else { -magnitude }
        };
        let samples: Vec<i32> = CLIP.iter().map(|byte| linear(*byte)).collect();
        let peak = samples.iter().map(|s| s.abs()).max().unwrap();
        let count = i32::try_from(samples.len()).unwrap();
        let mean = samples.iter().sum::<i32>() / count;
        let quiet = samples.iter().filter(|s| s.abs() < 300).count();
        assert!((15_000..32_500).contains(&peak), "loud and not clipped: {peak}");
        assert!(mean.abs() < 200, "no direct current: {mean}");
        assert!(quiet * 10 > samples.len(), "speech pauses: {quiet} of {}", samples.len());
    }
}
