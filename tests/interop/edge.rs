//! The release binary as an operator runs it: files in a directory, `av-edge relay --config …`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::site::{EXTERNAL, EXTERNAL6, INTERNAL, INTERNAL6, Site};

/// The secret of REST credentials at every relay of these tests.
pub(crate) const REST_SECRET: &str = "interop-shared-secret-9c1f";
/// Where a relay answers for its metrics, on its own loopback.
pub(crate) const METRICS: &str = "127.0.0.1:9641";
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
        home.openssl_key("pool.pem", &["-algorithm", "ed25519"]);
        home
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Makes a private key with OpenSSL, readable by its owner only.
    pub(crate) fn openssl_key(&self, name: &str, kind: &[&str]) -> PathBuf {
        let path = self.path(name);
        must(Command::new("openssl").arg("genpkey").args(kind).arg("-out").arg(&path));
        path
    }
}

/// A relay's configuration: `[[listen]]` on all four addresses of the DMZ host, relaying from its external side.
pub(crate) fn relay_toml() -> String {
    let listeners: String = [
        (format!("{INTERNAL}:3478"), "internal"),
        (format!("[{INTERNAL6}]:3478"), "internal"),
        (format!("{EXTERNAL}:3478"), "external"),
        (format!("[{EXTERNAL6}]:3478"), "external"),
    ]
    .iter()
    .map(|(address, side)| {
        format!("[[listen]]\naddress = \"{address}\"\ntransport = \"udp\"\nside = \"{side}\"\n")
    })
    .collect();
    format!(
        r#"realm = "turn.example.org"
workers = 2
drain_s = 60
[pool]
key = "pool.pem"
[auth]
rest_secrets = ["{REST_SECRET}"]
{listeners}
[relay]
addresses = [{{ local = "{EXTERNAL}" }}, {{ local = "{EXTERNAL6}" }}]
ports = "50000-59999"
[peers]
allow = ["10.25.2.0/24", "fd25:2::/64"]
[metrics]
address = "{METRICS}"
"#
    )
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
pub(crate) fn start_relay(site: &Site, home: &Home, toml: &str) -> Process {
    let file = home.write("relay.toml", toml);
    let file = file.to_str().expect("a path in UTF-8");
    let mut relay = Process::start(&mut command(&site.relay, &["relay", "--config", file]));
    await_ready(&site.relay, &mut relay, METRICS);
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

/// A user name with its password.
#[derive(Debug)]
pub(crate) struct Credential {
    /// What it proves.
    pub(crate) username: String,
    /// The proof.
    pub(crate) password: String,
}

/// Mints a credential with `av-edge credential mint`.
pub(crate) fn mint(key: &Path, user: &str) -> Credential {
    let output = must(
        Command::new(av_edge()).args(["credential", "mint", "--user", user, "--key"]).arg(key),
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let value: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("credential mint does not print JSON ({e}): {text}"));
    let field =
        |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name}: {text}")).to_owned();
    Credential { username: field("username"), password: field("password") }
}

/// A running `av-edge auth`.
#[derive(Debug)]
pub(crate) struct Auth {
    /// The process.
    pub(crate) process: Process,
    address: String,
}

/// The bearer key of the only caller.
const CALLER_KEY: &str = "interop-caller-key-51d0";

/// Starts `av-edge auth` on the DMZ host, its own process beside the relay's, with the same pool key.
pub(crate) fn start_auth(site: &Site, home: &Home) -> Auth {
    let address = format!("{INTERNAL}:8443");
    let toml = format!(
        r#"listen = "{address}"
uris = ["turn:{INTERNAL}:3478?transport=udp"]
lifetime_default_s = 3600
[pool]
key = "pool.pem"
[[callers]]
name = "portal"
key = "{CALLER_KEY}"
"#
    );
    let file = home.write("auth.toml", &toml);
    let file = file.to_str().expect("a path in UTF-8");
    let mut process = Process::start(&mut command(&site.relay, &["auth", "--config", file]));
    await_ready(&site.relay, &mut process, &address);
    Auth { process, address }
}

impl Auth {
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
