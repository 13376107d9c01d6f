//! Requests and answers as bytes, by stun-rs.
//!
//! Nothing here keeps state: [`crate::TurnClient`] does. Tests use it to write a message that a
//! well-behaved client would not.

use std::net::SocketAddr;

use stun_rs::attributes::stun::{
    ErrorCode, Fingerprint, MessageIntegrity, MessageIntegritySha256, XorMappedAddress,
};
use stun_rs::attributes::turn::{Data, LifeTime, XorPeerAddress, XorRelayedAddress};
use stun_rs::methods::{DATA, SEND};
use stun_rs::{
    HMACKey, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, MessageMethod,
    StunAttribute, StunMessage, StunMessageBuilder, TransactionId, get_input_text,
};

use crate::ClientError;

/// Longest control message this client writes or reads.
pub const MESSAGE_MAX: usize = 2048;

/// Bytes of a ChannelData header (RFC 8656 §12.4).
pub const CHANNEL_HEADER: usize = 4;

/// How a message is signed.
#[derive(Clone, Debug)]
pub enum Signature {
    /// MESSAGE-INTEGRITY.
    Sha1(HMACKey),
    /// MESSAGE-INTEGRITY-SHA256.
    Sha256(HMACKey),
}

/// Writes a message: the attributes in the given order, then integrity, then FINGERPRINT.
pub fn write(
    method: MessageMethod,
    class: MessageClass,
    transaction: TransactionId,
    attributes: &[StunAttribute],
    tail: (Option<&Signature>, bool),
) -> Result<Vec<u8>, ClientError> {
    let (signature, fingerprint) = tail;
    let mut builder = StunMessageBuilder::new(method, class).with_transaction_id(transaction);
    for attribute in attributes {
        builder = builder.with_attribute(attribute.clone());
    }
    builder = match signature {
        Some(Signature::Sha1(key)) => builder.with_attribute(MessageIntegrity::new(key.clone())),
        Some(Signature::Sha256(key)) => {
            builder.with_attribute(MessageIntegritySha256::new(key.clone()))
        }
        None => builder,
    };
    if fingerprint {
        builder = builder.with_attribute(Fingerprint::default());
    }
    let payload: usize = attributes.iter().map(data_len).sum();
    let mut buffer = vec![0; MESSAGE_MAX + payload];
    let len = MessageEncoderBuilder::default()
        .build()
        .encode(&mut buffer, &builder.build())
        .map_err(|error| ClientError::Unsendable(error.to_string()))?;
    buffer.truncate(len);
    Ok(buffer)
}

/// How much DATA adds to a message.
fn data_len(attribute: &StunAttribute) -> usize {
    attribute.as_data().map_or(0, |data| data.as_bytes().len())
}

/// Writes a Send indication (RFC 8656 §11.1).
pub fn send_indication(peer: SocketAddr, payload: &[u8]) -> Result<Vec<u8>, ClientError> {
    let attributes = [XorPeerAddress::from(peer).into(), Data::new(payload).into()];
    write(SEND, MessageClass::Indication, TransactionId::default(), &attributes, (None, false))
}

/// Reads a message; unknown attributes stay unread.
pub fn read(bytes: &[u8]) -> Result<StunMessage, ClientError> {
    MessageDecoderBuilder::default()
        .build()
        .decode(bytes)
        .map(|(message, _)| message)
        .map_err(|error| ClientError::Garbled(error.to_string()))
}

/// Whether the bytes may be STUN: the first two bits are zero and the cookie stands in place.
pub fn is_stun(bytes: &[u8]) -> bool {
    matches!(bytes, [0..=3, _, _, _, 0x21, 0x12, 0xA4, 0x42, ..])
}

/// Channel number and payload of a ChannelData message; padding is left out.
pub fn channel_data(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (&[n0 @ 0x40..=0x7F, n1, l0, l1], rest) = bytes.split_first_chunk::<CHANNEL_HEADER>()?
    else {
        return None;
    };
    let payload = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
    Some((u16::from_be_bytes([n0, n1]), payload))
}

/// The header of a ChannelData message with a payload of this length.
pub fn channel_header(number: u16, payload_len: u16) -> [u8; CHANNEL_HEADER] {
    let ([n0, n1], [l0, l1]) = (number.to_be_bytes(), payload_len.to_be_bytes());
    [n0, n1, l0, l1]
}

/// Peer and payload of a Data indication.
pub fn data_indication(message: &StunMessage) -> Option<(SocketAddr, Vec<u8>)> {
    if message.class() != MessageClass::Indication || message.method() != DATA {
        return None;
    }
    let peer = message.get::<XorPeerAddress>()?.as_xor_peer_address().ok()?.socket_address();
    let data = message.get::<Data>()?.as_data().ok()?.as_bytes();
    Some((*peer, data.to_vec()))
}

/// Whether `bytes` are signed with the key, by the attribute the signature names.
pub fn is_signed(bytes: &[u8], message: &StunMessage, signature: &Signature) -> bool {
    match signature {
        Signature::Sha1(key) => message
            .get::<MessageIntegrity>()
            .and_then(|attribute| attribute.as_message_integrity().ok())
            .zip(get_input_text::<MessageIntegrity>(bytes))
            .is_some_and(|(attribute, input)| attribute.validate(&input, key)),
        Signature::Sha256(key) => message
            .get::<MessageIntegritySha256>()
            .and_then(|attribute| attribute.as_message_integrity_sha256().ok())
            .zip(get_input_text::<MessageIntegritySha256>(bytes))
            .is_some_and(|(attribute, input)| attribute.validate(&input, key)),
    }
}

/// Whether FINGERPRINT, if there is one, is right.
pub fn fingerprint_holds(bytes: &[u8], message: &StunMessage) -> bool {
    let Some(Ok(attribute)) = message.get::<Fingerprint>().map(StunAttribute::as_fingerprint)
    else {
        return true;
    };
    get_input_text::<Fingerprint>(bytes).is_some_and(|input| attribute.validate(&input))
}

/// Code and reason phrase of an error response.
pub fn error_code(message: &StunMessage) -> Option<(u16, String)> {
    let error = message.get::<ErrorCode>()?.as_error_code().ok()?.error_code().clone();
    Some((error.error_code(), error.reason().to_owned()))
}

/// The client's address as the server saw it.
pub fn mapped(message: &StunMessage) -> Option<SocketAddr> {
    Some(*message.get::<XorMappedAddress>()?.as_xor_mapped_address().ok()?.socket_address())
}

/// Every relayed address the server gave, in order.
pub fn relayed(message: &StunMessage) -> Vec<SocketAddr> {
    let attributes = message.attributes().iter();
    attributes
        .filter(|attribute| attribute.is_xor_relayed_address())
        .filter_map(|attribute| attribute.as_xor_relayed_address().ok())
        .map(|attribute: &XorRelayedAddress| *attribute.socket_address())
        .collect()
}

/// Seconds of LIFETIME.
pub fn lifetime_s(message: &StunMessage) -> Option<u32> {
    Some(message.get::<LifeTime>()?.as_life_time().ok()?.as_u32())
}
