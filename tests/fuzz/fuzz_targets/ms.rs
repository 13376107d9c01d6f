//! Any bytes as a message of MS-TURN: read everything in it, write it anew, read that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::demux::{MS_COOKIE, is_ms};
use proto::dialect::ms::{Message, Type, Writer};
use proto::stun::{HEADER_LEN, MessageKey, PasswordAlgorithm};

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes behind an honest header, so that none are wasted on finding the cookie.
    let Some((id, body)) = data.split_first_chunk::<18>() else { return };
    let [kind @ .., _] = id.first_chunk::<3>().expect("18 bytes");
    let body = [&MS_COOKIE[..], body].concat();
    if let Ok(length) = u16::try_from(body.len()) {
        let kind = [kind[0] & 0x3F, kind[1]];
        check(&[&kind[..], &length.to_be_bytes(), &id[2..], &body].concat());
    }
});

fn check(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    assert!(is_ms(bytes), "what is read is told apart");
    let mut end = HEADER_LEN;
    for attribute in message.attributes() {
        assert_eq!(attribute.offset, end + 4, "attributes touch");
        end = attribute.offset + attribute.value.len();
        assert_eq!(&bytes[attribute.offset..end], attribute.value);
        assert_ne!(attribute.kind, Type::MESSAGE_INTEGRITY, "it ends what counts");
    }
    assert!(message.unknown_required().iter().all(|&kind| kind < 0x8000));
    let key = MessageKey::long_term(PasswordAlgorithm::Md5, b"user", "realm", b"pass");
    assert!(!message.verify(&key), "nobody guesses a hash");

    let mut buffer = vec![0; bytes.len() + 256];
    let mut writer = Writer::new(&mut buffer, message.kind(), message.transaction());
    let mut copied = Vec::new();
    for attribute in message.attributes().skip(1) {
        writer.append(attribute.kind, attribute.value);
        copied.push((attribute.kind, attribute.value));
    }
    let addresses = [Type::MAPPED_ADDRESS, Type::DESTINATION_ADDRESS, Type::REMOTE_ADDRESS];
    for kind in addresses {
        if let Some(address) = message.address(kind) {
            writer.address(kind, address);
        }
    }
    let masked = message.masked(Type::XOR_MAPPED_ADDRESS);
    if let Some(address) = masked {
        writer.masked(Type::XOR_MAPPED_ADDRESS, address);
    }
    if let Some(numbered) = message.numbered() {
        writer.numbered(numbered);
    }
    writer.sign(&key);
    // A message of full length has no room for what was added.
    let Ok(written) = writer.finish() else {
        return assert!(bytes.len() > 65_000);
    };
    let again = Message::parse(written).expect("what is written is read");
    assert!(again.verify(&key), "and verified");
    let kept = again.attributes().skip(1).map(|it| (it.kind, it.value)).take(copied.len());
    assert_eq!(kept.collect::<Vec<_>>(), copied);
    assert_eq!(again.masked(Type::XOR_MAPPED_ADDRESS), masked);
    assert_eq!(again.numbered(), message.numbered());
}
