//! A client: its address, its credential, what it learned from the server.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;

use proto::addr::ListenerId;
use proto::marks::Marks;
use stun_rs::HMACKey;

use crate::draft::Draft;
use crate::heard::Heard;
use crate::kind;
use crate::login::{Login, Scheme};
use crate::ms::MsState;

/// Realm, nonce and offered algorithms of the latest challenge.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// REALM.
    pub realm: String,
    /// NONCE.
    pub nonce: String,
    /// The bytes of PASSWORD-ALGORITHMS, if it was there.
    pub algorithms: Option<Vec<u8>>,
}

/// A datagram, or a message of a stream, as it came to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Whether it is a peer's payload as it is, which may look like anything.
    pub bare: bool,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Deref for Arrived {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One client socket.
#[derive(Debug)]
pub struct Client {
    /// What tests call it.
    pub name: String,
    /// Where its packets come from.
    pub address: SocketAddr,
    /// Which listener it speaks to.
    pub listener: ListenerId,
    /// Its credential.
    pub login: Login,
    /// The key of its access token: signs instead of the password's.
    pub bearer: Option<HMACKey>,
    /// Its generation of the protocol.
    pub scheme: Scheme,
    /// What the server told it last.
    pub challenge: Option<Challenge>,
    /// The relayed address of its latest Allocate.
    pub relayed: Option<SocketAddr>,
    /// What arrived, oldest first.
    pub inbox: VecDeque<Arrived>,
    /// Which listener the newest arrival came from.
    pub heard_from: ListenerId,
    /// What the header of the newest arrival said.
    pub marks: Marks,
    /// What it knows as a client of MS-TURN.
    pub ms: MsState,
}

impl Client {
    /// A client that was not challenged yet.
    pub fn new(name: &str, address: SocketAddr, login: Login) -> Self {
        Self {
            name: name.to_owned(),
            address,
            listener: ListenerId(0),
            login,
            bearer: None,
            scheme: Scheme::Sha256,
            challenge: None,
            relayed: None,
            inbox: VecDeque::new(),
            heard_from: ListenerId(0),
            marks: Marks::PLAIN,
            ms: MsState::new(name),
        }
    }

    /// The key of its requests, once it has been challenged.
    pub fn key(&self) -> HMACKey {
        if let Some(key) = &self.bearer {
            return key.clone();
        }
        let challenge = self.challenge.as_ref().expect("challenged before");
        self.login.key(&challenge.realm, self.scheme.algorithm())
    }

    /// Takes over what a 401 or 438 says.
    pub fn learn(&mut self, heard: &Heard) {
        self.challenge = Some(Challenge {
            realm: heard.text(kind::REALM).expect("a challenge has REALM").to_owned(),
            nonce: heard.text(kind::NONCE).expect("a challenge has NONCE").to_owned(),
            algorithms: heard.value(kind::ALGORITHMS).map(<[u8]>::to_vec),
        });
    }

    /// The draft with the attributes of its scheme behind it, signed.
    #[must_use]
    pub fn sign(&self, draft: Draft) -> Draft {
        self.seal(self.credentials(draft))
    }

    /// The draft with USERNAME, REALM, NONCE and the algorithm attributes of its scheme.
    #[must_use]
    pub fn credentials(&self, draft: Draft) -> Draft {
        self.credentials_without(0, draft)
    }

    /// The same without the attribute of this type.
    #[must_use]
    pub fn credentials_without(&self, missing: u16, draft: Draft) -> Draft {
        let challenge = self.challenge.as_ref().expect("challenged before");
        let draft = [
            (kind::USERNAME, &self.login.username),
            (kind::REALM, &challenge.realm),
            (kind::NONCE, &challenge.nonce),
        ]
        .into_iter()
        .filter(|(kind, _)| *kind != missing)
        .fold(draft, |draft, (kind, text)| draft.raw(kind, text.as_bytes()));
        let chosen = match self.scheme {
            Scheme::Legacy => return draft,
            Scheme::Sha256 => kind::SHA256,
            Scheme::ExplicitMd5 => kind::MD5,
        };
        let offered = challenge.algorithms.as_deref().expect("the server offers algorithms");
        draft
            .raw(kind::ALGORITHMS, offered)
            .raw(kind::ALGORITHM, &(u32::from(chosen) << 16).to_be_bytes())
    }

    /// The draft with the integrity attribute of its scheme.
    #[must_use]
    pub fn seal(&self, draft: Draft) -> Draft {
        match self.scheme {
            Scheme::Legacy => draft.integrity(&self.key()),
            Scheme::Sha256 | Scheme::ExplicitMd5 => draft.integrity_sha256(&self.key()),
        }
    }
}
