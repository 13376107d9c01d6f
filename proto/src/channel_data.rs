//! ChannelData messages (RFC 8656 §12.4): four bytes of header, then the payload.
//!
//! Over UDP the datagram may be longer than the message says; what follows is padding and stays
//! outside the view. Cutting padded messages out of a stream is the business of framing.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Bytes before the payload.
pub const HEADER_LEN: usize = 4;

/// A channel number a client may bind: 0x4000–0x4FFF, or up to 0x7FFF in compatibility mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// A number of RFC 8656 §12: 0x4000–0x4FFF.
    pub fn new(number: u16) -> Option<Self> {
        (0x4000..=0x4FFF).contains(&number).then_some(Self(number))
    }

    /// A number of RFC 5766 §11: 0x4000–0x7FFF.
    pub fn new_rfc5766(number: u16) -> Option<Self> {
        (0x4000..=0x7FFF).contains(&number).then_some(Self(number))
    }

    /// As an integer.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// Why bytes are no ChannelData message. All of it is dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Fewer bytes than a header has.
    Short,
    /// The number is outside 0x4000–0x7FFF.
    Number,
    /// Fewer bytes follow than the length field says.
    Length,
}

/// A ChannelData message as a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    number: ChannelNumber,
    payload: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Views the bytes as one message. Numbers of RFC 5766 parse too: whether they are spoken
    /// is decided by the first byte ([`crate::demux`]) and when a channel is bound.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&[n0, n1, l0, l1], rest) =
            bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Short)?;
        let number = ChannelNumber::new_rfc5766(u16::from_be_bytes([n0, n1]));
        let number = number.ok_or(Malformed::Number)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let payload = rest.get(..length).ok_or(Malformed::Length)?;
        Ok(Self { number, payload })
    }

    /// The channel.
    pub fn number(&self) -> ChannelNumber {
        self.number
    }

    /// The payload, which starts [`HEADER_LEN`] bytes into the message; may be empty.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The four bytes that go before a payload of `length` bytes.
pub fn header(number: ChannelNumber, length: u16) -> [u8; HEADER_LEN] {
    let [n0, n1] = number.0.to_be_bytes();
    let [l0, l1] = length.to_be_bytes();
    [n0, n1, l0, l1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chan_009_a_datagram_ends_where_its_length_field_says() {
        for (case, bytes, expected) in [
            ("exact", &[0x40, 0, 0, 2, 7, 8][..], Ok(&[7, 8][..])),
            ("padded", &[0x40, 0, 0, 2, 7, 8, 0, 0], Ok(&[7, 8])),
            ("one byte short", &[0x40, 0, 0, 3, 7, 8], Err(Malformed::Length)),
            ("no header", &[0x40, 0, 0], Err(Malformed::Short)),
            ("nothing", &[], Err(Malformed::Short)),
        ] {
            assert_eq!(ChannelData::parse(bytes).map(|d| d.payload()), expected, "{case}");
        }
    }

    #[test]
    fn chan_008_an_empty_payload_is_valid() {
        let parsed = ChannelData::parse(&[0x4F, 0xFF, 0, 0]).unwrap();
        assert_eq!((parsed.number().number(), parsed.payload()), (0x4FFF, &[][..]));
    }

    #[test]
    fn chan_002_numbers_end_at_4fff_or_7fff() {
        for (number, current, old) in [
            (0x3FFF, false, false),
            (0x4000, true, true),
            (0x4FFF, true, true),
            (0x5000, false, true),
            (0x7FFF, false, true),
            (0x8000, false, false),
            (0xFFFF, false, false),
        ] {
            assert_eq!(ChannelNumber::new(number).is_some(), current, "{number:#x}");
            assert_eq!(ChannelNumber::new_rfc5766(number).is_some(), old, "{number:#x}");
        }
    }

    #[test]
    fn chan_011_numbers_outside_both_ranges_are_no_message() {
        for first in [0x3F, 0x80, 0xFF] {
            assert_eq!(ChannelData::parse(&[first, 0xFF, 0, 0]), Err(Malformed::Number));
        }
    }

    proptest! {
        #[test]
        fn chan_008_what_is_written_is_read(
            number in 0x4000_u16..=0x7FFF,
            payload in proptest::collection::vec(any::<u8>(), 0..1500),
            padding in 0_usize..4,
        ) {
            let number = ChannelNumber::new_rfc5766(number).unwrap();
            let mut bytes = header(number, payload.len().try_into().unwrap()).to_vec();
            bytes.extend_from_slice(&payload);
            bytes.extend(std::iter::repeat_n(0xAA, padding));
            let parsed = ChannelData::parse(&bytes).unwrap();
            prop_assert_eq!(parsed.number(), number);
            prop_assert_eq!(parsed.payload(), &payload[..]);
        }
    }
}
