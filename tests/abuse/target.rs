//! The servers under attack, with the same users, addresses and features.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::conformance::rest_credentials;
use client::tcp_relay::Pipe;
use client::{
    AllocateOptions, Allocation, ClientError, Credentials, Options, Transport, TurnClient,
};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::edge::{Home, METRICS, REST_SECRET, RelayFile, av_edge, await_ready};
use crate::process::Process;
use crate::site::{EXTERNAL, EXTERNAL6, INTERNAL, Site};
use rig::clock;

/// Where attackers live: in the network of the honest client.
pub(super) const ATTACKER: &str = "10.25.1.66";
/// Who is made to suffer by forged source addresses.
pub(super) const VICTIM: &str = "10.25.1.99";
/// Everybody's forged address: the client's machine answers for none of them.
pub(super) const CROWD: [u8; 2] = [198, 18];

/// The core of a server that has one for itself, and that of who attacks it.
const SERVERS_CORE: usize = 1;
pub(super) const ATTACKERS_CORE: usize = 0;

/// The relayed ports of a server with few.
pub(super) const FEW_PORTS: usize = 20;
const FEW: &str = "50000-50019";

/// Where operators of ours ask, on its own loopback.
const ADMIN: &str = "127.0.0.1:9643";

/// Whom a relay of root becomes here.
const NOBODY: u32 = 65_534;

/// What operators present at the administration of ours.
pub(super) const ADMIN_TOKEN: &str = "abuse-admin-token-77b2f0";

/// How soon a server of this host answers, if at all.
pub(super) const SOON: Duration = Duration::from_millis(400);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    Coturn,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Ours, Self::Coturn];
}

/// How a server is reached.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// Over UDP and TCP.
    #[default]
    Plain,
    /// Over TLS and DTLS too, at [`secure`].
    Secure,
    /// The same, and ours by operators, with usage records.
    Whole,
}

/// How a server is set up.
#[derive(Clone, Default)]
pub(super) struct Setup {
    /// Lines of our file beside those of [`file`].
    pub(super) tables: String,
    /// Relayed ports, unless there are plenty.
    pub(super) ports: Option<&'static str>,
    /// How it is reached.
    pub(super) reach: Reach,
    /// How many descriptors it may have.
    pub(super) descriptors: Option<u32>,
    /// How long calls may go on after SIGTERM.
    pub(super) drain_s: Option<u32>,
    /// Whether it tells its log everything.
    pub(super) talkative: bool,
    /// Whether it has a core for itself, and one worker there.
    pub(super) one_core: bool,
}

impl Setup {
    fn file(&self, records: &Path) -> RelayFile {
        let mut file = file();
        file.tables.clone_from(&self.tables);
        if self.reach == Reach::Whole {
            file.tables +=
                "[admin]\ntoken_file = \"admin-token\"\n[hardening]\nuser = \"nobody\"\n";
            file.tables +=
                &["[records]\ninterim_s = 1\nfile = \"", &records.display().to_string(), "\"\n"]
                    .concat();
        }
        if let Some(ports) = self.ports {
            file.ports = ports;
        }
        if self.one_core || self.ports.is_some() {
            file.workers = 1;
        }
        if self.one_core {
            // It takes no time from whoever attacks.
            file.nice = 0;
        }
        if self.reach != Reach::Plain {
            let listener = |transport| {
                let at = secure();
                format!(
                    "[[listen]]\naddress = \"{at}\"\ntransport = \"{transport}\"\nside = \"internal\"\n"
                )
            };
            file.tables += &["tls", "dtls"].map(listener).concat();
            file.tables +=
                "[tls]\ncertificates = [{ certificate = \"tls.pem\", key = \"tls.key\" }]\n";
        }
        file
    }
}

/// A server that is under attack.
pub(super) struct Target {
    pub(super) site: Site,
    pub(super) kind: Kind,
    pub(super) home: Home,
    pub(super) process: Process,
    /// The folder of usage records.
    records: TempDir,
    setup: Setup,
    /// Attacks so far: each has accounts of its own.
    round: u32,
}

impl Target {
    /// The name of our file in the home.
    pub(super) const FILE: &str = "relay.toml";

    /// Starts a server at a site of its own.
    pub(super) fn start(kind: Kind) -> Self {
        Self::start_as(kind, Setup::default())
    }

    /// Starts one as told.
    pub(super) fn start_as(kind: Kind, setup: Setup) -> Self {
        let site = Site::new();
        site.client.address("relay", &["10.25.1.66/24", "10.25.1.99/24"]);
        let [a, b] = CROWD;
        site.relay.ip(&format!("route add {a}.{b}.0.0/16 via 10.25.1.2"));
        let home = Home::with_pool_key();
        home.certificate("tls", "turn.example.org");
        home.write("admin-token", ADMIN_TOKEN);
        let records = TempDir::new().expect("a temporary directory");
        std::os::unix::fs::chown(records.path(), Some(NOBODY), Some(NOBODY)).expect("we are root");
        let process = launch(&site, (&home, records.path()), kind, &setup);
        Self { site, kind, home, process, records, setup, round: 0 }
    }

    /// Starts one that has [`FEW_PORTS`] relayed ports, and gives all of them to whoever asks.
    pub(super) fn start_with_few_ports(kind: Kind) -> Self {
        let tables = format!("[limits]\nallocations = {FEW_PORTS}\n");
        Self::start_as(kind, Setup { tables, ports: Some(FEW), ..Setup::default() })
    }

    /// Another attack begins.
    pub(super) fn next_round(&mut self) {
        self.round += 1;
    }

    /// Kills the server and starts it again; how long nobody answered.
    pub(super) fn crash(&mut self) -> Duration {
        let died = clock::now();
        self.process.kill();
        self.process =
            launch(&self.site, (&self.home, self.records.path()), self.kind, &self.setup);
        let probe = || self.guest("10.25.1.66", "probe").binding().ok();
        clock::await_some(Duration::from_secs(10), "the server to answer again", probe);
        clock::now() - died
    }

    /// Bytes of memory it holds now.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Files it has open now.
    pub(super) fn descriptors(&self) -> usize {
        self.process.descriptors()
    }

    /// The usage records it has written.
    pub(super) fn records(&self) -> String {
        let path = self.records.path().join("records.jsonl");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// What an operator of ours gets for a request, if it is answered.
    pub(super) fn operate(&self, method: &str, path: &str) -> Option<String> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{ADMIN}{path}"))
            .header("Authorization", format!("Bearer {ADMIN_TOKEN}"))
            .body(())
            .expect("a request");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .into();
        let answer = self.site.relay.enter(|| agent.run(request));
        answer.ok()?.body_mut().read_to_string().ok()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        self.process.output()
    }

    /// The page of metrics of ours.
    pub(super) fn metrics(&self) -> String {
        let get = || crate::edge::http_get(&format!("http://{METRICS}/metrics"));
        self.site.relay.enter(get).expect("the relay answers for its metrics")
    }

    /// Sum of a metric of ours over the series that contain all of this.
    pub(super) fn metric(&self, parts: &[&str]) -> u64 {
        let page = self.metrics();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Its command line, as everybody on its host sees it.
    pub(super) fn command_line(&self) -> String {
        self.process.command_line()
    }

    /// Whether it still answers.
    pub(super) fn serves(&self) -> bool {
        self.guest("10.25.1.2", "probe").binding().is_ok()
    }

    /// A client on UDP that speaks from this address of the client's machine.
    pub(super) fn guest(&self, from: &str, user: &str) -> TurnClient {
        self.speak(from, user, Transport::Udp)
    }

    /// The same on TCP.
    pub(super) fn caller(&self, from: &str, user: &str) -> TurnClient {
        self.speak(from, user, Transport::Tcp)
    }

    /// A client on UDP with an allocation.
    pub(super) fn tenant(&self, from: &str, user: &str) -> (TurnClient, Allocation) {
        self.tenant_with(from, user, &AllocateOptions::default())
    }

    /// The same with an allocation as wished.
    pub(super) fn tenant_with(
        &self,
        from: &str,
        user: &str,
        wish: &AllocateOptions,
    ) -> (TurnClient, Allocation) {
        let (client, allocation) = self.applicant(from, user, wish);
        (client, allocation.unwrap_or_else(|error| panic!("no allocation for {user}: {error}")))
    }

    /// A client on UDP, and what it heard when it asked for an allocation. Who had its port before
    /// may have vanished without a word: it takes another then, as RFC 8656 §7.4 has clients do.
    pub(super) fn applicant(
        &self,
        from: &str,
        user: &str,
        wish: &AllocateOptions,
    ) -> (TurnClient, Result<Allocation, ClientError>) {
        // So many ports of vanished clients in a row are a fault of the server.
        for _ in 0..16 {
            let mut client = self.guest(from, user);
            let answer = client.allocate(wish);
            if answer.as_ref().err().and_then(ClientError::code) != Some(437) {
                return (client, answer);
            }
        }
        panic!("437 on every port");
    }

    /// A client on TCP with a relay for TCP, and a connection to a peer by it.
    pub(super) fn pipe(
        &self,
        from: &str,
        user: &str,
        peer: SocketAddr,
    ) -> Result<Pipe, ClientError> {
        let options = Options {
            transport: Transport::Tcp,
            bind: Some(address(from)),
            timeout: Duration::from_secs(2),
            ..Options::default()
        };
        let who = self.credentials(user);
        self.site.client.enter(|| Pipe::open(server(), who, peer, &options))
    }

    fn speak(&self, from: &str, user: &str, transport: Transport) -> TurnClient {
        self.with(from, self.credentials(user), transport)
    }

    /// The credentials of an account of this attack, good for an hour at both servers.
    pub(super) fn credentials(&self, user: &str) -> Credentials {
        let username = format!("{}:{user}-{}", unix_s() + 3600, self.round);
        rest_credentials(REST_SECRET, &username)
    }

    /// A client with these credentials.
    pub(super) fn with(&self, from: &str, who: Credentials, transport: Transport) -> TurnClient {
        self.with_room(from, who, transport, 4 << 20)
    }

    /// The same with so much room in its socket, or about.
    pub(super) fn with_room(
        &self,
        from: &str,
        who: Credentials,
        transport: Transport,
        bytes: usize,
    ) -> TurnClient {
        let to = match transport {
            Transport::Udp | Transport::Tcp => server(),
            Transport::Tls(_) | Transport::Dtls(_) => secure(),
        };
        let options = Options {
            transport,
            bind: Some(address(from)),
            timeout: Duration::from_secs(2),
            buffer_bytes: Some(bytes),
            // What is appended to a message must not be given away by that.
            fingerprint: false,
            ..Options::default()
        };
        let client = self.site.client.enter(|| TurnClient::connect_with(to, who, options));
        client.expect("the server is reached")
    }

    /// A socket that speaks to the server, and waits only a little for what it says.
    pub(super) fn socket(&self, from: &str) -> UdpSocket {
        let socket = self.bound(from);
        socket.connect(server()).expect("an address");
        socket
    }

    /// A socket of the client's machine.
    pub(super) fn bound(&self, from: &str) -> UdpSocket {
        let socket = self.site.client.enter(|| UdpSocket::bind(address(from)));
        let socket = socket.expect("a port of the client");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        socket
    }

    /// A connection to the server from this address, if it is taken.
    pub(super) fn connection(&self, from: &str) -> std::io::Result<TcpStream> {
        self.connection_to(from, server())
    }

    /// The same to another of its ports.
    pub(super) fn connection_to(&self, from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
        use socket2::{Domain, Socket, Type};
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&address(from).into())?;
            socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
            socket.set_read_timeout(Some(SOON))?;
            Ok(socket.into())
        };
        self.site.client.enter(connect)
    }

    /// A socket of the peer's machine.
    pub(super) fn peer(&self) -> (UdpSocket, SocketAddr) {
        let socket = self.site.peer.enter(|| UdpSocket::bind((crate::site::PEER, 0)));
        let socket = socket.expect("a port of the peer");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        let at = socket.local_addr().expect("it is bound");
        (socket, at)
    }
}

/// Where servers listen, on UDP and TCP.
pub(super) fn server() -> SocketAddr {
    SocketAddr::new(INTERNAL.parse().expect("an address"), 3478)
}

/// Where those that speak TLS and DTLS listen for them.
pub(super) fn secure() -> SocketAddr {
    SocketAddr::new(INTERNAL.parse().expect("an address"), 5349)
}

/// Some port of an address.
fn address(host: &str) -> SocketAddr {
    SocketAddr::new(host.parse::<IpAddr>().expect("an address"), 0)
}

/// The wall clock, in seconds.
#[expect(clippy::disallowed_methods, reason = "credentials of the test name a time")]
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The file of our relay: defaults wherever a default can be attacked.
pub(super) fn file() -> RelayFile {
    RelayFile {
        transports: &["udp", "tcp"],
        features: "tcp_relays = true\nmobility = true",
        ..RelayFile::default()
    }
}

/// Runs something on one core, on a thread of its own.
pub(super) fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        let mut cores = CpuSet::new();
        cores.set(core).expect("a core");
        sched_setaffinity(Pid::from_raw(0), &cores).expect("this needs two cores");
        work()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn launch(site: &Site, (home, records): (&Home, &Path), kind: Kind, setup: &Setup) -> Process {
    let start = || match kind {
        Kind::Ours => launch_ours(site, home, &setup.file(&records.join("records.jsonl")), setup),
        Kind::Coturn => launch_coturn(site, home, setup),
    };
    // Programs stay on the core where they are started.
    if setup.one_core { on_core(SERVERS_CORE, start) } else { start() }
}

/// A program on the relay's machine, with no more descriptors than it may have.
fn program(site: &Site, name: &str, setup: &Setup) -> Command {
    match setup.descriptors {
        None => site.relay.command(name),
        Some(most) => {
            let mut limited = site.relay.command("prlimit");
            limited.args([&format!("--nofile={most}:{most}"), name]);
            limited
        }
    }
}

fn launch_ours(site: &Site, home: &Home, file: &RelayFile, setup: &Setup) -> Process {
    let mut toml = file.toml();
    if let Some(seconds) = setup.drain_s {
        toml = toml.replace("drain_s = 60", &format!("drain_s = {seconds}"));
    }
    let path = home.write(Target::FILE, &toml);
    let binary = av_edge();
    let mut program = program(site, binary.to_str().expect("a path in UTF-8"), setup);
    program.args(["relay", "--config"]).arg(path);
    if setup.talkative {
        program.env("AV_EDGE_LOG", "debug");
    }
    let mut relay = Process::start(&mut program);
    await_ready(&site.relay, &mut relay, METRICS);
    relay
}

fn launch_coturn(site: &Site, home: &Home, setup: &Setup) -> Process {
    let inside = |name: &str| home.path(name).display().to_string();
    let mut program = program(site, "turnserver", setup);
    program.args(["-n", "--no-cli", "--mobility"]);
    program.args(["--realm=turn.example.org", "--use-auth-secret", "--log-file=stdout"]);
    program.args([
        format!("--static-auth-secret={REST_SECRET}"),
        format!("--listening-ip={INTERNAL}"),
        format!("--relay-ip={EXTERNAL}"),
        format!("--relay-ip={EXTERNAL6}"),
        format!("--pidfile={}", inside("coturn.pid")),
        format!("--userdb={}", inside("coturn.db")),
    ]);
    if setup.reach == Reach::Plain {
        program.args(["--no-tls", "--no-dtls"]);
    } else {
        program.args([format!("--cert={}", inside("tls.pem"))]);
        program.args([format!("--pkey={}", inside("tls.key"))]);
    }
    if let Some((first, last)) = setup.ports.and_then(|ports| ports.split_once('-')) {
        program.args([format!("--min-port={first}"), format!("--max-port={last}")]);
    }
    if setup.talkative {
        program.arg("--Verbose");
    }
    let mut coturn = Process::start(&mut program);
    coturn.until(Duration::from_secs(10), "coturn to listen", |_| {
        let sockets = site.relay.command("ss").args(["-Hltun", "sport = :3478"]).output();
        let sockets = String::from_utf8(sockets.ok()?.stdout).ok()?;
        (sockets.contains("udp") && sockets.contains("tcp")).then_some(())
    });
    coturn
}
