//! How good TLS is at every door that speaks it, as OpenSSL and testssl see it, and who gets in by
//! certificate.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::edge::{AUTH_METRICS, Home, METRICS, RelayFile, command, start_auth_with};
use crate::monitoring::deploy;
use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::prometheus::Prometheus;
use crate::site::Site;
use rig::clock;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The relay's listener that speaks TLS.
const LISTENER: &str = "10.25.1.1:3478";
/// What anybody may show who visits metrics.
const VISITOR: [&str; 4] = ["--cert", "scraper.pem", "--key", "scraper.key"];

/// An authority `ca.pem`, and what it vouches for: the services, a scraper, and somebody whose
/// certificate is for servers.
fn certificates(home: &Home) {
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let request = |name: &str, more: &[&str]| {
        let path = |name: String| home.path(&name);
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-new", "-days", "90", "-subj", &format!("/CN={name}")]);
        command.arg("-key").arg(path(format!("{name}.key"))).arg("-out");
        command.arg(path(format!("{name}.pem"))).args(more);
        command
    };
    for authority in ["ca", "elsewhere"] {
        home.openssl_key(&format!("{authority}.key"), &p256);
        must(&mut request(authority, &[]));
    }
    std::fs::copy(home.path("ca.pem"), home.path("clients.pem")).expect("a file of our own");
    for (name, purpose) in [
        ("services", "serverAuth"),
        ("scraper", "clientAuth"),
        ("another", "serverAuth"),
        ("stranger", "clientAuth"),
    ] {
        // Of RSA, so that suites without forward secrecy would do.
        home.openssl_key(&format!("{name}.key"), &rsa);
        let purpose = format!("extendedKeyUsage={purpose}");
        let leaf = ["-addext", "subjectAltName=IP:127.0.0.1,IP:10.25.1.1", "-addext", &purpose];
        let mut request = request(name, &leaf);
        request.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        if name != "stranger" {
            request.arg("-CA").arg(home.path("ca.pem"));
            request.arg("-CAkey").arg(home.path("ca.key"));
        }
        must(&mut request);
    }
}

/// Both services with metrics over mutual TLS, and a relay with TLS for clients.
fn start(site: &Site, home: &Home) -> (Process, crate::edge::Auth) {
    certificates(home);
    let tls = "tls = { certificate = \"services.pem\", key = \"services.key\", client_ca = \"clients.pem\" }";
    let file = RelayFile {
        transports: &["tls"],
        tables: format!(
            "{tls}\n[tls]\ncertificates = [{{ certificate = \"services.pem\", key = \"services.key\" }}]\n"
        ),
        ..RelayFile::default()
    };
    let path = home.write("relay.toml", &file.toml());
    let path = path.to_str().expect("a path in UTF-8");
    let mut relay = Process::start(&mut command(&site.relay, &["relay", "--config", path]));
    relay.until(LIMIT, "metrics over TLS", |_| {
        let output = curl(&site.relay, home, METRICS, &VISITOR);
        output.status.success().then_some(())
    });
    (relay, start_auth_with(site, home, tls))
}

/// What curl gets from `/metrics`.
fn curl(machine: &Namespace, home: &Home, address: &str, more: &[&str]) -> Output {
    let mut command = machine.command("curl");
    command.current_dir(home.path("")).args(["-sS", "--max-time", "10", "--cacert", "ca.pem"]);
    command.args(more).arg(format!("https://{address}/metrics"));
    command.output().expect("curl runs")
}

#[test]
fn metrics_are_for_those_with_a_certificate_and_prometheus_has_one() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let (relay, _auth) = start(&site, &home);
    for address in [METRICS, AUTH_METRICS] {
        for version in ["1.2", "1.3"] {
            let tls = [&format!("--tlsv{version}"), "--tls-max", version];
            for (case, shown, alert) in [
                ("a scraper", &VISITOR[..], None),
                ("nobody", &[], Some("certificate required")),
                (
                    "a server",
                    &["--cert", "another.pem", "--key", "another.key"],
                    Some("certificate"),
                ),
                (
                    "another's",
                    &["--cert", "stranger.pem", "--key", "stranger.key"],
                    Some("unknown ca"),
                ),
            ] {
                let output = curl(&site.relay, &home, address, &[&tls[..], shown].concat());
                let said = String::from_utf8_lossy(&output.stderr);
                let page = String::from_utf8_lossy(&output.stdout);
                match alert {
                    None => {
                        assert!(page.contains("av_edge_"), "{address}, {version}, {case}: {said}");
                    }
                    Some(alert) => {
                        assert!(said.contains(alert), "{address}, {version}, {case}: {said}");
                        assert_eq!(page, "", "{address}, {version}, {case}");
                    }
                }
            }
        }
        let clear =
            site.relay.command("curl").args(["-sS", &format!("http://{address}/metrics")]).output();
        assert!(!clear.expect("curl runs").status.success(), "{address}: in clear");
    }

    // The documented way, with the files and addresses of this test.
    let documented = |name: &str| {
        let path = deploy("prometheus").join(name);
        std::fs::read_to_string(path).expect("it is in deploy/")
    };
    for rules in ["rules.yml", "alerts.yml"] {
        home.write(rules, &documented(rules));
    }
    let text = documented("scrape.yml")
        .replace("/etc/prometheus/av-edge/services.pem", "ca.pem")
        .replace("/etc/prometheus/av-edge/", "")
        .replace("relay.example.org:9641", METRICS)
        .replace("auth.example.org:9642", AUTH_METRICS);
    assert!(!text.contains("example.org"), "{text}");
    let prometheus =
        Prometheus::of(&site.relay, &home, &format!("global: {{ scrape_interval: 1s }}\n{text}"));
    prometheus.demand("count(up == 1)", Some(2));
    prometheus.demand("count(av_edge_relay_build_info)", Some(1));

    // Another authority, at SIGHUP: who was welcome is a stranger now.
    std::fs::copy(home.path("elsewhere.pem"), home.path("clients.pem")).expect("our own file");
    must(Command::new("kill").args(["-s", "HUP", &relay.id().to_string()]));
    clock::await_some(LIMIT, "the new authority", || {
        let output = curl(&site.relay, &home, METRICS, &VISITOR);
        String::from_utf8_lossy(&output.stderr).contains("unknown ca").then_some(())
    });
}

/// What `openssl s_client` says when there is nothing on standard input.
fn s_client(machine: &Namespace, arguments: &[&str]) -> String {
    let mut command = machine.command("openssl");
    let output = command.arg("s_client").args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("openssl runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The same, given this on standard input when hands are shaken.
fn s_client_told(machine: &Namespace, arguments: &[&str], input: &'static [u8]) -> String {
    let mut command = machine.command("openssl");
    command.arg("s_client").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = command.spawn().expect("openssl runs");
    let mut pipe = client.stdin.take().expect("it is piped");
    let typed = thread::spawn(move || {
        // Two pauses: for the handshake, and for what the input brings about.
        for bytes in [input, b""] {
            thread::park_timeout(Duration::from_millis(300));
            // It may have ended already.
            let _ = pipe.write_all(bytes);
        }
    });
    let output = client.wait_with_output().expect("it ends");
    typed.join().expect("it types");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn every_door_has_modern_tls_alone() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _services = start(&site, &home);
    let [cert, key]: [PathBuf; 2] = [home.path("scraper.pem"), home.path("scraper.key")];
    let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("a path in UTF-8"));
    for door in [LISTENER, METRICS, AUTH_METRICS] {
        let own = ["-connect", door, "-cert", cert, "-key", key];
        let ask = |more: &[&str]| s_client(&site.relay, &[&own[..], more].concat());
        let tell =
            |more: &[&str], input| s_client_told(&site.relay, &[&own[..], more].concat(), input);
        for (case, more) in [
            ("TLS 1.1", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..]),
            ("TLS 1.0", &["-tls1", "-cipher", "ALL:@SECLEVEL=0"]),
            ("no forward secrecy", &["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"]),
            ("no authenticated cipher", &["-tls1_2", "-cipher", "ECDHE+AES:!AESGCM:!AESCCM"]),
            ("no server", &["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"]),
        ] {
            let said = ask(more);
            assert!(said.contains("alert"), "{door}, {case}: {said}");
            assert!(said.contains("Cipher is (NONE)"), "{door}, {case}: {said}");
        }
        for version in ["-tls1_2", "-tls1_3"] {
            let said = tell(&[version], b"");
            for (words, there) in [
                ("Cipher is (NONE)", false),
                ("Server Temp Key: X25519", true),
                ("Compression: NONE", true),
                ("TLS session ticket:", false),
                ("New Session Ticket arrived", false),
            ] {
                assert_eq!(said.contains(words), there, "{door}, {version}, {words}: {said}");
            }
        }
        let said = tell(&["-tls1_2"], b"R\n");
        assert!(
            said.contains("RENEGOTIATING") && said.contains("no renegotiation"),
            "{door}: {said}"
        );
        let said = ask(&["-tls1_2", "-reconnect"]);
        let sessions = |kind: &str| said.lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!((sessions("New, TLSv1.2"), sessions("Reused")), (6, 0), "{door}: {said}");
    }
}

#[test]
fn testssl_finds_no_fault_with_the_listener_and_its_default_limits() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _services = start(&site, &home);
    let mut scan = site.relay.command("testssl");
    scan.args(["--quiet", "--color", "0", "--nodns", "none", "--warnings", "off", "--add-ca"]);
    scan.arg(home.path("ca.pem")).arg("--jsonfile").arg(home.path("found.json"));
    // Protocols, suites, forward secrecy, preference, server hello, known attacks.
    scan.args(["-p", "-s", "-f", "-P", "-S", "-U", LISTENER]).stdin(Stdio::null());
    let output = scan.output().expect("testssl runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let found = std::fs::read_to_string(home.path("found.json")).expect(&said);
    let found: Vec<Finding> = serde_json::from_str(&found).expect(&said);
    let worse: Vec<_> = found.iter().filter(|it| !it.is_fine()).collect();
    assert!(worse.is_empty(), "{worse:#?}");
    for (id, words) in [
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered"),
        ("secure_client_renego", "not vulnerable"),
        ("heartbleed", "not vulnerable"),
        ("LUCKY13", "not vulnerable"),
        ("RC4", "not vulnerable"),
    ] {
        let of_it: Vec<_> = found.iter().filter(|it| it.id == id).collect();
        assert!(matches!(of_it[..], [it] if it.words.starts_with(words)), "{id}: {of_it:?}");
    }
}

/// One line of what testssl has found.
#[derive(Debug, serde::Deserialize)]
struct Finding {
    id: String,
    severity: String,
    #[serde(rename = "finding")]
    words: String,
}

impl Finding {
    fn is_fine(&self) -> bool {
        // Every suite is strong, so the client may choose the one that it is fastest with; the
        // certificate is by an authority of this test, which revokes nothing; and the OpenSSL of
        // this host knows no GOST.
        let ours = ["cipher_order", "cert_revocation", "engine_problem"];
        ["OK", "INFO", "DEBUG"].contains(&&*self.severity) || ours.contains(&&*self.id)
    }
}
