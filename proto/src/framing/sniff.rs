//! What a connection to a shared port speaks, by its first bytes.
//!
//! TLS, plain TURN and a PROXY header never start alike, so that one port can serve them all. Where
//! the Microsoft dialect is served (MST-10), its frames start with 2 or 3, where plain TURN starts
//! with 0 or 1 (see [`ms`]); and pseudo-TLS is TLS until one byte differs from its fixed record.

use crate::demux::Kind;
use crate::framing::{ms, proxy, pseudo_tls};

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
    /// Frames of the Microsoft dialect; [`crate::framing::ms`] cuts them.
    Ms,
    /// The record of [`crate::framing::pseudo_tls`]; what follows are frames of that dialect.
    PseudoTls,
    /// A PROXY header, version 2; [`crate::framing::proxy`] reads it.
    ProxyV2,
    /// Too few bytes to tell; so many are missing at least.
    NeedMore(usize),
    /// Nothing that is served here.
    Unknown,
}

/// Tells connections apart; `microsoft` says whether that dialect is served.
pub fn sniff(stream: &[u8], microsoft: bool) -> Opening {
    match *stream {
        [] | [TLS_HANDSHAKE] => return Opening::NeedMore(1),
        [TLS_HANDSHAKE, TLS_MAJOR, ..] if microsoft => {
            return match pseudo_tls::read(stream) {
                pseudo_tls::Reading::Complete => Opening::PseudoTls,
                pseudo_tls::Reading::NeedMore(missing) => Opening::NeedMore(missing),
                pseudo_tls::Reading::Other => Opening::Tls,
            };
        }
        [TLS_HANDSHAKE, TLS_MAJOR, ..] => return Opening::Tls,
        [first, ..] if microsoft && ms::Kind::starting(first).is_some() => return Opening::Ms,
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
    use crate::framing::vector;

    #[test]
    fn mst_010_the_microsoft_dialect_is_told_by_as_few_bytes_as_it_needs() {
        let hello = vector(
            "160301002d01000029030169227a10404142434445464748494a4b4c4d4e4f505152535455565758595a5b\
             00000200180100",
        );
        for (case, bytes, expected, without) in [
            ("nothing", &[][..], Opening::NeedMore(1), Opening::NeedMore(1)),
            ("a control frame", &[2], Opening::Ms, Opening::Turn),
            ("a data frame", &[3, 0, 0, 9], Opening::Ms, Opening::Turn),
            ("a request", &[0, 1], Opening::Turn, Opening::Turn),
            ("pseudo-TLS", &hello, Opening::PseudoTls, Opening::Tls),
            ("all but one byte of it", &hello[..49], Opening::NeedMore(1), Opening::Tls),
            ("its length", &hello[..5], Opening::NeedMore(45), Opening::Tls),
            ("a record of one byte", &hello[..1], Opening::NeedMore(1), Opening::NeedMore(1)),
            ("TLS of another length", &[22, 3, 1, 2], Opening::Tls, Opening::Tls),
            ("TLS of another version", &[22, 3, 3], Opening::Tls, Opening::Tls),
        ] {
            assert_eq!(sniff(bytes, true), expected, "{case}");
            assert_eq!(sniff(bytes, false), without, "{case}, not served");
        }
        let mut other = hello.clone();
        other[47] ^= 1;
        assert_eq!(sniff(&other, true), Opening::Tls, "another cipher");
    }

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
            assert_eq!(sniff(bytes, false), expected, "{case}");
        }
    }
}
