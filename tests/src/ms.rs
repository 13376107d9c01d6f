//! A client of MS-TURN, written apart from `proto`'s codec: what it sends, what it hears.
//!
//! It behaves as libnice does: a first Allocate without credentials, then one with realm and nonce
//! of the challenge; Send and Set Active Destination with a number that counts up.

use std::net::{IpAddr, SocketAddr};

use md5::{Digest, Md5};
use proto::auth::ms_token::{TokenGrant, mint};
use proto::now::UnixTime;
use ring::hmac;

use crate::client::Arrived;
use crate::site::{self, BEGIN, REALM};
use crate::world::World;

/// The first attribute of every message.
const COOKIE: [u8; 8] = [0, 0x0F, 0, 4, 0x72, 0xC6, 0x4B, 0xC6];

/// Allocate.
pub const ALLOCATE: u16 = 0x0003;
/// Send.
pub const SEND: u16 = 0x0004;
/// Set Active Destination.
pub const AIM: u16 = 0x0006;
/// Data Indication.
pub const DATA_INDICATION: u16 = 0x0115;

/// Mapped Address: the relayed one.
pub const RELAYED: u16 = 0x0001;
/// Username.
pub const USERNAME: u16 = 0x0006;
/// Message Integrity.
pub const INTEGRITY: u16 = 0x0008;
/// Error Code.
pub const ERROR_CODE: u16 = 0x0009;
/// Unknown Attributes.
pub const UNKNOWN: u16 = 0x000A;
/// Lifetime.
pub const LIFETIME: u16 = 0x000D;
/// Alternate Server.
pub const ALTERNATE_SERVER: u16 = 0x000E;
/// Magic Cookie.
pub const MAGIC_COOKIE: u16 = 0x000F;
/// Destination Address.
pub const DESTINATION: u16 = 0x0011;
/// Remote Address.
pub const REMOTE: u16 = 0x0012;
/// Data.
pub const DATA: u16 = 0x0013;
/// Nonce.
pub const NONCE: u16 = 0x0014;
/// Realm.
pub const REALM_ATTRIBUTE: u16 = 0x0015;
/// MS-Version.
pub const VERSION: u16 = 0x8008;
/// XOR Mapped Address.
pub const MAPPED: u16 = 0x8020;
/// MS-Alternate Mapped Address: the relayed one of the other family.
pub const ALTERNATE_MAPPED: u16 = 0x8090;
/// MS-Sequence Number.
pub const SEQUENCE: u16 = 0x8050;

/// Whether bytes are a message of MS-TURN.
pub fn is_ms(bytes: &[u8]) -> bool {
    bytes.get(20..28) == Some(&COOKIE)
}

/// A message under construction; nothing is checked.
#[derive(Clone, Debug)]
pub struct MsDraft {
    kind: u16,
    transaction: [u8; 16],
    body: Vec<u8>,
}

impl MsDraft {
    /// A message with its cookie.
    pub fn new(kind: u16, transaction: [u8; 16]) -> Self {
        Self { kind, transaction, body: COOKIE.to_vec() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        self.body.extend(kind.to_be_bytes());
        self.body.extend(u16::try_from(value.len()).expect("a short value").to_be_bytes());
        self.body.extend(value);
        self
    }

    /// Adds an attribute of four bytes.
    #[must_use]
    pub fn number(self, kind: u16, number: u32) -> Self {
        self.raw(kind, &number.to_be_bytes())
    }

    /// Adds an address in the clear.
    #[must_use]
    pub fn address(self, kind: u16, address: SocketAddr) -> Self {
        self.raw(kind, &plain(address))
    }

    /// Its transaction.
    pub fn transaction(&self) -> [u8; 16] {
        self.transaction
    }

    /// Adds the integrity over what stands so far.
    #[must_use]
    pub fn sign(self, key: &[u8]) -> Self {
        let mut text = self.encode();
        let length = u16::try_from(text.len() + 24 - 20).expect("a short message");
        text[2..4].copy_from_slice(&length.to_be_bytes());
        let hash = integrity(key, &text);
        self.raw(INTEGRITY, &hash)
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.body.len()).expect("a short message");
        [&self.kind.to_be_bytes()[..], &length.to_be_bytes(), &self.transaction, &self.body]
            .concat()
    }
}

/// HMAC-SHA1 over the text, padded with zeros to blocks of 64 bytes.
fn integrity(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut padded = text.to_vec();
    padded.resize(text.len().div_ceil(64) * 64, 0);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    hmac::sign(&key, &padded).as_ref().to_vec()
}

/// An address as it stands in an attribute.
fn plain(address: SocketAddr) -> Vec<u8> {
    let (family, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    [&[0, family][..], &address.port().to_be_bytes(), &octets].concat()
}

fn read_plain(value: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([value[2], value[3]]);
    let ip = match value[1] {
        1 => IpAddr::from(<[u8; 4]>::try_from(&value[4..]).expect("four octets")),
        2 => IpAddr::from(<[u8; 16]>::try_from(&value[4..]).expect("sixteen octets")),
        other => panic!("an address of family {other}"),
    };
    SocketAddr::new(ip, port)
}

/// A Data Indication as an engine writes it.
pub(crate) fn data_indication(id: [u8; 16], peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    MsDraft::new(DATA_INDICATION, id).address(REMOTE, peer).raw(DATA, payload).encode()
}

/// A message as a client heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsHeard {
    bytes: Vec<u8>,
}

impl MsHeard {
    /// Reads a message; panics unless libnice would.
    #[track_caller]
    pub fn read(bytes: &[u8]) -> Self {
        let heard = Self { bytes: bytes.to_vec() };
        assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() - 20);
        assert_eq!(bytes[20..28], COOKIE, "the cookie comes first");
        for (kind, _) in heard.attributes() {
            // MST-35: libnice discards what has others.
            let known = matches!(kind, 1 | 6 | 8..=0xA | 0xD..=0x15) || kind >= 0x8000;
            assert!(known, "attribute {kind:#06x}");
        }
        heard
    }

    /// The datagram.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The 16-bit message type.
    pub fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The sixteen bytes behind its length.
    pub fn transaction(&self) -> &[u8] {
        &self.bytes[4..20]
    }

    /// Types and values, in order.
    pub fn attributes(&self) -> Vec<(u16, &[u8])> {
        let mut found = Vec::new();
        let mut rest = &self.bytes[20..];
        while let [k0, k1, l0, l1, tail @ ..] = rest {
            let (value, after) = tail.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            found.push((u16::from_be_bytes([*k0, *k1]), value));
            rest = after;
        }
        assert!(rest.is_empty(), "stray bytes: {rest:02x?}");
        found
    }

    /// Types, in order.
    pub fn kinds(&self) -> Vec<u16> {
        self.attributes().into_iter().map(|(kind, _)| kind).collect()
    }

    /// The value of the first attribute of this type.
    pub fn value(&self, kind: u16) -> Option<&[u8]> {
        self.attributes().into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The same as a number.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.value(kind).map(|value| u32::from_be_bytes(value.try_into().expect("four bytes")))
    }

    /// The same as an address in the clear.
    pub fn address(&self, kind: u16) -> Option<SocketAddr> {
        self.value(kind).map(read_plain)
    }

    /// XOR Mapped Address.
    pub fn mapped(&self) -> Option<SocketAddr> {
        let mut value = self.value(MAPPED)?.to_vec();
        for (at, mask) in [2, 3].into_iter().zip(&self.bytes[4..6]) {
            value[at] ^= mask;
        }
        for (byte, mask) in value[4..].iter_mut().zip(&self.bytes[4..20]) {
            *byte ^= mask;
        }
        Some(read_plain(&value))
    }

    /// Connection and number.
    pub fn numbered(&self) -> Option<([u8; 20], u32)> {
        let value = self.value(SEQUENCE)?;
        assert_eq!(value.len(), 24);
        let number = u32::from_be_bytes(value[20..].try_into().expect("four bytes"));
        Some((value[..20].try_into().expect("twenty bytes"), number))
    }

    /// The error code.
    pub fn code(&self) -> Option<u16> {
        let value = self.value(ERROR_CODE)?;
        Some(u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    /// Whether the integrity comes last and was made with this key; `None` without one.
    pub fn is_signed_with(&self, key: &[u8]) -> Option<bool> {
        let value = self.value(INTEGRITY)?;
        let text = &self.bytes[..self.bytes.len() - 24];
        Some(self.kinds().last() == Some(&INTEGRITY) && integrity(key, text) == value)
    }

    /// Fails unless it is an error with this code.
    #[track_caller]
    pub fn expect_code(&self, code: u16) -> &Self {
        assert_eq!(self.code(), Some(code), "{self:02x?}");
        assert_eq!(self.kind() & 0x0110, 0x0110, "an error response");
        self
    }

    /// Fails unless it is a success.
    #[track_caller]
    pub fn expect_success(&self) -> &Self {
        assert_eq!(self.kind() & 0x0110, 0x0100, "refused with {:?}", self.code());
        self
    }
}

/// Anything that reached a client of MS-TURN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MsArrival {
    /// A response.
    Response(MsHeard),
    /// A Data Indication: from whom, and what.
    Data(SocketAddr, Vec<u8>),
    /// Bytes of the active destination.
    Bare(Vec<u8>),
}

/// What a client of MS-TURN knows.
#[derive(Clone, Debug)]
pub struct MsState {
    /// The token, as bytes.
    pub username: Vec<u8>,
    /// Its password.
    pub password: Vec<u8>,
    /// What the challenge said.
    pub realm: Vec<u8>,
    /// What the challenge said.
    pub nonce: Vec<u8>,
    /// What Allocate said.
    pub connection: [u8; 20],
    /// The number of the last Send or Set Active Destination.
    pub number: u32,
}

impl MsState {
    pub(crate) fn new(user: &str) -> Self {
        let mut state = Self {
            username: Vec::new(),
            password: Vec::new(),
            realm: REALM.as_bytes().to_vec(),
            nonce: Vec::new(),
            connection: [0; 20],
            number: 0,
        };
        state.log_in(&site::pool_key(), user, BEGIN + 28_800);
        state
    }

    /// Takes a new token.
    pub fn log_in(&mut self, key: &proto::auth::PoolKey, user: &str, expires: u64) {
        let identity = format!("sip:{user}@edge.test");
        let grant = TokenGrant { identity: &identity, expires: UnixTime(expires), side: None };
        self.take(key, &grant);
    }

    /// Takes a new token with this grant.
    pub fn take(&mut self, key: &proto::auth::PoolKey, grant: &TokenGrant<'_>) {
        let minted = mint(key, grant, 1).expect("a salt that does");
        self.username = minted.username.to_vec();
        self.password = minted.password.to_vec();
    }

    /// The key of its requests.
    pub fn key(&self) -> [u8; 16] {
        let text = [&self.username[..], &self.realm, &self.password].join(&b':');
        Md5::digest(text).into()
    }

    /// The draft as a request with realm, nonce, user name and integrity.
    pub fn signed(&self, draft: MsDraft) -> MsDraft {
        let draft = draft.raw(REALM_ATTRIBUTE, &self.realm).raw(NONCE, &self.nonce);
        draft.raw(USERNAME, &self.username).sign(&self.key())
    }

    /// MS-Sequence Number.
    pub fn sequence(&self, number: u32) -> Vec<u8> {
        [&self.connection[..], &number.to_be_bytes()].concat()
    }

    /// A Send, signed.
    pub fn send(&self, id: [u8; 16], number: u32, peer: SocketAddr, payload: &[u8]) -> MsDraft {
        let draft = MsDraft::new(SEND, id).raw(USERNAME, &self.username);
        let draft = draft.raw(SEQUENCE, &self.sequence(number)).address(DESTINATION, peer);
        let draft = draft.number(VERSION, 1).raw(REALM_ATTRIBUTE, &self.realm);
        draft.raw(DATA, payload).sign(&self.key())
    }

    /// A Set Active Destination, signed.
    pub fn aim(&self, id: [u8; 16], number: u32, peer: SocketAddr) -> MsDraft {
        let draft = MsDraft::new(AIM, id).raw(USERNAME, &self.username);
        let draft = draft.raw(SEQUENCE, &self.sequence(number));
        draft.raw(REALM_ATTRIBUTE, &self.realm).address(DESTINATION, peer).sign(&self.key())
    }

    /// Remembers realm and nonce of a challenge.
    pub fn learn(&mut self, heard: &MsHeard) {
        self.realm = heard.value(REALM_ATTRIBUTE).expect("a realm").to_vec();
        self.nonce = heard.value(NONCE).expect("a nonce").to_vec();
    }
}

/// A client of MS-TURN at work.
pub struct AsMs<'w> {
    pub(crate) world: &'w mut World,
    pub(crate) name: String,
}

impl AsMs<'_> {
    /// What it knows.
    pub fn state(&mut self) -> &mut MsState {
        &mut self.world.client(&self.name).into_state().ms
    }

    /// A message with a fresh transaction.
    pub fn draft(&mut self, kind: u16) -> MsDraft {
        let id = self.world.dice.bytes(16).try_into().expect("asked for 16 bytes");
        MsDraft::new(kind, id)
    }

    /// The draft with its integrity.
    pub fn seal(&mut self, draft: MsDraft) -> MsDraft {
        let key = self.state().key();
        draft.sign(&key)
    }

    /// The draft as a request with realm, nonce, user name and integrity.
    pub fn signed(&mut self, draft: MsDraft) -> MsDraft {
        self.state().signed(draft)
    }

    /// Sends bytes as they are, and lets the network settle.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.world.client(&self.name).send_bytes(bytes);
        self.world.settle();
    }

    /// Sends a draft and takes its answer; `None` is silence.
    pub fn exchange(&mut self, draft: &MsDraft) -> Option<MsHeard> {
        self.send_bytes(&draft.encode());
        let mut acting = self.world.client(&self.name);
        let inbox = &mut acting.state().inbox;
        let answer = |it: &Arrived| !it.bare && it.get(4..20) == Some(&draft.transaction[..]);
        let at = inbox.iter().position(answer)?;
        Some(MsHeard::read(&inbox.remove(at).expect("just found")))
    }

    /// The same for what must be answered.
    #[track_caller]
    pub fn ask(&mut self, draft: &MsDraft) -> MsHeard {
        self.exchange(draft).expect("the server answers this request")
    }

    /// The first Allocate, whose challenge it remembers.
    #[track_caller]
    pub fn challenge(&mut self) -> MsHeard {
        let draft = self.draft(ALLOCATE).number(VERSION, 1);
        let heard = self.ask(&draft);
        heard.expect_code(401);
        self.learn(&heard);
        heard
    }

    /// Remembers realm and nonce of a challenge.
    pub fn learn(&mut self, heard: &MsHeard) {
        self.state().learn(heard);
    }

    /// The Allocate that follows a challenge.
    #[track_caller]
    pub fn allocate(&mut self) -> MsHeard {
        self.allocate_for(None)
    }

    /// The same for so many seconds.
    #[track_caller]
    pub fn allocate_for(&mut self, lifetime: Option<u32>) -> MsHeard {
        if self.state().nonce.is_empty() {
            self.challenge();
        }
        let mut draft = self.draft(ALLOCATE).number(VERSION, 1);
        if let Some(lifetime) = lifetime {
            draft = draft.number(LIFETIME, lifetime);
        }
        let draft = self.signed(draft);
        let heard = self.ask(&draft);
        if let Some((connection, _)) = heard.numbered() {
            assert_eq!(heard.is_signed_with(&self.state().key()), Some(true), "MST-45");
            self.state().connection = connection;
        }
        heard
    }

    /// Allocates, and returns the relayed address.
    #[track_caller]
    pub fn relay(&mut self) -> SocketAddr {
        self.allocate().expect_success().address(RELAYED).expect("a relayed address")
    }

    /// The next number.
    pub fn count(&mut self) -> u32 {
        let state = self.state();
        state.number += 1;
        state.number
    }

    /// The start of a request that is numbered.
    pub fn numbered(&mut self, kind: u16, number: u32) -> MsDraft {
        let state = self.state().clone();
        self.draft(kind).raw(USERNAME, &state.username).raw(SEQUENCE, &state.sequence(number))
    }

    /// A Send, signed.
    pub fn send_draft(&mut self, number: u32, peer: SocketAddr, payload: &[u8]) -> MsDraft {
        let id = self.draft(SEND).transaction();
        self.state().send(id, number, peer, payload)
    }

    /// Sends payload to a peer by name.
    pub fn send(&mut self, peer: &str, payload: &[u8]) {
        let peer = self.world.peer_address(peer);
        self.send_to(peer, payload);
    }

    /// The same to any address.
    pub fn send_to(&mut self, peer: SocketAddr, payload: &[u8]) {
        let number = self.count();
        let draft = self.send_draft(number, peer, payload);
        self.send_bytes(&draft.encode());
    }

    /// A Set Active Destination, signed.
    pub fn aim_draft(&mut self, number: u32, peer: SocketAddr) -> MsDraft {
        let id = self.draft(AIM).transaction();
        self.state().aim(id, number, peer)
    }

    /// Makes a peer by name the active destination.
    #[track_caller]
    pub fn aim(&mut self, peer: &str) -> MsHeard {
        let peer = self.world.peer_address(peer);
        self.aim_at(peer)
    }

    /// The same by address.
    #[track_caller]
    pub fn aim_at(&mut self, peer: SocketAddr) -> MsHeard {
        let number = self.count();
        let draft = self.aim_draft(number, peer);
        self.ask(&draft)
    }

    /// The oldest datagram in its inbox, read.
    pub fn take(&mut self) -> Option<MsArrival> {
        let arrived = self.world.client(&self.name).state().inbox.pop_front()?;
        if arrived.bare {
            return Some(MsArrival::Bare(arrived.bytes));
        }
        let heard = MsHeard::read(&arrived);
        if heard.kind() != DATA_INDICATION {
            return Some(MsArrival::Response(heard));
        }
        assert_eq!(heard.kinds(), [MAGIC_COOKIE, REMOTE, DATA], "MST-47, MST-88");
        let peer = heard.address(REMOTE).expect("a peer");
        Some(MsArrival::Data(peer, heard.value(DATA).expect("payload").to_vec()))
    }

    /// Fails unless the oldest arrival is a Data Indication of this peer.
    #[track_caller]
    pub fn expect_data(&mut self, from: &str, payload: &[u8]) {
        let peer = self.world.peer_address(from);
        assert_eq!(self.take(), Some(MsArrival::Data(peer, payload.to_vec())));
    }

    /// Fails unless the oldest arrival are these bytes alone.
    #[track_caller]
    pub fn expect_bare(&mut self, payload: &[u8]) {
        assert_eq!(self.take(), Some(MsArrival::Bare(payload.to_vec())));
    }

    /// Fails if anything arrived.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        assert_eq!(self.take(), None);
    }
}
