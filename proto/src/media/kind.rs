//! What a payload is, by its first bytes (RFC 7983, RFC 5761).

/// The magic cookie of STUN, at byte 4.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// Bytes of an RTP header without sources and extension (RFC 3550 §5.1).
const RTP_HEADER: usize = 12;

/// Bytes of RTCP that stay in the clear (RFC 3711 §3.4).
const RTCP_HEADER: usize = 8;

/// Bytes of a DTLS record before its content (RFC 6347 §4.1).
const DTLS_HEADER: usize = 13;

/// Bytes of a STUN message before its attributes (RFC 8489 §5).
const STUN_HEADER: usize = 20;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packet of RTP, most likely encrypted.
    Rtp,
    /// A packet of RTCP, most likely encrypted.
    Rtcp,
    /// A record of DTLS: keys are agreed on, or a data channel speaks.
    Dtls,
    /// A message of STUN: a connectivity check, a keep-alive.
    Stun,
    /// Something else.
    Other,
}

/// What the header of an RTP packet tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends: the synchronization source.
    pub ssrc: u32,
    /// The number of the packet.
    pub sequence: u16,
    /// When what is in it was recorded, by the sender's clock.
    pub timestamp: u32,
    /// What is in it, by a number that the two ends agreed on.
    pub payload_type: u8,
    /// For video the end of a frame, for sound the beginning of a talkspurt.
    pub marker: bool,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 5;

    /// The names of the kinds, by [`Kind::index`].
    pub const NAMES: [&str; Self::COUNT] = ["rtp", "rtcp", "dtls", "stun", "other"];

    /// The place of RTP among the kinds.
    pub const RTP: usize = 0;

    /// The kind of a payload.
    #[inline]
    pub fn of(payload: &[u8]) -> Self {
        if Header::of(payload).is_some() {
            return Self::Rtp;
        }
        match payload {
            [128..=191, second, ..] if is_rtcp_type(*second) => rtcp(payload),
            [0..=3, ..] if is_stun(payload) => Self::Stun,
            // Of version 1.3 the header has its own form (RFC 9147 §4); of all others the version
            // stands in it.
            [32..=63, ..] | [20..=31, 0xFE, ..] => Self::Dtls,
            _ => Self::Other,
        }
    }

    /// The part of a payload that says what it is: headers that encryption leaves in the clear
    /// (RFC 3711, RFC 9147), without a byte of content. Of what nobody knows that is nothing.
    pub fn head_of(payload: &[u8]) -> &[u8] {
        let len = match Self::of(payload) {
            Self::Rtp => rtp_head(payload),
            Self::Rtcp => RTCP_HEADER,
            Self::Dtls => DTLS_HEADER,
            Self::Stun => STUN_HEADER,
            Self::Other => 0,
        };
        payload.get(..len).unwrap_or(payload)
    }

    /// Its place among the kinds.
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::Rtp => Self::RTP,
            Self::Rtcp => 1,
            Self::Dtls => 2,
            Self::Stun => 3,
            Self::Other => 4,
        }
    }

    /// What metrics call it.
    pub fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

impl Header {
    /// The header of a packet of version 2 that is no RTCP, and long enough for what its header says.
    #[inline]
    pub fn of(payload: &[u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<RTP_HEADER>()?;
        let [first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *head;
        if first >> 6 != 2 || is_rtcp_type(second) {
            return None;
        }
        let sources = usize::from(first & 0x0F) * 4;
        let extended = first & 0x10 != 0;
        if sources > 0 || extended {
            is_complete(rest, sources, extended).then_some(())?;
        }
        Some(Self {
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            payload_type: second & 0x7F,
            marker: second & 0x80 != 0,
        })
    }
}

/// Whether the second byte of a packet of version 2 says that it is RTCP (RFC 5761 §4).
fn is_rtcp_type(second: u8) -> bool {
    (192..=223).contains(&second)
}

/// How long the header of an RTP packet is, with sources and extension.
fn rtp_head(payload: &[u8]) -> usize {
    let first = payload.first().copied().unwrap_or_default();
    let fixed = RTP_HEADER + usize::from(first & 0x0F) * 4;
    match payload.get(fixed..) {
        Some([_, _, l0, l1, ..]) if first & 0x10 != 0 => {
            fixed + 4 + usize::from(u16::from_be_bytes([*l0, *l1])) * 4
        }
        _ => fixed,
    }
}

/// Whether what follows the fixed header of RTP has the sources and the extension it speaks of.
#[inline(never)]
fn is_complete(rest: &[u8], sources: usize, extended: bool) -> bool {
    let Some(behind) = rest.get(sources..) else { return false };
    if !extended {
        return true;
    }
    match behind {
        [_, _, l0, l1, extension @ ..] => {
            usize::from(u16::from_be_bytes([*l0, *l1])) * 4 <= extension.len()
        }
        _ => false,
    }
}

/// Whether a packet whose second byte is one of RTCP has a length that fits into it.
fn rtcp(payload: &[u8]) -> Kind {
    match payload {
        [_, _, l0, l1, ..] if payload.len() >= RTCP_HEADER => {
            let words = usize::from(u16::from_be_bytes([*l0, *l1]));
            if (words + 1) * 4 <= payload.len() { Kind::Rtcp } else { Kind::Other }
        }
        _ => Kind::Other,
    }
}

/// Whether what begins so is a whole message of STUN; those of RFC 3489 have no cookie.
fn is_stun(payload: &[u8]) -> bool {
    match payload {
        [_, _, l0, l1, ..] if payload.len() >= 20 => {
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            payload.get(4..8) == Some(&COOKIE) || (len % 4 == 0 && len + 20 == payload.len())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(head: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = head.to_vec();
        bytes.resize(len, 0);
        bytes
    }

    #[test]
    fn payload_is_told_apart_by_its_first_bytes() {
        let head = [0x80, 111, 2, 3, 4, 5, 6, 7, 0x0B, 0x0C, 0x0D, 0x0E];
        let with = |first| [&[first], &head[1..]].concat();
        for (case, bytes, expected) in [
            ("nothing", vec![], Kind::Other),
            ("a byte", vec![0x80], Kind::Other),
            ("a header alone", head.to_vec(), Kind::Rtp),
            ("a header without its last byte", head[..11].to_vec(), Kind::Other),
            ("payload", padded(&head, 172), Kind::Rtp),
            ("padding", padded(&with(0xA0), 20), Kind::Rtp),
            ("version 1", padded(&with(0x40), 172), Kind::Other),
            ("version 3", padded(&with(0xC0), 172), Kind::Other),
            ("a source", padded(&with(0x81), 16), Kind::Rtp),
            ("a source that is not there", padded(&with(0x81), 15), Kind::Other),
            ("an extension", [&with(0x90)[..], &[0xBE, 0xDE, 0, 1], &[0; 4]].concat(), Kind::Rtp),
            ("a longer one", [&with(0x90)[..], &[0xBE, 0xDE, 0, 2], &[0; 4]].concat(), Kind::Other),
            ("one without length", padded(&with(0x90), 15), Kind::Other),
            ("sources and extension", [&with(0x92)[..], &[0; 8], &[0; 4]].concat(), Kind::Rtp),
            ("a sender report", padded(&[0x80, 200, 0, 6], 28), Kind::Rtcp),
            ("its length and a trailer", padded(&[0x80, 200, 0, 6], 42), Kind::Rtcp),
            ("a report cut short", padded(&[0x80, 200, 0, 6], 24), Kind::Other),
            ("the first type of RTCP", padded(&[0x81, 192, 0, 1], 8), Kind::Rtcp),
            ("the last type of RTCP", padded(&[0x81, 223, 0, 1], 8), Kind::Rtcp),
            ("RTCP of four bytes", vec![0x80, 200, 0, 0], Kind::Other),
            ("a hello of DTLS", padded(&[22, 0xFE, 0xFF], 60), Kind::Dtls),
            ("data of DTLS 1.2", padded(&[23, 0xFE, 0xFD], 60), Kind::Dtls),
            ("a record of DTLS 1.3", padded(&[0x2F], 60), Kind::Dtls),
            ("TLS", padded(&[22, 3, 3], 60), Kind::Other),
            ("STUN", padded(&[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42], 28), Kind::Stun),
            ("STUN of RFC 3489", padded(&[0, 1, 0, 8], 28), Kind::Stun),
            ("something with a zero", padded(&[0, 1, 0, 8], 29), Kind::Other),
            ("STUN cut short", padded(&[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42], 19), Kind::Other),
            ("ZRTP", padded(&[16, 0, 0, 1], 40), Kind::Other),
            ("ChannelData of another relay", padded(&[0x40, 0, 0, 8], 12), Kind::Other),
            ("QUIC", padded(&[0xC3, 0, 0, 0, 1], 40), Kind::Other),
        ] {
            assert_eq!(Kind::of(&bytes), expected, "{case}");
        }
    }

    #[test]
    fn the_head_of_a_payload_has_no_content() {
        let rtp = |first, rest: &[u8]| [&[first, 111][..], &[0; 10], rest, &[7; 160]].concat();
        for (case, bytes, expected) in [
            ("RTP", rtp(0x80, &[]), 12),
            ("a source", rtp(0x81, &[1; 4]), 16),
            ("an extension", rtp(0x90, &[0xBE, 0xDE, 0, 2, 1, 1, 1, 1, 1, 1, 1, 1]), 24),
            ("both", rtp(0x91, &[1, 1, 1, 1, 0xBE, 0xDE, 0, 1, 1, 1, 1, 1]), 24),
            ("RTCP", padded(&[0x80, 200, 0, 6], 28), 8),
            ("DTLS", padded(&[22, 0xFE, 0xFF], 60), 13),
            ("STUN", padded(&[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42], 28), 20),
            ("something", b"what people say".to_vec(), 0),
            ("nothing", vec![], 0),
        ] {
            assert_eq!(Kind::head_of(&bytes), &bytes[..expected], "{case}");
        }
    }

    #[test]
    fn a_header_is_read_as_it_stands() {
        let bytes = [0x80, 111, 2, 3, 4, 5, 6, 7, 0x0B, 0x0C, 0x0D, 0x0E];
        let header = Header {
            ssrc: 0x0B0C_0D0E,
            sequence: 0x0203,
            timestamp: 0x0405_0607,
            payload_type: 111,
            marker: false,
        };
        assert_eq!(Header::of(&bytes), Some(header));
    }

    #[test]
    fn a_marker_is_no_payload_type() {
        // 72 with a marker would read as 200: RFC 5761 §4 keeps 64 to 95 for RTCP.
        let of = |second| Header::of(&[0x80, second, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        let header = |payload_type, marker| Header {
            ssrc: 3,
            sequence: 1,
            timestamp: 2,
            payload_type,
            marker,
        };
        assert_eq!(of(0x80 + 111), Some(header(111, true)));
        assert_eq!(of(111), Some(header(111, false)));
        assert_eq!(of(0x80 + 96), Some(header(96, true)));
        assert_eq!(of(191), Some(header(63, true)));
        assert_eq!(of(200), None);
    }
}
