//! Sessions without sockets: clients of the same library, a clock that is told.

use std::net::SocketAddr;

use dimpl::{Config, Dtls, DtlsCertificate};
use dtls_crypto::{provider, with_key};
use proto::addr::ClientAddr;
use proto::now::UnixTime;
use proto::turn::Action;

use super::*;
use crate::clock::Clock;
use crate::engine::Origin;

/// A Binding request with nothing in it.
const BINDING: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// The listeners of the configuration below.
const UDP: ListenerId = ListenerId(0);
const DTLS: ListenerId = ListenerId(1);

/// One worker's sessions and server, turned by hand.
struct Stage {
    sessions: Sessions,
    server: Server<SharedLedger>,
    batch: Batch,
    now: Now,
    certificates: Arc<Certificates>,
}

impl Stage {
    fn new(limits: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
        let write = |name: &str, text: String| {
            use std::os::unix::fs::PermissionsExt;
            let path = home.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let certificate = write("certificate.pem", made.cert.pem());
        let key = write("key.pem", made.signing_key.serialize_pem());
        let text = format!(
            "realm = \"r\"\nworkers = 1\n[auth]\nrest_secrets = [\"0123456789abcdef\"]\n\
             [limits]\n{limits}\n\
             [tls]\ncertificates = [{{ certificate = {certificate:?}, key = {key:?} }}]\n\
             [[listen]]\naddress = \"127.0.0.1:3478\"\n\
             [[listen]]\naddress = \"127.0.0.1:3478\"\ntransport = \"dtls\""
        );
        let config = crate::Config::from_toml(&text, "test", None).unwrap();
        let ledger = SharedLedger::new([]);
        let now = Now { mono: Clock::new().last().mono, unix: UnixTime(1_800_000_000) };
        let dtls = config.dtls();
        Self {
            certificates: dtls.certificates.clone().unwrap(),
            sessions: Sessions::new(dtls, ledger.clone(), &[7; 32], now.mono).unwrap(),
            server: Server::new(Arc::new(config.server(0)), ledger, [7; 32]),
            batch: Batch::new(),
            now,
        }
    }

    /// A datagram arrives; says what leaves, and that it goes where the datagram came from.
    fn feed(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        let client = ClientAddr::new(from);
        let socket = FiveTuple { listener: UDP, client };
        let arrival = self.batch.copied_frame(socket, datagram.into());
        assert_eq!(self.sessions.claims(UDP, datagram), Some(DTLS));
        let Self { sessions, server, batch, now, .. } = self;
        let mut turn = Turn { now: *now, server, batch, marks: Marks::PLAIN };
        sessions.hear(&mut turn, FiveTuple { listener: DTLS, client }, &arrival);
        self.carry_out()
            .into_iter()
            .inspect(|(to, _)| assert_eq!(*to, from))
            .map(|it| it.1)
            .collect()
    }

    fn carry_out(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        while let Some(action) = self.server.poll_action() {
            if let Action::Send { to, bytes } = action {
                assert!(self.sessions.serves(to.listener));
                self.sessions.reply(to, &bytes, &mut self.batch);
            }
        }
        let sent = self.batch.take_sent().into_iter();
        let by_socket = |(door, to, bytes)| {
            assert_eq!(door, Origin::Listener(UDP), "through the socket of UDP");
            (to, bytes)
        };
        sent.map(by_socket).collect()
    }

    /// Time passes; says what leaves.
    fn advance(&mut self, by: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        self.now.mono += by;
        let Self { sessions, server, batch, now, .. } = self;
        sessions.timeout(&mut Turn { now: *now, server, batch, marks: Marks::PLAIN });
        self.carry_out()
    }

    /// Counters, after a look whether they fit what is there.
    fn tally(&self) -> DtlsTally {
        let tally = self.sessions.tally();
        assert_eq!(tally.open, self.sessions.by_client.len() as u64);
        assert!(self.sessions.deadlines.len() <= 2 * self.sessions.by_client.len() + 64);
        tally
    }

    fn greeted(&self, greeting: Greeting) -> u64 {
        self.tally().greeted[greeting as usize]
    }

    fn parted(&self, parting: Parting) -> u64 {
        self.tally().parted[parting as usize]
    }
}

/// A client of the library.
struct Client {
    endpoint: Dtls,
    address: SocketAddr,
    heard: Vec<Vec<u8>>,
    connected: bool,
    closed: bool,
}

impl Client {
    fn new(stage: &Stage, version: Version, port: u16) -> Self {
        Self::at(stage, version, SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn at(stage: &Stage, version: Version, address: SocketAddr) -> Self {
        let config = Config::builder().with_crypto_provider(provider()).build().unwrap();
        let key = stage.certificates.for_dtls().unwrap();
        let certificate = key.end_entity_cert().unwrap().to_vec();
        let now = stage.now.mono;
        let mut endpoint = with_key(key, |private_key| {
            let certificate = DtlsCertificate { certificate, private_key };
            match version {
                Version::V12 => Dtls::new_12(Arc::new(config), certificate, now),
                Version::V13 => Dtls::new_13(Arc::new(config), certificate, now),
            }
        });
        endpoint.set_active(true);
        endpoint.handle_timeout(now).unwrap();
        Self { endpoint, address, heard: Vec::new(), connected: false, closed: false }
    }

    /// What it wants to send now.
    fn flight(&mut self) -> Vec<Vec<u8>> {
        let mut room = vec![0; DATAGRAM];
        let mut flight = Vec::new();
        loop {
            match self.endpoint.poll_output(&mut room) {
                dimpl::Output::Packet(packet) => flight.push(packet.to_vec()),
                dimpl::Output::Connected => self.connected = true,
                dimpl::Output::ApplicationData(data) => self.heard.push(data.to_vec()),
                dimpl::Output::CloseNotify => self.closed = true,
                dimpl::Output::Timeout(_) => return flight,
                _ => {}
            }
        }
    }

    /// Exchanges datagrams until nobody has more to say; `lost` says which of the server's and of
    /// its own are.
    fn talk_losing(&mut self, stage: &mut Stage, lost: &mut impl FnMut() -> bool) {
        loop {
            let flight = self.flight();
            if flight.is_empty() {
                return;
            }
            for datagram in flight {
                if lost() {
                    continue;
                }
                for answer in stage.feed(self.address, &datagram) {
                    if !lost() {
                        self.endpoint.handle_packet(&answer).unwrap();
                    }
                }
            }
        }
    }

    fn talk(&mut self, stage: &mut Stage) {
        self.talk_losing(stage, &mut || false);
    }

    fn say(&mut self, stage: &mut Stage, message: &[u8]) {
        assert_eq!(self.endpoint.send_application_data(message).unwrap(), message.len());
        self.talk(stage);
    }

    fn connect(stage: &mut Stage, version: Version, port: u16) -> Self {
        let mut client = Self::new(stage, version, port);
        client.talk(stage);
        assert!(client.connected, "{version:?}");
        client
    }
}

const VERSIONS: [Version; 2] = [Version::V12, Version::V13];

#[test]
fn stun_029_requests_over_dtls_are_answered_in_both_versions() {
    let mut stage = Stage::new("");
    for (version, port) in VERSIONS.into_iter().zip(5000..) {
        let mut client = Client::connect(&mut stage, version, port);
        client.say(&mut stage, &BINDING);
        let [answer] = &client.heard[..] else { panic!("{version:?}: {:?}", client.heard) };
        assert_eq!(answer[..2], [1, 1], "{version:?}");
        assert_eq!(answer[8..20], BINDING[8..], "{version:?}");
    }
    assert_eq!(stage.tally().finished, 2);
    assert_eq!(stage.greeted(Greeting::Asked), 2);
    assert_eq!(stage.greeted(Greeting::Taken), 2);
}

#[test]
fn auth_040_hellos_leave_nothing_behind_and_get_no_longer_answers() {
    let mut stage = Stage::new("");
    for version in VERSIONS {
        for host in 0..250 {
            let address = SocketAddr::from(([198, 51, 100, host], 4_000));
            let mut client = Client::at(&stage, version, address);
            for hello in client.flight() {
                let answers = stage.feed(address, &hello);
                assert_eq!(answers.len(), 1, "{version:?}: {:?}", stage.tally());
                assert!(answers[0].len() <= hello.len(), "{version:?}");
            }
        }
    }
    assert_eq!(stage.greeted(Greeting::Asked), 500);
    assert!(stage.sessions.by_client.is_empty() && stage.sessions.deadlines.is_empty());
    assert_eq!(stage.server.poll_timeout(), None);
}

#[test]
fn auth_040_a_cookie_is_worthless_elsewhere_and_later() {
    for version in VERSIONS {
        let mut stage = Stage::new("");
        let mut client = Client::new(&stage, version, 5_000);
        let hello = client.flight().concat();
        let asked = stage.feed(client.address, &hello).concat();
        client.endpoint.handle_packet(&asked).unwrap();
        let proof = client.flight().concat();
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 5_001));
        // DTLS 1.2 asks again, DTLS 1.3 may not (RFC 9147 §5.1).
        let (answers, greeting) = match version {
            Version::V12 => (1, Greeting::Asked),
            Version::V13 => (0, Greeting::BadCookie),
        };
        let before = stage.greeted(greeting);
        assert_eq!(stage.feed(elsewhere, &proof).len(), answers, "{version:?}");
        stage.now.mono += Duration::from_secs(180);
        assert_eq!(stage.feed(client.address, &proof).len(), answers, "{version:?}");
        assert_eq!(stage.greeted(greeting) - before, 2, "{version:?}");
        assert_eq!(stage.tally().open, 0, "{version:?}");
    }
}

#[test]
fn a_handshake_survives_what_the_network_loses() {
    for version in VERSIONS {
        for nth in 1..=12 {
            let mut stage = Stage::new("");
            let mut client = Client::new(&stage, version, 5_000);
            let mut count = 0;
            let mut lost = || {
                count += 1;
                count == nth
            };
            for _ in 0..6 {
                client.talk_losing(&mut stage, &mut lost);
                for (_, answer) in stage.advance(Duration::from_secs(1)) {
                    client.endpoint.handle_packet(&answer).unwrap();
                }
                client.endpoint.handle_timeout(stage.now.mono).unwrap();
            }
            assert!(client.connected, "{version:?}: without datagram {nth}");
            client.say(&mut stage, &BINDING);
            assert!(!client.heard.is_empty(), "{version:?}: without datagram {nth}");
            assert_eq!(stage.tally().open, 1);
        }
    }
}

#[test]
fn the_same_hello_twice_is_one_session_and_a_new_one_replaces_it() {
    let mut stage = Stage::new("");
    let mut client = Client::new(&stage, Version::V12, 5_000);
    let asked = stage.feed(client.address, &client.flight().concat()).concat();
    client.endpoint.handle_packet(&asked).unwrap();
    let proof = client.flight().concat();
    stage.feed(client.address, &proof);
    stage.feed(client.address, &proof);
    assert_eq!((stage.tally().open, stage.greeted(Greeting::Taken)), (1, 1));
    drop(Client::connect(&mut stage, Version::V12, 5_000));
    assert_eq!((stage.tally().open, stage.greeted(Greeting::Taken)), (1, 2));
    assert_eq!(stage.parted(Parting::Replaced), 1);
}

#[test]
fn a_half_handshake_ends_after_ten_seconds_and_an_idle_session_after_thirty() {
    let mut stage = Stage::new("");
    let mut half = Client::new(&stage, Version::V12, 5_000);
    let asked = stage.feed(half.address, &half.flight().concat()).concat();
    half.endpoint.handle_packet(&asked).unwrap();
    stage.feed(half.address, &half.flight().concat());
    let mut idle = Client::connect(&mut stage, Version::V13, 5_001);
    assert_eq!(stage.tally().open, 2);
    for _ in 0..9 {
        stage.advance(Duration::from_secs(1));
    }
    assert_eq!(stage.tally().open, 2);
    stage.advance(Duration::from_secs(1));
    assert_eq!((stage.tally().open, stage.parted(Parting::Handshake)), (1, 1));
    // What drips does not prolong it.
    idle.say(&mut stage, &BINDING);
    for (to, goodbye) in stage.advance(Duration::from_secs(20)) {
        assert_eq!(to, idle.address);
        idle.endpoint.handle_packet(&goodbye).unwrap();
    }
    idle.flight();
    assert!(idle.closed, "no goodbye");
    assert_eq!((stage.tally().open, stage.parted(Parting::Idle)), (0, 1));
    assert_eq!(stage.sessions.patience(stage.now.mono), None);
}

#[test]
fn strangers_of_one_network_get_no_more_sessions_than_allowed() {
    let mut stage = Stage::new("connections_per_client = 3");
    for port in 5_000..5_003 {
        Client::connect(&mut stage, Version::V12, port);
    }
    let mut client = Client::new(&stage, Version::V12, 5_003);
    client.talk(&mut stage);
    assert!(!client.connected);
    assert_eq!((stage.tally().open, stage.greeted(Greeting::PerClient)), (3, 1));
    stage.advance(Duration::from_secs(30));
    Client::connect(&mut stage, Version::V12, 5_004);
}

#[test]
fn who_says_goodbye_is_forgotten_and_so_is_everybody_when_the_relay_ends() {
    let mut stage = Stage::new("");
    for (version, port) in VERSIONS.into_iter().zip(5_000..) {
        let mut client = Client::connect(&mut stage, version, port);
        client.endpoint.close().unwrap();
        client.talk(&mut stage);
        assert_eq!(stage.tally().open, 0, "{version:?}");
    }
    assert_eq!(stage.parted(Parting::ByClient), 2);
    let mut client = Client::connect(&mut stage, Version::V12, 5_002);
    stage.sessions.close_all(&mut stage.batch);
    for (_, goodbye) in stage.carry_out() {
        client.endpoint.handle_packet(&goodbye).unwrap();
    }
    client.flight();
    assert!(client.closed, "no goodbye");
    assert_eq!((stage.tally().open, stage.parted(Parting::ShutDown)), (0, 1));
}

#[test]
fn a_client_of_another_version_is_told_so() {
    const HELLO: &[u8] = include_bytes!("../../../tests/fuzz/corpus/dtls/openssl_first");
    let mut stage = Stage::new("");
    let mut old = HELLO.to_vec();
    old[26] = 0xFF;
    let told = stage.feed(SocketAddr::from(([192, 0, 2, 1], 5_000)), &old);
    assert_eq!(told, [[21, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 70]]);
    assert_eq!((stage.greeted(Greeting::Version), stage.tally().open), (1, 0));
}

#[test]
fn noise_is_counted_and_disturbs_nobody() {
    let mut stage = Stage::new("");
    let mut client = Client::connect(&mut stage, Version::V12, 5_000);
    let stranger = SocketAddr::from(([192, 0, 2, 9], 5_000));
    let mut noise = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4];
    for first in 20..64 {
        noise[0] = first;
        for epoch in 0..2 {
            noise[4] = epoch;
            assert!(stage.feed(stranger, &noise).is_empty());
            assert!(stage.feed(client.address, &noise).is_empty());
        }
    }
    let tally = stage.tally();
    assert_eq!(tally.lost[Loss::Stray as usize], 2 * 44 - 1);
    assert_eq!(tally.greeted[Greeting::Malformed as usize], 1);
    client.say(&mut stage, &BINDING);
    assert_eq!(client.heard.len(), 1);
}

#[test]
fn what_fits_into_no_record_is_lost_alone() {
    let mut stage = Stage::new("");
    let mut client = Client::connect(&mut stage, Version::V12, 5_000);
    let to = FiveTuple { listener: DTLS, client: ClientAddr::new(client.address) };
    stage.sessions.reply(to, &vec![1; LONGEST + 1], &mut stage.batch);
    stage.sessions.reply(to, &vec![2; LONGEST], &mut stage.batch);
    let nobody = FiveTuple { client: ClientAddr::new("192.0.2.9:1".parse().unwrap()), ..to };
    stage.sessions.reply(nobody, &[3], &mut stage.batch);
    for (_, datagram) in stage.carry_out() {
        client.endpoint.handle_packet(&datagram).unwrap();
    }
    client.flight();
    assert_eq!(client.heard, [vec![2; LONGEST]]);
    let lost = stage.tally().lost;
    assert_eq!((lost[Loss::Oversize as usize], lost[Loss::Unsent as usize]), (1, 1));
}
