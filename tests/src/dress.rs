//! How engines dress payload toward clients, written here by hand.

use proto::turn::Wrap;

use crate::draft::Draft;
use crate::{kind, ms};

/// The payload as the client's socket will see it: as an engine writes it.
pub(crate) fn dress(wrap: Wrap, payload: &[u8]) -> Vec<u8> {
    match wrap {
        Wrap::Channel(number) => {
            let length = u16::try_from(payload.len()).expect("a datagram's length");
            let mut dressed = number.number().to_be_bytes().to_vec();
            dressed.extend(length.to_be_bytes());
            dressed.extend(payload);
            dressed
        }
        Wrap::Raw => payload.to_vec(),
        Wrap::MsIndication(peer, transaction) => {
            ms::data_indication(transaction.0, peer.socket(), payload)
        }
        Wrap::Indication(peer, transaction) => {
            Draft::of_kind(kind::method::DATA | kind::INDICATION)
                .transaction(transaction.0)
                .peer(peer.socket())
                .raw(kind::DATA, payload)
                .encode()
        }
    }
}
