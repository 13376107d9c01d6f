//! What the benchmarks share: a server without sockets, and clients that fill it.
//!
//! The benchmarks themselves are `codec.rs`, `forward.rs`, `media.rs`, `flood.rs` and `expiry.rs`; whole relays under
//! load are `relay_load/`.
#![expect(clippy::missing_panics_doc, reason = "a benchmark whose server refuses must stop")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::addr::{ClientAddr, FiveTuple, ListenerId, PeerAddr, RelayId, Side, Transport};
use proto::auth::ms_token::{self, MsCredential, TokenGrant};
use proto::auth::{Authority, Credential, Grant, KeyId, KeyRing, PoolKey, Secret, mint};
use proto::channel_data::{self, ChannelNumber};
use proto::dialect::{PerDialect, ms};
use proto::now::{Now, UnixTime};
use proto::policy::{Bandwidth, Edge, Limits, Listener, LocalLedger, PeerAcl, RelayAddress};
use proto::stun::attribute::{
    Channel, Lifetime, Nonce, PROTOCOL_UDP, Realm, RequestedTransport, Username, XorPeerAddress,
};
use proto::stun::{
    Class, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId, Writer,
};
use proto::turn::config::{Compat, Measured, MobilityPolicy, Redirect, Share, Terms};
use proto::turn::{Action, Config, Rate, Server, Throttle};

const REALM: &str = "turn.example.org";
const FIRST_CHANNEL: u16 = 0x4000;

/// One client's allocation, as the shell of a server knows it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The client.
    pub client: FiveTuple,
    /// Its relayed socket.
    pub relay: RelayId,
    /// The peer its only channel leads to.
    pub peer: PeerAddr,
}

impl Call {
    /// A ChannelData message of this call.
    pub fn channel_data(&self, payload: &[u8]) -> Vec<u8> {
        let number = ChannelNumber::new(FIRST_CHANNEL).expect("the first channel");
        let len = u16::try_from(payload.len()).expect("a payload of one datagram");
        [&channel_data::header(number, len)[..], payload].concat()
    }
}

/// A server and the time it is told.
#[derive(Debug)]
pub struct Stage {
    /// The server.
    pub server: Server<LocalLedger>,
    /// The time.
    pub now: Now,
    credential: Credential,
    key: MessageKey,
    token: MsCredential,
    transactions: u64,
}

impl Stage {
    /// An empty server at some time.
    pub fn new() -> Self {
        Self::configured(|_| ())
    }

    /// The same, which limits what strangers hear, as a relay does.
    #[must_use]
    pub fn throttled() -> Self {
        let Self { server, now, credential, key, token, transactions } = Self::new();
        let throttle = Throttle::new(Rate { per_s: 50, burst: 100 }, 7, now.mono);
        let server = server.throttled(Arc::new(throttle));
        Self { server, now, credential, key, token, transactions }
    }

    /// A request of a stranger; with a name and a wrong password if it pretends to be somebody.
    pub fn stranger(&self, method: Method, pretends: bool) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, TransactionId([7; 12]));
        if method == Method::ALLOCATE {
            writer.add(&RequestedTransport(PROTOCOL_UDP));
        }
        if pretends {
            writer.add(&Username(&self.credential.username)).add(&Realm(REALM));
            writer.add(&Nonce(b"obMatJos2AAABAAAAAAAAAAAAAAAAAAA"));
            let algorithm = PasswordAlgorithm::Md5;
            let wrong = MessageKey::long_term(algorithm, "somebody", REALM, "a guess");
            writer.sign(&wrong, Integrity::Sha1);
        }
        writer.finish().expect("a request fits").to_vec()
    }

    /// The same, which measures how well media arrives.
    #[must_use]
    pub fn measuring() -> Self {
        Self::configured(|config| {
            config.measured = Some(Measured { every: NonZeroU32::MIN, whole: false });
        })
    }

    /// The same, which speaks MS-TURN too.
    pub fn microsoft() -> Self {
        Self::configured(|config| config.microsoft = true)
    }

    fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let now = Now { mono: start(), unix: UnixTime(1_800_000_000) };
        let pool_key = pool_key();
        let grant = Grant::new("bench", now.unix.plus(80_000));
        let credential = mint(&pool_key, &grant).expect("a user name that can be minted");
        let Credential { username, password } = &credential;
        let key = MessageKey::long_term(PasswordAlgorithm::Md5, username, REALM, password);
        let token = TokenGrant { identity: "sip:bench", expires: grant.expires, side: None };
        let token = ms_token::mint(&pool_key, &token, 1).expect("a salt that does");
        let mut config = config(pool_key);
        change(&mut config);
        let server = Server::new(Arc::new(config), LocalLedger::new(), [7; 32]);
        Self { server, now, credential, key, token, transactions: 0 }
    }

    /// Opens an allocation for the client with this number and binds its channel.
    pub fn call(&mut self, number: u32) -> Call {
        let [_, a, b, c] = number.to_be_bytes();
        let address = SocketAddrV4::new(Ipv4Addr::new(81, a, b, c), 40_000);
        let client =
            FiveTuple { listener: ListenerId(0), client: ClientAddr::new(SocketAddr::V4(address)) };
        let peer = SocketAddr::from(([82, a, b, c], 5_000));
        let nonce = self.challenge(client);
        let relay = self.request(client, &nonce, Method::ALLOCATE, |writer| {
            writer.add(&RequestedTransport(PROTOCOL_UDP));
        });
        self.request(client, &nonce, Method::CHANNEL_BIND, |writer| {
            writer.add(&Channel(FIRST_CHANNEL)).add(&XorPeerAddress(peer));
        });
        let relay = relay.expect("an allocation opens a socket");
        Call { client, relay, peer: PeerAddr::new(peer) }
    }

    /// Opens an allocation for an MS-TURN client with this number and sets its active destination.
    pub fn aimed(&mut self, number: u32) -> Call {
        let [_, a, b, c] = number.to_be_bytes();
        let address = SocketAddr::from(([83, a, b, c], 40_000));
        let client = FiveTuple { listener: ListenerId(0), client: ClientAddr::new(address) };
        let peer = SocketAddr::from(([82, a, b, c], 5_000));
        let (challenge, _) = self.ask_ms(client, ms::Kind::ALLOCATE, |_| ());
        let challenge = ms::Message::parse(&challenge).expect("a challenge");
        let nonce = challenge.first(ms::Type::NONCE).expect("a nonce in the challenge");
        let MsCredential { username, password } = self.token.clone();
        let algorithm = PasswordAlgorithm::Md5;
        let key = MessageKey::long_term(algorithm, &username, REALM, &password[..]);
        let (_, relay) = self.ask_ms(client, ms::Kind::ALLOCATE, |writer| {
            writer
                .append(ms::Type::REALM, REALM.as_bytes())
                .append(ms::Type::NONCE, nonce)
                .append(ms::Type::USERNAME, &username)
                .sign(&key);
        });
        let (answer, _) = self.ask_ms(client, ms::Kind::SET_ACTIVE_DESTINATION, |writer| {
            writer
                .append(ms::Type::USERNAME, &username)
                .address(ms::Type::DESTINATION_ADDRESS, peer)
                .sign(&key);
        });
        let answer = ms::Message::parse(&answer).expect("an answer that can be read");
        assert_eq!(answer.kind(), ms::Kind::SET_ACTIVE_DESTINATION.success());
        let relay = relay.expect("an allocation opens a socket");
        Call { client, relay, peer: PeerAddr::new(peer) }
    }

    /// Passes in a request of MS-TURN; its answer, and the socket that was opened, if one was.
    fn ask_ms(
        &mut self,
        client: FiveTuple,
        kind: ms::Kind,
        fill: impl FnOnce(&mut ms::Writer<'_>),
    ) -> (Box<[u8]>, Option<RelayId>) {
        let mut buffer = [0; 1024];
        let TransactionId(id) = self.transaction();
        let mut transaction = [0; 16];
        transaction[..12].copy_from_slice(&id);
        let mut writer = ms::Writer::new(&mut buffer, kind, ms::Transaction(transaction));
        fill(&mut writer);
        let request = writer.finish().expect("a request fits");
        self.server.client_input(self.now, client, request);
        let (response, opened) = self.carry_out();
        (response.expect("a response"), opened)
    }

    /// Refreshes an allocation.
    pub fn refresh(&mut self, call: &Call, nonce: &[u8], seconds: u32) {
        self.request(call.client, nonce, Method::REFRESH, |writer| {
            writer.add(&Lifetime(seconds));
        });
    }

    /// A nonce for this client.
    pub fn challenge(&mut self, client: FiveTuple) -> Vec<u8> {
        let mut buffer = [0; 64];
        let transaction = self.transaction();
        let writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, transaction);
        let request = writer.finish().expect("a header fits");
        self.server.client_input(self.now, client, request);
        let (response, _) = self.carry_out();
        let response = response.expect("a challenge");
        let message = Message::parse(&response).expect("a response that can be read");
        let Nonce(nonce) = message.require().expect("a nonce in the challenge");
        nonce.to_vec()
    }

    /// Passes in a signed request that must succeed; the socket that was opened, if one was.
    fn request(
        &mut self,
        client: FiveTuple,
        nonce: &[u8],
        method: Method,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Option<RelayId> {
        let mut buffer = [0; 1024];
        let transaction = self.transaction();
        let mut writer = Writer::new(&mut buffer, Class::Request, method, transaction);
        fill(&mut writer);
        writer.add(&Username(&self.credential.username)).add(&Realm(REALM)).add(&Nonce(nonce));
        writer.sign(&self.key, Integrity::Sha1);
        let request = writer.finish().expect("a request fits");
        self.server.client_input(self.now, client, request);
        let (response, opened) = self.carry_out();
        let response = response.expect("a response");
        let message = Message::parse(&response).expect("a response that can be read");
        assert_eq!(message.class(), Class::Success, "{method:?} is refused");
        opened
    }

    /// Opens and closes sockets that do not exist; the last response and the last socket.
    pub fn carry_out(&mut self) -> (Option<Box<[u8]>>, Option<RelayId>) {
        let (mut response, mut opened) = (None, None);
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::OpenRelay { id, .. } => {
                    opened = Some(id);
                    self.server.relay_opened(self.now, id, Ok(()));
                }
                Action::Send { bytes, .. } => response = Some(bytes),
                Action::CloseRelay(_)
                | Action::CloseClient(_)
                | Action::HandOver { .. }
                | Action::Divert(_)
                | Action::EndDiversion(_)
                | Action::ListenRelay { .. }
                | Action::ConnectPeer { .. }
                | Action::Join { .. }
                | Action::ClosePeer(_)
                | Action::Changed(_) => {}
            }
        }
        while self.server.poll_notice().is_some() {}
        (response, opened)
    }

    /// Lets time pass and ends what has expired.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.advanced(by);
        self.server.timeout(self.now);
    }

    fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(bytes)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "an Instant to start from cannot be made otherwise")]
fn start() -> Instant {
    Instant::now()
}

fn pool_key() -> PoolKey {
    let secret = |byte| Secret::new(vec![byte; 32]);
    PoolKey {
        id: KeyId([1; 4]),
        credentials: secret(2),
        nonces: secret(3),
        users: secret(4),
        tickets: secret(5),
        tokens: secret(5),
        ms_tokens: secret(6),
    }
}

fn config(pool_key: PoolKey) -> Config {
    let listener = Listener {
        local: SocketAddr::from(([93, 184, 216, 34], 3478)),
        advertised: None,
        transport: Transport::Udp,
        side: Side::External,
        anycast: false,
    };
    let relay = |last| {
        let local = Ipv4Addr::new(93, 184, 217, last).into();
        RelayAddress { local, advertised: local }
    };
    let limit = 200_000;
    Config {
        realm: REALM.into(),
        software: None,
        edge: Edge::new(vec![listener], (1..=4).map(relay).collect(), vec![]),
        peers: PeerAcl::default(),
        limits: Limits {
            allocations: limit,
            allocations_per_user: limit,
            allocations_per_client: limit,
            permissions: 16,
            channels: 16,
            new_peers_per_minute: 256,
            new_peers_per_minute_per_user: limit,
            new_peers_per_minute_per_client: limit,
            peer_connections: 16,
            peer_connections_waiting: 16,
            peer_connections_per_user: limit,
            peer_connections_per_client: limit,
            peer_connections_total: limit,
        },
        authority: Authority {
            ring: Some(KeyRing { current: pool_key, previous: vec![] }),
            rest_secrets: vec![],
            users: None,
            tokens: None,
            max_lifetime_s: 86_400,
        },
        ports: 10_000..=49_999,
        share: Share { index: 0, of: 1 },
        lifetime_max: Duration::from_secs(3_600),
        nonce_lifetime: Duration::from_secs(3_600),
        refresh_grace: Duration::from_secs(600),
        port_quarantine: Duration::ZERO,
        compat: Compat::default(),
        mobility: MobilityPolicy::Ignored,
        udp_relays: true,
        tcp_relays: false,
        microsoft: false,
        terms: PerDialect {
            rfc: Terms::rfc(Bandwidth::UNLIMITED),
            ms: Terms::microsoft(
                Bandwidth::UNLIMITED,
                Duration::from_secs(600),
                Duration::from_secs(3_600),
            ),
        },
        redirect: Redirect::default(),
        measured: None,
    }
}
