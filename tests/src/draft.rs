//! Messages as clients build them: by `stun-rs` where they are sound, by hand where not.

use ring::hmac;
use stun_rs::attributes::turn::{LifeTime, RequestedTrasport, XorPeerAddress};
use stun_rs::{
    HMACKey, MessageClass, MessageEncoderBuilder, MessageMethod, StunAttribute, StunMessageBuilder,
    TransactionId,
};

use std::net::SocketAddr;

use crate::kind;

/// A message under construction; attributes keep their order, nothing is checked.
#[derive(Clone, Debug)]
pub struct Draft {
    kind: u16,
    transaction: Option<[u8; 12]>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Attribute(StunAttribute),
    Raw(u16, Vec<u8>),
    Bytes(Vec<u8>),
    Integrity(HMACKey),
    IntegritySha256(HMACKey, usize),
    Fingerprint,
}

impl Draft {
    /// A message of this 16-bit type.
    pub fn of_kind(kind: u16) -> Self {
        Self { kind, transaction: None, parts: Vec::new() }
    }

    /// A request; the twelve bits of these methods equal the message type.
    pub fn request(method: u16) -> Self {
        Self::of_kind(method)
    }

    /// An Allocate request for a UDP relay.
    pub fn allocate() -> Self {
        Self::request(kind::method::ALLOCATE).with(RequestedTrasport::new(stun_rs::protocols::UDP))
    }

    /// A Refresh request for this many seconds.
    pub fn refresh(seconds: u32) -> Self {
        Self::request(kind::method::REFRESH).with(LifeTime::new(seconds))
    }

    /// A `CreatePermission` request for these peers.
    pub fn permit(peers: &[SocketAddr]) -> Self {
        peers
            .iter()
            .fold(Self::request(kind::method::CREATE_PERMISSION), |draft, &peer| draft.peer(peer))
    }

    /// A `ChannelBind` request.
    pub fn bind(number: u16, peer: SocketAddr) -> Self {
        Self::request(kind::method::CHANNEL_BIND)
            .raw(kind::CHANNEL_NUMBER, &u32::from(number).rotate_left(16).to_be_bytes())
            .peer(peer)
    }

    /// An Allocate request for a TCP relay.
    pub fn allocate_tcp() -> Self {
        Self::request(kind::method::ALLOCATE).raw(kind::TRANSPORT, &[6, 0, 0, 0])
    }

    /// A Connect request.
    pub fn connect(peer: SocketAddr) -> Self {
        Self::request(kind::method::CONNECT).peer(peer)
    }

    /// A `ConnectionBind` request.
    pub fn connection_bind(connection: u32) -> Self {
        Self::request(kind::method::CONNECTION_BIND)
            .raw(kind::CONNECTION_ID, &connection.to_be_bytes())
    }

    /// A Send indication.
    pub fn send(peer: SocketAddr, payload: &[u8]) -> Self {
        Self::of_kind(kind::method::SEND | kind::INDICATION).peer(peer).raw(kind::DATA, payload)
    }

    /// Adds an attribute, encoded by `stun-rs`.
    #[must_use]
    pub fn with(mut self, attribute: impl Into<StunAttribute>) -> Self {
        self.parts.push(Part::Attribute(attribute.into()));
        self
    }

    /// Adds XOR-PEER-ADDRESS.
    #[must_use]
    pub fn peer(self, peer: SocketAddr) -> Self {
        self.with(XorPeerAddress::from(peer))
    }

    /// Adds an attribute of any type and value, padded with zeros.
    #[must_use]
    pub fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        self.parts.push(Part::Raw(kind, value.to_vec()));
        self
    }

    /// Adds bytes as they are, whether an attribute or not.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.parts.push(Part::Bytes(bytes.to_vec()));
        self
    }

    /// Adds MESSAGE-INTEGRITY over what stands so far.
    #[must_use]
    pub fn integrity(mut self, key: &HMACKey) -> Self {
        self.parts.push(Part::Integrity(key.clone()));
        self
    }

    /// Adds MESSAGE-INTEGRITY-SHA256 over what stands so far.
    #[must_use]
    pub fn integrity_sha256(self, key: &HMACKey) -> Self {
        self.integrity_sha256_of(key, 32)
    }

    /// The same, truncated or lengthened with zeros to `len` bytes.
    #[must_use]
    pub fn integrity_sha256_of(mut self, key: &HMACKey, len: usize) -> Self {
        self.parts.push(Part::IntegritySha256(key.clone(), len));
        self
    }

    /// Adds FINGERPRINT over what stands so far.
    #[must_use]
    pub fn fingerprint(mut self) -> Self {
        self.parts.push(Part::Fingerprint);
        self
    }

    /// Fixes the transaction id; otherwise the sender chooses one.
    #[must_use]
    pub fn transaction(mut self, id: [u8; 12]) -> Self {
        self.transaction = Some(id);
        self
    }

    /// The transaction id, if it was fixed.
    pub fn transaction_id(&self) -> Option<[u8; 12]> {
        self.transaction
    }

    /// The message; transaction id zero if none was fixed.
    pub fn encode(&self) -> Vec<u8> {
        let id = self.transaction.unwrap_or_default();
        let mut message = Vec::with_capacity(256);
        message.extend(self.kind.to_be_bytes());
        message.extend([0, 0, 0x21, 0x12, 0xA4, 0x42]);
        message.extend(id);
        for part in &self.parts {
            match part {
                Part::Attribute(attribute) => message.extend(by_oracle(id, attribute.clone())),
                Part::Raw(kind, value) => append(&mut message, *kind, value),
                Part::Bytes(bytes) => message.extend(bytes),
                Part::Integrity(key) => {
                    let tag = mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, &message, 20);
                    append(&mut message, kind::INTEGRITY, &tag);
                }
                Part::IntegritySha256(key, len) => {
                    let mut tag = mac(hmac::HMAC_SHA256, key, &message, *len);
                    tag.resize(*len, 0);
                    append(&mut message, kind::INTEGRITY_SHA256, &tag);
                }
                Part::Fingerprint => {
                    set_length(&mut message, 8);
                    let crc = crc32(&message) ^ 0x5354_554E;
                    append(&mut message, kind::FINGERPRINT, &crc.to_be_bytes());
                }
            }
            set_length(&mut message, 0);
        }
        message
    }
}

/// One attribute as `stun-rs` writes it, padding included.
fn by_oracle(transaction: [u8; 12], attribute: StunAttribute) -> Vec<u8> {
    let binding = MessageMethod::try_from(kind::method::BINDING).expect("a method");
    let message = StunMessageBuilder::new(binding, MessageClass::Request)
        .with_transaction_id(TransactionId::from(transaction))
        .with_attribute(attribute)
        .build();
    let mut buffer = vec![0; 1200];
    let len = MessageEncoderBuilder::default()
        .build()
        .encode(&mut buffer, &message)
        .expect("attributes of the rig fit");
    buffer[20..len].to_vec()
}

fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).expect("attribute of 16-bit length").to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Makes the header count what stands so far and `more` bytes.
fn set_length(message: &mut [u8], more: usize) {
    let length = u16::try_from(message.len() - 20 + more).expect("message of 16-bit length");
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// HMAC over the message as if it ended behind an integrity attribute of `len` bytes.
fn mac(hash: hmac::Algorithm, key: &HMACKey, message: &[u8], len: usize) -> Vec<u8> {
    let mut covered = message.to_vec();
    set_length(&mut covered, 4 + len.next_multiple_of(4));
    hmac::sign(&hmac::Key::new(hash, key.as_bytes()), &covered).as_ref().to_vec()
}

/// CRC-32 of ISO 3309, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}
