//! The release binary as an operator runs it: files in a directory, `av-edge relay --config …`.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::{Credentials, Options, TurnClient};
use tempfile::TempDir;

use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::site::{EXTERNAL, EXTERNAL6, INTERNAL, INTERNAL6, Site};

/// The secret of REST credentials at every relay of these tests.
pub(crate) const REST_SECRET: &str = "interop-shared-secret-9c1f";
/// Where a relay answers for its metrics, on its own loopback.
pub(crate) const METRICS: &str = "127.0.0.1:9641";
/// The same for the credential service.
pub(crate) const AUTH_METRICS: &str = "127.0.0.1:9642";
/// How long a service may take to be ready.
const START: Duration = Duration::from_secs(10);

/// The directory of one deployment: its keys and configuration files.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    /// A home with a pool key `pool.pem`.
    pub(crate) fn with_pool_key() -> Self {
        let home = Self::new();
        home.openssl_key("pool.pem", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        home
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, readable by its owner only: it may hold secrets.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let mut file = File::options();
        file.write(true).create(true).truncate(true).mode(0o600);
        let written = file.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Makes a certificate that vouches for itself, `NAME.pem` with `NAME.key`, for a host name.
    pub(crate) fn certificate(&self, name: &str, host: &str) {
        let key = self.openssl_key(
            &format!("{name}.key"),
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        );
        let output = must(
            Command::new("openssl")
                .args(["req", "-x509", "-new", "-days", "30", "-key"])
                .arg(key)
                .args(["-subj", &format!("/CN={host}")])
                .args(["-addext", &format!("subjectAltName=DNS:{host}")]),
        );
        let pem = String::from_utf8(output.stdout).expect("PEM is text");
        self.write(&format!("{name}.pem"), &pem);
    }

    /// Makes a private key with OpenSSL, readable by its owner only.
    pub(crate) fn openssl_key(&self, name: &str, kind: &[&str]) -> PathBuf {
        let path = self.path(name);
        must(Command::new("openssl").arg("genpkey").args(kind).arg("-out").arg(&path));
        path
    }
}

/// A relay's configuration file.
///
/// The default listens on port 3478 of all four addresses of the DMZ host and relays from its external side.
#[derive(Clone, Debug)]
pub(crate) struct RelayFile {
    /// `host:port` and side of each listener, and what it advertises.
    pub(crate) listeners: Vec<(String, &'static str, Option<&'static str>)>,
    /// The public address of the relayed IPv4 address, behind 1:1 NAT.
    pub(crate) advertise: Option<&'static str>,
    /// Relayed ports.
    pub(crate) ports: &'static str,
    /// Ranges that peers may be in.
    pub(crate) allow: &'static str,
    /// The pool's key file, and those before it.
    pub(crate) keys: Vec<&'static str>,
    /// Where it answers for its metrics.
    pub(crate) metrics: &'static str,
    /// How many workers it has.
    pub(crate) workers: u16,
    /// Their niceness.
    pub(crate) nice: i8,
    /// Channel numbers up to 0x7FFF, as RFC 5766 had them and coturn's client draws them.
    pub(crate) old_channels: bool,
    /// Lines of the table of features.
    pub(crate) features: &'static str,
    /// More keys of `[auth]`.
    pub(crate) auth: String,
    /// How each listener's address is served.
    pub(crate) transports: &'static [&'static str],
    /// Whole tables, such as that of TLS.
    pub(crate) tables: String,
}

impl Default for RelayFile {
    fn default() -> Self {
        Self::on_port(3478)
    }
}

impl RelayFile {
    /// The default, on another port.
    pub(crate) fn on_port(port: u16) -> Self {
        let hosts = [
            (INTERNAL.to_owned(), "internal"),
            (format!("[{INTERNAL6}]"), "internal"),
            (EXTERNAL.to_owned(), "external"),
            (format!("[{EXTERNAL6}]"), "external"),
        ];
        Self {
            listeners: hosts.map(|(host, side)| (format!("{host}:{port}"), side, None)).to_vec(),
            advertise: None,
            ports: "50000-59999",
            allow: r#""10.25.2.0/24", "fd25:2::/64""#,
            keys: vec!["pool.pem"],
            metrics: METRICS,
            workers: 2,
            nice: -10,
            old_channels: false,
            features: "",
            auth: String::new(),
            transports: &["udp"],
            tables: String::new(),
        }
    }

    /// The text of the file.
    pub(crate) fn toml(&self) -> String {
        let advertise = |public: Option<&str>, before| match public {
            Some(public) => format!("{before}advertise = \"{public}\""),
            None => String::new(),
        };
        let listeners: Vec<String> = self
            .listeners
            .iter()
            .flat_map(|listener| self.transports.iter().map(move |it| (it, listener)))
            .map(|(transport, (address, side, public))| {
                let public = advertise(*public, "");
                format!(
                    "[[listen]]\naddress = \"{address}\"\ntransport = \"{transport}\"\nside = \"{side}\"\n{public}\n"
                )
            })
            .collect();
        let listeners = listeners.concat();
        let (current, previous) = self.keys.split_first().expect("a relay has a pool key");
        let Self {
            ports, allow, metrics, workers, nice, old_channels, features, auth, tables, ..
        } = self;
        let public = advertise(self.advertise, ", ");
        format!(
            r#"realm = "turn.example.org"
workers = {workers}
nice = {nice}
drain_s = 60
[pool]
key = "{current}"
previous = {previous:?}
[auth]
rest_secrets = ["{REST_SECRET}"]
{auth}
{listeners}
[relay]
addresses = [{{ local = "{EXTERNAL}"{public} }}, {{ local = "{EXTERNAL6}" }}]
ports = "{ports}"
[peers]
allow = [{allow}]
[features]
{features}
[compat]
rfc5766_channels = {old_channels}
[metrics]
address = "{metrics}"
{tables}
"#
        )
    }
}

/// The release binary.
pub(crate) fn av_edge() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace");
    let binary = root.join("target/release/av-edge");
    assert!(
        binary.is_file(),
        "{} is missing: cargo build --release, or run ./test",
        binary.display()
    );
    binary
}

/// `av-edge` with arguments, on a machine of the test.
pub(crate) fn command(machine: &Namespace, words: &[&str]) -> Command {
    let mut command = machine.command(av_edge().to_str().expect("a path in UTF-8"));
    command.args(words);
    command
}

/// Starts `av-edge relay` on the site's DMZ host and waits until it says it is ready.
pub(crate) fn start_relay(site: &Site, home: &Home, file: &RelayFile) -> Process {
    let name = format!("relay-{}.toml", file.metrics.rsplit(':').next().unwrap_or_default());
    let path = home.write(&name, &file.toml());
    let path = path.to_str().expect("a path in UTF-8");
    let mut relay = Process::start(&mut command(&site.relay, &["relay", "--config", path]));
    await_ready(&site.relay, &mut relay, file.metrics);
    relay
}

/// Waits until the service says on `/readyz` that it takes work.
pub(crate) fn await_ready(machine: &Namespace, service: &mut Process, address: &str) {
    service.until(START, "/readyz to answer 200", |_| {
        machine.enter(|| http_get(&format!("http://{address}/readyz"))).ok()
    });
}

/// The body of a page, or why there is none; a status other than 200 is an error.
pub(crate) fn http_get(url: &str) -> Result<String, ureq::Error> {
    ureq::get(url).call()?.body_mut().read_to_string()
}

/// Mints a credential with `av-edge credential mint`.
pub(crate) fn mint(key: &Path, user: &str) -> Credentials {
    let output = must(
        Command::new(av_edge())
            .args(["credential", "mint", "--json", "--user", user, "--key"])
            .arg(key),
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let value: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("credential mint does not print JSON ({e}): {text}"));
    let field =
        |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name}: {text}")).to_owned();
    Credentials::new(field("username"), field("credential"))
}

/// A running `av-edge auth`.
#[derive(Debug)]
pub(crate) struct Auth {
    _process: Process,
    address: String,
}

/// The bearer key of the only caller.
const CALLER_KEY: &str = "interop-caller-key-51d0";

/// Starts `av-edge auth` on the DMZ host, its own process beside the relay's, with the same pool key.
pub(crate) fn start_auth(site: &Site, home: &Home) -> Auth {
    start_auth_with(site, home, "")
}

/// The same with more keys of `[metrics]`.
pub(crate) fn start_auth_with(site: &Site, home: &Home, metrics: &str) -> Auth {
    let address = format!("{INTERNAL}:8443");
    let toml = format!(
        r#"listen = "{address}"
insecure_http = true
uris = ["turn:{INTERNAL}:3478?transport=udp"]
lifetime_default_s = 3600
[pool]
key = "pool.pem"
[[callers]]
name = "portal"
key = "{CALLER_KEY}"
[metrics]
address = "{AUTH_METRICS}"
{metrics}
"#
    );
    let file = home.write("auth.toml", &toml);
    let file = file.to_str().expect("a path in UTF-8");
    let mut process = Process::start(&mut command(&site.relay, &["auth", "--config", file]));
    await_ready(&site.relay, &mut process, &address);
    Auth { _process: process, address }
}

impl Auth {
    /// The user name and password in it.
    pub(crate) fn credential(&self, from: &Namespace, user: &str) -> Credentials {
        let servers = self.ice_servers(from, user);
        let field = |name: &str| {
            let value = servers[0][name].as_str();
            value.unwrap_or_else(|| panic!("no {name} in {servers}")).to_owned()
        };
        Credentials::new(field("username"), field("credential"))
    }

    /// The `iceServers` a web application would fetch for its user, as JSON.
    pub(crate) fn ice_servers(&self, from: &Namespace, user: &str) -> serde_json::Value {
        let url = format!("http://{}/v1/credentials", self.address);
        let mut answer: serde_json::Value = from
            .enter(|| {
                ureq::post(&url)
                    .header("Authorization", &format!("Bearer {CALLER_KEY}"))
                    .send_json(serde_json::json!({ "user": user }))?
                    .body_mut()
                    .read_json()
            })
            .unwrap_or_else(|e| panic!("{url}: {e}"));
        answer["iceServers"].take()
    }
}

/// A client of `server`, port 3478, on the machine of the calling thread.
pub(crate) fn connect(server: &str, credentials: &Credentials) -> TurnClient {
    connect_to(SocketAddr::new(server.parse().expect("an address"), 3478), credentials)
}

/// A client of `server` on the machine of the calling thread.
pub(crate) fn connect_to(server: SocketAddr, credentials: &Credentials) -> TurnClient {
    let options = Options { buffer_bytes: Some(4 << 20), ..Options::default() };
    TurnClient::connect_with(server, credentials.clone(), options).expect("a socket")
}
