//! Frames of TURN over TCP and TLS (RFC 8489 §6.2.2, RFC 8656 §12.5).
//!
//! A STUN message is as long as its header says. A ChannelData message is padded to a multiple of
//! four bytes, and its length field does not count the padding. Nothing else may stand in the
//! stream: whatever else a frame starts with, its end is unknown and the stream is lost.

use crate::channel_data;
use crate::demux::Kind;
use crate::stun::HEADER_LEN;

/// What both headers have before anything of their message's length is known.
const START: usize = 4;

/// The longest frame on the wire: a STUN message of the greatest length its header can say.
pub const LONGEST: usize = HEADER_LEN + 0xFFFC;

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// ChannelData starts with 64–127, as in RFC 5766 §11, instead of 64–79.
    pub rfc5766_channels: bool,
    /// The most bytes a frame may have on the wire, padding included.
    pub longest: usize,
}

impl Default for Rules {
    /// RFC 8656, and every length that it allows.
    fn default() -> Self {
        Self { rfc5766_channels: false, longest: LONGEST }
    }
}

/// What the bytes of a stream say about the frame they start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The frame is here.
    Complete {
        /// Bytes of the frame itself.
        frame: usize,
        /// Bytes it takes from the stream: the frame and its padding.
        wire: usize,
    },
    /// So many bytes are missing at least, always more than zero.
    NeedMore(usize),
    /// The stream cannot be read any further.
    Broken(Broken),
}

/// Why a stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// No frame starts with this byte.
    FirstByte,
    /// A STUN message whose length is no multiple of four.
    Length,
    /// A frame longer than [`Rules::longest`].
    TooLong,
}

/// Cuts the first frame out of what has arrived of a stream. No bytes are a frame not yet begun.
pub fn cut(stream: &[u8], rules: Rules) -> Cut {
    let kind = if rules.rfc5766_channels { Kind::of_rfc5766(stream) } else { Kind::of(stream) };
    if kind == Kind::Other && !stream.is_empty() {
        return Cut::Broken(Broken::FirstByte);
    }
    let Some(&[_, _, l0, l1]) = stream.first_chunk::<START>() else {
        return Cut::NeedMore(START.saturating_sub(stream.len()));
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let header = match kind {
        Kind::ChannelData => channel_data::HEADER_LEN,
        Kind::Stun | Kind::Other => HEADER_LEN,
    };
    let frame = header.saturating_add(length);
    let wire = frame.next_multiple_of(4);
    if kind == Kind::Stun && frame != wire {
        return Cut::Broken(Broken::Length);
    }
    if wire > rules.longest {
        return Cut::Broken(Broken::TooLong);
    }
    match wire.checked_sub(stream.len()) {
        None | Some(0) => Cut::Complete { frame, wire },
        Some(missing) => Cut::NeedMore(missing),
    }
}

/// Bytes of padding that follow a ChannelData message of so many bytes.
pub fn padding(frame: usize) -> usize {
    frame.wrapping_neg() & 3
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel_data::{ChannelNumber, header};

    const RULES: Rules = Rules { rfc5766_channels: false, longest: LONGEST };

    /// A STUN header with a body of so many bytes.
    fn stun(length: u16) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0x21, 0x12, 0xA4, 0x42]);
        bytes.resize(HEADER_LEN + usize::from(length), 7);
        bytes
    }

    /// A ChannelData message, padded as a stream demands.
    fn channel(number: u16, length: usize) -> Vec<u8> {
        let number = ChannelNumber::new_rfc5766(number).unwrap();
        let mut bytes = header(number, u16::try_from(length).unwrap()).to_vec();
        bytes.resize(4 + length, 9);
        bytes.resize(bytes.len() + padding(bytes.len()), 0);
        bytes
    }

    /// Every frame of a stream that is complete, as (frame, wire), and what the rest says.
    fn frames(mut stream: &[u8]) -> (Vec<(usize, usize)>, Cut) {
        let mut found = Vec::new();
        loop {
            match cut(stream, RULES) {
                Cut::Complete { frame, wire } => {
                    found.push((frame, wire));
                    stream = &stream[wire..];
                }
                other => return (found, other),
            }
        }
    }

    #[test]
    fn chan_010_padding_is_taken_from_the_stream_but_not_counted() {
        let stream: Vec<_> = (0..8).flat_map(|length| channel(0x4001, length)).collect();
        let (found, rest) = frames(&stream);
        let wires = [4, 8, 8, 8, 8, 12, 12, 12];
        let expected: Vec<_> = (4..12).zip(wires).collect();
        assert_eq!((found, rest), (expected, Cut::NeedMore(4)));
    }

    #[test]
    fn stun_025_requests_in_one_segment_are_cut_by_their_own_length() {
        let stream = [stun(0), stun(8), stun(0), channel(0x4000, 3)].concat();
        let (found, _) = frames(&stream);
        assert_eq!(found, [(20, 20), (28, 28), (20, 20), (7, 8)]);
    }

    #[test]
    fn stun_025_one_byte_at_a_time_never_asks_for_too_much() {
        for frame in [stun(0), stun(16), channel(0x4FFF, 0), channel(0x4000, 5)] {
            for have in 0..frame.len() {
                let Cut::NeedMore(missing) = cut(&frame[..have], RULES) else {
                    panic!("{have} of {} bytes", frame.len())
                };
                assert!(missing > 0 && have + missing <= frame.len(), "{have}: {missing}");
            }
        }
    }

    #[test]
    fn stun_027_a_first_byte_of_no_frame_breaks_the_stream() {
        for first in 0..=255_u8 {
            for (old, channels) in [(false, 64..=79), (true, 64..=127)] {
                let rules = Rules { rfc5766_channels: old, ..RULES };
                let starts = first < 4 || channels.contains(&first);
                let broken = cut(&[first], rules) == Cut::Broken(Broken::FirstByte);
                assert_eq!(broken, !starts, "{first}");
            }
        }
    }

    #[test]
    fn stun_027_absurd_lengths_break_the_stream_before_their_bytes_arrive() {
        let short = Rules { longest: 1_600, ..RULES };
        for (case, start, rules, expected) in [
            ("odd STUN", &[0, 1, 0, 3], RULES, Cut::Broken(Broken::Length)),
            ("longest STUN", &[0, 1, 0xFF, 0xFC], RULES, Cut::NeedMore(LONGEST - 4)),
            ("longest ChannelData", &[0x40, 0, 0xFF, 0xFF], RULES, Cut::NeedMore(65_536)),
            ("at the limit", &[0, 1, 0x06, 0x2C], short, Cut::NeedMore(1_596)),
            ("over the limit", &[0, 1, 0x06, 0x30], short, Cut::Broken(Broken::TooLong)),
            ("ChannelData at it", &[0x40, 0, 0x06, 0x3C], short, Cut::NeedMore(1_596)),
            ("padding over it", &[0x40, 0, 0x06, 0x3D], short, Cut::Broken(Broken::TooLong)),
        ] {
            assert_eq!(cut(start, rules), expected, "{case}");
        }
    }

    proptest! {
        #[test]
        fn chan_010_any_sequence_of_frames_comes_apart_as_it_was_put_together(
            parts in proptest::collection::vec((any::<bool>(), 0_u16..700), 0..12),
        ) {
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(is_stun, length)| {
                    if is_stun {
                        (20 + usize::from(length & !3), stun(length & !3))
                    } else {
                        (4 + usize::from(length), channel(0x4000 + length, length.into()))
                    }
                })
                .collect();
            let stream: Vec<_> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let expected: Vec<_> = parts.iter().map(|(frame, bytes)| (*frame, bytes.len())).collect();
            prop_assert_eq!(frames(&stream), (expected, Cut::NeedMore(4)));
        }
    }
}
