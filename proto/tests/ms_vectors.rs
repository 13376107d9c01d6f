//! Messages of MS-TURN as libnice writes and takes them: read, verified, and written byte for byte.

use std::net::SocketAddr;

use proto::demux::{Kind as First, is_ms, is_ms_multiplexed};
use proto::dialect::ms::{Kind, Message, Numbered, Transaction, Type, Writer};
use proto::stun::{ClassicBinding, Malformed, MessageKey, PasswordAlgorithm};

const REALM: &str = "edge.example.com";
const NONCE: &[u8] = b"b7f0c3a94d2e11";
const USERNAME: &str = "0200002401dc5b005a3c1e0039825720921e2b51f78742820d87ef48b3723b13000000016977\
                        9e0fb92e589181d5b670000549af3251cd2a";
const PASSWORD: &str = "0c661c52b224573c247a271d8aec72641223b068";
const KEY: &str = "ee3670d858fe4f49addf5c3fe496b295";
const CONNECTION: &str = "c0ffee00112233445566778899aabbccddeeff00";

const TV1: &str = "00030010a0a1a2a3a4a5a6a7a8a9aaabacadaeaf000f000472c64bc68008000400000001";
const TV2: &str = "01130056a0a1a2a3a4a5a6a7a8a9aaabacadaeaf000f000472c64bc60009001000000401556e617574\
    686f72697a656400150010656467652e6578616d706c652e636f6d0014000e62376630633361393464326531310\
    00e000800010d96c000020a8008000400000002";
const TV3: &str = "0003008ab0b1b2b3b4b5b6b7b8b9babbbcbdbebf000f000472c64bc6800800040000000100150010\
    656467652e6578616d706c652e636f6d0014000e6237663063336139346432653131000600380200002401dc5b00\
    5a3c1e0039825720921e2b51f78742820d87ef48b3723b130000000169779e0fb92e589181d5b670000549af3251\
    cd2a000800149ea5a8533ae9fe0562bbad03237243e505f29d58";
const TV4: &str = "01030064b0b1b2b3b4b5b6b7b8b9babbbcbdbebf000f000472c64bc6000100080001c351c000020a\
    8020000800012cf17682d6b4000d000400000258800800040000000280500018c0ffee001122334455667788\
    99aabbccddeeff000000000000080014d1643234c1d8911dde2cd0256c31c9a9337ef828";
const TV5A: &str = "000400b3c0c1c2c3c4c5c6c7c8c9cacbcccdcecf000f000472c64bc6000600380200002401dc5b005a\
    3c1e0039825720921e2b51f78742820d87ef48b3723b130000000169779e0fb92e589181d5b670000549af3251cd\
    2a0011000800011770cb007105800800040000000180500018c0ffee00112233445566778899aabbccddeeff0000\
    00000100150010656467652e6578616d706c652e636f6d0013000f80006d656469612d7061796c6f616400080014\
    9236ea40049545666f5afc1cf6800da41f56c9aa";
const TV5B: &str = "0004009fc0c1c2c3c4c5c6c7c8c9cacbcccdcecf000f000472c64bc680080004000000018050001\
    8c0ffee00112233445566778899aabbccddeeff0000000001000600380200002401dc5b005a3c1e003982572092\
    1e2b51f78742820d87ef48b3723b130000000169779e0fb92e589181d5b670000549af3251cd2a00110008000117\
    70cb0071050013000f80006d656469612d7061796c6f616400080014173c9bdcf5c4bc37388d816bb587e9bdc36c\
    d71d";
const TV6: &str = "01150029d0d1d2d3d4d5d6d7d8d9dadbdcdddedf000f000472c64bc60012000800011770cb007105\
    001300118000726570\
    6c792d646174612d31376279";
const TV7: &str = "00060098e0e1e2e3e4e5e6e7e8e9eaebecedeeef000f000472c64bc6000600380200002401dc5b00\
    5a3c1e0039825720921e2b51f78742820d87ef48b3723b130000000169779e0fb92e589181d5b670000549af3251\
    cd2a80500018c0ffee00112233445566778899aabbccddeeff000000000200150010656467652e6578616d706c65\
    2e636f6d0011000800011770cb007105000800146efc554aa7f61610ef093ce82a84bf8be928e7b3";
const TV8: &str = "0106003ce0e1e2e3e4e5e6e7e8e9eaebecedeeef000f000472c64bc680500018c0ffee0011223344\
    5566778899aabbccddeeff00000000020008001410dd3eeafab15e448f377b4ab9bd44ddcd4a8d2e";
const TV9: &str = "00030092f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000f000472c64bc68008000400000001000d0004\
    0000000000150010656467652e6578616d706c652e636f6d0014000e623766306333613934643265313100060038\
    0200002401dc5b005a3c1e0039825720921e2b51f78742820d87ef48b3723b130000000169779e0fb92e589181d5\
    b670000549af3251cd2a000800146184ab7aacfe8758349227f389c4009a6df4ba4f";
const TV9R: &str = "01030064f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000f000472c64bc6000100080001c351c000020a\
    8020000800016cb136c296f4000d000400000000800800040000000280500018c0ffee0011223344556677889\
    9aabbccddeeff000000000200080014208bce0a4f5624c25b7517c705dec760e3ee3f04";
const TV10: &str = "000300960102030405060708090a0b0c0d0e0f10000f000472c64bc6800800040000000300150010\
    656467652e6578616d706c652e636f6d0014000e6237663063336139346432653131000600380200002401dc5b00\
    5a3c1e0039825720921e2b51f78742820d87ef48b3723b130000000169779e0fb92e589181d5b670000549af3251\
    cd2a00080020a329c37b9fc531545f6ba3ed2ebdfe27fa83e27ef0bdd5f6137571c737362839";
const TV11: &str = "01130057b0b1b2b3b4b5b6b7b8b9babbbcbdbebf000f000472c64bc60009000f00000426537461\
    6c65204e6f6e636500150010656467652e6578616d706c652e636f6d001400103031323334353637383961626364\
    6566000e000800010d96c000020a8008000400000002";
const TV12: &str = "8020001400029d4221030ebc05060708090a0b0c0d0e0f17";
const TV14: &str = "ff100017010203040506070880006d656469612d7061796c6f6164";
const TV16: &str = "00010000a0a1a2a3a4a5a6a7a8a9aaabacadaeaf";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    assert!(digits.len().is_multiple_of(2), "whole bytes: {hex}");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")).collect()
}

fn key() -> MessageKey {
    let (username, password) = (bytes(USERNAME), bytes(PASSWORD));
    MessageKey::long_term(PasswordAlgorithm::Md5, &username, REALM, &password)
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn peer() -> SocketAddr {
    at("203.0.113.5:6000")
}

fn numbered(number: u32) -> Numbered {
    Numbered { connection: bytes(CONNECTION).try_into().expect("20 bytes"), number }
}

/// Sixteen bytes that count up, as the transactions of the vectors do.
fn transaction(first: u8) -> Transaction {
    Transaction(std::array::from_fn(|at| first + u8::try_from(at).expect("16 steps")))
}

/// Fails unless what `fill` writes is the vector.
#[track_caller]
fn writes(vector: &str, kind: Kind, first: u8, fill: impl FnOnce(&mut Writer<'_>)) {
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer, kind, transaction(first));
    fill(&mut writer);
    assert_eq!(writer.finish().expect("it fits"), bytes(vector));
}

#[test]
fn mst_041_the_key_is_made_of_raw_bytes() {
    assert_eq!(key().bytes(), bytes(KEY));
}

#[test]
fn mst_042_every_signed_vector_verifies_and_no_changed_one_does() {
    for vector in [TV3, TV4, TV5A, TV5B, TV7, TV8, TV9, TV9R] {
        let message = bytes(vector);
        assert!(Message::parse(&message).unwrap().verify(&key()), "{vector}");
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let taken = Message::parse(&changed).is_ok_and(|changed| changed.verify(&key()));
            assert!(!taken, "bit {bit} of {vector}");
        }
    }
    let text = bytes(TV3).len() - 24;
    assert_eq!(text, 134, "one that is padded");
    let mut exact = [0; 512];
    for pad in 0..128 {
        let mut writer = Writer::new(&mut exact, Kind::SEND, transaction(0));
        writer.append(Type::DATA, &vec![7; pad]).sign(&key());
        let message = Message::parse(writer.finish().unwrap()).unwrap();
        assert!(message.verify(&key()), "text of {} bytes", 32 + pad);
    }
}

#[test]
fn mst_049_integrity_of_32_bytes_is_none_that_we_announce() {
    let vector = bytes(TV10);
    let message = Message::parse(&vector).unwrap();
    assert!(message.is_signed());
    assert!(!message.verify(&key()));
    assert_eq!(message.number(Type::VERSION), Some(3));
}

#[test]
fn mst_063_allocates_are_written_as_libnice_writes_them() {
    writes(TV1, Kind::ALLOCATE, 0xA0, |writer| {
        writer.number(Type::VERSION, 1);
    });
    writes(TV3, Kind::ALLOCATE, 0xB0, |writer| {
        writer
            .number(Type::VERSION, 1)
            .append(Type::REALM, REALM.as_bytes())
            .append(Type::NONCE, NONCE)
            .append(Type::USERNAME, &bytes(USERNAME))
            .sign(&key());
    });
    writes(TV9, Kind::ALLOCATE, 0xF0, |writer| {
        writer
            .number(Type::VERSION, 1)
            .number(Type::LIFETIME, 0)
            .append(Type::REALM, REALM.as_bytes())
            .append(Type::NONCE, NONCE)
            .append(Type::USERNAME, &bytes(USERNAME))
            .sign(&key());
    });
}

#[test]
fn mst_050_challenges_are_written_as_libnice_takes_them() {
    for (vector, first, code, reason, nonce) in [
        (TV2, 0xA0, 401, "Unauthorized", NONCE),
        (TV11, 0xB0, 438, "Stale Nonce", b"0123456789abcdef"),
    ] {
        writes(vector, Kind::ALLOCATE.error(), first, |writer| {
            writer
                .error(code, reason)
                .append(Type::REALM, REALM.as_bytes())
                .append(Type::NONCE, nonce)
                .address(Type::ALTERNATE_SERVER, at("192.0.2.10:3478"))
                .number(Type::VERSION, 2);
        });
    }
}

#[test]
fn mst_065_successes_are_written_as_libnice_takes_them() {
    for (vector, first, lifetime, number) in [(TV4, 0xB0, 600, 0), (TV9R, 0xF0, 0, 2)] {
        writes(vector, Kind::ALLOCATE.success(), first, |writer| {
            writer
                .address(Type::MAPPED_ADDRESS, at("192.0.2.10:50001"))
                .masked(Type::XOR_MAPPED_ADDRESS, at("198.51.100.7:40000"))
                .number(Type::LIFETIME, lifetime)
                .number(Type::VERSION, 2)
                .numbered(numbered(number))
                .sign(&key());
        });
        let vector = bytes(vector);
        let message = Message::parse(&vector).unwrap();
        assert_eq!(message.masked(Type::XOR_MAPPED_ADDRESS), Some(at("198.51.100.7:40000")));
        assert_eq!(message.address(Type::MAPPED_ADDRESS), Some(at("192.0.2.10:50001")));
        assert_eq!(message.number(Type::LIFETIME), Some(lifetime));
        assert_eq!(message.numbered(), Some(numbered(number)));
    }
}

#[test]
fn mst_085_sends_are_read_in_either_order() {
    let data = bytes("80006d656469612d7061796c6f6164");
    writes(TV5A, Kind::SEND, 0xC0, |writer| {
        writer
            .append(Type::USERNAME, &bytes(USERNAME))
            .address(Type::DESTINATION_ADDRESS, peer())
            .number(Type::VERSION, 1)
            .numbered(numbered(1))
            .append(Type::REALM, REALM.as_bytes())
            .append(Type::DATA, &data)
            .sign(&key());
    });
    writes(TV5B, Kind::SEND, 0xC0, |writer| {
        writer
            .number(Type::VERSION, 1)
            .numbered(numbered(1))
            .append(Type::USERNAME, &bytes(USERNAME))
            .address(Type::DESTINATION_ADDRESS, peer())
            .append(Type::DATA, &data)
            .sign(&key());
    });
    for vector in [TV5A, TV5B] {
        let vector = bytes(vector);
        let message = Message::parse(&vector).unwrap();
        assert_eq!(message.kind(), Kind::SEND);
        assert_eq!(message.address(Type::DESTINATION_ADDRESS), Some(peer()));
        let found = message.attribute(Type::DATA).unwrap();
        assert_eq!(found.value, data);
        assert_eq!(&vector[found.offset..][..data.len()], data);
        assert_eq!(message.unknown_required(), []);
    }
}

#[test]
fn mst_088_a_data_indication_is_written_without_padding() {
    writes(TV6, Kind::DATA, 0xD0, |writer| {
        let data = bytes("8000726570 6c792d646174612d31376279");
        writer.address(Type::REMOTE_ADDRESS, peer()).append(Type::DATA, &data);
    });
}

#[test]
fn mst_098_set_active_destination_and_its_answer_are_written_byte_for_byte() {
    writes(TV7, Kind::SET_ACTIVE_DESTINATION, 0xE0, |writer| {
        writer
            .append(Type::USERNAME, &bytes(USERNAME))
            .numbered(numbered(2))
            .append(Type::REALM, REALM.as_bytes())
            .address(Type::DESTINATION_ADDRESS, peer())
            .sign(&key());
    });
    writes(TV8, Kind::SET_ACTIVE_DESTINATION.success(), 0xE0, |writer| {
        writer.numbered(numbered(2)).sign(&key());
    });
}

#[test]
fn mst_070_an_ipv6_address_is_masked_by_the_whole_transaction() {
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer, Kind::ALLOCATE, transaction(1));
    writer.masked(Type::XOR_MAPPED_ADDRESS, at("[2001:db8::7]:40000"));
    let written = writer.finish().unwrap();
    assert_eq!(written[28..], bytes(TV12));
    let message = Message::parse(written).unwrap();
    assert_eq!(message.masked(Type::XOR_MAPPED_ADDRESS), Some(at("[2001:db8::7]:40000")));
}

#[test]
fn mst_008_the_cookie_attribute_tells_the_dialect_whatever_the_transaction() {
    for vector in [TV1, TV2, TV3, TV4, TV5A, TV6, TV7] {
        let mut message = bytes(vector);
        assert!(is_ms(&message), "{vector}");
        message[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
        assert!(is_ms(&message), "a transaction that begins as those of the RFCs: {vector}");
        message[27] ^= 1;
        assert!(!is_ms(&message), "another cookie: {vector}");
        assert_eq!(Message::parse(&message).err(), Some(Malformed::Cookie));
    }
    assert!(!is_ms(&bytes(TV16)));
}

#[test]
fn mst_007_multiplexed_frames_are_told_by_their_type() {
    assert!(is_ms_multiplexed(&bytes(TV14)));
    assert_eq!(First::of(&bytes(TV14)), First::Other);
    assert!(!is_ms_multiplexed(&[0xFF]) && !is_ms_multiplexed(&bytes(TV1)));
}

#[test]
fn mst_060_the_binding_of_libnice_has_no_cookie_of_either_kind() {
    assert!(ClassicBinding::parse(&bytes(TV16)).is_ok());
}

#[test]
fn mst_005_malformed_messages_are_told_apart_from_sound_ones() {
    let sound = bytes(TV1);
    let with = |at: usize, byte: u8| {
        let mut message = sound.clone();
        message[at] = byte;
        message
    };
    for (case, message, expected) in [
        ("half a header", sound[..19].to_vec(), Malformed::Short),
        ("the type of something else", with(0, 0x40), Malformed::NotStun),
        ("a length too short", with(3, 15), Malformed::Length),
        ("bytes behind it", [&sound[..], &[0]].concat(), Malformed::Length),
        ("no attribute", [&[0, 3, 0, 0][..], &sound[4..20]].concat(), Malformed::Cookie),
        ("another cookie", with(27, 0xC7), Malformed::Cookie),
        ("an attribute that runs past the end", with(31, 5), Malformed::Attribute),
        ("one that ends early", with(31, 3), Malformed::Attribute),
    ] {
        assert_eq!(Message::parse(&message).err(), Some(expected), "{case}");
    }
}

#[test]
fn mst_030_attributes_end_where_their_length_says() {
    let challenge = bytes(TV2);
    let message = Message::parse(&challenge).unwrap();
    assert_eq!(message.first(Type::NONCE), Some(NONCE), "14 bytes, and the next attribute");
    assert_eq!(message.first(Type::REALM), Some(REALM.as_bytes()));
    assert_eq!(message.address(Type::ALTERNATE_SERVER), Some(at("192.0.2.10:3478")));
}

#[test]
fn mst_033_nonce_and_realm_have_each_others_numbers() {
    assert_eq!((Type::NONCE.0, Type::REALM.0), (0x0014, 0x0015));
    let challenge = bytes(TV2);
    let message = Message::parse(&challenge).unwrap();
    assert_eq!(message.first(Type(0x0014)), Some(NONCE));
    assert_eq!(message.first(Type(0x0015)), Some(REALM.as_bytes()));
}

#[test]
fn mst_032_what_stands_behind_the_integrity_does_not_count() {
    let mut message = bytes(TV3);
    message.extend(bytes("000d000400000000"));
    let length = u16::try_from(message.len() - 20).unwrap().to_be_bytes();
    message[2..4].copy_from_slice(&length);
    let parsed = Message::parse(&message).unwrap();
    assert_eq!(parsed.number(Type::LIFETIME), None);
    assert!(parsed.verify(&key()), "as it was signed");
}

#[test]
fn mst_034_unknown_attributes_are_listed_if_they_must_be_known() {
    let mut message = bytes(TV1);
    message.extend(bytes("00250000 80060000 00260001ff 00250000 80370001aa"));
    let length = u16::try_from(message.len() - 20).unwrap().to_be_bytes();
    message[2..4].copy_from_slice(&length);
    assert_eq!(Message::parse(&message).unwrap().unknown_required(), [0x25, 0x26]);
}
