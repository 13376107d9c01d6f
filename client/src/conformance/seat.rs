//! One client of the server under test: its link, what it was challenged with, what arrived.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_rs::{Algorithm, AlgorithmId, HMACKey};

use super::message::{Draft, Mac, Message};
use super::numbers::{
    ALGORITHM, ALGORITHMS, DATA, DATA_METHOD, INDICATION, INTEGRITY, INTEGRITY_SHA256, MD5, NONCE,
    PEER, REALM, RELAYED, SHA256, USERHASH, USERNAME,
};
use super::stage::Stage;
use super::verdict::{Finding, demand, fail};
use crate::transport::{Link, MESSAGE_ROOM};
use crate::{Credentials, clock};

/// Longest wait for the answer to the release of an allocation nobody needs any more.
const RELEASE_WAIT: Duration = Duration::from_millis(300);

/// How often an allocation is asked for again while the user's quota is used up by cases beside.
const QUOTA_TRIES: u32 = 20;

/// Something from the server.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Message(Message),
    Channel(u16, Vec<u8>),
    /// Neither STUN nor ChannelData.
    Other(Vec<u8>),
}

impl Arrival {
    fn read(bytes: &[u8]) -> Self {
        if let Some(message) = Message::read(bytes) {
            return Self::Message(message);
        }
        match crate::wire::channel_data(bytes) {
            Some((number, payload)) if payload.len() + 4 == bytes.len() => {
                Self::Channel(number, payload.to_vec())
            }
            _ => Self::Other(bytes.to_vec()),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Message(message) => message.describe(),
            Self::Channel(number, payload) => {
                format!("ChannelData of {} bytes on {number:#06x}", payload.len())
            }
            Self::Other(bytes) => {
                let head: Vec<String> =
                    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                format!("{} bytes that are no message: {} …", bytes.len(), head.join(" "))
            }
        }
    }
}

/// Which generation of the protocol signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RFC 5389: MD5 and HMAC-SHA1, no algorithm attributes.
    Legacy,
    /// RFC 8489 with SHA-256.
    Sha256,
    /// RFC 8489 with MD5 chosen.
    ExplicitMd5,
}

/// What a challenge demanded.
#[derive(Clone, Debug, Default)]
pub(super) struct Challenge {
    pub(super) realm: Vec<u8>,
    pub(super) nonce: Vec<u8>,
    pub(super) algorithms: Option<Vec<u8>>,
}

/// What a signed request carries; a case takes off or alters what it likes.
#[derive(Clone, Debug)]
pub(super) struct Dress {
    pub(super) username: Option<Vec<u8>>,
    pub(super) userhash: Option<Vec<u8>>,
    pub(super) realm: Option<Vec<u8>>,
    pub(super) nonce: Option<Vec<u8>>,
    pub(super) algorithms: Option<Vec<u8>>,
    pub(super) algorithm: Option<Vec<u8>>,
    pub(super) key: Vec<u8>,
    pub(super) mac: Mac,
}

impl Dress {
    /// Everything but the integrity.
    pub(super) fn unsigned(&self, draft: Draft) -> Draft {
        let parts = [
            (USERNAME, &self.username),
            (USERHASH, &self.userhash),
            (REALM, &self.realm),
            (NONCE, &self.nonce),
            (ALGORITHMS, &self.algorithms),
            (ALGORITHM, &self.algorithm),
        ];
        let present = parts.into_iter().filter_map(|(kind, value)| Some((kind, value.as_ref()?)));
        present.fold(draft, |draft, (kind, value)| draft.add(kind, value))
    }

    /// Everything.
    pub(super) fn on(&self, draft: Draft) -> Draft {
        self.unsigned(draft).sign(&self.key, self.mac)
    }
}

/// The key of a long-term credential (RFC 8489 §9.2.2).
pub(super) fn key(who: &Credentials, realm: &[u8], algorithm: AlgorithmId) -> Finding<Vec<u8>> {
    let realm = String::from_utf8_lossy(realm).into_owned();
    HMACKey::new_long_term(&who.username, &realm, &who.password, Algorithm::from(algorithm))
        .map(|key| key.as_bytes().to_vec())
        .map_err(|error| fail("a realm and credential that make a key", error))
}

/// A client.
pub(super) struct Seat<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) who: Credentials,
    pub(super) scheme: Scheme,
    pub(super) challenge: Challenge,
    link: Link,
    buffer: Box<[u8]>,
    arrived: VecDeque<Arrival>,
    answered: Vec<[u8; 12]>,
    relayed: Vec<SocketAddr>,
}

impl<'a> Seat<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, link: Link) -> Self {
        Self {
            stage,
            who: stage.plan.credentials.clone(),
            scheme: Scheme::Legacy,
            challenge: Challenge::default(),
            link,
            buffer: vec![0; MESSAGE_ROOM].into_boxed_slice(),
            arrived: VecDeque::new(),
            answered: Vec::new(),
            relayed: Vec::new(),
        }
    }

    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(super) fn local(&self) -> Finding<SocketAddr> {
        Ok(self.link.local_addr()?)
    }

    /// The first relayed address.
    pub(super) fn relayed(&self) -> Finding<SocketAddr> {
        self.relayed.first().copied().ok_or_else(|| fail("an allocation", "none"))
    }

    /// Sends bytes as they are, whether a message or not.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> Finding {
        Ok(self.link.send_raw(bytes)?)
    }

    /// Sends a message, padded where the transport wants it.
    pub(super) fn send(&mut self, message: &[u8]) -> Finding {
        Ok(self.link.send(message)?)
    }

    /// Sends a request, over UDP again while there is no answer; `None` when none comes.
    pub(super) fn exchange(&mut self, request: &Draft) -> Finding<Option<Message>> {
        let (id, end) = (request.id(), clock::now() + self.stage.plan.timeout);
        self.answered.retain(|answered| *answered != id);
        let mut pause = self.stage.plan.timeout / 8;
        self.send(request.bytes())?;
        loop {
            match self.next(end.min(clock::now() + pause))? {
                Some(Arrival::Message(message)) if message.is_response() && message.id() == id => {
                    self.answered.push(id);
                    return Ok(Some(message));
                }
                Some(other) => self.arrived.push_back(other),
                None if clock::now() >= end => return Ok(None),
                None if self.link.is_stream() => {}
                None => {
                    self.send(request.bytes())?;
                    pause *= 2;
                }
            }
        }
    }

    /// Sends a request as it is; its answer.
    pub(super) fn ask(&mut self, request: &Draft) -> Finding<Message> {
        self.exchange(request)?.ok_or_else(|| fail("an answer", "silence"))
    }

    /// Sends a signed request; follows one 438.
    pub(super) fn request(&mut self, draft: Draft) -> Finding<Message> {
        let answer = self.ask(&self.dress()?.on(draft.clone()))?;
        if answer.code() != Some(438) {
            return Ok(answer);
        }
        self.learn(&answer)?;
        self.ask(&self.dress()?.on(draft))
    }

    /// Has itself challenged by a bare Allocate; the 401.
    pub(super) fn be_challenged(&mut self) -> Finding<Message> {
        let refusal = self.ask(&Draft::allocate())?;
        refusal.expect(401)?;
        self.learn(&refusal)?;
        Ok(refusal)
    }

    /// Takes realm, nonce and algorithms of a 401 or 438.
    pub(super) fn learn(&mut self, refusal: &Message) -> Finding {
        let text = |kind, name| {
            let value = refusal.value(kind).map(<[u8]>::to_vec);
            value.ok_or_else(|| fail(format!("{name} in a challenge"), "none"))
        };
        self.challenge = Challenge {
            realm: text(REALM, "REALM")?,
            nonce: text(NONCE, "NONCE")?,
            algorithms: refusal.value(ALGORITHMS).map(<[u8]>::to_vec),
        };
        let offers = |list: &Vec<u8>| list.chunks(4).any(|entry| entry == SHA256);
        self.scheme = match &self.challenge.algorithms {
            Some(list) if offers(list) => Scheme::Sha256,
            _ => Scheme::Legacy,
        };
        Ok(())
    }

    /// What this client's signed requests carry.
    pub(super) fn dress(&self) -> Finding<Dress> {
        let Challenge { realm, nonce, algorithms } = self.challenge.clone();
        let (hash, mac, algorithms, algorithm) = match self.scheme {
            Scheme::Legacy => (AlgorithmId::MD5, Mac::Sha1, None, None),
            Scheme::Sha256 => (AlgorithmId::SHA256, Mac::Sha256, algorithms, Some(SHA256.to_vec())),
            Scheme::ExplicitMd5 => (AlgorithmId::MD5, Mac::Sha256, algorithms, Some(MD5.to_vec())),
        };
        Ok(Dress {
            username: Some(self.who.username.clone().into_bytes()),
            userhash: None,
            key: key(&self.who, &realm, hash)?,
            realm: Some(realm),
            nonce: Some(nonce),
            algorithms,
            algorithm,
            mac,
        })
    }

    /// Demands that an answer is signed with this client's key, in its scheme.
    pub(super) fn demand_signed(&self, answer: &Message) -> Finding {
        let dress = self.dress()?;
        let name = match dress.mac {
            Mac::Sha1 => "MESSAGE-INTEGRITY",
            Mac::Sha256 => "MESSAGE-INTEGRITY-SHA256",
        };
        let has = |kind, name| if answer.has(kind) { name } else { "" };
        let seen = format!(
            "{} with {}{}{}",
            answer.describe(),
            has(INTEGRITY, "MESSAGE-INTEGRITY "),
            has(INTEGRITY_SHA256, "MESSAGE-INTEGRITY-SHA256 "),
            if answer.has(INTEGRITY) || answer.has(INTEGRITY_SHA256) { "" } else { "none" },
        );
        let expected = format!("an answer signed by {name} alone, with the client's key");
        demand(answer.is_signed(&dress.key, dress.mac), expected, seen.trim_end())
    }

    /// Allocates; waits for a place in the user's quota if cases beside have used it up.
    pub(super) fn allocate(&mut self, mut draft: Draft) -> Finding<Message> {
        for _ in 0..QUOTA_TRIES {
            let answer = self.request(draft.clone())?;
            if answer.code() != Some(486) {
                if answer.is_success() {
                    self.note_allocation(&answer);
                }
                return Ok(answer);
            }
            draft = draft.renewed();
            clock::rest(self.stage.grace());
        }
        Err(fail("an allocation", "486: the user's quota is used up"))
    }

    /// Remembers a success, so that the allocation is released at the end.
    pub(super) fn note_allocation(&mut self, success: &Message) {
        self.relayed = success.addresses(RELAYED);
    }

    /// Takes an allocation that has moved here, to be released at the end.
    pub(super) fn take_over(&mut self, relayed: SocketAddr) {
        self.relayed = vec![relayed];
    }

    /// Forgets the allocation: it has ended, or has moved to another client.
    pub(super) fn forget(&mut self) {
        self.relayed.clear();
    }

    /// Sends these and a Binding request behind them; everything that came until shortly after
    /// its answer. What was sent before that answer has been dealt with, so this waits little.
    pub(super) fn probe(&mut self, messages: &[Vec<u8>]) -> Finding<Vec<Arrival>> {
        self.arrived.clear();
        for message in messages {
            self.send_raw(message)?;
        }
        self.ask(&Draft::binding())?;
        self.gather(self.stage.grace())
    }

    /// Everything that came, and comes within this time.
    pub(super) fn gather(&mut self, wait: Duration) -> Finding<Vec<Arrival>> {
        let until = clock::now() + wait;
        while let Some(arrival) = self.next(until)? {
            self.arrived.push_back(arrival);
        }
        Ok(self.arrived.drain(..).collect())
    }

    /// Waits until so many have come, or an answer's time has passed; all that came, and what
    /// came shortly after.
    pub(super) fn gather_at_least(&mut self, count: usize) -> Finding<Vec<Arrival>> {
        let until = clock::now() + self.stage.plan.timeout;
        while self.arrived.len() < count {
            let Some(arrival) = self.next(until)? else { break };
            self.arrived.push_back(arrival);
        }
        self.gather(self.stage.grace())
    }

    /// Demands that none of these is answered.
    pub(super) fn demand_silence(&mut self, messages: &[Vec<u8>]) -> Finding {
        let came = self.probe(messages)?;
        let seen: Vec<String> = came.iter().map(Arrival::describe).collect();
        demand(came.is_empty(), "silence", seen.join(", "))
    }

    /// The next arrival that is no answer.
    pub(super) fn arrival(&mut self) -> Finding<Arrival> {
        if let Some(arrival) = self.arrived.pop_front() {
            return Ok(arrival);
        }
        let arrival = self.next(clock::now() + self.stage.plan.timeout)?;
        arrival.ok_or_else(|| fail("something from the server", "nothing"))
    }

    /// Demands a Data indication with this payload from this peer.
    pub(super) fn expect_data(&mut self, peer: SocketAddr, payload: &[u8]) -> Finding<Message> {
        let wanted = format!("a Data indication with {} bytes from {peer}", payload.len());
        match self.arrival()? {
            Arrival::Message(message)
                if message.kind() == DATA_METHOD | INDICATION
                    && message.address(PEER) == Some(peer)
                    && message.value(DATA) == Some(payload) =>
            {
                Ok(message)
            }
            Arrival::Message(message) if message.kind() == DATA_METHOD | INDICATION => {
                let seen = match (message.address(PEER), message.value(DATA)) {
                    (Some(from), Some(data)) => {
                        format!("one with {} bytes from {from}, or other bytes", data.len())
                    }
                    _ => "one without XOR-PEER-ADDRESS or DATA".to_owned(),
                };
                Err(fail(wanted, seen))
            }
            other => Err(fail(wanted, other.describe())),
        }
    }

    /// Demands ChannelData with this payload.
    pub(super) fn expect_channel(&mut self, number: u16, payload: &[u8]) -> Finding {
        let arrival = self.arrival()?;
        let holds = matches!(&arrival, Arrival::Channel(n, p) if *n == number && p == payload);
        let wanted = format!("ChannelData on {number:#06x} with the {} bytes sent", payload.len());
        demand(holds, wanted, arrival.describe())
    }

    /// The next arrival before `until`; second answers to answered requests are passed over.
    fn next(&mut self, until: Instant) -> Finding<Option<Arrival>> {
        while let Some(len) = self.link.receive(until, &mut self.buffer)? {
            let bytes = self.buffer.get(..len).unwrap_or_default();
            let arrival = Arrival::read(bytes);
            if let Arrival::Message(message) = &arrival {
                self.stage.note_message(message);
                if message.is_response() && self.answered.contains(&message.id()) {
                    continue;
                }
            }
            return Ok(Some(arrival));
        }
        Ok(None)
    }

    fn release(&mut self) -> Finding {
        let release = self.dress()?.on(Draft::refresh(0));
        self.send(release.bytes())?;
        let until = clock::now() + RELEASE_WAIT;
        while let Some(arrival) = self.next(until)? {
            match arrival {
                Arrival::Message(answer) if answer.id() == release.id() => break,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if !self.relayed.is_empty() {
            // A server that does not answer any more releases it by itself, later.
            self.release().ok();
        }
    }
}
