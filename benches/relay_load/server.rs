//! The servers under test: ours, and Debian's coturn. Both one relay thread, one core.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use client::{Credentials, Options, TurnClient};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::clock;
use crate::site::{self, LISTEN, RELAYED, Room, Site};

/// Shared secret of the TURN REST credentials, which both servers take.
const SECRET: &str = "relay-load-relay-load-relay-load";

/// Niceness of servers and load: what else runs on the machine shall wait.
pub(crate) const PRIORITY: &str = "-20";

/// Real-time priority, if asked for: below that of the links' polling.
const REAL_TIME: &str = "10";

/// Puts a process, thread by thread, before everything that is not real-time.
pub(crate) fn make_real_time(process: u32) -> io::Result<()> {
    site::sh(&format!("chrt -a -f -p {REAL_TIME} {process}"))
}

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `av-edge relay`.
    Ours,
    /// coturn's `turnserver`.
    Coturn,
}

impl Kind {
    /// Both, ours first.
    pub(crate) const ALL: [Self; 2] = [Self::Ours, Self::Coturn];

    /// The name in tables and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Coturn => "coturn",
        }
    }

    /// Where it listens.
    pub(crate) fn addr(self) -> SocketAddr {
        let port = match self {
            Self::Ours => 3478,
            Self::Coturn => 3479,
        };
        SocketAddrV4::new(LISTEN, port).into()
    }

    fn ports(self) -> (u16, u16) {
        match self {
            Self::Ours => (40_000, 47_999),
            Self::Coturn => (50_000, 57_999),
        }
    }
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which.
    pub(crate) kind: Kind,
    process: Child,
}

impl Server {
    /// Starts one in the relay's namespace, on the relay's core, and waits until it answers.
    pub(crate) fn start(
        kind: Kind,
        site: &Site,
        core: usize,
        binary: &Path,
        folder: &Path,
    ) -> io::Result<Self> {
        let arguments = match kind {
            Kind::Ours => ours(binary, folder)?,
            Kind::Coturn => coturn(folder),
        };
        let log = fs::File::create(folder.join(format!("{}.log", kind.name())))?;
        // Each of these replaces itself by the next, so the process id stays the server's.
        let process = Command::new("nice")
            .args(["-n", PRIORITY, "taskset", "-c", &core.to_string()])
            .args(["ip", "netns", "exec", &site.name(Room::Relay)])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Self { kind, process };
        server.wait(site, folder)?;
        server.pin(core)?;
        Ok(server)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn wait(&mut self, site: &Site, folder: &Path) -> io::Result<()> {
        let options = Options {
            retransmit_after: Duration::from_millis(50),
            timeout: Duration::from_millis(300),
            ..Options::default()
        };
        for _ in 0..40 {
            if self.process.try_wait()?.is_some() {
                break;
            }
            let (addr, options) = (self.kind.addr(), options.clone());
            let answers = site.enter(Room::Clients, move || {
                TurnClient::connect_with(addr, credentials(0), options)
                    .is_ok_and(|mut client| client.binding().is_ok())
            })?;
            if answers {
                return Ok(());
            }
        }
        let log = fs::read_to_string(folder.join(format!("{}.log", self.kind.name())))?;
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(io::Error::other(format!(
            "{} does not answer; its log ends:\n{}",
            self.kind.name(),
            tail.join("\n")
        )))
    }

    /// Pins every thread, whatever the server made of its own cores.
    fn pin(&self, core: usize) -> io::Result<()> {
        let id = self.process.id().to_string();
        let status = Command::new("taskset")
            .args(["-a", "-c", "-p", &core.to_string(), &id])
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("taskset cannot pin a server")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The TURN REST credential of a numbered user.
pub(crate) fn credentials(user: u16) -> Credentials {
    let username = format!("{}:load{user}", clock::unix_s() + 3600);
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes any key");
    mac.update(username.as_bytes());
    let password = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    Credentials::new(username, password)
}

fn ours(binary: &Path, folder: &Path) -> io::Result<Vec<String>> {
    let (first, last) = Kind::Ours.ports();
    let listen = Kind::Ours.addr();
    let text = format!(
        r#"realm = "load"
workers = 1

[auth]
rest_secrets = ["{SECRET}"]

[[listen]]
address = "{listen}"
transport = "udp"
side = "external"

[relay]
addresses = [{{ local = "{RELAYED}" }}]
ports = "{first}-{last}"

[peers]
allow = ["10.77.2.0/24"]

[limits]
allocations = 4000
allocations_per_user = 4000
allocations_per_client = 4000
"#
    );
    let path = folder.join("relay.toml");
    fs::write(&path, text)?;
    let words =
        [binary.to_string_lossy(), "relay".into(), "--config".into(), path.to_string_lossy()];
    Ok(words.map(Cow::into_owned).to_vec())
}

fn coturn(folder: &Path) -> Vec<String> {
    let (first, last) = Kind::Coturn.ports();
    let port = Kind::Coturn.addr().port();
    let inside = |name: &str| folder.join(name).display().to_string();
    let mut words: Vec<String> =
        ["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"]
            .map(str::to_owned)
            .to_vec();
    words.extend(["-m", "1", "--use-auth-secret", "--log-file=/dev/null"].map(str::to_owned));
    words.extend([
        format!("--static-auth-secret={SECRET}"),
        "--realm=load".to_owned(),
        format!("--listening-ip={LISTEN}"),
        format!("--relay-ip={RELAYED}"),
        format!("--listening-port={port}"),
        format!("--min-port={first}"),
        format!("--max-port={last}"),
        format!("--pidfile={}", inside("coturn.pid")),
        format!("--userdb={}", inside("coturn.db")),
    ]);
    words
}
