//! A TCP relay with one connection through it (RFC 6062), from the client's chair.
//!
//! stun-rs knows none of these methods, so the requests are written with the drafts that the
//! conformance cases use; credentials as clients of RFC 5389 sign, which every server takes.

use std::net::SocketAddr;

use stun_rs::{Algorithm, AlgorithmId, HMACKey};

use crate::conformance::message::{Draft, Mac, Message};
use crate::conformance::numbers::{
    ALLOCATE, CONNECT, CONNECTION_BIND, CONNECTION_ID, NONCE, REALM, TCP, TRANSPORT, USERNAME,
};
use crate::transport::{Link, MESSAGE_ROOM, Start};
use crate::{ClientError, Credentials, Options, clock};

/// Challenges in a row after which a request is given up: the first, then stale nonces.
const CHALLENGES_MAX: u32 = 3;

/// An allocation for TCP, a connection to one peer, and the connection that carries its bytes.
#[derive(Debug)]
pub struct Pipe {
    control: Dialogue,
    /// The bytes to the peer, and from it.
    pub data: Link,
}

impl Pipe {
    /// Allocates, connects to a peer that listens, and binds a second connection to it.
    pub fn open(
        server: SocketAddr,
        credentials: Credentials,
        peer: SocketAddr,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let mut control = Dialogue::open(server, credentials, options)?;
        control.ask(|| Draft::new(ALLOCATE).add(TRANSPORT, &TCP))?;
        let connected = control.ask(|| Draft::new(CONNECT).peer(peer))?;
        let id = connected.value(CONNECTION_ID).unwrap_or_default();
        let options = Options { bind: None, ..options.clone() };
        let mut data = Dialogue::open(server, control.credentials.clone(), &options)?;
        data.challenge.clone_from(&control.challenge);
        data.ask(|| Draft::new(CONNECTION_BIND).add(CONNECTION_ID, id))?;
        Ok(Self { control, data: data.link })
    }

    /// Asks for a connection to one more peer, which waits for half a minute to be bound.
    pub fn connect(&mut self, peer: SocketAddr) -> Result<(), ClientError> {
        self.control.ask(|| Draft::new(CONNECT).peer(peer)).map(drop)
    }

    /// Renews the allocation.
    pub fn renew(&mut self, lifetime_s: u32) -> Result<(), ClientError> {
        self.control.ask(|| Draft::refresh(lifetime_s)).map(drop)
    }
}

/// Requests and answers on one connection to the server.
#[derive(Debug)]
struct Dialogue {
    link: Link,
    credentials: Credentials,
    options: Options,
    challenge: Option<(Vec<u8>, Vec<u8>)>,
}

impl Dialogue {
    fn open(
        server: SocketAddr,
        credentials: Credentials,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let start = Start {
            bind: options.bind,
            buffer_bytes: options.buffer_bytes,
            timeout: options.timeout,
        };
        let link = Link::open(&options.transport, server, start)?;
        Ok(Self { link, credentials, options: options.clone(), challenge: None })
    }

    /// The success that a request brings, challenges answered.
    fn ask(&mut self, draft: impl Fn() -> Draft) -> Result<Message, ClientError> {
        for _ in 0..=CHALLENGES_MAX {
            let answer = self.exchange(&self.sign(draft())?)?;
            let Some(code) = answer.code() else { return Ok(answer) };
            let refused = ClientError::Refused { code, reason: String::new(), signed: false };
            let again = code == 438 || code == 401 && self.challenge.is_none();
            let (Some(realm), Some(nonce)) = (answer.value(REALM), answer.value(NONCE)) else {
                return Err(refused);
            };
            if !again {
                return Err(refused);
            }
            self.challenge = Some((realm.to_vec(), nonce.to_vec()));
        }
        Err(ClientError::Garbled("the server calls every nonce stale".to_owned()))
    }

    fn sign(&self, draft: Draft) -> Result<Draft, ClientError> {
        let Some((realm, nonce)) = &self.challenge else { return Ok(draft) };
        let Credentials { username, password } = &self.credentials;
        let name = String::from_utf8_lossy(realm);
        let key =
            HMACKey::new_long_term(username, &name, password, Algorithm::from(AlgorithmId::MD5))
                .map_err(|error| ClientError::Unsendable(error.to_string()))?;
        let dressed = draft.add(USERNAME, username.as_bytes()).add(REALM, realm).add(NONCE, nonce);
        Ok(dressed.sign(key.as_bytes(), Mac::Sha1))
    }

    fn exchange(&mut self, request: &Draft) -> Result<Message, ClientError> {
        self.link.send(request.bytes())?;
        let until = clock::now() + self.options.timeout;
        let mut buffer = vec![0; MESSAGE_ROOM];
        while let Some(len) = self.link.receive(until, &mut buffer)? {
            match Message::read(buffer.get(..len).unwrap_or_default()) {
                Some(answer) if answer.is_response() && answer.id() == request.id() => {
                    return Ok(answer);
                }
                _ => {}
            }
        }
        Err(ClientError::Silence(self.options.timeout))
    }
}
