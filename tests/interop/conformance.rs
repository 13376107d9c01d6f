//! `av-edge conformance` against our release binary and against coturn, in two columns.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::edge::{Home, METRICS, REST_SECRET, RelayFile, await_ready, command};
use crate::netns::must;
use crate::process::Process;
use crate::site::{EXTERNAL, EXTERNAL6, INTERNAL, INTERNAL6, Site};

/// Where coturn listens, beside our relay: UDP and TCP, and TLS and DTLS.
const COTURN_PORT: u16 = 3479;
const COTURN_TLS_PORT: u16 = 5350;

/// What coturn is known to do differently, whatever its version: the order in which it judges
/// credentials, nonces without the cookie of RFC 8489, answers it does not sign, and a code of
/// its own for a reservation it does not know.
const KNOWN_OF_COTURN: &[&str] = &[
    "STUN-012",
    "AUTH-005",
    "AUTH-007",
    "AUTH-008",
    "AUTH-009",
    "AUTH-018",
    "ALLOC-003",
    "ALLOC-008",
    "ALLOC-028",
];

#[test]
fn ours_fails_no_requirement_and_the_deviations_of_coturn_are_found() {
    // A site for each, so that both are tried at a time.
    let [site, other] = [(); 2].map(|()| Site::new());
    let home = Home::with_pool_key();
    make_certificate(&home);
    let _relay = start_ours(&site, &home, "");
    let _coturn = start_coturn(&other, home.path(""));
    open_the_way_to_the_client(&site);
    open_the_way_to_the_client(&other);
    for (case, ours, theirs) in [
        ("UDP", format!("turn:{INTERNAL}"), format!("turn:{INTERNAL}:{COTURN_PORT}")),
        (
            "TCP",
            format!("turn:{INTERNAL}?transport=tcp"),
            format!("turn:{INTERNAL}:{COTURN_PORT}?transport=tcp"),
        ),
        ("TLS", format!("turns:{INTERNAL}"), format!("turns:{INTERNAL}:{COTURN_TLS_PORT}")),
        (
            "DTLS",
            format!("turns:{INTERNAL}?transport=udp"),
            format!("turns:{INTERNAL}:{COTURN_TLS_PORT}?transport=udp"),
        ),
    ] {
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| verdicts(&site, &ours, &OURS));
            let theirs = verdicts(&other, &theirs, &THEIRS);
            (ours.join().expect("a column of ours"), theirs)
        });
        println!("{case:<12}{:<6}coturn", "ours");
        for (id, (verdict, _)) in &ours {
            println!("{id:<12}{verdict:<6}{}", theirs[id].0);
        }
        assert!(failed(&ours).is_empty(), "{case}: {:#?}", failed(&ours));
        let passed = ours.values().filter(|(verdict, _)| verdict == "pass").count();
        assert!(passed > 150, "{case}: only {passed} requirements could be tried");
        for id in KNOWN_OF_COTURN {
            assert_eq!(theirs[*id].0, "fail", "{case}: {id} of coturn: {:#?}", failed(&theirs));
        }
    }
}

#[test]
fn ours_fails_no_requirement_of_either_family_with_every_feature_on() {
    let hosts = [INTERNAL.to_owned(), format!("[{INTERNAL6}]")];
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(move || {
                let site = Site::new();
                let home = Home::with_pool_key();
                make_certificate(&home);
                let _relay = start_ours(&site, &home, "tcp_relays = true\nmobility = true");
                open_the_way_to_the_client(&site);
                for (uri, streams) in [
                    (format!("turn:{host}"), false),
                    (format!("turn:{host}?transport=tcp"), true),
                    (format!("turns:{host}"), true),
                    (format!("turns:{host}?transport=udp"), false),
                ] {
                    let found = verdicts(&site, &uri, &OURS);
                    assert!(failed(&found).is_empty(), "{uri}: {:#?}", failed(&found));
                    for (id, expected) in [("MOB-006", true), ("TCPA-004", streams)] {
                        assert_eq!(found[id].0 == "pass", expected, "{uri}: {id}: {:?}", found[id]);
                    }
                }
            });
        }
    });
}

/// Credentials at our relay, and at coturn.
pub(crate) const OURS: [&str; 2] = ["--secret", REST_SECRET];
const THEIRS: [&str; 8] = [
    "--user",
    "alice",
    "--password",
    "secret1",
    "--other-user",
    "bob",
    "--other-password",
    "secret2",
];

/// What failed, in words.
pub(crate) fn failed(column: &BTreeMap<String, (String, String)>) -> Vec<String> {
    let failed = column.iter().filter(|(_, (verdict, _))| verdict == "fail");
    failed.map(|(id, (_, words))| format!("{id}: {words}")).collect()
}

/// What lets clients send to their own machine.
pub(crate) const CLIENTS_AS_PEERS: &str = r#""10.25.1.0/24", "fd25:1::/64""#;

/// A table of limits for hundreds of questions from one address, most of them a stranger's.
pub(crate) const MANY_QUESTIONS: &str =
    "[limits]\nstrangers_per_s = 10000\nstrangers_burst = 10000\n";

/// A relay on UDP, TCP, TLS and DTLS whose clients may send to the client's own machine.
fn start_ours(site: &Site, home: &Home, features: &'static str) -> Process {
    let file = RelayFile { allow: CLIENTS_AS_PEERS, features, ..RelayFile::default() };
    let mut toml = file.toml();
    for host in [INTERNAL, &format!("[{INTERNAL6}]")] {
        for (transport, port) in [("tcp", 3478), ("tls", 5349), ("dtls", 5349)] {
            let table = format!(
                "[[listen]]\naddress = \"{host}:{port}\"\ntransport = \"{transport}\"\n\
                 side = \"internal\"\n"
            );
            toml.push_str(&table);
        }
    }
    toml += MANY_QUESTIONS;
    toml += "handshakes_per_s = 10000\nhandshakes_burst = 10000\n";
    toml += "[tls]\ncertificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }]\n";
    let path = home.write("relay.toml", &toml);
    let path = path.to_str().expect("a path in UTF-8");
    let mut relay = Process::start(&mut command(&site.relay, &["relay", "--config", path]));
    await_ready(&site.relay, &mut relay, METRICS);
    relay
}

/// A certificate with its key, for both servers.
fn make_certificate(home: &Home) {
    let key =
        home.openssl_key("turn.key", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let certificate = home.path("turn.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-days", "2", "-subj", "/CN=turn.example.org", "-key"]);
    must(openssl.arg(key).arg("-out").arg(certificate));
}

/// The peers are sockets of the client's machine: what they send must reach the external side,
/// and one address is not enough.
pub(crate) fn open_the_way_to_the_client(site: &Site) {
    site.client.ip(&format!("route add {EXTERNAL} via {INTERNAL}"));
    site.client.ip(&format!("-6 route add {EXTERNAL6} via {INTERNAL6}"));
    site.client.address("relay", &["10.25.1.3/24"]);
}

/// Debian's coturn, with two users.
fn start_coturn(site: &Site, home: impl AsRef<Path>) -> Process {
    let inside = |name: &str| home.as_ref().join(name).display().to_string();
    let mut program = site.relay.command("turnserver");
    program.args(["-n", "--no-cli", "--mobility", "-a", "--realm=turn.example.org"]);
    program.args(["-u", "alice:secret1", "-u", "bob:secret2", "--log-file=stdout"]);
    program.args([
        format!("--listening-port={COTURN_PORT}"),
        format!("--tls-listening-port={COTURN_TLS_PORT}"),
        format!("--cert={}", inside("turn.pem")),
        format!("--pkey={}", inside("turn.key")),
        format!("--listening-ip={INTERNAL}"),
        format!("--relay-ip={EXTERNAL}"),
        format!("--relay-ip={EXTERNAL6}"),
        format!("--pidfile={}", inside("coturn.pid")),
        format!("--userdb={}", inside("coturn.db")),
    ]);
    let mut coturn = Process::start(&mut program);
    coturn.until(std::time::Duration::from_secs(10), "coturn to listen", |_| {
        let filter = format!("sport = :{COTURN_PORT}");
        let sockets = site.relay.command("ss").args(["-Hlun", &filter]).output().ok()?;
        (!sockets.stdout.is_empty()).then_some(())
    });
    coturn
}

/// Verdict and words of each requirement.
pub(crate) fn verdicts(
    site: &Site,
    uri: &str,
    user: &[&str],
) -> BTreeMap<String, (String, String)> {
    let mut program = command(&site.client, &["conformance", uri, "--json", "--insecure"]);
    program.args(["--timeout", "5000"]);
    for peer in ["10.25.1.2", "10.25.1.3", "fd25:1::2"] {
        program.args(["--peer", peer]);
    }
    let Output { stdout, stderr, .. } = program.args(user).output().expect("av-edge runs");
    let said = String::from_utf8_lossy(&stderr);
    let report: Value =
        serde_json::from_slice(&stdout).unwrap_or_else(|e| panic!("{uri}: {e}: {said}"));
    let cases = report["cases"].as_array().expect("a list of cases");
    let text = |case: &Value, name: &str| case[name].as_str().unwrap_or_default().to_owned();
    cases
        .iter()
        .map(|case| {
            let words = format!("expected {}, saw {}", case["expected"], case["seen"]);
            (text(case, "id"), (text(case, "verdict"), words))
        })
        .collect()
}
