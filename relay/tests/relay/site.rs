//! A relay for one test: its own ports, one shared secret, peers on loopback allowed.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{Credentials, Options, TurnClient};
use nix::sched::{CloneFlags, unshare};
use proto::auth::credential::mint_rest;
use proto::auth::{KeyRing, Secret};
use proto::now::UnixTime;
use relay::{Config, Relay};

/// Another address of loopback, so that a peer is not one of the relay's own.
pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

pub(crate) const SECRET: &str = "a secret of more than sixteen bytes";

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// A running relay.
pub(crate) struct Site {
    pub(crate) relay: Relay,
    pub(crate) server: SocketAddr,
    pub(crate) server_v6: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Site {
    /// Starts a relay with so many workers; `number` keeps tests out of each other's ports.
    pub(crate) fn open(number: u16, workers: u16) -> Self {
        Self::open_with(number, workers, "")
    }

    /// The same with top-level keys of the test.
    pub(crate) fn open_with(number: u16, workers: u16, keys: &str) -> Self {
        Self::of(number, &configuration(number, workers, keys), None)
    }

    /// The same with a piece of the configuration replaced.
    pub(crate) fn open_altered(number: u16, workers: u16, from: &str, to: &str) -> Self {
        let text = configuration(number, workers, "");
        assert!(text.contains(from), "{from:?} is not in the configuration");
        Self::of(number, &text.replacen(from, to, 1), None)
    }

    /// A relay of a whole configuration, with the keys of its pool.
    pub(crate) fn of(number: u16, text: &str, ring: Option<KeyRing>) -> Self {
        let config = Config::from_toml(text, "test.toml", ring).unwrap();
        let local = |ip: IpAddr, base: u16| SocketAddr::new(ip, base + number);
        Self {
            relay: relay::start(config).unwrap(),
            server: local(Ipv4Addr::LOCALHOST.into(), 21_000),
            server_v6: local(Ipv6Addr::LOCALHOST.into(), 21_000),
            metrics: local(Ipv4Addr::LOCALHOST.into(), 21_100),
        }
    }

    pub(crate) fn client(&self) -> TurnClient {
        client_of(self.server, "alice")
    }

    /// The body of a page of the office, with its status line.
    pub(crate) fn page(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// The sum of a metric over the series whose labels contain every one of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        sum(&self.page("/metrics").1, name, labels)
    }

    pub(crate) fn close(self) {
        self.relay.stop();
        self.relay.wait().unwrap();
    }
}

/// A client of some listener.
pub(crate) fn client_of(server: SocketAddr, user: &str) -> TurnClient {
    let options = Options { buffer_bytes: Some(4 << 20), ..Options::default() };
    TurnClient::connect_with(server, credentials(user), options).unwrap()
}

/// The sum of a metric in an exposition.
pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> u64 {
    text.lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// The configuration of test number so-and-so.
pub(crate) fn configuration(number: u16, workers: u16, keys: &str) -> String {
    move_to_own_network();
    let (port, metrics) = (21_000 + number, 21_100 + number);
    let first = 21_200 + number * 200;
    let last = first + 199;
    format!(
        r#"
        realm = "example.org"
        nice = 0
        workers = {workers}
        {keys}
        [auth]
        rest_secrets = ["{SECRET}"]
        [[listen]]
        address = "127.0.0.1:{port}"
        [[listen]]
        address = "[::1]:{port}"
        side = "internal"
        [[listen]]
        address = "127.0.0.1:{port}"
        transport = "tcp"
        [[listen]]
        address = "[::1]:{port}"
        transport = "tcp"
        side = "internal"
        [relay]
        addresses = [{{ local = "127.0.0.1" }}, {{ local = "::1" }}]
        ports = "{first}-{last}"
        [peers]
        allow = ["127.0.0.0/8"]
        [metrics]
        address = "127.0.0.1:{metrics}"
        "#
    )
}

/// Gives the calling thread, and those it starts, a loopback of their own, so that tests side by
/// side never meet at a port, and TCP buffers that fill whatever the host allows itself. What a test
/// opens before it has a configuration, it opens after this. Only root can; elsewhere numbers keep
/// them apart, mostly.
pub(crate) fn move_to_own_network() {
    thread_local!(static MOVED: Cell<bool> = const { Cell::new(false) });
    if !MOVED.replace(true) && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "ip (iproute2) brings up the loopback");
        for buffer in ["tcp_rmem", "tcp_wmem"] {
            fs::write(format!("/proc/sys/net/ipv4/{buffer}"), "4096 65536 2097152").unwrap();
        }
    }
}

/// Ten minutes from now.
pub(crate) fn soon_to_expire() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "credentials expire on the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    UnixTime(now + 600)
}

pub(crate) fn credentials(user: &str) -> Credentials {
    let secret = Secret::new(SECRET.as_bytes().to_vec());
    let minted = mint_rest(&secret, user, soon_to_expire()).unwrap();
    Credentials::new(minted.username, minted.password.as_str())
}

/// A peer with room for bursts.
pub(crate) fn peer() -> UdpSocket {
    let socket = UdpSocket::bind((PEER, 0)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Bytes that differ from place to place and from message to message.
pub(crate) fn pattern(message: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ message.wrapping_mul(97)).to_le_bytes()[0]).collect()
}
