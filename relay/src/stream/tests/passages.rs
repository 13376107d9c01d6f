//! Connections that are passed on: what they may hold, and how long.

use std::net::{TcpListener, TcpStream};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// How long a passage may be idle.
const IDLE: u64 = 600;

/// A relay beside a server that takes every connection and ends none.
struct Site {
    stage: Stage,
    web: TcpListener,
    /// The server's ends.
    taken: Vec<TcpStream>,
    hello: Vec<u8>,
}

impl Site {
    fn new(limits: &str, bounds: Bounds) -> Self {
        let web = TcpListener::bind("127.0.0.1:0").unwrap();
        let pass = PassThrough {
            to: web.local_addr().unwrap(),
            names: Vec::new(),
            proxy_header: false,
            bounds,
            idle: Duration::from_secs(IDLE),
        };
        Self { stage: Stage::beside(limits, Some(pass)), web, taken: Vec::new(), hello: hello() }
    }

    /// A browser that has said hello, and is passed on or turned away.
    fn browser(&mut self) -> TcpStream {
        let seen = |tally: StreamTally| {
            tally.closed[Ending::PassedOn as usize] + tally.refused.iter().sum::<u64>()
        };
        let before = seen(self.stage.streams.tally());
        let mut client = self.stage.client();
        client.write_all(&self.hello).unwrap();
        while seen(self.stage.streams.tally()) == before {
            self.stage.turn();
        }
        client
    }

    /// A browser whose hello has reached the server.
    fn served(&mut self) -> TcpStream {
        let client = self.browser();
        let (mut server, _) = self.web.accept().unwrap();
        assert!(self.stage.until(&mut server, self.hello.len()) == self.hello, "untouched");
        self.taken.push(server);
        client
    }

    fn passing(&self) -> u64 {
        self.stage.streams.tally().passing
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.stage.streams.tally().refused[refusal as usize]
    }
}

/// What a browser says first.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("www.example.org").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

const WIDE: Bounds = Bounds { in_all: 100, per_network: 100, per_client: 100 };

#[test]
fn sec_009_connections_passed_on_take_nothing_from_who_comes_for_turn() {
    let mut site = Site::new("connections_per_client = 3", WIDE);
    let browsers: Vec<_> = (0..10).map(|_| site.browser()).collect();
    assert_eq!((site.passing(), site.stage.open()), (10, 0));
    let mut clients: Vec<_> = (0..3).map(|_| site.stage.client()).collect();
    for client in &mut clients {
        client.write_all(&BINDING).unwrap();
        assert_eq!(site.stage.until(client, ANSWER).len(), ANSWER);
    }
    assert_eq!(site.refused(Refusal::PerClient), 0);
    site.stage.client();
    assert_eq!(site.refused(Refusal::PerClient), 1, "strangers are bounded as before");
    drop(browsers);
}

#[test]
fn sec_009_connections_passed_on_have_bounds_of_their_own_and_who_ends_makes_room() {
    for (bounds, refusal) in [
        (Bounds { per_client: 3, ..WIDE }, Refusal::PassedPerClient),
        (Bounds { per_network: 3, ..WIDE }, Refusal::PassedPerNetwork),
        (Bounds { in_all: 3, ..WIDE }, Refusal::PassedInAll),
    ] {
        let mut site = Site::new("", bounds);
        let mut browsers: Vec<_> = (0..3).map(|_| site.served()).collect();
        for _ in 0..2 {
            let mut refused = site.browser();
            assert!(site.stage.until(&mut refused, 1).is_empty(), "{refusal:?}");
        }
        assert_eq!((site.passing(), site.refused(refusal)), (3, 2), "{refusal:?}");
        // Turned away, and counted nowhere any more.
        assert_eq!(site.stage.open(), 0, "{refusal:?}");
        browsers.pop();
        site.taken.pop();
        while site.passing() == 3 {
            site.stage.turn();
        }
        browsers.push(site.served());
        assert_eq!((site.passing(), site.refused(refusal)), (3, 2), "{refusal:?}");
        site.stage.streams.close_all();
        assert_eq!(site.passing(), 0);
        drop(browsers);
        site.browser();
        assert_eq!((site.passing(), site.refused(refusal)), (1, 2), "{refusal:?}: given back");
    }
}

#[test]
fn sec_011_a_connection_passed_on_ends_when_nothing_moves_either_way() {
    for (case, from_client) in [("from the client", true), ("from the server", false)] {
        let mut site = Site::new("", WIDE);
        let (mut quiet, mut busy) = (site.served(), site.served());
        for _ in 0..3 {
            site.stage.pass(IDLE / 2 - 1);
            let server = site.taken.last_mut().unwrap();
            let (from, to) = if from_client { (&mut busy, server) } else { (server, &mut busy) };
            from.write_all(b"!").unwrap();
            assert_eq!(site.stage.until(to, 1), b"!", "{case}");
        }
        assert_eq!((site.passing(), site.stage.streams.tally().passed_idle), (1, 1), "{case}");
        assert!(site.stage.until(&mut quiet, 1).is_empty(), "{case}: closed");
        site.stage.pass(IDLE - 1);
        assert_eq!(site.passing(), 1, "{case}: it has its time");
        site.stage.pass(1);
        assert_eq!((site.passing(), site.stage.streams.tally().passed_idle), (0, 2), "{case}");
        assert_eq!(
            site.stage.streams.patience(site.stage.now.mono),
            None,
            "{case}: no alarm is left"
        );
    }
}
