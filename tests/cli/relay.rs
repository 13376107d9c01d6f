//! A relay on ports of its own, with files of its own, and a call through it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use client::{AllocateOptions, Credentials, Event, Family, TurnClient};

use crate::harness::{Directory, Running};

/// How long what must come may take.
const SOON: Duration = Duration::from_secs(5);

/// Password of every user.
pub(crate) const PASSWORD: &str = "a-password-of-the-test";

/// Where a relay is, and what it reads.
pub(crate) struct Site {
    pub(crate) directory: Directory,
    pub(crate) config: PathBuf,
    pub(crate) server: SocketAddr,
    pub(crate) metrics: String,
}

/// A TCP address that is free now.
pub(crate) fn free_tcp() -> String {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("loopback has free ports").to_string()
}

impl Site {
    /// With a pool key, the users alice and bob, and more tables.
    pub(crate) fn new(tables: &str) -> Self {
        let directory = Directory::new();
        directory.key("pool.pem");
        directory.write("users", &format!("alice:{PASSWORD}\nbob:{PASSWORD}\n"));
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let server = free.expect("loopback has free ports");
        let metrics = free_tcp();
        // Clear of the ports the kernel gives out, and of the relays of other tests.
        let first = 10_000 + server.port() % 100 * 100;
        let text = format!(
            "realm = \"example.org\"\nworkers = 2\n[pool]\nkey = \"pool.pem\"\n\
             [auth]\nusers_file = \"users\"\n[[listen]]\naddress = \"{server}\"\n\
             [relay]\nports = \"{first}-{}\"\n[peers]\nallow = [\"127.0.0.0/8\"]\n\
             [metrics]\naddress = \"{metrics}\"\n{tables}",
            first + 99
        );
        let config = directory.write("relay.toml", &text);
        Self { directory, config, server, metrics }
    }

    /// Every file, and the folder they lie in.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.config.parent().expect("a folder").to_owned();
        let files = std::fs::read_dir(&folder).expect("our own folder");
        files.map(|file| file.expect("a file").path()).chain([folder])
    }

    /// Changes the configuration.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("our own file");
        assert!(text.contains(from), "{from:?} is not in {text}");
        self.directory.write("relay.toml", &text.replacen(from, to, 1));
    }

    pub(crate) fn start(&self) -> Running {
        Running::start("relay", &self.config)
    }

    /// The same as another user, who gets a binary that it can reach.
    pub(crate) fn start_as(&self, user: u32) -> Running {
        let binary = self.directory.path("av-edge");
        std::fs::copy(env!("CARGO_BIN_EXE_av-edge"), &binary).expect("the binary is built");
        Running::start_as(&binary, &self.config, user)
    }

    /// A client that has not begun.
    pub(crate) fn client(&self, user: &str, password: &str) -> TurnClient {
        TurnClient::connect(self.server, Credentials::new(user, password)).expect("a socket")
    }

    /// A call of a user.
    pub(crate) fn call(&self, user: &str) -> Call {
        Call::begin(self.client(user, PASSWORD))
    }
}

/// A client with a channel to a peer.
pub(crate) struct Call {
    pub(crate) client: TurnClient,
    pub(crate) peer: UdpSocket,
    relayed: SocketAddr,
    pub(crate) channel: u16,
}

impl Call {
    /// A call of a client that has not begun.
    pub(crate) fn begin(mut client: TurnClient) -> Self {
        let wish = AllocateOptions { family: Some(Family::V4), ..AllocateOptions::default() };
        let relayed = client.allocate(&wish).expect("an allocation").relayed;
        let peer = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).expect("a port of the peer");
        peer.set_read_timeout(Some(SOON)).expect("a timeout");
        let channel = client.bind_channel(peer.local_addr().expect("it is bound"));
        Self { client, peer, relayed, channel: channel.expect("a channel") }
    }

    /// One datagram there and one back.
    pub(crate) fn exchange(&mut self) {
        assert!(self.passes(SOON), "payload did not pass");
        self.peer.send_to(b"back", self.relayed).expect("it is sent");
        let heard = self.client.recv(SOON).expect("a working socket");
        assert!(
            matches!(&heard, Some(Event::Data { payload, .. }) if payload == b"back"),
            "{heard:?}"
        );
    }

    /// Whether a datagram reaches the peer in time.
    pub(crate) fn passes(&mut self, patience: Duration) -> bool {
        self.client.send_channel(self.channel, b"there").expect("it is sent");
        self.peer.set_read_timeout(Some(patience)).expect("a timeout");
        let mut bytes = [0; 16];
        self.peer
            .recv_from(&mut bytes)
            .is_ok_and(|(len, from)| (&bytes[..len], from) == (&b"there"[..], self.relayed))
    }
}

/// The body of a page of operators.
pub(crate) fn page(address: &str, path: &str) -> String {
    let mut answer = ureq::get(format!("http://{address}{path}")).call().expect("an answer");
    answer.body_mut().read_to_string().expect("a text")
}
