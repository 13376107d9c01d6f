//! A client that says exactly what a test wants it to say.

use std::net::UdpSocket;

use client::Credentials;
use proto::stun::attribute::{Nonce, Realm, Username};
use proto::stun::{
    AttributeType, Class, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId,
    Writer,
};

use crate::site::credentials;

/// One user, with what the server last told it.
pub(crate) struct Speaker {
    credentials: Credentials,
    challenge: Option<(String, Vec<u8>)>,
    transaction: u64,
}

impl Speaker {
    /// A user who knows no nonce yet.
    pub(crate) fn new(user: &str) -> Self {
        Self { credentials: credentials(user), challenge: None, transaction: 0 }
    }

    /// Asks through `exchange`, which sends a request and returns the answer, and returns the
    /// final answer.
    pub(crate) fn ask(
        &mut self,
        method: Method,
        fill: impl Fn(&mut Writer<'_>),
        mut exchange: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        loop {
            let answer = exchange(&self.request(method, &fill));
            if !matches!(code(&answer), 401 | 438) {
                return answer;
            }
            let known = self.challenge.is_some();
            assert!(!known || code(&answer) == 438, "refused twice: {answer:02x?}");
            self.learn(&answer);
        }
    }

    /// Takes over what a challenge says.
    pub(crate) fn learn(&mut self, challenge: &[u8]) {
        let message = Message::parse(challenge).unwrap();
        let realm = message.require::<Realm<'_>>().unwrap().0.to_owned();
        let nonce = message.require::<Nonce<'_>>().unwrap().0.to_vec();
        self.challenge = Some((realm, nonce));
    }

    /// Takes another realm for the server's.
    pub(crate) fn believe(&mut self, realm: &str) {
        if let Some(challenge) = &mut self.challenge {
            realm.clone_into(&mut challenge.0);
        }
    }

    /// A request, signed if the server has told how.
    pub(crate) fn request(&mut self, method: Method, fill: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
        self.transaction += 1;
        let mut id = [0x51; 12];
        id[4..].copy_from_slice(&self.transaction.to_be_bytes());
        let mut buffer = [0; 2_000];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, TransactionId(id));
        fill(&mut writer);
        if let Some((realm, nonce)) = &self.challenge {
            let Credentials { username, password, .. } = &self.credentials;
            let key = MessageKey::long_term(PasswordAlgorithm::Md5, username, realm, password);
            writer.add(&Username(username)).add(&Realm(realm)).add(&Nonce(nonce));
            writer.sign(&key, Integrity::Sha1);
        }
        writer.finish().unwrap().to_vec()
    }
}

/// The error code of an answer; zero of a success.
pub(crate) fn code(answer: &[u8]) -> u16 {
    let message = Message::parse(answer).unwrap();
    let error = message.require::<proto::stun::attribute::ErrorCode<'_>>();
    error.map_or(0, |error| error.code)
}

/// The value of an attribute.
pub(crate) fn value(answer: &[u8], kind: AttributeType) -> Vec<u8> {
    assert_eq!(code(answer), 0, "refused");
    Message::parse(answer).unwrap().first(kind).unwrap().to_vec()
}

/// Sends a datagram and returns the next one.
pub(crate) fn over_udp(socket: &UdpSocket) -> impl FnMut(&[u8]) -> Vec<u8> + '_ {
    |request| {
        socket.send(request).unwrap();
        next(socket)
    }
}

/// The next datagram.
pub(crate) fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_000];
    let len = socket.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}
