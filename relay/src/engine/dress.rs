//! Headers put before payload on its way to a client; the payload itself stays where it lies.

use std::net::SocketAddr;

use proto::channel_data;
use proto::dialect::ms;
use proto::stun::TransactionId;
use proto::stun::attribute::{AttributeType, XorPeerAddress};
use proto::stun::header::{Class, HEADER_LEN, Method};
use proto::stun::writer::Writer;
use proto::turn::Wrap;

/// The longest header: that of MS-TURN, its cookie, an IPv6 address, head of the data.
pub(crate) const LONGEST: usize = HEADER_LEN + 8 + 24 + 4;

/// Writes the header for a payload of `len` bytes and says how long it is.
///
/// The server drops what would not fit into a datagram, so lengths fit into 16 bits.
pub(crate) fn head(wrap: Wrap, len: u32, out: &mut [u8; LONGEST]) -> usize {
    match wrap {
        Wrap::Channel(number) => {
            let header = channel_data::header(number, narrow(len as usize));
            out[..header.len()].copy_from_slice(&header);
            header.len()
        }
        Wrap::Indication(peer, transaction) => {
            let head = data_head(XorPeerAddress(peer.socket()), transaction, out);
            announce(out, head, len as usize, padding(wrap, len))
        }
        Wrap::MsIndication(peer, transaction) => {
            let head = ms_data_head(peer.socket(), transaction, out);
            announce(out, head, len as usize, 0)
        }
        Wrap::Raw => 0,
    }
}

/// Zero bytes to add after the payload: attributes fill words (RFC 8489 §14), ChannelData in a
/// datagram is not padded (RFC 8656 §12.5).
pub(crate) fn padding(wrap: Wrap, len: u32) -> usize {
    match wrap {
        Wrap::Channel(_) | Wrap::MsIndication(..) | Wrap::Raw => 0,
        Wrap::Indication(..) => (len.next_multiple_of(4) - len) as usize,
    }
}

/// A Data indication (RFC 8656 §11.3) whose DATA is still empty; says how long it is.
fn data_head(peer: XorPeerAddress, transaction: TransactionId, out: &mut [u8; LONGEST]) -> usize {
    let mut writer = Writer::new(out, Class::Indication, Method::DATA, transaction);
    writer.add(&peer).append(AttributeType::DATA, &[]);
    writer.finish().map_or(0, <[u8]>::len)
}

/// The same for MS-TURN (MST-88).
fn ms_data_head(peer: SocketAddr, transaction: ms::Transaction, out: &mut [u8]) -> usize {
    let mut writer = ms::Writer::new(out, ms::Kind::DATA, transaction);
    writer.address(ms::Type::REMOTE_ADDRESS, peer).append(ms::Type::DATA, &[]);
    writer.finish().map_or(0, <[u8]>::len)
}

/// Says how long payload and message are that begin with this head; returns its length.
fn announce(out: &mut [u8; LONGEST], head: usize, len: usize, padding: usize) -> usize {
    let body = narrow(head - HEADER_LEN + len + padding);
    out[2..4].copy_from_slice(&body.to_be_bytes());
    out[head - 2..head].copy_from_slice(&narrow(len).to_be_bytes());
    head
}

/// Lengths on the wire have 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "the server drops what is oversize")]
fn narrow(len: usize) -> u16 {
    len as u16
}

#[cfg(test)]
mod tests {
    use proto::addr::PeerAddr;
    use proto::channel_data::{ChannelData, ChannelNumber};
    use proto::stun::message::Message;

    use super::*;

    /// A header, a payload, padding: what a client receives.
    fn dressed(wrap: Wrap, payload: &[u8]) -> Vec<u8> {
        let mut out = [0; LONGEST];
        let size = u32::try_from(payload.len()).unwrap();
        let len = head(wrap, size, &mut out);
        [&out[..len], payload, &[0; 3][..padding(wrap, size)]].concat()
    }

    #[test]
    fn data_005_an_indication_says_peer_and_payload_exactly() {
        for peer in ["192.0.2.7:5000", "[2001:db8::7]:5000"] {
            for size in [0, 1, 2, 3, 4, 160, 65_000] {
                let payload = vec![7; size];
                let peer = PeerAddr::new(peer.parse().unwrap());
                let transaction = TransactionId([9; 12]);
                let bytes = dressed(Wrap::Indication(peer, transaction), &payload);
                let message = Message::parse(&bytes).unwrap();
                assert_eq!(message.class(), Class::Indication);
                assert_eq!(message.method(), Method::DATA);
                assert_eq!(message.transaction(), transaction);
                assert_eq!(message.first(AttributeType::DATA), Some(payload.as_slice()), "{size}");
                let named = message.read::<XorPeerAddress>().unwrap();
                assert_eq!(named, Some(XorPeerAddress(peer.socket())));
            }
        }
    }

    #[test]
    fn mst_088_an_indication_of_ms_turn_says_peer_and_payload_exactly() {
        for peer in ["192.0.2.7:5000", "[2001:db8::7]:5000"] {
            for size in [0, 1, 2, 3, 4, 160, 65_000] {
                let (payload, peer) = (vec![7; size], PeerAddr::new(peer.parse().unwrap()));
                let transaction = ms::Transaction([9; 16]);
                let bytes = dressed(Wrap::MsIndication(peer, transaction), &payload);
                let message = ms::Message::parse(&bytes).unwrap();
                assert_eq!((message.kind(), message.transaction()), (ms::Kind::DATA, transaction));
                assert_eq!(message.address(ms::Type::REMOTE_ADDRESS), Some(peer.socket()));
                assert_eq!(message.first(ms::Type::DATA), Some(payload.as_slice()), "{size}");
            }
        }
    }

    #[test]
    fn mst_087_payload_of_the_active_destination_stands_alone() {
        for payload in [&b""[..], b"7", b"media"] {
            assert_eq!(dressed(Wrap::Raw, payload), payload);
        }
    }

    #[test]
    fn chan_009_channel_data_in_a_datagram_is_not_padded() {
        let number = ChannelNumber::new(0x4001).unwrap();
        for size in [0, 1, 3, 160, 65_000] {
            let payload = vec![7; size];
            let bytes = dressed(Wrap::Channel(number), &payload);
            assert_eq!(bytes.len(), 4 + size);
            assert_eq!(ChannelData::parse(&bytes).unwrap().payload(), payload);
        }
    }
}
