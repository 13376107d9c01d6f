//! Mutual TLS: who may speak at all.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use pool_key::PrivateKey;
use proto::auth::KeyRing;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{Client, PATIENCE, SETTINGS, request};
use crate::harness::{Service, stranger, stranger_from, until};

/// An authority, and what it vouches for.
pub(super) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    pub(super) pem: String,
    key: KeyPair,
}

/// What a certificate is for.
#[derive(Clone, Copy)]
enum Purpose {
    Any,
    Server,
    Client,
    Code,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn vouch(&self, name: &str, purpose: Purpose) -> Identity {
        self.vouch_for(name, purpose, KeyPair::generate().expect("a key"))
    }

    fn vouch_for(&self, name: &str, purpose: Purpose, key: KeyPair) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = match purpose {
            Purpose::Any => Vec::new(),
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Code => vec![ExtendedKeyUsagePurpose::CodeSigning],
        };
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate: made.der().clone(), pem: made.pem(), key }
    }
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("a writable directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    path.display().to_string()
}

/// Settings of MRAS over TLS for the front ends fe1 and fe2.
fn settings(directory: &Path, authority: &Authority, own: &Identity, key: &str) -> String {
    let certificate = write(directory, "mras.crt", &own.pem);
    let authorities = write(directory, "ca.crt", &authority.certificate.pem());
    SETTINGS.replace(
        "[mras]",
        &format!(
            "[mras]\ntrusted_servers = [\"fe1.corp.example\", \"FE2.corp.example\"]\n\
             tls = {{ certificate = {certificate:?}, key = {key:?}, client_ca = {authorities:?} }}"
        ),
    )
}

/// A service over TLS, and the authority it trusts.
fn service() -> (Service, Authority, tempfile::TempDir) {
    service_with("")
}

/// The same with more limits.
fn service_with(limits: &str) -> (Service, Authority, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a writable directory");
    let authority = Authority::new();
    let own = authority.vouch("edge.corp.example", Purpose::Server);
    let key = write(directory.path(), "mras.key", &own.key.serialize_pem());
    let settings = settings(directory.path(), &authority, &own, &key)
        .replace("limits = { ", &format!("limits = {{ {limits}"));
    let service = Service::start(&format!("{settings}\n[metrics]\naddress = \"127.0.0.1:0\""));
    (service, authority, directory)
}

/// A stream that ends its handshake at the first byte.
fn connect(
    service: &Service,
    authority: &Authority,
    identity: Option<&Identity>,
    version: &'static rustls::SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("ring speaks both versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
            let chain = vec![own.certificate.clone()];
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }
    };
    let addr = service.auth.mras_addr().expect("MRAS is configured");
    let stream = TcpStream::connect(addr).expect("the service listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    let name = ServerName::try_from("edge.corp.example").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("valid"), stream)
}

#[test]
fn sec_009_silent_strangers_keep_no_trusted_server_out_and_end_none() {
    let (service, authority, _directory) =
        service_with("connections = 8, connections_per_network = 2, ");
    let addr = service.auth.mras_addr().expect("MRAS is configured");
    // They never begin a handshake, and nothing is known of them before its end.
    let mut strangers: Vec<_> = (0..8).map(|network| stranger(addr, network / 2)).collect();
    // Neighbours of the server among them, as many as its network may have.
    strangers.extend([8, 9].map(|host| stranger_from(addr, [127, 0, 0, host])));
    let own = authority.vouch("fe1.corp.example", Purpose::Client);
    let mut server = Client::over(connect(&service, &authority, Some(&own), &TLS13));
    assert_eq!(server.ask(&request("")).reason(), "OK", "there is room for who is trusted");
    strangers.extend((8..40).map(|network| stranger(addr, network / 2)));
    assert_eq!(server.ask(&request("")).reason(), "OK", "it stays");
    let left = || service.turned_away("crowded") + service.turned_away("network");
    until("all but seven strangers had to leave", || left() == 35);
}

#[test]
fn mras_002_only_trusted_servers_pass_the_handshake() {
    let (service, authority, _directory) = service();
    let others = Authority::new();
    let by = |purpose| authority.vouch("fe1.corp.example", purpose);
    let named = |name| authority.vouch(name, Purpose::Any);
    for (case, identity, served) in [
        ("a client's certificate", Some(by(Purpose::Client)), true),
        ("a server's certificate", Some(by(Purpose::Server)), true),
        ("a certificate for anything", Some(by(Purpose::Any)), true),
        ("the other name, in another case", Some(named("fe2.CORP.example")), true),
        ("a certificate for code", Some(by(Purpose::Code)), false),
        ("no certificate", None, false),
        ("another name", Some(named("fe3.corp.example")), false),
        ("a longer name", Some(named("x.fe1.corp.example")), false),
        ("a wildcard", Some(named("*.corp.example")), false),
        ("an address", Some(named("127.0.0.1")), false),
        ("another authority", Some(others.vouch("fe1.corp.example", Purpose::Any)), false),
    ] {
        for version in [&TLS12, &TLS13] {
            let stream = connect(&service, &authority, identity.as_ref(), version);
            let mut client = Client::over(stream);
            client.try_send(super::client::message("SERVICE", &request("")));
            let reason = client.try_response().map(|response| response.reason());
            assert_eq!(reason.as_deref(), served.then_some("OK"), "{case}, {version:?}");
        }
    }
    let metrics = service.metrics();
    let refused = "av_edge_auth_tls_failures_total 14";
    assert!(metrics.lines().any(|line| line == refused), "{refused} is missing in {metrics}");
    assert!(metrics.contains("av_edge_mras_credentials_issued_total 8\n"), "{metrics}");
}

#[test]
fn mras_002_nothing_is_spoken_in_clear() {
    let (service, _, _directory) = service();
    let mut client = Client::connect(&service);
    client.try_send(super::client::message("OPTIONS", ""));
    // An alert of TLS, if anything.
    assert!(
        !std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.try_response()))
            .is_ok_and(|response| response.is_some())
    );
}

#[test]
fn mras_050_the_certificate_may_have_the_pool_key() {
    let directory = tempfile::tempdir().expect("a writable directory");
    let authority = Authority::new();
    for (case, key) in
        [("P-256", PrivateKey::generate()), ("Ed25519", PrivateKey::generate_ed25519())]
    {
        let pem = key.to_pem();
        let pair = KeyPair::from_pem(&pem).expect("another reader of PEM takes it too");
        let own = authority.vouch_for("edge.corp.example", Purpose::Server, pair);
        let path = write(directory.path(), "pool.pem", &pem);
        let settings = settings(directory.path(), &authority, &own, &path);
        let current = pool_key::load(Path::new(&path)).expect("a pool key").pool_key();
        let ring = KeyRing { current, previous: Vec::new() };
        let service = Service::with_ring(&settings, ring);
        let front_end = authority.vouch("fe1.corp.example", Purpose::Any);
        let stream = connect(&service, &authority, Some(&front_end), &TLS13);
        assert_eq!(Client::over(stream).ask(&request("")).reason(), "OK", "{case}");
    }
}

/// Sends `first`, then `drip` again and again, until the other side closes.
pub(super) fn until_closed(mut stream: TcpStream, first: &[u8], drip: &[u8]) {
    stream.write_all(first).expect("an open connection");
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stream.write_all(drip).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
