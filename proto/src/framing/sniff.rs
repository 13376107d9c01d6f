//! What a connection to a shared port speaks, by its first bytes.
//!
//! TLS, plain TURN and a PROXY header never start alike, so that one port can serve them all.
//! Pseudo-TLS of the Microsoft dialect will be a fourth: its one fixed record starts as TLS does.

use crate::demux::Kind;
use crate::framing::proxy;

/// The first byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// The major version of every TLS record, whatever TLS it is (RFC 8446 §5.1).
const TLS_MAJOR: u8 = 3;

/// What the first bytes of a connection announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// TLS; [`crate::framing::client_hello`] reads whom it is for.
    Tls,
    /// STUN. ChannelData opens nothing: no client has a channel before its first request.
    Turn,
    /// A PROXY header, version 2; [`crate::framing::proxy`] reads it.
    ProxyV2,
    /// Too few bytes to tell; so many are missing at least.
    NeedMore(usize),
    /// Nothing that is served here.
    Unknown,
}

/// Tells connections apart.
pub fn sniff(stream: &[u8]) -> Opening {
    match *stream {
        [] | [TLS_HANDSHAKE] => return Opening::NeedMore(1),
        [TLS_HANDSHAKE, TLS_MAJOR, ..] => return Opening::Tls,
        _ if Kind::of(stream) == Kind::Stun => return Opening::Turn,
        _ => {}
    }
    let matching = stream.iter().zip(&proxy::SIGNATURE).take_while(|(a, b)| a == b).count();
    if matching == proxy::SIGNATURE.len() {
        Opening::ProxyV2
    } else if matching == stream.len() {
        Opening::NeedMore(proxy::SIGNATURE.len().saturating_sub(matching))
    } else {
        Opening::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_told_apart_by_as_few_bytes_as_they_need() {
        let proxy = proxy::SIGNATURE;
        for (case, bytes, expected) in [
            ("nothing", &[][..], Opening::NeedMore(1)),
            ("half a record", &[22], Opening::NeedMore(1)),
            ("TLS 1.2 and 1.3", &[22, 3, 1], Opening::Tls),
            ("a record of another century", &[22, 2], Opening::Unknown),
            ("SSL 2", &[0x80, 0x2E, 1, 3, 1], Opening::Unknown),
            ("Binding", &[0, 1], Opening::Turn),
            ("one byte of STUN", &[3], Opening::Turn),
            ("ChannelData", &[0x40, 0, 0, 4], Opening::Unknown),
            ("HTTP", b"GET / HTTP/1.1", Opening::Unknown),
            ("PROXY version 1", b"PROXY TCP4", Opening::Unknown),
            ("PROXY version 2", &proxy, Opening::ProxyV2),
            ("its first byte", &proxy[..1], Opening::NeedMore(11)),
            ("all but one", &proxy[..11], Opening::NeedMore(1)),
            ("a blank line", b"\r\n\r\nGET", Opening::Unknown),
            ("a DTLS record", &[22, 0xFE, 0xFD], Opening::Unknown),
        ] {
            assert_eq!(sniff(bytes), expected, "{case}");
        }
    }
}
