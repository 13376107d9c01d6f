//! Two codecs that never met agree: what one writes the other reads alike.
//!
//! Every attribute that both know, both integrity attributes under both kinds of key, and
//! FINGERPRINT. ICMP is left out: `stun-rs` splits its sixteen bits into seven for the type and
//! nine for the code, we into eight and eight, as ICMP itself does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use proptest::prelude::*;
use proto::addr::Family;
use proto::stun::attribute::{
    AdditionalAddressFamily, AddressErrorCode, AlternateServer, Channel, ChosenAlgorithm, Data,
    DontFragment, ErrorCode, EvenPort, Lifetime, MappedAddress, Nonce, PROTOCOL_UDP,
    PasswordAlgorithms, Realm, RequestedAddressFamily, RequestedTransport, ReservationToken,
    Software, UnknownAttributes, UserHash, Username, XorMappedAddress, XorPeerAddress,
    XorRelayedAddress,
};
use proto::stun::integrity::user_hash;
use proto::stun::{
    Class, Fingerprint, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId,
    Writer,
};
use stun_rs::attributes::{stun, turn};
use stun_rs::{
    AddressFamily, Algorithm, AlgorithmId, DecoderContextBuilder, HMACKey, MessageClass,
    MessageDecoderBuilder, MessageEncoderBuilder, MessageMethod, StunAttribute, StunMessage,
    StunMessageBuilder,
};

/// What a message of these tests says.
#[derive(Clone, Debug)]
struct Content {
    id: [u8; 12],
    addr: SocketAddr,
    word: u32,
    number: u16,
    token: [u8; 8],
    flag: bool,
    family: Family,
    code: u16,
    text: String,
    data: Vec<u8>,
    types: Vec<u16>,
    login: [String; 4],
}

fn content() -> impl Strategy<Value = Content> {
    let addr = prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ];
    let words = ["[a-z0-9]{1,60}", "[a-z0-9.]{1,60}", "[a-zA-Z0-9]{1,60}", "[a-zA-Z0-9+/=]{1,44}"];
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    (
        (any::<[u8; 12]>(), addr, any::<u32>(), any::<u16>(), any::<[u8; 8]>(), any::<bool>()),
        (family, 300_u16..700, "[a-zA-Z0-9]{1,100}", prop::collection::vec(any::<u8>(), 0..200)),
        (prop::collection::vec(any::<u16>(), 0..9), words),
    )
        .prop_map(
            |((id, addr, word, number, token, flag), (family, code, text, data), rest)| {
                let (mut types, login) = rest;
                types.sort_unstable();
                types.dedup();
                Content {
                    id,
                    addr,
                    word,
                    number,
                    token,
                    flag,
                    family,
                    code,
                    text,
                    data,
                    types,
                    login,
                }
            },
        )
}

impl Content {
    fn user_hash(&self) -> [u8; 32] {
        user_hash(&self.login[0], &self.login[1])
    }

    fn our_key(&self, algorithm: PasswordAlgorithm) -> MessageKey {
        let [user, realm, _, password] = &self.login;
        MessageKey::long_term(algorithm, user, realm, password)
    }

    fn their_key(&self, algorithm: PasswordAlgorithm) -> HMACKey {
        let [user, realm, _, password] = &self.login;
        let id = match algorithm {
            PasswordAlgorithm::Md5 => AlgorithmId::MD5,
            PasswordAlgorithm::Sha256 => AlgorithmId::SHA256,
        };
        HMACKey::new_long_term(user, realm, password, Algorithm::from(id)).unwrap()
    }

    fn ours(&self, algorithm: PasswordAlgorithm, integrity: Integrity) -> Vec<u8> {
        let [user, realm, nonce, _] = &self.login;
        let mut buffer = [0xEE; 2000];
        let id = TransactionId(self.id);
        let mut w = Writer::new(&mut buffer, Class::Success, Method::ALLOCATE, id);
        w.add(&MappedAddress(self.addr)).add(&AlternateServer(self.addr));
        w.add(&XorMappedAddress(self.addr)).add(&XorPeerAddress(self.addr));
        w.add(&XorRelayedAddress(self.addr)).add(&Lifetime(self.word));
        w.add(&Channel(self.number)).add(&RequestedTransport(PROTOCOL_UDP));
        w.add(&RequestedAddressFamily(self.family as u8));
        w.add(&AdditionalAddressFamily(self.family as u8));
        w.add(&EvenPort(self.flag)).add(&ReservationToken(self.token)).add(&DontFragment(()));
        w.add(&Data(&self.data)).add(&Software(&self.text));
        w.add(&ErrorCode { code: self.code, reason: &self.text });
        w.add(&AddressErrorCode { family: self.family, code: self.code, reason: &self.text });
        w.add(&UnknownAttributes::new(&self.types));
        w.add(&PasswordAlgorithms::OFFERED).add(&ChosenAlgorithm::from(algorithm));
        w.add(&Username(user)).add(&Realm(realm)).add(&Nonce(nonce.as_bytes()));
        w.add(&UserHash(self.user_hash()));
        w.sign(&self.our_key(algorithm), integrity).fingerprint();
        w.finish().unwrap().to_vec()
    }

    /// The same attributes in the same order, in the words of the oracle.
    fn attributes(&self, algorithm: PasswordAlgorithm) -> Vec<StunAttribute> {
        let [user, realm, nonce, _] = &self.login;
        let family = AddressFamily::try_from(self.family as u8).unwrap();
        let error = || stun_rs::ErrorCode::new(self.code, &self.text).unwrap();
        let one = |id| stun::PasswordAlgorithm::new(Algorithm::from(id));
        let chosen = match algorithm {
            PasswordAlgorithm::Md5 => AlgorithmId::MD5,
            PasswordAlgorithm::Sha256 => AlgorithmId::SHA256,
        };
        vec![
            stun::MappedAddress::from(self.addr).into(),
            stun::AlternateServer::from(self.addr).into(),
            stun::XorMappedAddress::from(self.addr).into(),
            turn::XorPeerAddress::from(self.addr).into(),
            turn::XorRelayedAddress::from(self.addr).into(),
            turn::LifeTime::new(self.word).into(),
            turn::ChannelNumber::new(self.number).into(),
            turn::RequestedTrasport::new(stun_rs::protocols::UDP).into(),
            turn::RequestedAddressFamily::new(family).into(),
            turn::AdditionalAddressFamily::new(family).into(),
            turn::EvenPort::new(self.flag).into(),
            turn::ReservationToken::from(self.token).into(),
            turn::DontFragment::default().into(),
            turn::Data::new(&self.data).into(),
            stun::Software::new(&self.text).unwrap().into(),
            stun::ErrorCode::new(error()).into(),
            turn::AddressErrorCode::new(family, error()).into(),
            stun::UnknownAttributes::from(&self.types[..]).into(),
            stun::PasswordAlgorithms::from(vec![one(AlgorithmId::SHA256), one(AlgorithmId::MD5)])
                .into(),
            one(chosen).into(),
            stun::UserName::new(user).unwrap().into(),
            stun::Realm::new(realm).unwrap().into(),
            stun::Nonce::new(nonce).unwrap().into(),
            stun::UserHash::new(user, realm).unwrap().into(),
        ]
    }

    fn theirs(&self, algorithm: PasswordAlgorithm, integrity: Integrity) -> Vec<u8> {
        let key = self.their_key(algorithm);
        let method = MessageMethod::try_from(3).unwrap();
        let builder = StunMessageBuilder::new(method, MessageClass::SuccessResponse)
            .with_transaction_id(self.id.into());
        let builder = self
            .attributes(algorithm)
            .into_iter()
            .fold(builder, StunMessageBuilder::with_attribute);
        let builder = match integrity {
            Integrity::Sha1 => builder.with_attribute(stun::MessageIntegrity::new(key)),
            Integrity::Sha256 => builder.with_attribute(stun::MessageIntegritySha256::new(key)),
        };
        let message = builder.with_attribute(stun::Fingerprint::default()).build();
        let mut buffer = [0; 2000];
        let size = MessageEncoderBuilder::default().build().encode(&mut buffer, &message).unwrap();
        buffer[..size].to_vec()
    }
}

/// What the oracle reads, having checked integrity and FINGERPRINT.
fn read_by_oracle(bytes: &[u8], key: HMACKey) -> Option<StunMessage> {
    let context = DecoderContextBuilder::default().with_key(key).with_validation().build();
    let decoder = MessageDecoderBuilder::default().with_context(context).build();
    let (message, size) = decoder.decode(bytes).ok()?;
    (size == bytes.len()).then_some(message)
}

fn combinations() -> impl Strategy<Value = (PasswordAlgorithm, Integrity)> {
    any::<(bool, bool)>().prop_map(|(key, hash)| {
        (
            if key { PasswordAlgorithm::Sha256 } else { PasswordAlgorithm::Md5 },
            if hash { Integrity::Sha256 } else { Integrity::Sha1 },
        )
    })
}

proptest! {
    #[test]
    fn auth_012_both_codecs_write_the_same_bytes(
        content in content(),
        (algorithm, integrity) in combinations(),
    ) {
        prop_assert_eq!(
            content.ours(algorithm, integrity),
            content.theirs(algorithm, integrity)
        );
    }

    #[test]
    fn auth_006_the_oracle_accepts_what_we_sign_and_nothing_else(
        content in content(),
        (algorithm, integrity) in combinations(),
    ) {
        let bytes = content.ours(algorithm, integrity);
        let message = read_by_oracle(&bytes, content.their_key(algorithm)).unwrap();
        let expected = content.attributes(algorithm);
        for (found, expected) in message.attributes().iter().zip(&expected) {
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        }
        prop_assert_eq!(message.attributes().len(), expected.len() + 2);
        let mut other = content.clone();
        other.login[3].push('x');
        prop_assert!(read_by_oracle(&bytes, other.their_key(algorithm)).is_none());
    }

    #[test]
    fn attr_006_we_read_what_the_oracle_writes(
        content in content(),
        (algorithm, integrity) in combinations(),
    ) {
        let bytes = content.theirs(algorithm, integrity);
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.class(), Class::Success);
        prop_assert_eq!(message.method(), Method::ALLOCATE);
        prop_assert_eq!(message.transaction(), TransactionId(content.id));
        prop_assert_eq!(message.integrity(), Some(integrity));
        prop_assert!(message.verify(&content.our_key(algorithm), integrity));
        prop_assert_eq!(message.fingerprint(), Fingerprint::Valid);
        let Content { addr, code, family, .. } = content;
        let [user, realm, nonce, _] = &content.login;
        let reason = content.text.as_str();
        prop_assert_eq!(message.require(), Ok(MappedAddress(addr)));
        prop_assert_eq!(message.require(), Ok(AlternateServer(addr)));
        prop_assert_eq!(message.require(), Ok(XorMappedAddress(addr)));
        prop_assert_eq!(message.require(), Ok(XorPeerAddress(addr)));
        prop_assert_eq!(message.require(), Ok(XorRelayedAddress(addr)));
        prop_assert_eq!(message.require(), Ok(Lifetime(content.word)));
        prop_assert_eq!(message.require(), Ok(Channel(content.number)));
        prop_assert_eq!(message.require(), Ok(RequestedTransport(PROTOCOL_UDP)));
        prop_assert_eq!(message.require(), Ok(RequestedAddressFamily(family as u8)));
        prop_assert_eq!(message.require(), Ok(AdditionalAddressFamily(family as u8)));
        prop_assert_eq!(message.require(), Ok(EvenPort(content.flag)));
        prop_assert_eq!(message.require(), Ok(ReservationToken(content.token)));
        prop_assert_eq!(message.require(), Ok(DontFragment(())));
        prop_assert_eq!(message.require(), Ok(Data(&content.data)));
        prop_assert_eq!(message.require(), Ok(Software(reason)));
        prop_assert_eq!(message.require(), Ok(ErrorCode { code, reason }));
        prop_assert_eq!(message.require(), Ok(AddressErrorCode { family, code, reason }));
        prop_assert_eq!(message.require(), Ok(PasswordAlgorithms::OFFERED));
        prop_assert_eq!(message.require(), Ok(ChosenAlgorithm::from(algorithm)));
        prop_assert_eq!(message.require(), Ok(Username(user)));
        prop_assert_eq!(message.require(), Ok(Realm(realm)));
        prop_assert_eq!(message.require(), Ok(Nonce(nonce.as_bytes())));
        prop_assert_eq!(message.require(), Ok(UserHash(content.user_hash())));
        let unknown: UnknownAttributes<'_> = message.require().unwrap();
        prop_assert_eq!(unknown.types().collect::<Vec<_>>(), content.types);
    }
}
