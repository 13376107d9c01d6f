//! The servers under test: ours, ours with the kernel relaying what it can, and Debian's coturn. All
//! one relay thread, one core.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::ValueEnum;
use client::transport::{Tls, Trust};
use client::{Credentials, Options, Transport, TurnClient};
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
    /// The same, with `[offload]`.
    Kernel,
    /// coturn's `turnserver`.
    Coturn,
}

impl Kind {
    /// All of them, ours first.
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Kernel, Self::Coturn];

    /// The name in tables and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Kernel => "kernel",
            Self::Coturn => "coturn",
        }
    }

    /// Where it listens.
    pub(crate) fn addr(self) -> SocketAddr {
        let port = match self {
            Self::Ours | Self::Kernel => 3478,
            Self::Coturn => 3479,
        };
        SocketAddrV4::new(LISTEN, port).into()
    }

    fn ports(self) -> (u16, u16) {
        match self {
            Self::Ours | Self::Kernel => (10_000, 34_999),
            Self::Coturn => (35_000, 59_999),
        }
    }
}

/// How clients speak to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    /// As datagrams.
    Udp,
    /// On connections.
    Tcp,
    /// On connections inside TLS.
    Tls,
}

impl Carrier {
    /// The name in tables, JSON and configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// The client's side. Whose certificate it is does not matter here.
    pub(crate) fn transport(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Udp => Transport::Udp,
            Self::Tcp => Transport::Tcp,
            Self::Tls => Transport::Tls(Tls::new(NAME, &Trust::Anything, &[])?),
        })
    }
}

/// How the servers speak to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Relay {
    /// With datagrams.
    Udp,
    /// On connections (RFC 6062), to clients on connections.
    Tcp,
}

/// How our relay moves media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mover {
    /// By sockets.
    Sockets,
    /// By rings past the host's network stack.
    AfXdp,
}

impl Mover {
    /// The name in words and configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::AfXdp => "af_xdp",
        }
    }
}

/// Where the kernel relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// In the driver.
    Native,
    /// Behind it.
    Tc,
}

impl Kernel {
    /// The name in words and configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tc => "tc",
        }
    }
}

/// The name in the certificate.
const NAME: &str = "load.example";

/// What a server is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// Which.
    pub(crate) kind: Kind,
    /// How clients speak to it.
    pub(crate) carrier: Carrier,
    /// How it speaks to peers.
    pub(crate) relay: Relay,
    /// How media moves, if it is ours.
    pub(crate) engine: Mover,
    pub(crate) kernel: Kernel,
    /// How many allocations it must bear.
    pub(crate) allocations: usize,
    /// The core it runs on.
    pub(crate) core: usize,
    /// How far it goes before other programs: a niceness.
    pub(crate) niceness: &'a str,
    /// Our binary.
    pub(crate) binary: &'a Path,
    /// Where its files go.
    pub(crate) folder: &'a Path,
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server<'s> {
    /// Which.
    pub(crate) kind: Kind,
    /// Where.
    pub(crate) site: &'s Site,
    process: Child,
}

impl<'s> Server<'s> {
    /// Starts one in the relay's namespace, on the relay's core, and waits until it answers.
    pub(crate) fn start(site: &'s Site, order: Order<'_>) -> io::Result<Self> {
        let Order { kind, carrier, core, niceness, folder, .. } = order;
        if carrier == Carrier::Tls {
            make_certificate(folder)?;
        }
        let arguments = match kind {
            Kind::Ours | Kind::Kernel => ours(order)?,
            Kind::Coturn => coturn(order),
        };
        let log = fs::File::create(folder.join(format!("{}.log", kind.name())))?;
        // Each of these replaces itself by the next, so the process id stays the server's.
        let process = Command::new("nice")
            .args(["-n", niceness, "taskset", "-c", &core.to_string()])
            .args(["ip", "netns", "exec", &site.name(Room::Relay)])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Self { kind, site, process };
        server.wait(carrier, folder)?;
        server.pin(core)?;
        Ok(server)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Bytes of memory it holds now.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("the kernel tells no VmRSS"))
    }

    fn wait(&mut self, carrier: Carrier, folder: &Path) -> io::Result<()> {
        let options = Options {
            transport: carrier.transport()?,
            retransmit_after: Duration::from_millis(50),
            timeout: Duration::from_millis(300),
            ..Options::default()
        };
        for _ in 0..40 {
            if self.process.try_wait()?.is_some() {
                break;
            }
            let (addr, options) = (self.kind.addr(), options.clone());
            let answers = self.site.enter(Room::Clients, move || {
                TurnClient::connect_with(addr, credentials(0), options)
                    .is_ok_and(|mut client| client.binding().is_ok())
            })?;
            if answers {
                return Ok(());
            }
            // A connection is refused at once.
            clock::rest(Duration::from_millis(50));
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

impl Drop for Server<'_> {
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

/// A certificate and its key, for both servers.
fn make_certificate(folder: &Path) -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
    fs::write(folder.join("load.pem"), made.cert.pem())?;
    let mut file = fs::File::options();
    file.write(true).create(true).truncate(true).mode(0o600);
    let mut file = file.open(folder.join("load.key"))?;
    io::Write::write_all(&mut file, made.signing_key.serialize_pem().as_bytes())
}

fn ours(order: Order<'_>) -> io::Result<Vec<String>> {
    let Order { kind, carrier, relay, engine, kernel, allocations, binary, folder, .. } = order;
    let (first, last) = kind.ports();
    let listen = kind.addr();
    // Room for those that come while others have not left.
    let most = 2 * allocations + 64;
    let mut text = format!(
        r#"realm = "load"
workers = 1

[auth]
rest_secrets = ["{SECRET}"]

[[listen]]
address = "{listen}"
transport = "{}"
side = "external"

[relay]
addresses = [{{ local = "{RELAYED}" }}]
ports = "{first}-{last}"

[peers]
allow = ["10.77.2.0/24"]

[limits]
allocations = {most}
allocations_per_user = {most}
allocations_per_client = {most}
connections = {most}
connections_per_client = {most}
new_peers_per_minute_per_user = 1000000
new_peers_per_minute_per_client = 1000000
# All of them come from one address, as fast as they can.
strangers_per_s = 1000000
strangers_burst = 1000000
handshakes_per_s = 1000000
handshakes_burst = 1000000
"#,
        carrier.name()
    );
    if carrier == Carrier::Tls {
        text += "\n[tls]\ncertificates = [{ certificate = \"load.pem\", key = \"load.key\" }]\n";
    }
    if relay == Relay::Tcp {
        text += "\n[features]\ntcp_relays = true\n";
    }
    match (kind, engine) {
        (Kind::Kernel, _) => text += &offload(kernel, None),
        (Kind::Ours | Kind::Coturn, Mover::Sockets) => {}
        (Kind::Ours | Kind::Coturn, Mover::AfXdp) => {
            text += &offload(Kernel::Native, Some(engine));
        }
    }
    let path = folder.join(format!("{}.toml", kind.name()));
    fs::write(&path, text)?;
    let words =
        [binary.to_string_lossy(), "relay".into(), "--config".into(), path.to_string_lossy()];
    Ok(words.map(Cow::into_owned).to_vec())
}

/// The table of a relay that wants the kernel program: to relay by itself, or for an engine alone.
fn offload(kernel: Kernel, engine: Option<Mover>) -> String {
    let engine = match engine {
        None => String::new(),
        Some(engine) => format!("routes = 0\nengine = \"{}\"\n", engine.name()),
    };
    let mode = kernel.name();
    format!("\n[offload]\nmode = \"{mode}\"\ninterfaces = {:?}\n{engine}", site::NEAR)
}

fn coturn(order: Order<'_>) -> Vec<String> {
    let Order { carrier, folder, .. } = order;
    let (first, last) = Kind::Coturn.ports();
    let port = Kind::Coturn.addr().port();
    let inside = |name: &str| folder.join(name).display().to_string();
    let mut words: Vec<String> =
        ["turnserver", "-n", "--no-cli", "--no-dtls"].map(str::to_owned).to_vec();
    match carrier {
        Carrier::Udp => {
            words.extend(["--no-tls", "--no-tcp"].map(str::to_owned));
            words.push(format!("--listening-port={port}"));
        }
        Carrier::Tcp => {
            words.push("--no-tls".to_owned());
            words.push(format!("--listening-port={port}"));
        }
        Carrier::Tls => words.extend([
            format!("--listening-port={}", port + 10),
            format!("--tls-listening-port={port}"),
            format!("--cert={}", inside("load.pem")),
            format!("--pkey={}", inside("load.key")),
        ]),
    }
    words.extend(["-m", "1", "--use-auth-secret", "--log-file=/dev/null"].map(str::to_owned));
    words.extend([
        format!("--static-auth-secret={SECRET}"),
        "--realm=load".to_owned(),
        format!("--listening-ip={LISTEN}"),
        format!("--relay-ip={RELAYED}"),
        format!("--min-port={first}"),
        format!("--max-port={last}"),
        format!("--pidfile={}", inside("coturn.pid")),
        format!("--userdb={}", inside("coturn.db")),
    ]);
    words
}
