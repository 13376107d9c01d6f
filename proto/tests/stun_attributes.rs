//! What attribute values say, requirement by requirement; and what is written is read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proto::addr::Family;
use proto::stun::attribute::{
    AccessToken, AdditionalAddressFamily, AddressErrorCode, AlternateServer, Channel,
    ChosenAlgorithm, ConnectionId, Data, DontFragment, ErrorCode, EvenPort, Icmp, Lifetime,
    MappedAddress, MobilityTicket, Nonce, PasswordAlgorithms, Realm, RequestedAddressFamily,
    RequestedTransport, ReservationToken, Software, ThirdPartyAuthorization, UnknownAttributes,
    UserHash, Username, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};
use proto::stun::{
    AttributeType, Class, Message, Method, PasswordAlgorithm, TransactionId, Value, Writer,
};

const ID: TransactionId = TransactionId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);

/// An Allocate request that `fill` writes.
fn request(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0xEE; 65_556];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, ID);
    fill(&mut writer);
    writer.finish().unwrap().to_vec()
}

#[test]
fn stun_021_error_codes_have_a_class_from_3_to_6_and_a_number_below_100() {
    let bytes = request(|w| {
        w.add(&ErrorCode { code: 438, reason: "Stale" });
    });
    assert_eq!(bytes[24..33], *b"\0\0\x04\x26Stale");
    for (case, value, read) in [
        ("lowest", &[0, 0, 3, 0][..], Some(300)),
        ("highest", &[0, 0, 6, 99], Some(699)),
        ("reserved bits set", &[0xFF, 0xFF, 0xFC, 1], Some(401)),
        ("class 2", &[0, 0, 2, 0], None),
        ("class 7", &[0, 0, 7, 0], None),
        ("number 100", &[0, 0, 4, 100], None),
        ("short", &[0, 0, 4], None),
        ("reason is no UTF-8", &[0, 0, 4, 0, 0xFF], None),
    ] {
        assert_eq!(ErrorCode::read(value, ID).map(|e| e.code), read, "{case}");
    }
}

#[test]
fn auth_016_sha256_is_offered_before_md5() {
    let bytes = request(|w| {
        w.add(&PasswordAlgorithms::OFFERED);
    });
    assert_eq!(bytes[20..], [0x80, 2, 0, 8, 0, 2, 0, 0, 0, 1, 0, 0]);
    let offered: Vec<_> = PasswordAlgorithms::OFFERED.algorithms().map(|a| a.known()).collect();
    assert_eq!(offered, [Some(PasswordAlgorithm::Sha256), Some(PasswordAlgorithm::Md5)]);
}

#[test]
fn auth_024_a_user_hash_has_32_bytes() {
    for length in [0, 20, 31, 33] {
        assert_eq!(UserHash::read(&vec![0; length], ID), None, "{length}");
    }
}

#[test]
fn attr_001_addresses_have_a_known_family_and_its_length() {
    let v4 = [0, 1, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43];
    let expected = Some(XorPeerAddress("192.0.2.1:32853".parse().unwrap()));
    assert_eq!(XorPeerAddress::read(&v4, ID), expected);
    let mut first = v4;
    first[0] = 0xFF;
    assert_eq!(XorPeerAddress::read(&first, ID), expected, "the first byte is ignored");
    for (case, family, length) in [
        ("empty", 1, 0),
        ("no address", 1, 4),
        ("IPv4 one short", 1, 7),
        ("IPv4 one long", 1, 9),
        ("IPv4 as long as IPv6", 1, 20),
        ("IPv6 as short as IPv4", 2, 8),
        ("IPv6 one short", 2, 19),
        ("IPv6 one long", 2, 21),
        ("family 0", 0, 8),
        ("family 3", 3, 8),
        ("family 3, long", 3, 20),
    ] {
        let value: Vec<u8> = [0, family].into_iter().chain([0; 30]).take(length).collect();
        assert_eq!(XorPeerAddress::read(&value, ID), None, "{case}");
        assert_eq!(XorMappedAddress::read(&value, ID), None, "{case}");
        assert_eq!(XorRelayedAddress::read(&value, ID), None, "{case}");
        assert_eq!(AlternateServer::read(&value, ID), None, "{case}");
    }
}

/// Reads the value, and refuses every shorter one and two longer ones.
fn exactly<'a, V: Value<'a> + PartialEq + std::fmt::Debug>(value: &'a [u8], expected: V) {
    assert_eq!(V::read(value, ID), Some(expected), "{:?}", V::TYPE);
    for length in 0..value.len() {
        assert_eq!(V::read(&value[..length], ID), None, "{:?} of {length}", V::TYPE);
    }
}

/// As long as any of the values of fixed length, and longer.
const LONGER: [&[u8]; 3] = [&[0; 5], &[0; 9], &[0; 33]];

#[test]
fn attr_002_a_lifetime_has_four_bytes() {
    exactly(&[0, 0, 2, 0x58], Lifetime(600));
    for longer in LONGER {
        assert_eq!(Lifetime::read(longer, ID), None);
    }
}

#[test]
fn chan_001_the_reserved_half_of_a_channel_number_is_ignored() {
    exactly(&[0x40, 1, 0xFF, 0xFF], Channel(0x4001));
    for longer in LONGER {
        assert_eq!(Channel::read(longer, ID), None);
    }
}

#[test]
fn attr_003_fixed_lengths_are_exact_and_reserved_bits_ignored() {
    exactly(&[17, 0xFF, 0xFF, 0xFF], RequestedTransport(17));
    exactly(&[0x80], EvenPort(true));
    exactly(&[0x7F], EvenPort(false));
    exactly(b"reserved", ReservationToken(*b"reserved"));
    exactly(&[], DontFragment(()));
    exactly(&[0xFF, 0xFF, 3, 4, 0, 0, 5, 0xDC], Icmp { kind: 3, code: 4, data: 1500 });
    for longer in LONGER {
        assert_eq!(RequestedTransport::read(longer, ID), None);
        assert_eq!(EvenPort::read(longer, ID), None);
        assert_eq!(ReservationToken::read(longer, ID), None);
        assert_eq!(DontFragment::read(longer, ID), None);
        assert_eq!(Icmp::read(longer, ID), None);
    }
}

#[test]
fn attr_004_reserved_bytes_behind_a_family_are_ignored() {
    exactly(&[2, 0xFF, 0xFF, 0xFF], RequestedAddressFamily(2));
    exactly(&[3, 0, 0, 0], AdditionalAddressFamily(3));
    for longer in LONGER {
        assert_eq!(RequestedAddressFamily::read(longer, ID), None);
        assert_eq!(AdditionalAddressFamily::read(longer, ID), None);
    }
}

#[test]
fn attr_009_a_connection_id_has_four_bytes() {
    exactly(&[1, 2, 3, 4], ConnectionId(0x0102_0304));
    for longer in LONGER {
        assert_eq!(ConnectionId::read(longer, ID), None);
    }
}

#[test]
fn attr_005_address_error_code_names_a_family() {
    let value = [&[2, 0, 4, 40][..], b"no IPv6"].concat();
    let expected = AddressErrorCode { family: Family::V6, code: 440, reason: "no IPv6" };
    assert_eq!(AddressErrorCode::read(&value, ID), Some(expected));
    assert_eq!(AddressErrorCode::read(&[3, 0, 4, 40], ID), None);
}

#[test]
fn attr_006_password_algorithms_are_lists_of_padded_entries() {
    for (case, value, numbers) in [
        ("ours", &[0, 2, 0, 0, 0, 1, 0, 0][..], Some(vec![2, 1])),
        ("empty", &[], Some(vec![])),
        ("parameters", &[0, 9, 0, 1, 7, 0, 0, 0, 0, 1, 0, 0], Some(vec![9, 1])),
        ("last without padding", &[0, 1, 0, 0, 0, 9, 0, 1, 7], Some(vec![1, 9])),
        ("cut head", &[0, 2, 0, 0, 0, 1, 0], None),
        ("parameters overrun", &[0, 2, 0, 1], None),
    ] {
        let read = PasswordAlgorithms::read(value, ID);
        let found = read.map(|list| list.algorithms().map(|a| a.number).collect::<Vec<_>>());
        assert_eq!(found, numbers, "{case}");
    }
    for (case, value, known) in [
        ("SHA-256", &[0, 2, 0, 0][..], Some(PasswordAlgorithm::Sha256)),
        ("MD5", &[0, 1, 0, 0], Some(PasswordAlgorithm::Md5)),
        ("3", &[0, 3, 0, 0], None),
        ("MD5 with parameters", &[0, 1, 0, 4, 1, 2, 3, 4], None),
    ] {
        let chosen = ChosenAlgorithm::read(value, ID).unwrap();
        assert_eq!(chosen.known(), known, "{case}");
    }
    assert_eq!(ChosenAlgorithm::read(&[0, 1, 0, 0, 0, 2, 0, 0], ID), None, "two are not one");
}

#[test]
fn attr_007_unknown_attributes_take_two_bytes_each() {
    for types in [&[0x7FFF][..], &[0x7FFF, 0x7FFE], &[1, 2, 3]] {
        let bytes = request(|w| {
            w.add(&UnknownAttributes::new(types));
        });
        let message = Message::parse(&bytes).unwrap();
        let value = message.first(AttributeType::UNKNOWN_ATTRIBUTES).unwrap();
        assert_eq!(value.len(), 2 * types.len());
        let read: UnknownAttributes<'_> = message.require().unwrap();
        assert_eq!(read.types().collect::<Vec<_>>(), types);
    }
    assert_eq!(UnknownAttributes::read(&[1], ID), None);
}

#[test]
fn attr_008_alternate_server_is_not_masked() {
    let bytes = request(|w| {
        w.add(&AlternateServer("192.0.2.1:3478".parse().unwrap()));
    });
    assert_eq!(bytes[24..], [0, 1, 0x0D, 0x96, 192, 0, 2, 1]);
}

#[test]
fn attr_010_texts_are_bounded_utf8() {
    let long = |length| vec![b'a'; length];
    assert!(Username::read(&long(508), ID).is_some());
    assert!(Username::read(&long(509), ID).is_none());
    assert!(Realm::read(&long(763), ID).is_some());
    assert!(Realm::read(&long(764), ID).is_none());
    assert!(Software::read(&long(764), ID).is_none());
    assert!(Username::read(b"\xFF\xFE", ID).is_none());
    assert!(Nonce::read(b"\xFF\xFE", ID).is_some(), "what is no nonce of ours is stale");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

/// Writes one value and reads it back, under any transaction.
fn survives<V>(value: V, transaction: TransactionId)
where
    V: for<'a> Value<'a> + PartialEq + std::fmt::Debug,
{
    let mut buffer = [0xEE; 2000];
    let mut writer = Writer::new(&mut buffer, Class::Success, Method::ALLOCATE, transaction);
    writer.add(&value);
    let message = Message::parse(writer.finish().unwrap()).unwrap();
    assert_eq!(message.require(), Ok(value));
}

proptest! {
    #[test]
    fn attr_001_values_survive_the_wire(
        addr in address(),
        id in any::<[u8; 12]>().prop_map(TransactionId),
        (word, half, byte, flag) in any::<(u32, u16, u8, bool)>(),
        (token, hash) in any::<([u8; 8], [u8; 32])>(),
    ) {
        survives(MappedAddress(addr), id);
        survives(AlternateServer(addr), id);
        survives(XorMappedAddress(addr), id);
        survives(XorPeerAddress(addr), id);
        survives(XorRelayedAddress(addr), id);
        survives(Lifetime(word), id);
        survives(ConnectionId(word), id);
        survives(Channel(half), id);
        survives(RequestedTransport(byte), id);
        survives(RequestedAddressFamily(byte), id);
        survives(AdditionalAddressFamily(byte), id);
        survives(EvenPort(flag), id);
        survives(ReservationToken(token), id);
        survives(UserHash(hash), id);
        survives(Icmp { kind: byte, code: token[0], data: word }, id);
    }

    #[test]
    fn attr_009_borrowed_values_survive_the_wire(
        code in 300_u16..700,
        words in "\\PC{0,127}",
        bytes in vec(any::<u8>(), 0..700),
        types in vec(any::<u16>(), 0..20),
        number in any::<u16>(),
    ) {
        let wire = request(|w| {
            w.add(&ErrorCode { code, reason: &words });
            w.add(&AddressErrorCode { family: Family::V4, code, reason: &words });
            w.add(&Username(&words)).add(&Realm(&words)).add(&Software(&words));
            w.add(&ThirdPartyAuthorization(&words));
            w.add(&Data(&bytes)).add(&Nonce(&bytes));
            w.add(&AccessToken(&bytes)).add(&MobilityTicket(&bytes));
            w.add(&UnknownAttributes::new(&types));
            w.add(&ChosenAlgorithm { number, parameters: &bytes });
        });
        let m = Message::parse(&wire).unwrap();
        prop_assert_eq!(m.require(), Ok(ErrorCode { code, reason: &words }));
        let family = Family::V4;
        prop_assert_eq!(m.require(), Ok(AddressErrorCode { family, code, reason: &words }));
        prop_assert_eq!(m.read().unwrap(), (words.len() <= 508).then_some(Username(&words)));
        prop_assert_eq!(m.require(), Ok(Realm(&words)));
        prop_assert_eq!(m.require(), Ok(Software(&words)));
        prop_assert_eq!(m.require(), Ok(ThirdPartyAuthorization(&words)));
        prop_assert_eq!(m.require(), Ok(Data(&bytes)));
        prop_assert_eq!(m.require(), Ok(Nonce(&bytes)));
        prop_assert_eq!(m.require(), Ok(AccessToken(&bytes)));
        prop_assert_eq!(m.require(), Ok(MobilityTicket(&bytes)));
        prop_assert_eq!(m.require(), Ok(ChosenAlgorithm { number, parameters: &bytes }));
        let read: UnknownAttributes<'_> = m.require().unwrap();
        prop_assert_eq!(read.types().collect::<Vec<_>>(), types);
    }
}
