//! Connections: TLS, limits, deadlines, and the end of the service.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{KEY, Service, instant};

/// Longer than every deadline of a connection, shorter than a test should take.
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the service listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    stream
}

/// A whole request for a credential.
fn request() -> String {
    format!(
        "GET /turn?service=turn&username=u HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    )
}

/// A certificate for localhost in `directory`, as configuration and as trust.
fn certificate(directory: &Path) -> (String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).expect("a writable directory");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a writable directory");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("our own file");
    let settings = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}",
        certificate.display().to_string(),
        key.display().to_string()
    );
    (settings, made.cert.der().clone())
}

fn tls_client(
    trusted: Option<CertificateDer<'static>>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring speaks both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a valid configuration")
}

#[test]
fn rest_013_with_a_certificate_only_tls_is_spoken() {
    let directory = tempfile::tempdir().expect("a writable directory");
    let (settings, trusted) = certificate(directory.path());
    let service = Service::start(&settings);
    assert!(service.auth.url().starts_with("https://"));

    for version in [&TLS12, &TLS13] {
        let client = tls_client(Some(trusted.clone()), &[version]);
        let mut stream = StreamOwned::new(client, connect(service.auth.addr()));
        stream.write_all(request().as_bytes()).expect("an open connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a clean end");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{version:?}: {answer}");
        assert!(answer.contains("\"password\""), "{version:?}: {answer}");
        assert_eq!(stream.conn.alpn_protocol(), None);
    }

    let mut doubting = StreamOwned::new(tls_client(None, &[&TLS13]), connect(service.auth.addr()));
    assert!(doubting.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err(), "nobody vouches for it");

    let mut plain = connect(service.auth.addr());
    plain.write_all(request().as_bytes()).expect("an open connection");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.windows(4).any(|window| window == b"HTTP"), "no plain HTTP beside");
}

#[test]
fn connections_of_one_client_are_limited() {
    let service = Service::start(
        "[limits]\nconnections_per_client = 3\n[metrics]\naddress = \"127.0.0.1:0\"",
    );
    let mut held: Vec<_> = (0..3).map(|_| connect(service.auth.addr())).collect();
    // A request on each makes sure that it has been accepted.
    for stream in &mut held {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("an open connection");
        assert!(stream.read(&mut [0; 1024]).expect("an answer") > 0);
    }
    assert!(ends_unanswered(connect(service.auth.addr())), "a fourth one");
    let refused = "av_edge_auth_connections_refused_total{reason=\"client\"} 1\n";
    assert!(service.metrics().contains(refused));
    drop(held);
    // A place is free as soon as the service has seen the end of one.
    let deadline = instant() + PATIENCE;
    while ends_unanswered(connect(service.auth.addr())) {
        assert!(instant() < deadline, "no place came free");
    }
}

#[test]
fn sec_010_handshakes_of_one_client_are_limited() {
    let directory = tempfile::tempdir().expect("a writable directory");
    let (settings, trusted) = certificate(directory.path());
    let service = Service::start(&format!(
        "{settings}\n[limits]\nhandshakes_per_s = 0.001\nhandshakes_burst = 2\n\
         [metrics]\naddress = \"127.0.0.1:0\""
    ));
    let served = |(): ()| {
        let client = tls_client(Some(trusted.clone()), &[&TLS13]);
        let mut stream = StreamOwned::new(client, connect(service.auth.addr()));
        let mut answer = Vec::new();
        let _ = stream.write_all(request().as_bytes());
        let _ = stream.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 200 OK")
    };
    assert_eq!([(); 3].map(served), [true, true, false]);
    let refused = "av_edge_auth_connections_refused_total{reason=\"handshakes\"} 1\n";
    assert!(service.metrics().contains(refused));
}

/// Whether the service closes a connection without a word to a whole request.
fn ends_unanswered(mut stream: TcpStream) -> bool {
    // Both may fail: the service may be quicker to close than we are to write.
    let _ = stream.write_all(request().as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.is_empty()
}

#[test]
fn slow_clients_are_ended_in_time_however_they_drip() {
    let directory = tempfile::tempdir().expect("a writable directory");
    let (settings, _) = certificate(directory.path());
    let (plain, secure) = (Service::start(""), Service::start(&settings));
    let head = "POST /v1/credentials HTTP/1.1\r\nHost: x\r\n";
    let body = format!(
        "{head}Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n"
    );
    let started = instant();
    let clients = [
        ("silent", plain.auth.addr(), "", ""),
        ("half a head", plain.auth.addr(), head, ""),
        ("dripping head", plain.auth.addr(), head, "X"),
        ("dripping body", plain.auth.addr(), &body, " "),
        ("silent TLS", secure.auth.addr(), "", ""),
        ("dripping TLS", secure.auth.addr(), "\x16\x03\x01\x02\x00\x01\x00", "\0"),
    ]
    .map(|(case, addr, first, drip)| {
        let first = first.as_bytes().to_vec();
        std::thread::spawn(move || (case, until_ended(addr, &first, drip.as_bytes(), started)))
    });
    for client in clients {
        let (case, lived) = client.join().expect("no panic");
        let lived = lived.unwrap_or_else(|| panic!("{case}: still open after {PATIENCE:?}"));
        assert!(lived >= Duration::from_secs(9), "{case}: ended after {lived:?} already");
        assert!(lived <= Duration::from_secs(14), "{case}: lived for {lived:?}");
    }
    assert_eq!(plain.get("/healthz", &[]).status, 200, "others are served meanwhile");
}

/// How long a connection lives on which `drip` is sent twice a second.
fn until_ended(addr: SocketAddr, first: &[u8], drip: &[u8], started: Instant) -> Option<Duration> {
    let mut stream = connect(addr);
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a valid timeout");
    stream.write_all(first).expect("an open connection");
    let mut answer = [0; 1024];
    while instant() < started + PATIENCE {
        match stream.read(&mut answer) {
            Ok(0) => return Some(instant() - started),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stream.write_all(drip).is_err() {
                    return Some(instant() - started);
                }
            }
            Err(_) => return Some(instant() - started),
        }
    }
    None
}

#[test]
fn broken_http_is_refused_in_words_and_counted_and_ends_nothing_but_its_connection() {
    let service = Service::start("[metrics]\naddress = \"127.0.0.1:0\"");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    let metrics = service.auth.metrics_addr().expect("metrics are configured");
    for (case, bytes, status, error) in [
        ("no HTTP", &b"\x00\x01\x00\x00\x21\x12\xa4\x42"[..], 400, "bad_head"),
        ("HTTP of another kind", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad_head"),
        ("header without colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, "bad_head"),
        ("negative length", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "bad_head"),
        ("half a head", b"GET / HTTP/1.1\r\nHost: x", 400, "bad_head"),
        ("endless head", long.as_bytes(), 431, "head_too_large"),
    ] {
        for door in [service.auth.addr(), metrics] {
            let mut stream = connect(door);
            stream.write_all(bytes).expect("an open connection");
            stream.shutdown(std::net::Shutdown::Write).expect("an open connection");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("a clean end");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
            assert!(head.contains("content-type: application/json\r\n"), "{case}: {head}");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["error"], error, "{case}");
            assert!(body["message"].as_str().is_some_and(|text| text.len() > 20), "{case}: {body}");
        }
    }
    let shown = service.metrics();
    for (reason, count) in [("bad_head", 10), ("head_too_large", 2)] {
        let line = format!("av_edge_auth_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(shown.contains(&line), "{reason}: {shown}");
    }
    assert_eq!(service.get("/healthz", &[]).status, 200);
}

#[test]
fn stopping_answers_what_is_under_way_and_closes_the_rest() {
    let service = Service::start("");
    let addr = service.auth.addr();
    let mut idle = connect(addr);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("an open connection");
    assert!(idle.read(&mut [0; 1024]).expect("an answer") > 0);

    let started = instant();
    service.auth.stop();
    assert!(instant() - started < Duration::from_secs(3), "idle connections are not waited for");
    assert_eq!(idle.read(&mut [0; 1]).expect("a clean end"), 0);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}
