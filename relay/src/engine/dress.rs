//! Headers put before payload on its way to a client.

use std::net::{IpAddr, SocketAddr};

use proto::channel_data::ChannelNumber;
use proto::stun::TransactionId;
use proto::turn::Wrap;

/// The longest header: a Data indication that names an IPv6 peer.
pub(super) const LONGEST: usize = 48;

/// The magic cookie (RFC 8489 §5).
const COOKIE: u32 = 0x2112_A442;

/// Bytes of a STUN header.
const STUN_HEADER: usize = 20;

/// Writes the header for a payload of `len` bytes and says how long it is.
pub(super) fn head(wrap: Wrap, len: u32, out: &mut [u8; LONGEST]) -> usize {
    match wrap {
        Wrap::Channel(number) => channel_head(number, len, out),
        Wrap::Indication(peer, transaction) => data_head(peer.socket(), transaction, len, out),
    }
}

/// Zero bytes to add after the payload: attributes fill words (RFC 8489 §14), ChannelData in a
/// datagram is not padded (RFC 8656 §12.5).
pub(super) fn padding(wrap: Wrap, len: u32) -> usize {
    match wrap {
        Wrap::Channel(_) => 0,
        Wrap::Indication(..) => (len.next_multiple_of(4) - len) as usize,
    }
}

fn channel_head(number: ChannelNumber, len: u32, out: &mut [u8; LONGEST]) -> usize {
    out[..2].copy_from_slice(&number.get().to_be_bytes());
    out[2..4].copy_from_slice(&narrow(len).to_be_bytes());
    4
}

/// Data indication with XOR-PEER-ADDRESS and the header of DATA (RFC 8656 §11.3).
fn data_head(
    peer: SocketAddr,
    TransactionId(transaction): TransactionId,
    len: u32,
    out: &mut [u8; LONGEST],
) -> usize {
    let (family, address, address_len) = match peer.ip() {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&(u32::from(ip) ^ COOKIE).to_be_bytes());
            (1, bytes, 4)
        }
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(&transaction);
            (2, (u128::from(ip) ^ u128::from_be_bytes(mask)).to_be_bytes(), 16)
        }
    };
    let total = STUN_HEADER + 4 + 4 + address_len + 4;
    let port = peer.port() ^ (COOKIE >> 16) as u16;
    let body = (total - STUN_HEADER) as u32 + len.next_multiple_of(4);

    out[..2].copy_from_slice(&0x0017_u16.to_be_bytes());
    out[2..4].copy_from_slice(&narrow(body).to_be_bytes());
    out[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    out[8..20].copy_from_slice(&transaction);
    out[20..22].copy_from_slice(&0x0012_u16.to_be_bytes());
    out[22..24].copy_from_slice(&narrow(4 + address_len as u32).to_be_bytes());
    out[24..26].copy_from_slice(&[0, family]);
    out[26..28].copy_from_slice(&port.to_be_bytes());
    out[28..28 + address_len].copy_from_slice(&address[..address_len]);
    let data = 28 + address_len;
    out[data..data + 2].copy_from_slice(&0x0013_u16.to_be_bytes());
    out[data + 2..data + 4].copy_from_slice(&narrow(len).to_be_bytes());
    total
}

/// Lengths on the wire have 16 bits; the server refuses to wrap what would not fit.
#[expect(clippy::cast_possible_truncation, reason = "the server drops what is oversize")]
fn narrow(len: u32) -> u16 {
    len as u16
}
