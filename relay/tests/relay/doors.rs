//! What operators' doors say to those who do not speak HTTP, and to those without a certificate.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use relay::{Config, Relay};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::site::configuration;

/// Longer than a head may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, whatever carries it.
trait Line: Read + Write + Send {
    /// Says that nothing more comes.
    fn hang_up(&self);
}

impl Line for TcpStream {
    fn hang_up(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Line for UnixStream {
    fn hang_up(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// A relay with every door there is.
pub(crate) struct House {
    relay: Relay,
    pub(crate) server: SocketAddr,
    home: TempDir,
    metrics: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl House {
    pub(crate) fn open(number: u16, keys: &str, furnish: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().unwrap();
        furnish(home.path());
        let (metrics, admin) = (21_100 + number, 22_000 + number);
        let doors = format!(
            "[control]\npath = \"control\"\n[admin]\naddress = \"127.0.0.1:{admin}\"\n{keys}"
        );
        let file = home.path().join("relay.toml");
        fs::write(&file, format!("{}\n{doors}", configuration(number, 1, ""))).unwrap();
        let relay = relay::start(Config::from_file(&file).unwrap()).unwrap();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let server = local(21_000 + number);
        Self { relay, server, home, metrics: local(metrics), admin: local(admin) }
    }

    /// A connection to each door.
    fn lines(&self) -> [(&'static str, Box<dyn Line>); 3] {
        let tcp = |address: SocketAddr| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        };
        let unix = self.control();
        [("metrics", tcp(self.metrics)), ("admin", tcp(self.admin)), ("control", Box::new(unix))]
    }

    /// A connection to the control socket.
    pub(crate) fn control(&self) -> UnixStream {
        let unix = UnixStream::connect(self.home.path().join("control")).unwrap();
        unix.set_read_timeout(Some(PATIENCE)).unwrap();
        unix
    }

    /// How many visitors of a door were refused for a reason, as a scrape tells it.
    pub(crate) fn refused(&self, door: &str, why: &str) -> u64 {
        let mut line = TcpStream::connect(self.metrics).unwrap();
        line.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let page = rest(&mut line);
        let name =
            format!("av_edge_relay_visitors_refused_total{{door=\"{door}\",reason=\"{why}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
    }

    pub(crate) fn close(self) {
        self.relay.stop();
        self.relay.wait().unwrap();
    }
}

/// The status of an answer that is a problem, and what is said of it.
fn problem(case: &str, answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{case}: {answer}"));
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    for field in [
        "content-type: application/problem+json",
        "connection: close",
        "date: ",
        &format!("content-length: {}", body.len()),
    ] {
        assert!(head.contains(field), "{case}: {head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], status, "{case}");
    (status, body["detail"].as_str().unwrap().to_owned())
}

/// All that is said until the other end hangs up.
fn rest(line: &mut dyn Line) -> String {
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_head_that_is_none_is_refused_in_words_at_every_door() {
    let house = House::open(70, "", |_| {});
    let field = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let fields = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(150));
    for (case, bytes, status, word) in [
        ("garbage", &b"\x00\x01\x00\x00\x21\x12\xa4\x42\r\n\r\n"[..], 400, "well-formed"),
        ("a field without a colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, "well-formed"),
        ("an unknown version", b"GET / HTTP/3.7\r\n\r\n", 400, "well-formed"),
        ("two lengths", b"GET / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 400, "well-formed"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
        ("a field of 100 kB", field.as_bytes(), 431, "16 KiB"),
        ("a target of 100 kB", target.as_bytes(), 431, "16 KiB"),
        ("150 fields", fields.as_bytes(), 431, "100 fields"),
        ("half a head", b"GET / HTTP/1.1\r\nHost: local", 400, "in the middle"),
    ] {
        for (door, mut line) in house.lines() {
            let case = format!("{case} at {door}");
            line.write_all(bytes).unwrap();
            line.hang_up();
            let (found, words) = problem(&case, &rest(&mut *line));
            assert_eq!(found, status, "{case}");
            assert!(words.contains(word), "{case}: {words}");
        }
    }
    for (door, _) in house.lines() {
        for (why, count) in [("malformed", 6), ("too_large", 3), ("token", 0)] {
            assert_eq!(house.refused(door, why), count, "{why} at {door}");
        }
    }
    house.close();
}

#[test]
fn who_is_refused_or_pushed_out_is_counted_by_door_and_reason() {
    let house = House::open(74, "", |_| {});
    let answer = |request: &str| {
        let [_, (_, mut admin), _] = house.lines();
        admin.write_all(request.as_bytes()).unwrap();
        rest(&mut *admin)
    };
    for (request, name, status, why) in [
        ("GET /v1/state HTTP/1.1\r\n", "a.example", 421, "host"),
        ("POST /v1/reload HTTP/1.1\r\n", "localhost", 403, "forbidden"),
        ("GET /v1/nothing HTTP/1.1\r\n", "localhost", 404, "unknown"),
        ("GET /v1/allocations/nonsense HTTP/1.1\r\n", "localhost", 400, "malformed"),
    ] {
        let before = house.refused("admin", why);
        let found = answer(&format!("{request}Host: {name}\r\nConnection: close\r\n\r\n"));
        assert!(found.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {found}");
        assert_eq!(house.refused("admin", why), before + 1, "{request}");
    }
    // One more than there are places; the first gives up its own.
    let mut visitors: Vec<_> = (0..33).map(|_| house.lines()).collect();
    for (index, (door, first)) in visitors[0].iter_mut().enumerate() {
        assert_eq!(rest(&mut **first), "", "{door}");
        // The scrape is a visitor as well, who pushes out another at the door of metrics.
        assert!(house.refused(door, "crowded") >= 1, "door {index}: {door}");
    }
    house.close();
}

#[test]
fn a_broken_head_behind_good_ones_is_refused_and_the_answers_before_it_stay_whole() {
    let house = House::open(71, "", |_| {});
    let good = "GET /v1/state HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (door, mut line) in house.lines() {
        let good = if door == "metrics" { metrics } else { good };
        line.write_all(good.repeat(3).as_bytes()).unwrap();
        line.write_all(b"nonsense\r\n\r\n").unwrap();
        let answer = rest(&mut *line);
        let answers: Vec<_> = answer.split("HTTP/1.1 ").skip(1).collect();
        let statuses: Vec<_> = answers.iter().map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200", "200", "200", "400"], "{door}");
        for answer in &answers[..3] {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let length = format!("content-length: {}", body.len());
            assert!(head.to_lowercase().contains(&length), "{door}: {head}");
        }
        problem(door, &format!("HTTP/1.1 {}", answers[3]));
    }
    house.close();
}

#[test]
fn half_a_head_is_waited_for_as_long_as_a_whole_one_and_silence_is_not_answered() {
    let house = House::open(72, "", |_| {});
    let waiting: Vec<_> = house
        .lines()
        .into_iter()
        .zip(house.lines())
        .map(|((door, mut half), (_, mut silent))| {
            thread::spawn(move || {
                half.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").unwrap();
                (door, rest(&mut *half), rest(&mut *silent))
            })
        })
        .collect();
    for waiting in waiting {
        let (door, half, silent) = waiting.join().unwrap();
        let (status, words) = problem(door, &half);
        assert!(status == 408 && words.contains("10 seconds"), "{door}: {status} {words}");
        assert_eq!(silent, "", "{door}: a connection that idles ends without a word");
    }
    house.close();
}

/// An authority with its name.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let (certificate, pem) = (own.der().clone(), own.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    /// A certificate and its key, as PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// What a client hears at a door in TLS, by its certificate; an error if the door does not listen.
fn ask(
    door: SocketAddr,
    authority: &Authority,
    own: Option<&(String, String)>,
    request: &str,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = StreamOwned::new(session, stream);
    line.write_all(request.as_bytes())?;
    let mut answer = String::new();
    line.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_certificate_opens_administration_to_who_has_it_and_to_nobody_else() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("localhost");
    let keys = "token_file = \"token\"\n\
                tls = { certificate = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\" }";
    let house = House::open(73, keys, |home| {
        let secrets = [("own.key", &*key), ("token", crate::admin::TOKEN)];
        let files = [("own.pem", &*certificate), ("ca.pem", &*ours.pem)];
        for (name, text) in secrets.into_iter().chain(files) {
            fs::write(home.join(name), text).unwrap();
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(home.join(name), mode).unwrap();
        }
    });
    let (known, stranger) = (ours.sign("operator"), strange.sign("operator"));
    let request = |line: &str, headers: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
    };
    let (read, reload) = ("GET /v1/state", "POST /v1/reload");
    let answer = |text: &str| ask(house.admin, &ours, Some(&known), text).unwrap();
    let state = answer(&request(read, ""));
    assert!(state.starts_with("HTTP/1.1 200 ") && state.contains("\"allocations\":0"), "{state}");
    let unproved = answer(&request(reload, ""));
    assert!(unproved.starts_with("HTTP/1.1 401 "), "who reads may not change: {unproved}");
    let proved = answer(&request(reload, &crate::admin::bearer(crate::admin::TOKEN)));
    assert!(proved.starts_with("HTTP/1.1 200 "), "{proved}");
    let (status, words) = problem("no HTTP, in TLS", &answer("nonsense\r\n\r\n"));
    assert!(status == 400 && words.contains("well-formed"), "{status} {words}");
    let token = request(read, &crate::admin::bearer(crate::admin::TOKEN));
    for (case, own) in [("no certificate", None), ("a stranger's", Some(&stranger))] {
        for request in [&request(read, ""), &token] {
            let refused = ask(house.admin, &ours, own, request).expect_err(case);
            let alert = refused.kind() == ErrorKind::InvalidData;
            let reset = refused.kind() == ErrorKind::ConnectionReset;
            assert!(alert || reset, "{case}: {refused}");
        }
    }
    assert_eq!(house.refused("admin", "handshake"), 4);
    assert_eq!(house.refused("admin", "token"), 1, "the reload without one");
    let mut plain = TcpStream::connect(house.admin).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(request(read, "").as_bytes()).unwrap();
    let mut heard = Vec::new();
    drop(plain.read_to_end(&mut heard));
    assert!(!heard.starts_with(b"HTTP"), "nothing is said in clear: {heard:?}");
    house.close();
}
