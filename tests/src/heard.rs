//! What a client hears, read by `stun-rs` and, where bytes matter, by hand.

use std::net::SocketAddr;

use stun_rs::attributes::stun::{ErrorCode, UnknownAttributes, XorMappedAddress};
use stun_rs::attributes::turn::{LifeTime, XorPeerAddress, XorRelayedAddress};
use stun_rs::{DecoderContextBuilder, HMACKey, MessageDecoderBuilder, StunAttribute, StunMessage};

use crate::kind;

/// A STUN message as a client heard it.
#[derive(Debug)]
pub struct Heard {
    bytes: Vec<u8>,
    message: StunMessage,
}

/// Anything that reached a client, sorted by its first byte.
#[derive(Debug)]
pub enum Arrival {
    /// A response.
    Response(Heard),
    /// A Data indication.
    Data {
        /// Who sent it, as the server says.
        peer: SocketAddr,
        /// The payload.
        payload: Vec<u8>,
    },
    /// A Data indication that tells of an ICMP message.
    Icmp {
        /// Whom the datagram did not reach.
        peer: SocketAddr,
        /// The value of the ICMP attribute.
        value: [u8; 8],
    },
    /// ChannelData.
    Channel {
        /// The channel number.
        number: u16,
        /// The payload.
        payload: Vec<u8>,
    },
}

impl Arrival {
    /// Reads a datagram from the server.
    pub fn read(bytes: &[u8]) -> Self {
        if bytes.first().is_some_and(|first| (0x40..0x80).contains(first)) {
            let (header, payload) = bytes.split_at(4);
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            assert_eq!(payload.len(), length, "over UDP the server does not pad ChannelData");
            let number = u16::from_be_bytes([header[0], header[1]]);
            return Self::Channel { number, payload: payload.to_vec() };
        }
        let heard = Heard::read(bytes);
        if heard.kind() == kind::method::DATA | kind::INDICATION {
            let peer = heard.peer().expect("a Data indication names its peer");
            if let Some(value) = heard.value(kind::ICMP) {
                assert_eq!(heard.kinds(), [kind::PEER, kind::ICMP], "no DATA beside ICMP");
                return Self::Icmp { peer, value: value.try_into().expect("eight bytes") };
            }
            let payload = heard.value(kind::DATA).expect("a Data indication has DATA").to_vec();
            return Self::Data { peer, payload };
        }
        Self::Response(heard)
    }
}

impl Heard {
    /// Reads a message; panics when the oracle calls it malformed.
    pub fn read(bytes: &[u8]) -> Self {
        let (message, size) = MessageDecoderBuilder::default()
            .build()
            .decode(bytes)
            .unwrap_or_else(|error| panic!("stun-rs refuses what we sent: {error}: {bytes:02x?}"));
        assert_eq!(size, bytes.len(), "the datagram is one message");
        let heard = Self { bytes: bytes.to_vec(), message };
        heard.assert_padding_is_zero();
        heard
    }

    /// The datagram.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The 16-bit message type.
    pub fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The transaction id.
    pub fn transaction(&self) -> [u8; 12] {
        self.bytes[8..20].try_into().expect("a header has twenty bytes")
    }

    /// Types and values, in order, as they stand in the bytes.
    pub fn attributes(&self) -> Vec<(u16, &[u8])> {
        let mut found = Vec::new();
        let mut rest = &self.bytes[20..];
        while let [k0, k1, l0, l1, tail @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            found.push((u16::from_be_bytes([*k0, *k1]), &tail[..len]));
            rest = &tail[len.next_multiple_of(4)..];
        }
        found
    }

    /// Types, in order.
    pub fn kinds(&self) -> Vec<u16> {
        self.attributes().into_iter().map(|(kind, _)| kind).collect()
    }

    /// The value of the first attribute of this type.
    pub fn value(&self, kind: u16) -> Option<&[u8]> {
        self.attributes().into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// Whether an attribute of this type is there.
    pub fn has(&self, kind: u16) -> bool {
        self.value(kind).is_some()
    }

    /// The value of the first attribute of this type as text.
    pub fn text(&self, kind: u16) -> Option<&str> {
        self.value(kind).map(|value| std::str::from_utf8(value).expect("text is UTF-8"))
    }

    /// The error code, if this is an error response.
    pub fn code(&self) -> Option<u16> {
        let attribute = self.message.get::<ErrorCode>()?.as_error_code().expect("just asked");
        Some(attribute.error_code().error_code())
    }

    /// XOR-MAPPED-ADDRESS.
    pub fn mapped(&self) -> Option<SocketAddr> {
        let attribute = self.message.get::<XorMappedAddress>()?;
        Some(*attribute.as_xor_mapped_address().expect("just asked").socket_address())
    }

    /// The first XOR-RELAYED-ADDRESS.
    pub fn relayed(&self) -> Option<SocketAddr> {
        let attribute = self.message.get::<XorRelayedAddress>()?;
        Some(*attribute.as_xor_relayed_address().expect("just asked").socket_address())
    }

    /// Every XOR-RELAYED-ADDRESS.
    pub fn all_relayed(&self) -> Vec<SocketAddr> {
        let relayed = |attribute: &StunAttribute| {
            attribute.as_xor_relayed_address().ok().map(|found| *found.socket_address())
        };
        self.message.attributes().iter().filter_map(relayed).collect()
    }

    /// XOR-PEER-ADDRESS.
    pub fn peer(&self) -> Option<SocketAddr> {
        let attribute = self.message.get::<XorPeerAddress>()?;
        Some(*attribute.as_xor_peer_address().expect("just asked").socket_address())
    }

    /// CONNECTION-ID.
    pub fn connection(&self) -> Option<u32> {
        let value = self.value(kind::CONNECTION_ID)?;
        Some(u32::from_be_bytes(value.try_into().expect("a connection id has four bytes")))
    }

    /// LIFETIME in seconds.
    pub fn lifetime(&self) -> Option<u32> {
        let attribute = self.message.get::<LifeTime>()?;
        Some(attribute.as_life_time().expect("just asked").as_u32())
    }

    /// UNKNOWN-ATTRIBUTES.
    pub fn unknown(&self) -> Option<Vec<u16>> {
        let attribute = self.message.get::<UnknownAttributes>()?;
        Some(attribute.as_unknown_attributes().expect("just asked").attributes().to_vec())
    }

    /// Whether exactly one integrity attribute is there and the oracle finds it right.
    pub fn is_signed_with(&self, key: &HMACKey) -> bool {
        let count = |wanted| self.kinds().iter().filter(|&&kind| kind == wanted).count();
        let context =
            DecoderContextBuilder::default().with_key(key.clone()).with_validation().build();
        count(kind::INTEGRITY) + count(kind::INTEGRITY_SHA256) == 1
            && MessageDecoderBuilder::default()
                .with_context(context)
                .build()
                .decode(&self.bytes)
                .is_ok()
    }

    /// Fails unless this is a success response.
    #[track_caller]
    pub fn expect_success(&self) -> &Self {
        assert_eq!(self.kind() & kind::ERROR, kind::SUCCESS, "refused with {:?}", self.code());
        assert_eq!(self.code(), None, "a success carries no error code");
        self
    }

    /// Fails unless this is an error response with this code.
    #[track_caller]
    pub fn expect_code(&self, code: u16) -> &Self {
        assert_eq!(self.kind() & kind::ERROR, kind::ERROR, "no error response");
        assert_eq!(self.code(), Some(code));
        self
    }

    /// SEC-014 in every message: padding never carries what lay in memory before.
    fn assert_padding_is_zero(&self) {
        let mut at = 20;
        for (kind, value) in self.attributes() {
            let end = at + 4 + value.len();
            let padded = end.next_multiple_of(4);
            assert!(self.bytes[end..padded].iter().all(|&b| b == 0), "padding of {kind:#06x}");
            at = padded;
        }
    }
}
