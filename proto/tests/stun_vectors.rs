//! Every vector of `tests/fixtures/stun-vectors.json`: RFC 5769, RFC 8489 appendix B, and ours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::auth::credential::{Password, mint_rest};
use proto::auth::{Credential, Secret};
use proto::channel_data::ChannelData;
use proto::now::UnixTime;
use proto::stun::attribute::{
    ChosenAlgorithm, Data, ErrorCode, Nonce, PasswordAlgorithms, Realm, RequestedTransport,
    Software, UnknownAttributes, UserHash, Username, XorMappedAddress, XorPeerAddress,
};
use proto::stun::integrity::user_hash;
use proto::stun::{
    AttributeType, Class, Fingerprint, HEADER_LEN, Integrity, Malformed, Message, MessageKey,
    Method, PasswordAlgorithm, Writer,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/stun-vectors.json")).unwrap()
}

fn entries<'v>(vectors: &'v Value, list: &str) -> &'v [Value] {
    let entries = vectors[list].as_array().unwrap();
    assert!(!entries.is_empty(), "{list}");
    entries
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn number(hex: &str) -> u16 {
    u16::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap()
}

/// Checks integrity with this key, with a damaged one, and with every bit of the message flipped.
fn check_integrity(id: &str, message: &Message<'_>, key: &[u8], verified: &Value) {
    let good = MessageKey::raw(key).unwrap();
    let mut other = key.to_vec();
    other[0] ^= 1;
    let bad = MessageKey::raw(&other).unwrap();
    let mut checked = 0;
    for (field, integrity) in [
        ("message_integrity_ok", Integrity::Sha1),
        ("message_integrity_sha256_ok", Integrity::Sha256),
    ] {
        let expected = verified[field].as_bool() == Some(true);
        assert_eq!(message.verify(&good, integrity), expected, "{id} {field}");
        assert!(!message.verify(&bad, integrity), "{id} {field}");
        if !expected {
            continue;
        }
        checked += 1;
        let end = message.attributes().find(|a| is_integrity(a.kind)).unwrap().offset - 4;
        // The length field is not what is hashed: parsing checks it instead.
        for at in (0..2).chain(4..end) {
            let mut flipped = message.bytes().to_vec();
            flipped[at] ^= 0x20;
            let accepted = Message::parse(&flipped).is_ok_and(|m| m.verify(&good, integrity));
            assert!(!accepted, "{id}: byte {at} flipped");
        }
    }
    assert_eq!(checked, 1, "{id} has an integrity attribute to check");
}

fn is_integrity(kind: AttributeType) -> bool {
    [AttributeType::MESSAGE_INTEGRITY, AttributeType::MESSAGE_INTEGRITY_SHA256].contains(&kind)
}

fn check_fingerprint(id: &str, message: &Message<'_>, verified: &Value) {
    let expected = match verified["fingerprint_ok"].as_bool() {
        Some(true) => Fingerprint::Valid,
        Some(false) => Fingerprint::Wrong,
        None => Fingerprint::Absent,
    };
    assert_eq!(message.fingerprint(), expected, "{id}");
    if expected == Fingerprint::Valid {
        let mut flipped = message.bytes().to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(Message::parse(&flipped).unwrap().fingerprint(), Fingerprint::Wrong, "{id}");
    }
}

fn check_attribute(id: &str, message: &Message<'_>, expected: &Value) {
    let name = text(expected, "name");
    let decoded = &expected["decoded"];
    match name {
        "SOFTWARE" => {
            let Software(software) = message.require().unwrap();
            assert_eq!(software, text(expected, "text"), "{id}");
        }
        "USERNAME" => {
            let Username(username) = message.require().unwrap();
            assert_eq!(username, text(expected, "text"), "{id}");
        }
        "REALM" => {
            let Realm(realm) = message.require().unwrap();
            assert_eq!(realm, text(expected, "text"), "{id}");
        }
        "NONCE" => {
            let Nonce(nonce) = message.require().unwrap();
            assert_eq!(nonce, text(expected, "text").as_bytes(), "{id}");
        }
        "XOR-MAPPED-ADDRESS" => {
            let XorMappedAddress(address) = message.require().unwrap();
            let ip = text(decoded, "address").parse().unwrap();
            let port = decoded["port"].as_u64().unwrap().try_into().unwrap();
            assert_eq!(address, SocketAddr::new(ip, port), "{id}");
        }
        "PASSWORD-ALGORITHM" => {
            let chosen: ChosenAlgorithm<'_> = message.require().unwrap();
            assert_eq!(text(decoded, "algorithm"), "SHA-256", "{id}");
            assert_eq!(chosen.known(), Some(PasswordAlgorithm::Sha256), "{id}");
        }
        "USERHASH"
        | "PRIORITY"
        | "ICE-CONTROLLED"
        | "MESSAGE-INTEGRITY"
        | "MESSAGE-INTEGRITY-SHA256"
        | "FINGERPRINT" => {}
        other => panic!("{id}: this test does not know {other}"),
    }
}

/// The key from the words of a vector, by the mechanism it names.
fn derived_key(material: &Value) -> MessageKey {
    match text(material, "mechanism") {
        "short-term" => MessageKey::raw(text(material, "password").as_bytes()).unwrap(),
        "long-term" => {
            let algorithm = if text(material, "key_derivation").starts_with("MD5") {
                PasswordAlgorithm::Md5
            } else {
                PasswordAlgorithm::Sha256
            };
            MessageKey::long_term(
                algorithm,
                text(material, "username"),
                text(material, "realm"),
                text(material, "password_after_prep"),
            )
        }
        other => panic!("{other}"),
    }
}

#[test]
fn auth_012_published_vectors_read_and_verify() {
    let vectors = vectors();
    for vector in entries(&vectors, "vectors") {
        let id = text(vector, "id");
        let wire = bytes(text(vector, "message_hex"));
        if vector["header_length_consistent"] == false {
            assert_eq!(Message::parse(&wire).unwrap_err(), Malformed::Length, "{id}");
            continue;
        }
        let message = Message::parse(&wire).unwrap_or_else(|error| panic!("{id}: {error:?}"));

        let header = &vector["header"];
        assert_eq!(text(header, "method"), "Binding", "{id}");
        assert_eq!(message.method(), Method::BINDING, "{id}");
        let class = match text(header, "cls") {
            "request" => Class::Request,
            "success" => Class::Success,
            other => panic!("{id}: {other}"),
        };
        assert_eq!(message.class(), class, "{id}");
        assert_eq!(message.transaction().0[..], bytes(text(header, "transaction_id")), "{id}");

        let expected = entries(vector, "attributes");
        assert_eq!(message.attributes().count(), expected.len(), "{id}");
        for (found, expected) in message.attributes().zip(expected) {
            assert_eq!(found.kind.0, number(text(expected, "type")), "{id}");
            assert_eq!(found.value, bytes(text(expected, "value_hex")), "{id}");
            let offset = u64::try_from(found.offset).unwrap();
            assert_eq!(offset, expected["offset"].as_u64().unwrap() + 4, "{id}");
            check_attribute(id, &message, expected);
        }

        let material = &vector["key_material"];
        let key = bytes(text(material, "hmac_key_hex"));
        assert_eq!(derived_key(material).bytes(), key, "{id}");
        check_integrity(id, &message, &key, &vector["verified"]);
        check_fingerprint(id, &message, &vector["verified"]);
        if material["userhash_hex"].is_string() {
            let hash = user_hash(text(material, "username"), text(material, "realm"));
            assert_eq!(hash[..], bytes(text(material, "userhash_hex")), "{id}");
            assert_eq!(message.require(), Ok(UserHash(hash)), "auth_024 {id}");
        }
    }
}

/// Writes the message anew: the same attributes, signed and fingerprinted by the writer.
fn rewrite(message: &Message<'_>, key: Option<&MessageKey>) -> Vec<u8> {
    let mut buffer = [0xEE; 512];
    let mut writer =
        Writer::new(&mut buffer, message.class(), message.method(), message.transaction());
    for attribute in message.attributes() {
        match attribute.kind {
            AttributeType::MESSAGE_INTEGRITY => writer.sign(key.unwrap(), Integrity::Sha1),
            AttributeType::MESSAGE_INTEGRITY_SHA256 => writer.sign(key.unwrap(), Integrity::Sha256),
            AttributeType::FINGERPRINT => writer.fingerprint(),
            kind => writer.append(kind, attribute.value),
        };
    }
    writer.finish().unwrap().to_vec()
}

#[test]
fn stun_003_written_vectors_equal_the_published_ones_where_those_pad_with_zeros() {
    let vectors = vectors();
    let mut equal = Vec::new();
    for vector in entries(&vectors, "vectors") {
        if vector["header_length_consistent"] == false {
            continue;
        }
        let id = text(vector, "id");
        let wire = bytes(text(vector, "message_hex"));
        let message = Message::parse(&wire).unwrap();
        let key = derived_key(&vector["key_material"]);
        let written = rewrite(&message, Some(&key));
        assert_eq!(written.len(), wire.len(), "{id}");
        let zero_padded = entries(vector, "attributes")
            .iter()
            .all(|a| bytes(text(a, "padding_hex")).iter().all(|&byte| byte == 0));
        assert_eq!(written == wire, zero_padded, "{id}");
        if zero_padded {
            equal.push(id);
        }
        let again = Message::parse(&written).unwrap();
        for (one, other) in again.attributes().zip(message.attributes()) {
            let signed = is_integrity(one.kind) || one.kind == AttributeType::FINGERPRINT;
            assert!(signed || one == other, "{id}");
        }
    }
    assert_eq!(equal, ["rfc5769-2.4", "rfc8489-B.1-corrected"]);
}

#[test]
fn stun_019_derived_vectors_read_verify_and_are_written_alike() {
    let vectors = vectors();
    for vector in entries(&vectors, "derived_vectors") {
        let id = text(vector, "id");
        let wire = bytes(text(vector, "hex"));
        if id == "derived-channeldata" {
            for form in [&wire, &bytes(text(vector, "hex_tcp"))] {
                let parsed = ChannelData::parse(form).unwrap();
                assert_eq!((parsed.number().number(), parsed.payload()), (0x4000, &b"hello"[..]));
            }
            continue;
        }
        let message = Message::parse(&wire).unwrap_or_else(|error| panic!("{id}: {error:?}"));
        let key = vector["hmac_key_hex"].as_str().map(bytes);
        if let Some(key) = &key {
            check_integrity(id, &message, key, &vector["verified"]);
        }
        check_fingerprint(id, &message, &vector["verified"]);
        let key = key.map(|key| MessageKey::raw(&key).unwrap());
        assert_eq!(rewrite(&message, key.as_ref()), wire, "{id}");
        check_derived(id, &message);
    }
}

/// What the description of a derived vector says of its content.
fn check_derived(id: &str, message: &Message<'_>) {
    match id {
        "derived-empty-binding" => {
            assert_eq!((message.attributes().count(), message.bytes().len()), (0, HEADER_LEN));
        }
        "derived-binding-fingerprint" => assert_eq!(message.attributes().count(), 1),
        "derived-allocate-md5-mi" | "derived-allocate-sha256-mi" => {
            assert_eq!(message.method(), Method::ALLOCATE);
            assert_eq!(message.require(), Ok(RequestedTransport(17)));
            assert_eq!(message.require(), Ok(Username("user")));
            assert_eq!(message.require(), Ok(Realm("realm")));
            let algorithm = if id.contains("md5") {
                assert_eq!(message.require(), Ok(Nonce(b"n")));
                PasswordAlgorithm::Md5
            } else {
                assert_eq!(message.require(), Ok(PasswordAlgorithms::OFFERED));
                let chosen: ChosenAlgorithm<'_> = message.require().unwrap();
                chosen.known().unwrap()
            };
            let key = MessageKey::long_term(algorithm, "user", "realm", "pass");
            assert!(message.verify(&key, message.integrity().unwrap()), "{id}");
        }
        "derived-420" => {
            assert_eq!(message.class(), Class::Error);
            let error: ErrorCode<'_> = message.require().unwrap();
            assert_eq!((error.code, error.reason), (420, "Unknown Attribute"));
            let unknown: UnknownAttributes<'_> = message.require().unwrap();
            assert_eq!(unknown.types().collect::<Vec<_>>(), [0x7FFF]);
        }
        "derived-send-empty" => {
            assert_eq!((message.class(), message.method()), (Class::Indication, Method::SEND));
            let peer = "192.0.2.1:32853".parse().unwrap();
            assert_eq!(message.require(), Ok(XorPeerAddress(peer)));
            assert_eq!(message.require(), Ok(Data(&[])));
        }
        other => panic!("this test does not know {other}"),
    }
}

#[test]
fn rest_004_the_example_credential_is_minted_alike() {
    let vectors = vectors();
    let example = &vectors["turn_rest_credential_example"];
    let (username, realm) = (text(example, "username"), text(example, "realm"));
    let secret = Secret::new(text(example, "shared_secret").into());
    let (expires, user) = username.split_once(':').unwrap();
    let expires = UnixTime(expires.parse().unwrap());
    let Credential { username: minted, password } = mint_rest(&secret, user, expires).unwrap();
    assert_eq!(minted, username);
    assert_eq!(*password, text(example, "password_base64"));
    assert_eq!(Password::of_secret(&secret, username).text(), *password);
    for (algorithm, key) in [
        (PasswordAlgorithm::Md5, "long_term_key_md5"),
        (PasswordAlgorithm::Sha256, "long_term_key_sha256"),
    ] {
        let derived = MessageKey::long_term(algorithm, username, realm, &password);
        assert_eq!(derived.bytes(), bytes(text(example, key)), "{key}");
    }
}

#[test]
fn auth_014_constants_are_ours() {
    let vectors = vectors();
    for constant in entries(&vectors, "constants") {
        match text(constant, "name") {
            "magic_cookie" => {
                assert_eq!(bytes(text(constant, "hex")), proto::stun::MAGIC_COOKIE.to_be_bytes());
            }
            "fingerprint_xor" => {
                let mut buffer = [0; 28];
                let id = proto::stun::TransactionId([7; 12]);
                let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id);
                writer.fingerprint();
                writer.finish().unwrap();
                let value = u32::from_be_bytes(buffer[24..28].try_into().unwrap());
                let xor = value ^ crc32fast::hash(&buffer[..20]);
                assert_eq!(xor.to_be_bytes()[..], bytes(text(constant, "hex")));
            }
            "nonce_cookie_prefix" => {
                let corrected = entries(&vectors, "vectors").last().unwrap();
                let wire = bytes(text(corrected, "message_hex"));
                let Nonce(nonce) = Message::parse(&wire).unwrap().require().unwrap();
                assert!(nonce.starts_with(text(constant, "ascii").as_bytes()));
            }
            "rfc8489_9.2.2_md5_example" => {
                let mut parts = text(constant, "input").split(':');
                let [user, realm, pass] = [(); 3].map(|()| parts.next().unwrap());
                let key = MessageKey::long_term(PasswordAlgorithm::Md5, user, realm, pass);
                assert_eq!(key.bytes(), bytes(text(constant, "md5_hex")));
            }
            "feature_bits_encoding" => {
                for (numbering, bits) in [
                    ("text_numbering_msb_first", [1 << 23, 1 << 22, 3 << 22, 0_u32]),
                    ("erratum_6290_lsb_first", [1, 2, 3, 0]),
                ] {
                    let names = ["password_algorithms", "username_anonymity", "both", "none"];
                    for (name, bits) in names.into_iter().zip(bits) {
                        let encoded = STANDARD.encode(&bits.to_be_bytes()[1..]);
                        assert_eq!(encoded, text(&constant[numbering], name), "{numbering}");
                    }
                }
            }
            other => panic!("this test does not know {other}"),
        }
    }
}
