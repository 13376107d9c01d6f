//! What real programs open TLS, DTLS and PROXY connections with: whole, in pieces, and broken.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use proptest::prelude::*;
use proto::framing::client_hello::{self, Broken, ClientHello, LONGEST};
use proto::framing::dtls::{self, Hello};
use proto::framing::proxy::{self, Origin};
use proto::framing::sniff::{Opening, sniff};

/// What programs of today send first, as captured; also what the fuzzer starts from.
macro_rules! captured {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fuzz/corpus/", $name))
    };
}

/// A program, its first bytes, the server name and one of the protocols it asks for.
type Capture = (&'static str, &'static [u8], Option<&'static str>, Option<&'static str>);

const HELLOS: &[Capture] = &[
    ("Chromium", captured!("sniff/chromium"), Some("web.example.org"), Some("h2")),
    ("OpenSSL", captured!("sniff/openssl"), Some("turn.example.org"), Some("stun.turn")),
    ("OpenSSL, TLS 1.2 only, no name", captured!("sniff/openssl_tls12"), None, None),
    (
        "OpenSSL in two records, a name in capitals",
        captured!("sniff/openssl_fragmented"),
        Some("turn.example.org"),
        Some("stun.turn"),
    ),
    ("rustls", captured!("sniff/rustls"), Some("turn.example.org"), Some("stun.turn")),
];

fn hello(stream: &[u8]) -> ClientHello {
    match client_hello::read(stream) {
        client_hello::Reading::Complete(hello) => hello,
        other => panic!("{other:?}"),
    }
}

/// The handshake message in a stream of records.
fn message(mut stream: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [_, _, _, l0, l1, rest @ ..] = stream {
        let (content, rest) = rest.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        message.extend_from_slice(content);
        stream = rest;
    }
    message
}

/// The message in records whose contents have these lengths, by turns.
fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut stream, mut rest) = (Vec::new(), message);
    for length in lengths.iter().cycle() {
        let (content, behind) = rest.split_at(rest.len().min(*length));
        stream.extend([22, 3, 1]);
        stream.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        stream.extend(content);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    stream
}

/// How often a stream is looked at, if it is looked at again only when the missing has come.
fn looks(stream: &[u8]) -> usize {
    let (mut have, mut looks) = (0, 1);
    while let client_hello::Reading::NeedMore(missing) = client_hello::read(&stream[..have]) {
        assert!(missing > 0 && have + missing <= stream.len(), "{have} and {missing}");
        have += missing;
        looks += 1;
    }
    looks
}

#[test]
fn the_name_and_the_protocols_of_real_clients_are_read() {
    for (program, stream, name, protocol) in HELLOS {
        assert_eq!(sniff(stream, true), Opening::Tls, "{program}");
        let hello = hello(stream);
        assert_eq!(hello.server_name.as_deref(), *name, "{program}");
        let has = |name: &str| hello.protocols.iter().any(|it| it == name.as_bytes());
        assert_eq!(hello.protocols.is_empty(), protocol.is_none(), "{program}");
        assert!(protocol.is_none_or(has), "{program}: {:?}", hello.protocols);
    }
}

#[test]
fn a_hello_is_read_from_any_prefix_and_not_before_its_end() {
    for (program, stream, ..) in HELLOS {
        for have in 0..stream.len() {
            let client_hello::Reading::NeedMore(missing) = client_hello::read(&stream[..have])
            else {
                panic!("{program}: {have} bytes")
            };
            assert!(missing > 0 && have + missing <= stream.len(), "{program}: {have}");
        }
        assert!(looks(stream) <= 8, "{program}");
    }
}

#[test]
fn a_hello_in_crumbs_costs_a_few_dozen_looks() {
    for (program, stream, ..) in HELLOS {
        let crumbs = records(&message(stream), &[1]);
        assert!(crumbs.len() <= LONGEST);
        assert_eq!(hello(&crumbs), hello(stream), "{program}");
        assert!(looks(&crumbs) < 64, "{program}: {}", looks(&crumbs));
    }
}

#[test]
fn what_is_no_hello_is_refused_as_soon_as_it_shows() {
    let good = message(captured!("sniff/openssl"));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = good.clone();
        change(&mut message);
        records(&message, &[1 << 14])
    };
    let at = |needle: &[u8]| good.windows(needle.len()).position(|it| it == needle).unwrap();
    let (name, list) = (at(b"turn.example.org"), at(b"\x09stun.turn"));
    for (case, stream, why) in [
        ("no handshake", vec![23, 3, 1, 0, 1, 1], Broken::Record),
        ("an empty record", vec![22, 3, 1, 0, 0], Broken::Record),
        ("a record too long", vec![22, 3, 1, 0x40, 1], Broken::Record),
        ("another message", vec![22, 3, 1, 0, 4, 2], Broken::Message),
        ("announced too long", vec![22, 3, 1, 0, 9, 1, 0, 0x40, 1], Broken::TooLong),
        ("longer than what is read", vec![22, 3, 1, 0, 9, 1, 0, 0x3F, 0xF8], Broken::TooLong),
        ("a name with a blank", with(&|m| m[name + 4] = b' '), Broken::ServerName),
        ("a name of raw bytes", with(&|m| m[name] = 0xFF), Broken::ServerName),
        ("a name longer than its list", with(&|m| m[name - 1] += 1), Broken::Field),
        ("a protocol longer than its list", with(&|m| m[list] += 9), Broken::Field),
        ("an empty protocol", with(&|m| m[list] = 0), Broken::Field),
        (
            "something behind the extensions",
            with(&|m| {
                m.push(0);
                let [_, _, l0, l1, ..] = m[..] else { unreachable!() };
                let length = u16::from_be_bytes([l0, l1]) + 1;
                m[2..4].copy_from_slice(&length.to_be_bytes());
            }),
            Broken::Field,
        ),
    ] {
        assert_eq!(client_hello::read(&stream), client_hello::Reading::Broken(why), "{case}");
    }
}

proptest! {
    #[test]
    fn records_of_any_length_say_the_same(
        which in 0..HELLOS.len(),
        lengths in proptest::collection::vec(1_usize..600, 1..20),
    ) {
        let (_, stream, ..) = HELLOS[which];
        prop_assert_eq!(hello(&records(&message(stream), &lengths)), hello(stream));
    }

    #[test]
    fn no_bytes_make_a_reader_panic_or_ask_beyond_its_bound(
        stream in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if let client_hello::Reading::NeedMore(missing) = client_hello::read(&stream) {
            prop_assert!(stream.len() + missing <= LONGEST);
        }
        if let proxy::Reading::NeedMore(missing) = proxy::read(&stream) {
            prop_assert!(stream.len() + missing <= proxy::LONGEST);
        }
    }

    #[test]
    fn a_header_that_is_written_is_read(
        source: (u128, u16),
        destination: (u128, u16),
        old: bool,
    ) {
        let address = |(ip, port): (u128, u16)| match u32::try_from(ip >> 96) {
            Ok(ip) if old => SocketAddr::from((ip.to_be_bytes(), port)),
            _ => SocketAddr::from((ip.to_be_bytes(), port)),
        };
        let (source, destination) = (address(source), address(destination));
        let (bytes, wire) = proxy::write(source, destination);
        let expected = proxy::Reading::Complete {
            origin: Origin::Client { source, destination },
            wire,
        };
        prop_assert_eq!(proxy::read(&bytes), expected);
    }
}

#[test]
fn headers_of_haproxy_are_read() {
    let client = |source: &str, destination: &str| Origin::Client {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    };
    for (case, stream, origin, payload) in [
        (
            "a checksum and a unique id",
            &captured!("proxy/haproxy_crc")[..],
            client("127.0.0.1:40416", "127.0.0.1:18450"),
            &b"hello"[..],
        ),
        ("IPv6", captured!("proxy/haproxy_tcp6"), client("[::1]:57842", "[::1]:18452"), b"hello6"),
        ("its own check", captured!("proxy/haproxy_local"), Origin::Itself, b""),
    ] {
        assert_eq!(sniff(stream, true), Opening::ProxyV2, "{case}");
        let wire = stream.len() - payload.len();
        assert_eq!(proxy::read(stream), proxy::Reading::Complete { origin, wire }, "{case}");
        for have in 0..wire {
            let proxy::Reading::NeedMore(missing) = proxy::read(&stream[..have]) else {
                panic!("{case}: {have}")
            };
            assert!(missing > 0 && have + missing <= wire, "{case}: {have}");
        }
    }
}

#[test]
fn a_header_that_cannot_be_believed_is_refused() {
    let good = captured!("proxy/haproxy_crc");
    let with = |at: usize, byte: u8| {
        let mut stream = good.to_vec();
        stream[at] = byte;
        stream
    };
    let start = |rest: &[u8]| [&proxy::SIGNATURE, rest].concat();
    for (case, stream, why) in [
        ("version 1", b"PROXY TCP4".to_vec(), proxy::Broken::Signature),
        ("version 3", with(12, 0x31), proxy::Broken::Command),
        ("an unknown command", with(12, 0x22), proxy::Broken::Command),
        ("UDP", with(13, 0x12), proxy::Broken::Family),
        ("a socket of this host", with(13, 0x31), proxy::Broken::Family),
        ("addresses cut short", with(15, 11), proxy::Broken::Length),
        ("a field cut short", with(15, 18), proxy::Broken::Length),
        ("a field's header cut short", with(15, 14), proxy::Broken::Length),
        ("another source", with(19, 2), proxy::Broken::Checksum),
        ("another checksum", with(32, 0), proxy::Broken::Checksum),
        ("a short checksum", with(30, 3), proxy::Broken::Length),
        ("longer than what is read", start(&[0x21, 0x11, 0x0F, 0xF1]), proxy::Broken::TooLong),
    ] {
        assert_eq!(proxy::read(&stream), proxy::Reading::Broken(why), "{case}");
    }
    for (case, rest) in [
        ("UNSPEC", &[0x21, 0x00, 0, 2, 9, 9][..]),
        ("LOCAL, whatever it carries", &[0x20, 0x11, 0, 1, 9]),
    ] {
        let stream = start(rest);
        let wire = stream.len();
        let expected = proxy::Reading::Complete { origin: Origin::Itself, wire };
        assert_eq!(proxy::read(&stream), expected, "{case}");
    }
}

/// A hello of DTLS 1.3: one key share, perhaps a cookie, perhaps padding.
fn hello13(sequence: u16, cookie: &[u8], padding: Option<usize>) -> Vec<u8> {
    let extension = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len()).unwrap();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
    };
    let mut extensions = extension(43, &[2, 0xFE, 0xFC]);
    if !cookie.is_empty() {
        let length = u16::try_from(cookie.len()).unwrap().to_be_bytes();
        extensions.extend(extension(44, &[&length[..], cookie].concat()));
    }
    extensions.extend(extension(51, &[&[0, 36, 0, 29, 0, 32][..], &[5; 32]].concat()));
    if let Some(zeros) = padding {
        extensions.extend(extension(21, &vec![0; zeros]));
    }
    let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
    let body = [&[0xFE, 0xFD][..], &[7; 32], &[0, 0, 0, 2, 0x13, 0x01, 1, 0], &length, &extensions]
        .concat();
    let [l0, l1] = u16::try_from(body.len()).unwrap().to_be_bytes();
    let [r0, r1] = u16::try_from(body.len() + 12).unwrap().to_be_bytes();
    let [s0, s1] = sequence.to_be_bytes();
    let record = [22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, s0, s1, r0, r1];
    [&record[..], &[1, 0, l0, l1, s0, s1, 0, 0, 0, 0, l0, l1], &body].concat()
}

#[test]
fn a_dtls_hello_with_a_cookie_tells_what_came_before_it() {
    let (first, second) = (captured!("dtls/openssl_first"), captured!("dtls/openssl_second"));
    for (case, first, second, length) in [
        ("OpenSSL, DTLS 1.2", &first[..], &second[..], 20),
        ("DTLS 1.3", &hello13(0, &[], None), &hello13(1, &[3; 32], None), 32),
        ("equal padding", &hello13(0, &[], Some(9)), &hello13(1, &[3; 32], Some(9)), 32),
        ("equal length", &hello13(0, &[], Some(47)), &hello13(1, &[3; 32], Some(9)), 32),
    ] {
        let (before, after) = (Hello::parse(first).unwrap(), Hello::parse(second).unwrap());
        assert_eq!((before.cookie(), before.sequence()), (None, 0), "{case}");
        assert_eq!(after.cookie().map(<[u8]>::len), Some(length), "{case}");
        assert_eq!(after.sequence(), 1, "{case}");
        assert_eq!(before.random(), after.random(), "{case}");
        assert!(after.firsts().any(|it| it == first), "{case}");
        assert!(before.firsts().eq([first.to_vec()]), "{case}");
    }
}

#[test]
fn no_dtls_answer_is_longer_than_its_hello() {
    let answer = dtls::verify_request(&[9; 32]);
    assert_eq!(answer.len(), 60);
    assert_eq!(answer[..13], [22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 47], "the record");
    assert_eq!(answer[13..25], [3, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0, 35], "the message");
    assert_eq!(answer[25..28], [0xFE, 0xFF, 32]);
    assert_eq!(answer[28..], [9; 32]);
    // No body is shorter than this and still read.
    let body = [&[0xFE, 0xFD][..], &[0; 32], &[0, 0, 0, 0, 0]].concat();
    let shortest = [&[22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 51][..]]
        .into_iter()
        .chain([&[1, 0, 0, 39, 0, 0, 0, 0, 0, 0, 0, 39][..], &body])
        .collect::<Vec<_>>()
        .concat();
    assert!(Hello::parse(&shortest).is_ok());
    assert!(shortest.len() >= answer.len());
    assert!(Hello::parse(&shortest[..shortest.len() - 1]).is_err());
}

#[test]
fn a_hello_is_answered_in_the_versions_that_need_no_memory() {
    let groups = [29, 23];
    let first = captured!("dtls/openssl_first");
    let of = |datagram: &[u8]| {
        let hello = Hello::parse(datagram).unwrap();
        (hello.offers_1_2(), hello.offers_1_3(&groups))
    };
    assert_eq!(of(first), (true, false));
    assert_eq!(of(&hello13(0, &[], None)), (false, true));
    let other = hello13(0, &[], None);
    assert!(!Hello::parse(&other).unwrap().offers_1_3(&[23]), "no key of ours");
}

#[test]
fn what_is_no_hello_of_dtls_is_refused() {
    let first = captured!("dtls/openssl_first");
    let with = |at: usize, byte: u8| {
        let mut datagram = first.to_vec();
        datagram[at] = byte;
        datagram
    };
    for (case, datagram, why) in [
        ("nothing", vec![], dtls::Broken::Message),
        ("an alert", with(0, 21), dtls::Broken::Message),
        ("a sealed record", with(4, 1), dtls::Broken::Message),
        ("a ServerHello", with(13, 2), dtls::Broken::Message),
        ("not its first piece", with(21, 1), dtls::Broken::Message),
        ("its first piece", with(24, first[24] - 1), dtls::Broken::Pieces),
        ("a record that goes on", with(12, first[12] + 1), dtls::Broken::Pieces),
        ("two records", [&first[..], &first[..]].concat(), dtls::Broken::Pieces),
        ("DTLS 1.0", with(26, 0xFF), dtls::Broken::Version),
        ("a session too long", with(59, 200), dtls::Broken::Field),
    ] {
        assert_eq!(Hello::parse(&datagram), Err(why), "{case}");
    }
}
