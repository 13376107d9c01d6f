//! STUN messages, requirement by requirement; and what is written is read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use proptest::collection::vec;
use proptest::prelude::*;
use proto::stun::attribute::{Data, Lifetime, Realm, RequestedTransport, Username, XorPeerAddress};
use proto::stun::message::UNKNOWN_MAX;
use proto::stun::{
    Attribute, AttributeType, BadValue, BufferFull, Class, Fingerprint, Integrity, Malformed,
    Message, MessageKey, Method, PasswordAlgorithm, TransactionId, Writer,
};
use sha1::Sha1;
use sha2::Sha256;

const ID: TransactionId = TransactionId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);

fn key() -> MessageKey {
    MessageKey::long_term(PasswordAlgorithm::Md5, "user", "realm", "pass")
}

/// A request that `fill` writes.
fn request(method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0xEE; 65_556];
    let mut writer = Writer::new(&mut buffer, Class::Request, method, ID);
    fill(&mut writer);
    writer.finish().unwrap().to_vec()
}

/// Appends an attribute behind everything, FINGERPRINT or not, as somebody on the path can.
fn appended(message: &[u8], kind: AttributeType, value: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes.extend(kind.0.to_be_bytes());
    bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let length = u16::try_from(bytes.len() - 20).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn stun_001_a_header_with_one_broken_field_is_no_message() {
    let good = request(Method::BINDING, |w| {
        w.add(&Lifetime(1));
    });
    assert!(Message::parse(&good).is_ok());
    let broken = |at: usize, xor: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= xor;
        bytes
    };
    let longer = [&good[..], &[0; 4]].concat();
    for (case, bytes, error) in [
        ("first bit set", broken(0, 0x80), Malformed::NotStun),
        ("second bit set", broken(0, 0x40), Malformed::NotStun),
        ("cookie off by one", broken(7, 1), Malformed::Cookie),
        ("cookie, first byte", broken(4, 0xFF), Malformed::Cookie),
        ("length + 1", broken(3, 1), Malformed::Length),
        ("length beyond the end", broken(3, 4), Malformed::Length),
        ("length before the end", longer, Malformed::Length),
        ("19 bytes", good[..19].to_vec(), Malformed::Short),
        ("nothing", Vec::new(), Malformed::Short),
        ("header alone", good[..20].to_vec(), Malformed::Length),
    ] {
        assert_eq!(Message::parse(&bytes).unwrap_err(), error, "{case}");
    }
}

#[test]
fn stun_002_an_attribute_that_overruns_the_message_makes_it_malformed() {
    let good = request(Method::BINDING, |w| {
        w.append(AttributeType::SOFTWARE, b"abcde");
    });
    for (case, length, fits) in [
        ("exact", 5_u16, true),
        ("into the padding", 8, true),
        ("one byte over", 9, false),
        ("as long as it gets", 0xFFFF, false),
    ] {
        let mut bytes = good.clone();
        bytes[22..24].copy_from_slice(&length.to_be_bytes());
        let parsed = Message::parse(&bytes).map(|_| ());
        assert_eq!(parsed, if fits { Ok(()) } else { Err(Malformed::Attribute) }, "{case}");
    }
}

#[test]
fn stun_003_padding_is_written_as_zeros_and_not_read() {
    for (length, padding) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0)] {
        let mut bytes = request(Method::BINDING, |w| {
            w.append(AttributeType::DATA, &vec![0xFF; length]);
        });
        assert_eq!(bytes.len(), 24 + length + padding);
        assert!(bytes[24 + length..].iter().all(|&byte| byte == 0));
        bytes[24 + length..].fill(0x20);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.require(), Ok(Data(&vec![0xFF; length])));
    }
}

#[test]
fn stun_005_the_transaction_is_written_where_it_was_read() {
    let bytes = request(Method::REFRESH, |_| {});
    let transaction = Message::parse(&bytes).unwrap().transaction();
    assert_eq!((transaction, &bytes[8..20]), (ID, &ID.0[..]));
    let mut buffer = [0; 20];
    let answer = Writer::new(&mut buffer, Class::Success, Method::REFRESH, transaction);
    let answer = answer.finish().unwrap();
    assert_eq!((&answer[..2], &answer[8..20]), (&[0x01, 0x04][..], &ID.0[..]));
}

#[test]
fn stun_012_unknown_required_attributes_are_listed_once_each() {
    let bytes = request(Method::BINDING, |w| {
        for kind in [0x7FFF, 0xC057, 0x7FFE, 0x7FFF, 0x0006, 0x8022] {
            w.append(AttributeType(kind), b"x");
        }
        w.sign(&key(), Integrity::Sha1).sign(&key(), Integrity::Sha256).fingerprint();
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.unknown_required(&[AttributeType::USERNAME]), [0x7FFF, 0x7FFE]);
    assert_eq!(message.unknown_required(&[]), [0x7FFF, 0x7FFE, 0x0006]);
}

#[test]
fn stun_015_unknown_optional_attributes_are_not_listed() {
    let bytes = request(Method::BINDING, |w| {
        w.append(AttributeType(0xC057), b"").append(AttributeType(0xFFFF), b"abc");
    });
    assert!(Message::parse(&bytes).unwrap().unknown_required(&[]).is_empty());
}

#[test]
fn stun_023_the_list_of_unknown_attributes_is_bounded() {
    let bytes = request(Method::BINDING, |w| {
        for kind in 0x4000..0x7000 {
            w.append(AttributeType(kind), b"");
        }
    });
    let unknown = Message::parse(&bytes).unwrap().unknown_required(&[]);
    assert_eq!(unknown.len(), UNKNOWN_MAX);
    assert_eq!(unknown[..2], [0x4000, 0x4001]);
}

#[test]
fn stun_017_the_first_of_repeated_attributes_counts() {
    let peers: [SocketAddr; 2] =
        ["192.0.2.1:7".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
    let bytes = request(Method::CREATE_PERMISSION, |w| {
        w.add(&Lifetime(600)).add(&Lifetime(0));
        w.add(&XorPeerAddress(peers[0])).add(&XorPeerAddress(peers[1]));
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.require(), Ok(Lifetime(600)));
    let all: Result<Vec<XorPeerAddress>, BadValue> = message.read_all().collect();
    assert_eq!(all.unwrap(), peers.map(XorPeerAddress));
}

#[test]
fn stun_018_attributes_behind_integrity_do_not_count() {
    let kinds = |bytes: &[u8]| -> Vec<u16> {
        Message::parse(bytes).unwrap().attributes().map(|a| a.kind.0).collect()
    };
    let sha1 = request(Method::REFRESH, |w| {
        w.add(&Lifetime(600)).sign(&key(), Integrity::Sha1);
    });
    let sha256 = request(Method::REFRESH, |w| {
        w.add(&Lifetime(600)).sign(&key(), Integrity::Sha256);
    });
    let both = request(Method::REFRESH, |w| {
        w.add(&Lifetime(600)).sign(&key(), Integrity::Sha1).sign(&key(), Integrity::Sha256);
    });
    for (case, signed, counting) in [
        ("behind SHA-1", &sha1, &[0x0D, 0x08][..]),
        ("behind SHA-256", &sha256, &[0x0D, 0x1C]),
        ("behind both", &both, &[0x0D, 0x08, 0x1C]),
    ] {
        for kind in [AttributeType::LIFETIME, AttributeType(0x7FFF), AttributeType::USERNAME] {
            let attacked = appended(signed, kind, &[0; 4]);
            assert_eq!(kinds(&attacked), counting, "{case}");
            let message = Message::parse(&attacked).unwrap();
            assert_eq!(message.require(), Ok(Lifetime(600)), "{case}");
            assert_eq!(message.unknown_required(&[AttributeType::LIFETIME]), [0_u16; 0], "{case}");
            let integrity = message.integrity().unwrap();
            assert!(message.verify(&key(), integrity), "{case}");
        }
        let again = appended(signed, AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
        assert_eq!(kinds(&again), counting, "{case}: a second SHA-1");
    }
    let late = appended(&sha1, AttributeType(0x7FFF), &[]);
    let late = appended(&late, AttributeType::MESSAGE_INTEGRITY_SHA256, &[0; 32]);
    assert_eq!(kinds(&late), [0x0D, 0x08, 0x1C], "SHA-256 counts wherever it follows");
    let late = appended(&late, AttributeType::FINGERPRINT, &[0; 4]);
    assert_eq!(kinds(&late), [0x0D, 0x08, 0x1C, 0x8028], "and so does FINGERPRINT");
}

#[test]
fn stun_019_fingerprint_is_the_last_attribute_or_the_message_is_dropped() {
    let bytes = request(Method::BINDING, |w| {
        w.fingerprint();
    });
    assert_eq!(Message::parse(&bytes).unwrap().fingerprint(), Fingerprint::Valid);
    for kind in [AttributeType::LIFETIME, AttributeType::FINGERPRINT] {
        let longer = appended(&bytes, kind, &[0; 4]);
        assert_eq!(Message::parse(&longer).unwrap_err(), Malformed::AfterFingerprint);
    }
}

#[test]
fn stun_020_a_wrong_fingerprint_is_seen() {
    let good = request(Method::ALLOCATE, |w| {
        w.add(&RequestedTransport(17)).sign(&key(), Integrity::Sha1).fingerprint();
    });
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        if let Ok(message) = Message::parse(&bytes) {
            // A flip that turns FINGERPRINT into another type leaves none to check.
            let gone = !message.has(AttributeType::FINGERPRINT);
            assert!(gone || message.fingerprint() == Fingerprint::Wrong, "byte {at}");
        }
    }
    for length in [0, 3, 5, 8] {
        let odd = request(Method::BINDING, |w| {
            w.append(AttributeType::FINGERPRINT, &vec![0; length]);
        });
        assert_eq!(Message::parse(&odd).unwrap().fingerprint(), Fingerprint::Wrong, "{length}");
    }
}

#[test]
fn auth_006_sha256_decides_when_both_are_there() {
    let bytes = request(Method::ALLOCATE, |w| {
        w.sign(&key(), Integrity::Sha1).append(AttributeType::MESSAGE_INTEGRITY_SHA256, &[0; 32]);
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.integrity(), Some(Integrity::Sha256));
    assert!(!message.verify(&key(), Integrity::Sha256));
    assert!(message.verify(&key(), Integrity::Sha1));
    let none = request(Method::ALLOCATE, |_| {});
    assert_eq!(Message::parse(&none).unwrap().integrity(), None);
}

#[test]
fn auth_012_integrity_verifies_whatever_may_follow_it() {
    let bytes = request(Method::ALLOCATE, |w| {
        w.add(&Username("user")).sign(&key(), Integrity::Sha1);
        w.sign(&key(), Integrity::Sha256).fingerprint();
    });
    let message = Message::parse(&bytes).unwrap();
    assert!(message.verify(&key(), Integrity::Sha1));
    assert!(message.verify(&key(), Integrity::Sha256));
    assert_eq!(message.fingerprint(), Fingerprint::Valid);
}

#[test]
fn auth_013_only_full_length_integrity_verifies() {
    // Each value is the HMAC of its own message, cut or prolonged with zeros: what a peer that
    // truncates would send.
    for (integrity, kind, full) in [
        (Integrity::Sha1, AttributeType::MESSAGE_INTEGRITY, 20),
        (Integrity::Sha256, AttributeType::MESSAGE_INTEGRITY_SHA256, 32),
    ] {
        for length in (0..=40).step_by(4).chain([19, 21, 31, 33]) {
            let mut bytes = request(Method::ALLOCATE, |w| {
                w.append(kind, &vec![0; length]);
            });
            let mut mac = match integrity {
                Integrity::Sha1 => hmac::<Hmac<Sha1>>(&bytes[..20]),
                Integrity::Sha256 => hmac::<Hmac<Sha256>>(&bytes[..20]),
            };
            mac.resize(length, 0);
            bytes[24..24 + length].copy_from_slice(&mac);
            let accepted = Message::parse(&bytes).unwrap().verify(&key(), integrity);
            assert_eq!(accepted, length == full, "{integrity:?} of {length} bytes");
        }
    }
}

fn hmac<M: Mac + KeyInit>(header: &[u8]) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(key().bytes()).unwrap();
    mac.chain_update(header).finalize().into_bytes().to_vec()
}

#[test]
fn auth_015_either_key_feeds_either_hash() {
    let sha256 = MessageKey::long_term(PasswordAlgorithm::Sha256, "user", "realm", "pass");
    assert_eq!((key().bytes().len(), sha256.bytes().len()), (16, 32));
    for key in [key(), sha256] {
        for integrity in [Integrity::Sha1, Integrity::Sha256] {
            let bytes = request(Method::ALLOCATE, |w| {
                w.sign(&key, integrity);
            });
            assert!(Message::parse(&bytes).unwrap().verify(&key, integrity));
        }
    }
}

#[test]
fn auth_027_keys_are_never_printed() {
    assert_eq!(format!("{:?}", key()), "MessageKey(..)");
}

#[test]
fn a_buffer_too_small_is_reported_and_not_exceeded() {
    let whole = request(Method::ALLOCATE, |w| {
        w.add(&Username("user")).sign(&key(), Integrity::Sha256).fingerprint();
    });
    for size in 0..whole.len() {
        let mut buffer = vec![0xEE; whole.len()];
        let mut writer = Writer::new(&mut buffer[..size], Class::Request, Method::ALLOCATE, ID);
        writer.add(&Username("user")).sign(&key(), Integrity::Sha256).fingerprint();
        assert_eq!(writer.finish(), Err(BufferFull), "{size}");
        assert!(buffer[size..].iter().all(|&byte| byte == 0xEE), "{size}");
    }
    let mut buffer = vec![0; 80_000];
    let mut writer = Writer::new(&mut buffer, Class::Indication, Method::DATA, ID);
    writer.add(&Data(&vec![0; 65_529]));
    assert_eq!(writer.finish(), Err(BufferFull), "beyond the length field");
}

proptest! {
    #[test]
    fn stun_002_what_is_written_is_read(
        (class, method) in (0_usize..4, 0_u16..0x1000),
        id in any::<[u8; 12]>(),
        // Types that end what counts are written by sign and fingerprint below.
        attributes in vec((0x0030_u16..0x8020, vec(any::<u8>(), 0..40)), 0..20),
        (sha1, sha256, fingerprint) in any::<(bool, bool, bool)>(),
    ) {
        let class = [Class::Request, Class::Indication, Class::Success, Class::Error][class];
        let method = Method::new(method).unwrap();
        let mut buffer = [0xEE; 2000];
        let mut writer = Writer::new(&mut buffer, class, method, TransactionId(id));
        for (kind, value) in &attributes {
            writer.append(AttributeType(*kind), value);
        }
        if sha1 {
            writer.sign(&key(), Integrity::Sha1);
        }
        if sha256 {
            writer.sign(&key(), Integrity::Sha256);
        }
        if fingerprint {
            writer.fingerprint();
        }
        let message = Message::parse(writer.finish().unwrap()).unwrap();
        prop_assert_eq!((message.class(), message.method()), (class, method));
        prop_assert_eq!(message.transaction(), TransactionId(id));
        let found: Vec<_> = message.attributes().map(|a| (a.kind.0, a.value.to_vec())).collect();
        prop_assert_eq!(&found[..attributes.len()], &attributes[..]);
        let tail = usize::from(sha1) + usize::from(sha256) + usize::from(fingerprint);
        prop_assert_eq!(found.len(), attributes.len() + tail);
        prop_assert_eq!(message.verify(&key(), Integrity::Sha1), sha1);
        prop_assert_eq!(message.verify(&key(), Integrity::Sha256), sha256);
        let expected = if fingerprint { Fingerprint::Valid } else { Fingerprint::Absent };
        prop_assert_eq!(message.fingerprint(), expected);
    }

    #[test]
    fn stun_002_no_bytes_make_the_parser_panic_or_read_outside(
        mut bytes in vec(any::<u8>(), 0..300),
        honest in any::<bool>(),
    ) {
        if honest && bytes.len() >= 20 {
            bytes.truncate(bytes.len() & !3);
            bytes[0] &= 0x3F;
            let length = u16::try_from(bytes.len() - 20).unwrap();
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
        }
        if let Ok(message) = Message::parse(&bytes) {
            for Attribute { value, offset, .. } in message.attributes() {
                prop_assert_eq!(&bytes[offset..offset + value.len()], value);
            }
            message.verify(&key(), Integrity::Sha1);
            message.verify(&key(), Integrity::Sha256);
            message.fingerprint();
        }
    }

    #[test]
    fn auth_012_one_changed_byte_under_the_integrity_is_noticed(
        at in 0_usize..68,
        xor in 1_u8..=255,
        sha256 in any::<bool>(),
    ) {
        let integrity = if sha256 { Integrity::Sha256 } else { Integrity::Sha1 };
        let mut bytes = request(Method::ALLOCATE, |w| {
            w.add(&Username("user")).add(&Realm("realm")).add(&RequestedTransport(17));
            w.append(AttributeType::SOFTWARE, b"abcd").sign(&key(), integrity);
        });
        prop_assert_eq!(bytes.len(), 20 + 8 + 12 + 8 + 8 + if sha256 { 36 } else { 24 });
        let at = at % (bytes.len() - if sha256 { 36 } else { 24 });
        bytes[at] ^= xor;
        let accepted = Message::parse(&bytes).is_ok_and(|m| m.verify(&key(), integrity));
        prop_assert!(!accepted, "byte {}", at);
    }
}
