//! Any bytes as a STUN message: read everything in it, write it anew, read that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::auth::credential;
use proto::policy::SealedPeers;
use proto::stun::attribute::{
    AccessToken, AdditionalAddressFamily, AddressErrorCode, AlternateDomain, AlternateServer,
    Channel, ChosenAlgorithm, ConnectionId, Data, DontFragment, ErrorCode, EvenPort, Icmp,
    Lifetime, MappedAddress, MobilityTicket, Nonce, PasswordAlgorithms, Realm,
    RequestedAddressFamily, RequestedTransport, ReservationToken, Software,
    ThirdPartyAuthorization, UnknownAttributes, UserHash, Username, XorMappedAddress,
    XorPeerAddress, XorRelayedAddress,
};
use proto::stun::{
    AttributeType, Class, ClassicBinding, Fingerprint, HEADER_LEN, Integrity, MAGIC_COOKIE,
    Message, MessageKey, PasswordAlgorithm, Value, Writer,
};

fuzz_target!(|data: &[u8]| {
    check(data);
    classic(data);
    // The same bytes behind an honest header, so that none are wasted on finding the cookie.
    let mut honest = data.to_vec();
    honest.truncate(honest.len() & !3);
    if let Ok(length) = u16::try_from(honest.len().wrapping_sub(HEADER_LEN)) {
        honest[0] &= 0x3F;
        honest[2..4].copy_from_slice(&length.to_be_bytes());
        honest[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        check(&honest);
    }
});

fn classic(bytes: &[u8]) {
    let Ok(request) = ClassicBinding::parse(bytes) else { return };
    assert!(Message::parse(bytes).is_err(), "a message is of one generation");
    assert!(request.unknown_required(&[]).iter().all(|&kind| kind < 0x8000));
    let mut buffer = [0; HEADER_LEN];
    let answer = request.answer(&mut buffer, Class::Success).finish().expect("a header fits");
    assert_eq!(answer[4..], bytes[4..HEADER_LEN], "all sixteen bytes are repeated");
}

fn check(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    let mut end = HEADER_LEN;
    for attribute in message.attributes() {
        assert!(attribute.offset >= end + 4, "attributes do not overlap");
        end = attribute.offset + attribute.value.len();
        assert_eq!(&bytes[attribute.offset..end], attribute.value);
    }
    let known = [AttributeType::USERNAME, AttributeType::LIFETIME];
    assert!(message.unknown_required(&known).iter().all(|&kind| kind < 0x8000));
    read_all(&message);

    let key = MessageKey::long_term(PasswordAlgorithm::Md5, "user", "realm", "pass");
    let mut buffer = vec![0; bytes.len() + 128];
    let mut writer =
        Writer::new(&mut buffer, message.class(), message.method(), message.transaction());
    let mut copied = Vec::new();
    for attribute in message.attributes() {
        let signs = [
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
            AttributeType::FINGERPRINT,
        ];
        if !signs.contains(&attribute.kind) {
            writer.append(attribute.kind, attribute.value);
            copied.push((attribute.kind, attribute.value));
        }
    }
    writer.sign(&key, Integrity::Sha1).sign(&key, Integrity::Sha256).fingerprint();
    // A message of full length has no room for what was added.
    let Ok(written) = writer.finish() else {
        return assert!(bytes.len() > 65_000);
    };
    let again = Message::parse(written).expect("what is written is read");
    let kept: Vec<_> = again.attributes().map(|a| (a.kind, a.value)).take(copied.len()).collect();
    assert_eq!(kept, copied);
    assert!(again.verify(&key, Integrity::Sha1) && again.verify(&key, Integrity::Sha256));
    assert_eq!(again.fingerprint(), Fingerprint::Valid);
}

/// What can be read can be written, and is then read again.
macro_rules! survive {
    ($message:ident: $($kind:ident),*) => {$(
        if let Ok(Some(value)) = $message.read::<$kind>() {
            let length = $message.first($kind::TYPE).map_or(0, <[u8]>::len);
            let mut buffer = vec![0; HEADER_LEN + 4 + length.next_multiple_of(4)];
            let (class, method) = ($message.class(), $message.method());
            let mut writer = Writer::new(&mut buffer, class, method, $message.transaction());
            writer.add(&value);
            let written = writer.finish().expect("what came in a message fits into one");
            let again = Message::parse(written).expect("what is written is read");
            assert!(matches!(again.read::<$kind>(), Ok(Some(_))));
        }
    )*};
}

fn read_all(message: &Message<'_>) {
    let key = MessageKey::raw(b"key").expect("three bytes fit");
    assert!(!message.verify(&key, Integrity::Sha1) && !message.verify(&key, Integrity::Sha256));
    message.fingerprint();
    survive!(message:
        MappedAddress, AlternateDomain, AlternateServer, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
        Realm, Software, ThirdPartyAuthorization, Data, Nonce, AccessToken, MobilityTicket,
        Lifetime, Channel, RequestedTransport, RequestedAddressFamily, AdditionalAddressFamily,
        EvenPort, ReservationToken, DontFragment, UserHash, ConnectionId, Icmp, ErrorCode,
        AddressErrorCode, UnknownAttributes, ChosenAlgorithm, PasswordAlgorithms, Username
    );
    if let Ok(Some(Username(name))) = message.read() {
        if let Ok(credential::Name::Pool(name)) = credential::inspect(name) {
            let peers = name.claims.peers();
            assert!(peers.ranges.len() <= SealedPeers::MOST_RANGES);
            assert!(peers.ports.len() <= SealedPeers::MOST_PORTS);
        }
    }
    if let Ok(Some(list)) = message.read::<PasswordAlgorithms<'_>>() {
        assert!(list.algorithms().count() <= list.bytes().len());
    }
    for peer in message.read_all::<XorPeerAddress>() {
        let _ = peer;
    }
}
