//! What idle allocations weigh in a worker: its server, the ledger, what is remembered of them, and
//! with rings where their relayed ports are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use proto::auth::Secret;
use proto::auth::credential::mint_rest;
use proto::now::Now;
use proto::stun::attribute::{
    Channel, Lifetime, Nonce, PROTOCOL_UDP, Realm, RequestedTransport, Username, XorPeerAddress,
};
use proto::stun::{
    Class, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId, Writer,
};
use proto::turn::{Action, Server};

use crate::Config;
use crate::chronicle::Chronicle;
use crate::clock::Clock;
use crate::engine::{OCTETS_OF_ADDRESS, Places};
use crate::ledger::SharedLedger;
use crate::sys::Mapping;

const SECRET: &str = "a secret of more than sixteen bytes";
const REALM: &str = "turn.example.org";
const RELAY: [u8; 4] = [127, 0, 0, 1];

/// Allocations: one for each port that is relayed where nothing else is configured.
const ALLOCATIONS: u32 = 10_000;

/// A worker's memory of its allocations, and the time.
struct Worker {
    now: Now,
    server: Server<SharedLedger>,
    chronicle: Chronicle,
    places: Places,
}

impl Worker {
    fn new() -> Self {
        let text = format!(
            "realm = \"{REALM}\"\nworkers = 1\n[auth]\nrest_secrets = [\"{SECRET}\"]\n[[listen]]\n\
             address = \"127.0.0.1:3478\"\n[relay]\naddresses = [{{ local = \"127.0.0.1\" }}]\n\
             [limits]\nallocations = {ALLOCATIONS}"
        );
        let config = Config::from_toml(&text, "test", None).unwrap();
        let ips = [IpAddr::from(RELAY)];
        let owners = Mapping::anonymous(OCTETS_OF_ADDRESS).unwrap();
        let ledger = SharedLedger::new(ips).of_worker(0);
        Self {
            now: Clock::new().last(),
            server: Server::new(config.server(0).into(), ledger, [7; 32]),
            chronicle: Chronicle::new(0),
            places: Places::new(&ips, *config.ports.start(), owners, 0),
        }
    }

    /// A request of a client, signed if there is a nonce; the answer to it.
    fn ask(
        &mut self,
        client: u32,
        method: Method,
        nonce: Option<&[u8]>,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Box<[u8]> {
        let mut buffer = [0; 512];
        let transaction = TransactionId([u8::from(nonce.is_some()); 12]);
        let mut writer = Writer::new(&mut buffer, Class::Request, method, transaction);
        fill(&mut writer);
        if let Some(nonce) = nonce {
            let secret = Secret::new(SECRET.as_bytes().to_vec());
            let until = self.now.unix.plus(600);
            let minted = mint_rest(&secret, &format!("caller{client:06}"), until).unwrap();
            writer.add(&Username(&minted.username)).add(&Realm(REALM)).add(&Nonce(nonce));
            let (name, password) = (&minted.username, &minted.password);
            let key = MessageKey::long_term(PasswordAlgorithm::Md5, name, REALM, password);
            writer.sign(&key, Integrity::Sha1);
        }
        let request = writer.finish().unwrap();
        let [_, a, b, c] = client.to_be_bytes();
        let address = ClientAddr::new(SocketAddr::from(([10, a, b, c], 40_000)));
        let client = FiveTuple { listener: ListenerId(0), client: address };
        let _ = self.server.client_input(self.now, client, request);
        self.carry_out().expect("an answer")
    }

    fn carry_out(&mut self) -> Option<Box<[u8]>> {
        let mut answer = None;
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::OpenRelay { id, want } => {
                    assert!(self.places.open_relay(id, want));
                    self.server.relay_opened(self.now, id, Ok(()));
                }
                Action::CloseRelay(id) => self.places.close_relay(id),
                Action::Send { bytes, .. } => answer = Some(bytes),
                Action::Changed(change) => self.chronicle.follow(self.now, &change),
                other => panic!("{other:?} of an idle client"),
            }
        }
        self.chronicle.take_refusals(self.now, &mut self.server);
        answer
    }

    /// A request that must succeed.
    fn succeed(
        &mut self,
        client: u32,
        method: Method,
        nonce: &[u8],
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        let answer = self.ask(client, method, Some(nonce), fill);
        let class = Message::parse(&answer).unwrap().class();
        assert_eq!(class, Class::Success, "{method:?} of {client}");
    }

    /// Every client does this, in turn.
    fn each(&mut self, does: impl Fn(&mut Self, u32, &[u8])) {
        for client in 0..ALLOCATIONS {
            self.now.mono += Duration::from_millis(100);
            let challenge = self.ask(client, Method::ALLOCATE, None, |_| ());
            let challenge = Message::parse(&challenge).unwrap();
            let Nonce(nonce) = challenge.require().unwrap();
            does(self, client, nonce);
        }
    }

    fn allocate(&mut self, client: u32, nonce: &[u8]) {
        self.succeed(client, Method::ALLOCATE, nonce, |writer| {
            writer.add(&RequestedTransport(PROTOCOL_UDP));
        });
    }

    fn bind(&mut self, client: u32, nonce: &[u8]) {
        self.succeed(client, Method::CHANNEL_BIND, nonce, |writer| {
            let peer = SocketAddr::from(([93, 184, 216, 34], 5_000));
            writer.add(&Channel(0x4000)).add(&XorPeerAddress(peer));
        });
    }

    fn release(&mut self, client: u32, nonce: &[u8]) {
        self.succeed(client, Method::REFRESH, nonce, |writer| {
            writer.add(&Lifetime(0));
        });
    }
}

#[test]
fn an_idle_allocation_takes_little_memory_whatever_was_before_it() {
    let mut held = 0;
    let mut weigh = |does: &mut dyn FnMut()| {
        held += allocation_counter::measure(does).bytes_current;
        held / i64::from(ALLOCATIONS)
    };
    let mut worker = None;
    let empty = weigh(&mut || worker = Some(Worker::new()));
    let worker = worker.as_mut().unwrap();
    let idle = weigh(&mut || worker.each(Worker::allocate));
    let bound = weigh(&mut || worker.each(Worker::bind));
    let ended = weigh(&mut || worker.each(Worker::release));
    let again = weigh(&mut || worker.each(Worker::allocate));
    for (case, bytes, most) in [
        ("before any", empty, 515),
        ("idle", idle, 1_110),
        ("with a channel", bound, 1_420),
        ("when all have ended", ended, 730),
        ("after others", again, 1_170),
    ] {
        assert!(bytes <= most, "{case}: {bytes} bytes");
        assert!(bytes > most - most / 10, "{case}: {bytes} bytes: a bound of {most} is too easy");
    }
}
