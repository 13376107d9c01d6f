//! What can be seen from inside only: several servers on one ledger, a shell that answers late,
//! sizes. Whatever a client can see is tested from outside, in `tests/rfc8656`.

mod arrivals;
mod mobility;
mod tap;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::addr::{
    Carried, ClientAddr, Family, FiveTuple, ListenerId, PeerAddr, RelayId, RelayedAddr, Side,
    Transport, steer,
};
use crate::auth::{Authority, Credential, Grant, KeyRing, PoolKey, TokenKeys, mint};
use crate::dialect::PerDialect;
use crate::now::Now;
use crate::now::tests::start;
use crate::policy::bandwidth::Shares;
use crate::policy::{
    Bandwidth, Claim, Crowded, Edge, Halt, Lease, Ledger, Limits, Listener, LocalLedger, NewPeers,
    PeerAcl, PeerLease, RelayAddress, Reservation, UserKey,
};
use crate::reject::{DropReason, Why};
use crate::stun::attribute::{
    Channel, ErrorCode, EvenPort, Lifetime, MobilityTicket, Nonce, PROTOCOL_UDP, Realm,
    RequestedTransport, ReservationToken, Software, Username, XorPeerAddress, XorRelayedAddress,
};
use crate::stun::{
    AttributeType, Class, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId,
    Writer,
};
use crate::turn::action::{Action, OpenFailure, Verdict};
use crate::turn::can_challenge;
use crate::turn::config::{Compat, Config, Measured, MobilityPolicy, Redirect, Share, Terms};
use crate::turn::server::Server;
use crate::turn::throttle::{Rate, Throttle};

const REALM: &str = "turn.example.org";

/// A ledger that several servers hold.
#[derive(Clone, Debug, Default)]
struct Shared(Rc<RefCell<LocalLedger>>);

impl Ledger for Shared {
    fn lease(&mut self, claim: &Claim, limits: &Limits) -> Result<(Lease, Shares), Why> {
        self.0.borrow_mut().lease(claim, limits)
    }
    fn release(&mut self, lease: Lease) {
        self.0.borrow_mut().release(lease);
    }
    fn connect(&mut self, lease: &Lease, limits: &Limits) -> Result<PeerLease, Crowded> {
        self.0.borrow_mut().connect(lease, limits)
    }
    fn disconnect(&mut self, lease: PeerLease) {
        self.0.borrow_mut().disconnect(lease);
    }
    fn meet(&mut self, lease: &Lease, new: NewPeers, limits: &Limits) -> Result<(), Halt> {
        self.0.borrow_mut().meet(lease, new, limits)
    }
    fn set_live(&mut self, relayed: RelayedAddr, carried: Carried, live: bool) {
        self.0.borrow_mut().set_live(relayed, carried, live);
    }
    fn is_live(&self, relayed: RelayedAddr, carried: Carried) -> bool {
        self.0.borrow().is_live(relayed, carried)
    }
    fn reserve(&mut self, token: [u8; 8], reservation: Reservation) {
        self.0.borrow_mut().reserve(token, reservation);
    }
    fn redeem(
        &mut self,
        token: [u8; 8],
        user: UserKey,
        claim: &Claim,
        limits: &Limits,
    ) -> Result<(RelayedAddr, Lease, Shares), Why> {
        self.0.borrow_mut().redeem(token, user, claim, limits)
    }
    fn lapse(&mut self, token: [u8; 8]) -> bool {
        self.0.borrow_mut().lapse(token)
    }
    fn give_back(&mut self, owner: u16, relayed: RelayedAddr) {
        self.0.borrow_mut().give_back(owner, relayed);
    }
    fn take_back(&mut self, owner: u16) -> Vec<RelayedAddr> {
        self.0.borrow_mut().take_back(owner)
    }
}

fn config(share: Share) -> Config {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let listener = Listener {
        local: "93.184.216.34:3478".parse().unwrap(),
        advertised: None,
        transport: Transport::Udp,
        side: Side::External,
        anycast: false,
    };
    let relays = vec![RelayAddress { local: ip("10.0.0.5"), advertised: ip("93.184.216.35") }];
    Config {
        realm: REALM.into(),
        software: None,
        edge: Edge::new(vec![listener], relays, vec![]),
        peers: PeerAcl::default(),
        limits: Limits {
            allocations: 100,
            allocations_per_user: 8,
            allocations_per_client: 100,
            permissions: 16,
            channels: 16,
            new_peers_per_minute: 256,
            new_peers_per_minute_per_user: 1024,
            new_peers_per_minute_per_client: 2048,
            peer_connections: 16,
            peer_connections_waiting: 4,
            peer_connections_per_user: 16,
            peer_connections_per_client: 16,
            peer_connections_total: 16,
        },
        authority: Authority {
            ring: Some(KeyRing { current: PoolKey::of_test(1), previous: vec![] }),
            rest_secrets: vec![],
            users: None,
            tokens: None,
            max_lifetime_s: 86_400,
        },
        ports: 50_000..=50_099,
        share,
        lifetime_max: Duration::from_secs(3_600),
        nonce_lifetime: Duration::from_secs(600),
        refresh_grace: Duration::from_secs(600),
        port_quarantine: Duration::from_secs(60),
        compat: Compat::default(),
        mobility: MobilityPolicy::Allowed,
        udp_relays: true,
        tcp_relays: true,
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
        measured: Some(Measured { every: NonZeroU32::MIN, whole: false }),
    }
}

/// One server with a client that knows its nonce.
struct Stage {
    server: Server<Shared>,
    now: Now,
    client: FiveTuple,
    credential: Credential,
    next: u64,
    /// Actions that ask for no answer.
    others: Vec<Action>,
}

impl Stage {
    fn new(ledger: &Shared, share: Share, port: u16) -> Self {
        let now = start();
        let grant = Grant::new("alice", now.unix.plus(3_600));
        Self {
            server: Server::new(Arc::new(config(share)), ledger.clone(), [7; 32]),
            now,
            client: FiveTuple {
                listener: ListenerId(0),
                client: ClientAddr::new(SocketAddr::from(([81, 2, 69, 1], port))),
            },
            credential: mint(&PoolKey::of_test(1), &grant).unwrap(),
            next: 0,
            others: Vec::new(),
        }
    }

    fn alone() -> Self {
        Self::new(&Shared::default(), Share { index: 0, of: 1 }, 5000)
    }

    /// Passes a request in, signed with a nonce that is good.
    fn ask(&mut self, method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Verdict {
        self.next += 1;
        self.ask_as(self.next, method, fill)
    }

    fn ask_as(&mut self, id: u64, method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Verdict {
        let mut transaction = TransactionId([0; 12]);
        transaction.0[4..].copy_from_slice(&id.to_be_bytes());
        let Credential { username, password } = &self.credential;
        let key = MessageKey::long_term(PasswordAlgorithm::Md5, username, REALM, password);
        let nonce = self.server.nonces.issue(self.now, self.client.client, Transport::Udp);
        let mut buffer = [0; 2_000];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, transaction);
        fill(&mut writer);
        writer.add(&Username(username)).add(&Realm(REALM)).add(&Nonce(&nonce));
        writer.sign(&key, Integrity::Sha1);
        let verdict = self.server.client_input(self.now, self.client, writer.finish().unwrap());
        self.server.check();
        verdict
    }

    fn allocate(&mut self, fill: impl FnOnce(&mut Writer<'_>)) -> Verdict {
        self.ask(Method::ALLOCATE, |writer| {
            writer.add(&RequestedTransport(PROTOCOL_UDP));
            fill(writer);
        })
    }

    /// Sockets open; the last response is returned.
    fn carry_out(&mut self) -> Option<Vec<u8>> {
        let mut response = None;
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::OpenRelay { id, .. } => self.server.relay_opened(self.now, id, Ok(())),
                Action::Send { bytes, .. } => response = Some(bytes.into()),
                other => self.others.push(other),
            }
            self.server.check();
        }
        response
    }

    fn opened(&mut self, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        self.allocate(fill);
        let response = self.carry_out().unwrap();
        assert_eq!(Message::parse(&response).unwrap().class(), Class::Success);
        response
    }

    fn advance(&mut self, seconds: u64) {
        self.now = self.now.advanced(Duration::from_secs(seconds));
        self.server.timeout(self.now);
        self.server.check();
    }

    fn relay(&self) -> RelayId {
        let (allocation, _) = self.server.table.iter_from(0).next().unwrap();
        RelayId { allocation, family: Family::V4 }
    }

    fn used(&self) -> u64 {
        self.server.tally().ports_used
    }
}

fn code(response: &[u8]) -> u16 {
    let error = Message::parse(response).unwrap().require::<ErrorCode<'_>>();
    error.map_or(0, |error| error.code)
}

fn token(response: &[u8]) -> [u8; 8] {
    let ReservationToken(token) = Message::parse(response).unwrap().require().unwrap();
    token
}

fn relayed(response: &[u8]) -> SocketAddr {
    let XorRelayedAddress(addr) = Message::parse(response).unwrap().require().unwrap();
    addr
}

#[test]
fn alloc_013_a_token_is_redeemed_at_another_worker_and_the_port_comes_home() {
    let ledger = Shared::default();
    let mut first = Stage::new(&ledger, Share { index: 0, of: 2 }, 5000);
    let mut second = Stage::new(&ledger, Share { index: 1, of: 2 }, 5001);
    let response = first.opened(|writer| {
        writer.add(&EvenPort(true));
    });
    let even = relayed(&response);
    assert_eq!(first.used(), 2);
    let other = second.opened(|writer| {
        writer.add(&ReservationToken(token(&response)));
    });
    assert_eq!(relayed(&other).port(), even.port() + 1);
    assert_eq!(second.used(), 0, "the port is not of its share");
    first.advance(30);
    assert_eq!(first.used(), 2, "lent");
    second.ask(Method::REFRESH, |writer| {
        writer.add(&Lifetime(0));
    });
    second.carry_out();
    first.advance(1);
    assert_eq!(first.used(), 1, "home again");
    assert_eq!(ledger.0.borrow().charged(), 1);
    assert_eq!(ledger.0.borrow().live(), 1);
}

#[test]
fn alloc_013_reservations_count_against_their_user_until_they_lapse() {
    let mut stage = Stage::alone();
    let release = |stage: &mut Stage| {
        stage.ask(Method::REFRESH, |writer| {
            writer.add(&Lifetime(0));
        });
        stage.carry_out();
    };
    for _ in 0..7 {
        stage.opened(|writer| {
            writer.add(&EvenPort(true));
        });
        release(&mut stage);
    }
    stage.allocate(|writer| {
        writer.add(&EvenPort(true));
    });
    assert_eq!(code(&stage.carry_out().unwrap()), 486, "seven are kept, there is room for one");
    stage.opened(|_| {});
    release(&mut stage);
    stage.advance(30);
    assert_eq!(stage.used(), 0);
    stage.opened(|writer| {
        writer.add(&EvenPort(true));
    });
}

#[test]
fn alloc_004_a_retransmission_while_the_socket_opens_starts_nothing() {
    let mut stage = Stage::alone();
    let plain = |writer: &mut Writer<'_>| {
        writer.add(&RequestedTransport(PROTOCOL_UDP));
    };
    assert_eq!(stage.ask_as(1, Method::ALLOCATE, plain), Verdict::Handled);
    let again = stage.ask_as(1, Method::ALLOCATE, plain);
    assert_eq!(again, Verdict::Dropped(DropReason::AwaitingSocket));
    assert_eq!(stage.used(), 1);
    let first = stage.carry_out().unwrap();
    assert_eq!(stage.ask_as(1, Method::ALLOCATE, plain), Verdict::Handled);
    let second = stage.carry_out().unwrap();
    assert_eq!(relayed(&first), relayed(&second));
    assert_eq!(stage.server.tally().opened, 1);
}

#[test]
fn sec_016_the_same_transaction_with_other_bytes_is_another_request() {
    let mut stage = Stage::alone();
    for (lifetime, expected) in [(600, 0), (600, 0), (601, 437)] {
        stage.ask_as(1, Method::ALLOCATE, |writer| {
            writer.add(&RequestedTransport(PROTOCOL_UDP)).add(&Lifetime(lifetime));
        });
        assert_eq!(code(&stage.carry_out().unwrap()), expected);
    }
}

#[test]
fn alloc_019_ports_that_others_hold_are_tried_a_bounded_number_of_times() {
    let mut stage = Stage::alone();
    stage.allocate(|_| {});
    let (mut asked, mut response) = (Vec::new(), None);
    while let Some(action) = stage.server.poll_action() {
        match action {
            Action::OpenRelay { id, want } => {
                asked.push(want);
                let outcome = Err(OpenFailure::PortTaken);
                stage.server.relay_opened(stage.now, id, outcome);
            }
            Action::Send { bytes, .. } => response = Some(bytes),
            other => panic!("nothing was open: {other:?}"),
        }
        stage.server.check();
    }
    assert_eq!(code(&response.unwrap()), 508);
    let tried = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!((tried, asked.len()), (8, 8), "each time another port");
    assert_eq!(stage.server.ledger.0.borrow().charged(), 0, "failures are not charged");
    assert_eq!(stage.used(), 0);
}

#[test]
fn sec_018_a_socket_that_opens_after_the_shut_down_is_closed() {
    let ledger = Shared::default();
    let mut stage = Stage::new(&ledger, Share { index: 0, of: 1 }, 5000);
    stage.allocate(|writer| {
        writer.add(&EvenPort(true));
    });
    let Some(Action::OpenRelay { id, .. }) = stage.server.poll_action() else {
        panic!("a socket is wanted");
    };
    stage.server.shut_down(stage.now);
    stage.server.check();
    assert!(stage.server.is_drained());
    stage.server.relay_opened(stage.now, id, Ok(()));
    assert_eq!(stage.server.poll_action(), Some(Action::CloseRelay(id)));
    assert_eq!(stage.server.poll_action(), None);
    assert_eq!((stage.used(), ledger.0.borrow().charged()), (0, 0));
}

#[test]
fn alloc_022_a_stale_relay_id_finds_nothing() {
    let mut stage = Stage::alone();
    stage.opened(|_| {});
    let over = stage.relay();
    stage.advance(600);
    stage.carry_out();
    stage.opened(|_| {});
    let fresh = stage.relay();
    assert_eq!(fresh.allocation.slot, over.allocation.slot, "the slot is reused");
    let peer = PeerAddr::new("45.33.32.1:9".parse().unwrap());
    let verdict = stage.server.peer_input(stage.now, over, peer, b"late");
    assert_eq!(verdict, Verdict::Dropped(DropReason::StaleRelay));
    let verdict = stage.server.peer_input(stage.now, fresh, peer, b"early");
    assert_eq!(verdict, Verdict::Dropped(DropReason::NoPermission));
}

#[test]
fn sec_005_two_clients_meet_behind_one_nat() {
    let ledger = Shared::default();
    let mut alice = Stage::new(&ledger, Share { index: 0, of: 2 }, 5000);
    let mut bob = Stage::new(&ledger, Share { index: 1, of: 2 }, 5001);
    let (to_alice, to_bob) = (relayed(&alice.opened(|_| {})), relayed(&bob.opened(|_| {})));
    assert_eq!(to_bob.ip(), "93.184.216.35".parse::<IpAddr>().unwrap(), "the public name");
    alice.ask(Method::CHANNEL_BIND, |writer| {
        writer.add(&Channel(0x4000)).add(&XorPeerAddress(to_bob));
    });
    bob.ask(Method::CREATE_PERMISSION, |writer| {
        writer.add(&XorPeerAddress(to_alice));
    });
    assert_eq!(code(&alice.carry_out().unwrap()), 0);
    assert_eq!(code(&bob.carry_out().unwrap()), 0);

    let data = [0x40, 0, 0, 2, 7, 7];
    let verdict = alice.server.client_input(alice.now, alice.client, &data);
    let Verdict::ToPeer { peer, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(peer.socket().to_string(), format!("10.0.0.5:{}", to_bob.port()), "local form");

    let from = PeerAddr::new(SocketAddr::new("10.0.0.5".parse().unwrap(), to_alice.port()));
    let verdict = bob.server.peer_input(bob.now, bob.relay(), from, &[7, 7]);
    let Verdict::ToClient { wrap: crate::dialect::Wrap::Indication(named, _), .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(named.socket(), to_alice, "the client hears the public name");

    let stranger = PeerAddr::new("10.0.0.5:22".parse().unwrap());
    let verdict = bob.server.peer_input(bob.now, bob.relay(), stranger, &[7]);
    assert_eq!(verdict, Verdict::Dropped(DropReason::PeerDenied), "no relayed port");

    bob.server.shut_down(bob.now);
    let verdict = alice.server.client_input(alice.now, alice.client, &data);
    assert_eq!(verdict, Verdict::Dropped(DropReason::PeerDenied), "bob's port is gone");
    alice.ask(Method::CHANNEL_BIND, |writer| {
        writer.add(&Channel(0x4001)).add(&XorPeerAddress(to_bob));
    });
    assert_eq!(code(&alice.carry_out().unwrap()), 403);
}

#[test]
fn sec_007_answers_to_strangers_stay_small() {
    let (ip, udp) = (20, 8);
    for (case, method, bound) in
        [("Binding", Method::BINDING, 1.25), ("Allocate", Method::ALLOCATE, 2.67)]
    {
        let mut stage = Stage::alone();
        let mut buffer = [0; 100];
        let writer = Writer::new(&mut buffer, Class::Request, method, TransactionId([3; 12]));
        let request = writer.finish().unwrap();
        stage.server.client_input(stage.now, stage.client, request);
        let response = stage.carry_out().unwrap();
        let wire = |bytes: &[u8]| f64::from(u32::try_from(ip + udp + bytes.len()).unwrap());
        let ratio = wire(&response) / wire(request);
        assert!(ratio <= bound, "{case}: {ratio}");
        assert!(!Message::parse(&response).unwrap().has(AttributeType::SOFTWARE), "{case}");
    }
}

#[test]
fn sec_007_a_challenge_that_would_weigh_much_more_than_its_request_is_not_sent() {
    let ask = |realm: usize, server_name: Option<usize>, attributes: usize, v6: bool| {
        let tokens = server_name.is_some();
        let mut stage = Stage::alone();
        let mut config = (*stage.server.config).clone();
        config.realm = "r".repeat(realm);
        let server_name = server_name.map(|len| "s".repeat(len));
        let greets = can_challenge(&config.realm, server_name.as_deref());
        config.authority.tokens =
            server_name.map(|server_name| TokenKeys { server_name, keys: Vec::new() });
        stage.server.reconfigure(stage.now, config.into(), &[7; 32]);
        if v6 {
            stage.client.client = ClientAddr::new("[2001:db8::9]:5000".parse().unwrap());
        }
        let mut buffer = [0; 200];
        let transaction = TransactionId([3; 12]);
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, transaction);
        if attributes > 0 {
            writer.add(&RequestedTransport(17));
        }
        if attributes > 1 {
            writer.add(&Software("somebody else's"));
        }
        let request = writer.finish().unwrap();
        let verdict = stage.server.client_input(stage.now, stage.client, request);
        let answer = stage.carry_out();
        let answered = answer.is_some();
        assert_eq!(answered, verdict == Verdict::Handled);
        assert_eq!(!answered, verdict == Verdict::Dropped(DropReason::Disproportionate));
        assert_eq!(stage.server.tally().rejected.iter().sum::<u64>(), u64::from(answered));
        let names = Message::parse(answer.as_deref().unwrap_or_default())
            .is_ok_and(|answer| answer.has(AttributeType::THIRD_PARTY_AUTHORIZATION));
        let told = if tokens { names } else { answered };
        assert!(attributes != 1 || v6 || told == greets, "{realm}");
        answered
    };
    for (realm, server_name, attributes, v6, answered) in [
        (20, None, 0, false, true),
        (21, None, 0, false, false),
        (40, None, 1, false, true),
        (41, None, 1, false, false),
        (41, None, 1, true, true),
        (127, None, 1, true, false),
        (80, None, 2, false, true),
        (12, Some(24), 1, false, true),
        (12, Some(25), 1, false, true),
        (20, Some(24), 0, false, true),
        (21, Some(24), 0, false, false),
    ] {
        let found = ask(realm, server_name, attributes, v6);
        assert_eq!(found, answered, "{realm} {server_name:?} {attributes} {v6}");
    }
}

#[test]
fn many_permissions_and_channels_live_and_die_like_few() {
    let mut stage = Stage::alone();
    stage.opened(|_| {});
    for n in 0..16_u8 {
        stage.ask(Method::CHANNEL_BIND, |writer| {
            let peer = SocketAddr::from(([45, 33, 32, n], 9000));
            writer.add(&Channel(0x4000 + u16::from(n))).add(&XorPeerAddress(peer));
        });
        stage.advance(1);
    }
    assert_eq!(stage.server.tally().rejected[Why::TooManyChannels.index()], 0);
    let tally = stage.server.tally();
    assert_eq!((tally.permissions, tally.channels), (16, 16));
    for n in 0..16_u8 {
        let payload = [0x40, n, 0, 0];
        let verdict = stage.server.client_input(stage.now, stage.client, &payload);
        assert!(
            matches!(verdict, Verdict::ToPeer { peer, .. }
            if peer.ip() == IpAddr::from([45, 33, 32, n])),
            "{n}"
        );
    }
    stage.advance(300 - 9);
    assert_eq!(stage.server.tally().permissions, 16 - 8, "the older half is over");
    stage.ask(Method::REFRESH, |_| {});
    stage.advance(600 - 300);
    assert_eq!(stage.server.tally().permissions, 0);
    assert_eq!(stage.server.tally().channels, 16 - 8);
    stage.advance(300);
    assert_eq!(stage.server.tally().allocations, 0);
    assert_eq!(stage.server.poll_timeout(), None, "nothing stays behind");
}

#[test]
fn the_same_seed_and_the_same_input_give_the_same_answers() {
    let play = || {
        let mut stage = Stage::alone();
        let now = stage.now;
        let mut heard = vec![stage.opened(|_| {})];
        for n in 0..20 {
            let peer = SocketAddr::from(([45, 33, 32, n % 7], 9000));
            stage.ask(Method::CREATE_PERMISSION, |writer| {
                writer.add(&XorPeerAddress(peer));
            });
            heard.extend(stage.carry_out());
            let relay = stage.relay();
            let verdict = stage.server.peer_input(now, relay, PeerAddr::new(peer), b"x");
            heard.push(format!("{verdict:?}").into_bytes());
        }
        heard
    };
    assert_eq!(play(), play());
}

#[test]
fn sec_007_a_flood_of_strangers_is_not_answered_and_hurts_no_login() {
    let mut stage = Stage::alone();
    let throttle = Throttle::new(Rate { per_s: 50, burst: 100 }, 1, stage.now.mono);
    stage.server = stage.server.throttled(Arc::new(throttle));
    let hears = |stage: &mut Stage, method| {
        let mut buffer = [0; 100];
        let writer = Writer::new(&mut buffer, Class::Request, method, TransactionId([3; 12]));
        stage.server.client_input(stage.now, stage.client, writer.finish().unwrap());
        stage.carry_out().is_some()
    };
    let methods = [Method::BINDING, Method::ALLOCATE].into_iter().cycle().take(1_000);
    let answered = methods.filter(|method| hears(&mut stage, *method)).count();
    assert_eq!(answered, 60, "what is left is for others behind the same address");
    assert_eq!(stage.server.tally().dropped[DropReason::Throttled.index()], 940);
    stage.opened(|_| {});
    assert!(hears(&mut stage, Method::BINDING), "who has an allocation is no stranger");
}
