//! Signed requests of any method on a connection, for what the client's library does not speak.

use std::io::{Read, Write};
use std::net::TcpStream;

use client::stun_rs::{Algorithm, AlgorithmId, HMACKey};
use client::{Credentials, wire};
use ring::hmac;

use super::raw;
use super::target::Target;

/// An account that speaks on a connection of its own.
pub(super) struct Dialogue {
    line: TcpStream,
    who: Credentials,
    /// Realm and nonce.
    challenge: (Vec<u8>, Vec<u8>),
}

impl Dialogue {
    /// Connects from this address, and is challenged.
    pub(super) fn open(target: &Target, from: &str, user: &str) -> Self {
        let line = target.connection(from).expect("it is taken");
        let who = target.credentials(user);
        let mut dialogue = Self { line, who, challenge: Default::default() };
        let challenge =
            dialogue.exchange(&raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]));
        let challenge = challenge.expect("strangers are challenged");
        let part = |kind| raw::value(&challenge, kind).expect("a challenge").to_vec();
        dialogue.challenge = (part(raw::REALM), part(raw::NONCE));
        dialogue
    }

    /// The answer to a signed request, if there is one.
    pub(super) fn ask(&mut self, kind: u16, attributes: &[(u16, &[u8])]) -> Option<Vec<u8>> {
        let (realm, nonce) = &self.challenge;
        let own: [(u16, &[u8]); 3] = [
            (raw::USERNAME, self.who.username.as_bytes()),
            (raw::REALM, realm),
            (raw::NONCE, nonce),
        ];
        let message = raw::message(kind, &[attributes, &own].concat());
        self.exchange(&self.signed(message))
    }

    /// With MESSAGE-INTEGRITY, as clients of RFC 5389 sign.
    fn signed(&self, mut message: Vec<u8>) -> Vec<u8> {
        let realm = String::from_utf8_lossy(&self.challenge.0);
        let Credentials { username, password } = &self.who;
        let algorithm = Algorithm::from(AlgorithmId::MD5);
        let key = HMACKey::new_long_term(username, &realm, password, algorithm).expect("a key");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
        let unsigned = message.len();
        message = raw::appended(&message, raw::INTEGRITY, &[0; 20]);
        // The length counts the signature, which covers what is before it.
        let tag = hmac::sign(&key, &message[..unsigned]);
        message.truncate(unsigned);
        raw::appended(&message, raw::INTEGRITY, tag.as_ref())
    }

    fn exchange(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        self.line.write_all(request).ok()?;
        let mut answer = vec![0; 20];
        self.line.read_exact(&mut answer).ok()?;
        let body = u16::from_be_bytes([answer[2], answer[3]]);
        answer.resize(20 + usize::from(body), 0);
        self.line.read_exact(&mut answer[20..]).ok()?;
        wire::is_stun(&answer).then_some(answer)
    }

    /// The connection, when it is a pipe to a peer.
    pub(super) fn line(&mut self) -> &mut TcpStream {
        &mut self.line
    }
}
