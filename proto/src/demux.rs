//! What a packet on the client-facing socket is, by its first byte (RFC 7983 §7).
//!
//! Relayed sockets are never asked: everything that arrives there is payload.

/// What stands at byte 20 of every message of MS-TURN: its first attribute, the magic cookie
/// (MST-8). Its transactions may begin as those of the RFCs do, so this is looked at first.
pub const MS_COOKIE: [u8; 8] = [0x00, 0x0F, 0x00, 0x04, 0x72, 0xC6, 0x4B, 0xC6];

/// Whether a packet is a message of MS-TURN.
pub fn is_ms(bytes: &[u8]) -> bool {
    bytes.get(20..28) == Some(&MS_COOKIE)
}

/// Whether a packet is of one of the sessions that share a relayed port in later versions of
/// MS-TURN (MST-7).
pub fn is_ms_multiplexed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0x10])
}

/// What a packet claims to be; its parser has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A STUN message: first byte 0–3.
    Stun,
    /// A ChannelData message: first byte 64–79.
    ChannelData,
    /// Anything else: DTLS, RTP, ZRTP, QUIC, nothing at all.
    Other,
}

impl Kind {
    /// The kind of a packet.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(0..=3) => Self::Stun,
            Some(64..=79) => Self::ChannelData,
            _ => Self::Other,
        }
    }

    /// As [`Kind::of`], for a relay that speaks the channel numbers of RFC 5766 §11: there
    /// ChannelData starts with 64–127.
    pub fn of_rfc5766(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(64..=127) => Self::ChannelData,
            _ => Self::of(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chan_011_first_bytes_fall_into_the_ranges_of_rfc7983() {
        assert_eq!(Kind::of(&[]), Kind::Other);
        for first in 0..=255 {
            let (kind, old) = match first {
                0..=3 => (Kind::Stun, Kind::Stun),
                64..=79 => (Kind::ChannelData, Kind::ChannelData),
                80..=127 => (Kind::Other, Kind::ChannelData),
                _ => (Kind::Other, Kind::Other),
            };
            assert_eq!(Kind::of(&[first, 0]), kind, "{first}");
            assert_eq!(Kind::of_rfc5766(&[first, 0]), old, "{first}");
        }
    }
}
