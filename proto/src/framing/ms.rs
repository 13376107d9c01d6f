//! Frames of the Microsoft dialect over TCP (MST-3).
//!
//! Four bytes stand before every message and every chunk of data, in both directions: a type, a
//! zero, and the length of what follows. Nothing is padded. Whatever else a frame starts with, its
//! end is unknown and the stream is lost (MST-4).
//!
//! The types are no first bytes of STUN: the requests of every method that is served here start
//! with 0 or 1, because no method has a number above 0x7F. So the first byte of a connection
//! tells the dialect (MST-10).

/// Bytes before the content of a frame.
pub const HEADER_LEN: usize = 4;

/// The longest frame on the wire, which is the longest its length field can say.
pub const LONGEST: usize = HEADER_LEN + 0xFFFF;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message of the dialect.
    Control,
    /// Payload for the active destination, or from it.
    Data,
}

impl Kind {
    /// The first byte of such a frame.
    pub const fn first_byte(self) -> u8 {
        match self {
            Self::Control => 2,
            Self::Data => 3,
        }
    }

    /// The kind that starts so.
    pub const fn starting(byte: u8) -> Option<Self> {
        match byte {
            2 => Some(Self::Control),
            3 => Some(Self::Data),
            _ => None,
        }
    }
}

/// What the bytes of a stream say about the frame they start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The frame is here; its content begins behind [`HEADER_LEN`] bytes.
    Complete {
        /// What it carries.
        kind: Kind,
        /// Bytes it takes from the stream, header included.
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
    /// No frame starts with these bytes.
    Type,
    /// A frame longer than allowed.
    TooLong,
}

/// Cuts the first frame out of what has arrived of a stream; `longest` is the most it may have on
/// the wire. No bytes are a frame not yet begun.
pub fn cut(stream: &[u8], longest: usize) -> Cut {
    let kind = match stream {
        [] => return Cut::NeedMore(HEADER_LEN),
        [first, rest @ ..] => match (Kind::starting(*first), rest.first()) {
            (Some(kind), None | Some(0)) => kind,
            _ => return Cut::Broken(Broken::Type),
        },
    };
    let Some(&[_, _, l0, l1]) = stream.first_chunk::<HEADER_LEN>() else {
        return Cut::NeedMore(HEADER_LEN.saturating_sub(stream.len()));
    };
    let wire = HEADER_LEN.saturating_add(usize::from(u16::from_be_bytes([l0, l1])));
    if wire > longest {
        return Cut::Broken(Broken::TooLong);
    }
    match wire.checked_sub(stream.len()) {
        None | Some(0) => Cut::Complete { kind, wire },
        Some(missing) => Cut::NeedMore(missing),
    }
}

/// What stands before so many bytes of content; `None` if no frame takes as many.
pub fn header(kind: Kind, len: usize) -> Option<[u8; HEADER_LEN]> {
    let [l0, l1] = u16::try_from(len).ok()?.to_be_bytes();
    Some([kind.first_byte(), 0, l0, l1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::vector;

    /// TV13: the first Allocate as a control frame, and 15 bytes of data.
    const TV13: [&str; 2] = [
        "0200002400030010a0a1a2a3a4a5a6a7a8a9aaabacadaeaf000f000472c64bc68008000400000001",
        "0300000f80006d656469612d7061796c6f6164",
    ];

    fn frame(kind: Kind, content: &[u8]) -> Vec<u8> {
        [&header(kind, content.len()).unwrap(), content].concat()
    }

    /// Every frame of a stream that is complete, and what the rest says.
    fn frames(mut stream: &[u8]) -> (Vec<(Kind, &[u8])>, Cut) {
        let mut found = Vec::new();
        loop {
            match cut(stream, LONGEST) {
                Cut::Complete { kind, wire } => {
                    found.push((kind, &stream[HEADER_LEN..wire]));
                    stream = &stream[wire..];
                }
                other => return (found, other),
            }
        }
    }

    #[test]
    fn mst_003_frames_of_the_vectors_are_cut_and_written_alike() {
        let [control, data] = TV13.map(vector);
        let stream = [&control[..], &data].concat();
        let (found, rest) = frames(&stream);
        assert_eq!(found, [(Kind::Control, &control[4..]), (Kind::Data, &data[4..])]);
        assert_eq!(rest, Cut::NeedMore(HEADER_LEN));
        assert_eq!(frame(Kind::Control, &control[4..]), control);
        assert_eq!(frame(Kind::Data, &data[4..]), data);
        assert_eq!(header(Kind::Data, 0x1_0000), None);
    }

    #[test]
    fn mst_006_one_byte_at_a_time_never_asks_for_too_much() {
        for frame in [vector(TV13[0]), vector(TV13[1]), frame(Kind::Data, b"")] {
            for have in 0..frame.len() {
                let Cut::NeedMore(missing) = cut(&frame[..have], LONGEST) else {
                    panic!("{have} of {} bytes", frame.len())
                };
                assert!(missing > 0 && have + missing <= frame.len(), "{have}: {missing}");
            }
        }
    }

    #[test]
    fn mst_004_any_other_start_breaks_the_stream() {
        for first in 0..=255_u8 {
            let broken = cut(&[first], LONGEST) == Cut::Broken(Broken::Type);
            assert_eq!(broken, !matches!(first, 2 | 3), "{first}");
        }
        assert_eq!(cut(&[2, 1], LONGEST), Cut::Broken(Broken::Type));
    }

    #[test]
    fn mst_006_a_frame_over_the_bound_breaks_the_stream_before_its_bytes_arrive() {
        assert_eq!(cut(&[2, 0, 0xFF, 0xFF], LONGEST), Cut::NeedMore(0xFFFF));
        assert_eq!(cut(&[2, 0, 0, 60], 64), Cut::NeedMore(60));
        assert_eq!(cut(&[2, 0, 0, 61], 64), Cut::Broken(Broken::TooLong));
    }

    proptest! {
        #[test]
        fn mst_006_any_sequence_of_frames_comes_apart_as_it_was_put_together(
            parts in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..700)), 0..12),
        ) {
            let kind = |control| if control { Kind::Control } else { Kind::Data };
            let stream: Vec<_> =
                parts.iter().flat_map(|(control, content)| frame(kind(*control), content)).collect();
            let expected: Vec<_> =
                parts.iter().map(|(control, content)| (kind(*control), &content[..])).collect();
            prop_assert_eq!(frames(&stream), (expected, Cut::NeedMore(HEADER_LEN)));
        }
    }
}
