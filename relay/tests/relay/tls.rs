//! Clients on TLS, shared ports, and what is passed on to another server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::transport::{Tls, Transport, Trust};
use client::{AllocateOptions, Event, Options, TurnClient};
use proto::framing::proxy;
use relay::{Config, Relay};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion, version};

use crate::payload::every_size_passes;
use crate::site::{SOON, configuration, credentials, move_to_own_network, peer, sum};

/// A relay with a plain and a TLS listener on one address, and its certificates.
pub(crate) struct Secure {
    pub(crate) relay: Relay,
    pub(crate) server: SocketAddr,
    metrics: SocketAddr,
    directory: tempfile::TempDir,
}

impl Secure {
    /// `number` keeps tests out of each other's ports; `extra` is put behind `[tls]`.
    pub(crate) fn open(number: u16, extra: &str) -> Self {
        Self::open_with(number, extra, "")
    }

    /// The same, with keys for the two listeners.
    pub(crate) fn open_with(number: u16, extra: &str, listen: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["turn.example.org", "other.example.org"] {
            write_certificate(directory.path(), name);
        }
        let port = 21_500 + number;
        let text = configuration(number, 2, "");
        let tls = format!(
            "[[listen]]\naddress = \"127.0.0.1:{port}\"\ntransport = \"tls\"\n{listen}\n\
             [[listen]]\naddress = \"127.0.0.1:{port}\"\ntransport = \"tcp\"\n{listen}\n\
             [tls]\ncertificates = [\
             {{ certificate = \"turn.example.org.pem\", key = \"turn.example.org.key\" }}, \
             {{ certificate = \"other.example.org.pem\", key = \"other.example.org.key\" }}]\n\
             {extra}\n"
        );
        let file = directory.path().join("relay.toml");
        std::fs::write(&file, format!("{text}\n{tls}")).unwrap();
        let relay = relay::start(Config::from_file(&file).unwrap()).unwrap();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { relay, server: local(port), metrics: local(21_100 + number), directory }
    }

    fn client(&self, user: &str, alpn: &[&str]) -> TurnClient {
        let trust = Trust::Authorities(self.pem("turn.example.org"));
        let tls = Tls::new("turn.example.org", &trust, alpn).unwrap();
        let options = Options { transport: Transport::Tls(tls), ..Options::default() };
        TurnClient::connect_with(self.server, credentials(user), options).unwrap()
    }

    pub(crate) fn pem(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.pem"))
    }

    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        sum(&text, name, labels)
    }

    /// Waits until so many connections ended so.
    fn expect_closed(&self, ending: &str, count: u64) {
        let label = format!("reason=\"{ending}\"");
        let closed = || self.metric("av_edge_relay_connections_closed_total", &[&label]);
        for _ in 0..100 {
            if closed() == count {
                return;
            }
        }
        assert_eq!(closed(), count, "{ending}");
    }

    pub(crate) fn close(self) {
        self.relay.stop();
        self.relay.wait().unwrap();
    }
}

/// A certificate that vouches for itself, and its key, readable by their owner.
fn write_certificate(directory: &Path, name: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    for (kind, pem, mode) in
        [("pem", made.cert.pem(), 0o644), ("key", made.signing_key.serialize_pem(), 0o600)]
    {
        let path = directory.join(format!("{name}.{kind}"));
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
        file.write_all(pem.as_bytes()).unwrap();
    }
}

/// For tests that shake hands as fast as they can.
const TIRELESS: &str = "[limits]\nhandshakes_per_s = 100000\nhandshakes_burst = 100000";

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A bare TLS client that shakes hands, or says why not.
pub(crate) fn handshake(
    server: SocketAddr,
    trusted: &Path,
    name: &str,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Stream, std::io::Error> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = TcpStream::connect(server)?;
    tcp.set_read_timeout(Some(SOON))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const BINDING: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// A Binding request and its answer.
pub(crate) fn expect_binding(stream: &mut (impl Read + Write)) {
    stream.write_all(&BINDING).unwrap();
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((&answer[..2], &answer[8..20]), (&[1, 1][..], &BINDING[8..]));
}

#[test]
fn stun_029_alloc_over_tls_relays_every_size() {
    let site = Secure::open(30, "");
    every_size_passes(&mut site.client("alice", &[]));
    assert_eq!(site.metric("av_edge_relay_tls_handshakes_total", &[]), 1);
    site.close();
}

#[test]
fn disc_001_tls_and_tcp_share_an_address_and_each_is_its_own_listener() {
    let site = Secure::open(31, "");
    let options = Options { transport: Transport::Tcp, ..Options::default() };
    let mut plain = TurnClient::connect_with(site.server, credentials("bob"), options).unwrap();
    let mut secure = site.client("alice", &["stun.turn"]);
    every_size_passes(&mut plain);
    every_size_passes(&mut secure);
    let mut sessions = site.relay.observer().sessions();
    sessions.sort_by_key(|session| session.view.transport);
    let transports: Vec<_> = sessions.iter().map(|it| it.view.transport.name()).collect();
    assert_eq!(transports, ["tcp", "tls"]);
    for transport in ["tcp", "tls"] {
        let label = format!("transport=\"{transport}\"");
        assert_eq!(site.metric("av_edge_relay_connections", &[&label]), 1);
    }
    site.close();
}

#[test]
fn disc_004_alpn_chooses_our_protocols_and_silence_is_accepted() {
    let site = Secure::open(32, "");
    let pem = site.pem("turn.example.org");
    for (offered, chosen) in [
        (&[][..], None),
        (&["stun.turn"], Some(&b"stun.turn"[..])),
        (&["h2", "stun.turn"], Some(b"stun.turn")),
        (&["stun.nat-discovery"], Some(b"stun.nat-discovery")),
        (&["stun.nat-discovery", "stun.turn"], Some(b"stun.turn")),
    ] {
        let mut stream = handshake(site.server, &pem, "turn.example.org", offered, BOTH).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), chosen, "{offered:?}");
        expect_binding(&mut stream);
    }
    let refused = handshake(site.server, &pem, "turn.example.org", &["h2"], BOTH).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    site.expect_closed("tls", 1);
    site.close();
}

#[test]
fn disc_005_a_connection_for_nat_discovery_is_good_for_binding_only() {
    let site = Secure::open(33, "");
    let mut stream = handshake(
        site.server,
        &site.pem("turn.example.org"),
        "turn.example.org",
        &["stun.nat-discovery"],
        BOTH,
    )
    .unwrap();
    expect_binding(&mut stream);
    let allocate = [&[0, 3], &BINDING[2..]].concat();
    stream.write_all(&allocate).unwrap();
    let mut rest = Vec::new();
    // The end, with or without a reset, and nothing before it.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:02x?}");
    site.expect_closed("not_for_turn", 1);
    site.close();
}

#[test]
fn auth_039_tls_1_2_and_1_3_with_forward_secrecy_and_nothing_older() {
    let site = Secure::open(34, "");
    let pem = site.pem("turn.example.org");
    for versions in [&[&version::TLS12][..], &[&version::TLS13]] {
        let mut stream = handshake(site.server, &pem, "turn.example.org", &[], versions).unwrap();
        expect_binding(&mut stream);
    }
    // What openssl can still be talked into, and an RSA key exchange.
    for arguments in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "RC4:DES:3DES:@SECLEVEL=0"],
    ] {
        let outcome = std::process::Command::new("openssl")
            .args(["s_client", "-brief", "-connect", &site.server.to_string()])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(!outcome.status.success(), "{arguments:?}");
    }
    site.close();
}

/// Makes a certificate with an RSA key, signed by another one or by itself.
fn rsa_certificate(directory: &Path, name: &str, by: Option<&str>) {
    let at = |kind: &str| directory.join(format!("{name}.{kind}"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={name}"), "-keyout"]).arg(at("key"));
    openssl.arg("-out").arg(at("pem"));
    if let Some(by) = by {
        openssl.arg("-CA").arg(directory.join(format!("{by}.pem")));
        openssl.arg("-CAkey").arg(directory.join(format!("{by}.key")));
    }
    if name.contains('.') {
        openssl.args(["-extensions", "usr_cert"]);
        openssl.args(["-addext", &format!("subjectAltName=DNS:{name}")]);
    }
    let made = openssl.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn auth_039_a_chain_of_rsa_certificates_serves_with_forward_secrecy() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    rsa_certificate(home, "root", None);
    rsa_certificate(home, "between", Some("root"));
    rsa_certificate(home, "turn.example.org", Some("between"));
    let pem = |name: &str| std::fs::read_to_string(home.join(format!("{name}.pem"))).unwrap();
    std::fs::write(home.join("chain.pem"), pem("turn.example.org") + &pem("between")).unwrap();
    let tls = "[[listen]]\naddress = \"127.0.0.1:21573\"\ntransport = \"tls\"\n[tls]\n\
               certificates = [{ certificate = \"chain.pem\", key = \"turn.example.org.key\" }]";
    let file = home.join("relay.toml");
    std::fs::write(&file, format!("{}\n{tls}", configuration(73, 1, ""))).unwrap();
    let relay = relay::start(Config::from_file(&file).unwrap()).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], 21_573));
    let root = home.join("root.pem");
    for (versions, suite) in
        [(&[&version::TLS12][..], "TLS_ECDHE_RSA_"), (&[&version::TLS13], "TLS13_")]
    {
        let mut stream = handshake(server, &root, "turn.example.org", &[], versions).unwrap();
        expect_binding(&mut stream);
        let negotiated = stream.conn.negotiated_cipher_suite().unwrap().suite();
        let name = negotiated.as_str().unwrap();
        assert!(name.starts_with(suite), "{name}");
    }
    relay.stop();
    relay.wait().unwrap();
}

#[test]
fn certificates_are_chosen_by_name_and_replaced_without_losing_a_connection() {
    let site = Secure::open(35, TIRELESS);
    let other = site.pem("other.example.org");
    handshake(site.server, &other, "other.example.org", &[], BOTH).unwrap();
    let old = std::fs::read(site.pem("turn.example.org")).unwrap();
    let mut standing =
        handshake(site.server, &site.pem("turn.example.org"), "turn.example.org", &[], BOTH)
            .unwrap();

    // A broken file changes nothing, however often it is looked at.
    std::fs::write(site.pem("turn.example.org"), "no certificate").unwrap();
    let kept = site.directory.path().join("kept.pem");
    std::fs::write(&kept, &old).unwrap();
    let until = now() + Duration::from_secs(5);
    while now() < until {
        handshake(site.server, &kept, "turn.example.org", &[], BOTH).unwrap();
    }

    write_certificate(site.directory.path(), "turn.example.org");
    let fresh = site.pem("turn.example.org");
    let until = now() + Duration::from_secs(20);
    while handshake(site.server, &fresh, "turn.example.org", &[], BOTH).is_err() {
        assert!(now() < until, "the new certificate is not used");
    }
    assert!(handshake(site.server, &kept, "turn.example.org", &[], BOTH).is_err());
    expect_binding(&mut standing);
    site.close();
}

#[test]
fn media_008_new_certificates_leave_no_gap_in_a_call() {
    let site = Secure::open(74, TIRELESS);
    let mut caller = site.client("alice", &[]);
    caller.allocate(&AllocateOptions::default()).unwrap();
    let peer = peer();
    let channel = caller.bind_channel(peer.local_addr().unwrap()).unwrap();
    write_certificate(site.directory.path(), "turn.example.org");
    let fresh = site.pem("turn.example.org");
    let (until, mut longest) = (now() + Duration::from_secs(20), Duration::ZERO);
    let mut buffer = [0; 64];
    for round in 0_u32.. {
        let sent = now();
        assert!(sent < until, "the new certificate is not used");
        caller.send_channel(channel, &round.to_be_bytes()).unwrap();
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        peer.send_to(&buffer[..len], from).unwrap();
        let back = caller.recv(SOON).unwrap().expect("it comes back");
        assert!(matches!(back, Event::Data { payload, .. } if payload == round.to_be_bytes()));
        longest = longest.max(now() - sent);
        if round % 50 == 0 && handshake(site.server, &fresh, "turn.example.org", &[], BOTH).is_ok()
        {
            break;
        }
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    site.close();
}

#[expect(clippy::disallowed_methods, reason = "files are watched in real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn plain_on_tls_tls_on_plain_and_garbage_are_closed_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path(), "turn.example.org");
    let tls = "[[listen]]\naddress = \"127.0.0.1:21536\"\ntransport = \"tls\"\n[tls]\n\
               certificates = [{ certificate = \"turn.example.org.pem\", \
               key = \"turn.example.org.key\" }]";
    let file = directory.path().join("relay.toml");
    std::fs::write(&file, format!("{}\n{tls}", configuration(36, 1, ""))).unwrap();
    let relay = relay::start(Config::from_file(&file).unwrap()).unwrap();
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let site = Secure { relay, server: local(21_536), metrics: local(21_136), directory };
    let plain = local(21_036);

    let mut stream = TcpStream::connect(site.server).unwrap();
    stream.write_all(&BINDING).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&21), "an alert, not {answer:02x?}");
    site.expect_closed("tls", 1);

    let pem = site.pem("turn.example.org");
    assert!(handshake(plain, &pem, "turn.example.org", &[], BOTH).is_err());
    site.expect_closed("garbled", 1);

    // Half a handshake, and then nothing more.
    let mut half = TcpStream::connect(site.server).unwrap();
    half.write_all(&[22, 3, 1, 0, 200, 1, 0, 0]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    site.expect_closed("by_client", 1);

    // A record of an absurd length.
    let mut long = TcpStream::connect(site.server).unwrap();
    long.write_all(&[22, 3, 1, 0xFF, 0xFF]).unwrap();
    long.write_all(&vec![1; 20_000]).unwrap();
    site.expect_closed("tls", 2);
    expect_binding(&mut handshake(site.server, &pem, "turn.example.org", &[], BOTH).unwrap());
    site.close();
}

/// A server that answers each connection with what it received, and ends.
fn echo(listener: TcpListener, connections: usize) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut received = Vec::new();
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            received.push(bytes);
        }
        received
    })
}

/// The first bytes of a connection that offers these protocols.
fn client_hello(alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("www.example.org").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn tls_of_somebody_else_is_passed_on_untouched() {
    move_to_own_network();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = web.local_addr().unwrap();
    let extra = format!(
        "[tls.pass_through]\nto = \"{to}\"\nnames = [\"www.example.org\"]\nproxy_header = true"
    );
    let site = Secure::open(37, &extra);
    let received = echo(web, 2);
    // By protocol, in pieces of a few bytes; by name, in one, with a megabyte behind it.
    for (alpn, piece, size) in [(&["h2", "http/1.1"][..], 7, 3_000), (&[], 1 << 20, 1 << 20)] {
        let mut stream = TcpStream::connect(site.server).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut bytes = client_hello(alpn);
        bytes.extend((0..size).map(|n: usize| n.to_le_bytes()[0]));
        for piece in bytes.chunks(piece) {
            stream.write_all(piece).unwrap();
        }
        let source = stream.local_addr().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).unwrap();
        let (header, len) = proxy::write(source, site.server);
        assert!(echoed == [&header[..len], &bytes].concat(), "{alpn:?}");
    }
    assert_eq!(received.join().unwrap().len(), 2);
    site.expect_closed("passed_on", 2);
    // TURN on the same port meanwhile.
    every_size_passes(&mut site.client("alice", &["stun.turn"]));
    assert_eq!(site.metric("av_edge_relay_connections_passing", &[]), 0);
    site.close();
}

#[test]
fn a_web_server_that_is_down_costs_its_clients_only() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = nobody.local_addr().unwrap();
    drop(nobody);
    let site = Secure::open(38, &format!("[tls.pass_through]\nto = \"{to}\""));
    let mut stream = TcpStream::connect(site.server).unwrap();
    stream.write_all(&client_hello(&["h2"])).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:02x?}");
    every_size_passes(&mut site.client("alice", &[]));
    site.close();
}

#[test]
fn a_balancer_says_whom_it_brings_and_nobody_else_may() {
    let site = Secure::open_with(39, "", "proxy_protocol_from = [\"127.0.0.0/30\"]");
    let mapped = |answer: &[u8]| {
        let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
        let ip: Vec<u8> =
            answer[28..32].iter().zip([0x21, 0x12, 0xA4, 0x42]).map(|(a, b)| a ^ b).collect();
        (ip, port)
    };
    for port in [5_000, 5_001] {
        let source = SocketAddr::from(([192, 0, 2, 9], port));
        let (header, len) = proxy::write(source, site.server);
        let mut stream = TcpStream::connect(site.server).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // In pieces: the header and what follows it share none of the relay's reads.
        for byte in &header[..len] {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(&BINDING).unwrap();
        let mut answer = [0; 32];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(mapped(&answer), (vec![192, 0, 2, 9], port));
    }
    let mut silent = TcpStream::connect(site.server).unwrap();
    silent.write_all(&BINDING).unwrap();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty(), "a balancer must not be silent about its clients");
    site.expect_closed("proxy_header", 1);
    site.close();

    let site = Secure::open_with(40, "", "proxy_protocol_from = [\"192.0.2.0/24\"]");
    let (header, len) = proxy::write(site.metrics, site.server);
    let mut stranger = TcpStream::connect(site.server).unwrap();
    stranger.write_all(&[&header[..len], &BINDING].concat()).unwrap();
    let _ = stranger.read_to_end(&mut rest);
    assert!(rest.is_empty(), "anybody could be anybody");
    site.expect_closed("garbled", 1);
    site.close();
}

#[test]
fn draining_says_good_bye_on_tls() {
    let site = Secure::open(41, "");
    let mut client = site.client("alice", &[]);
    client.allocate(&AllocateOptions::default()).unwrap();
    let pem = site.pem("turn.example.org");
    let mut idle = handshake(site.server, &pem, "turn.example.org", &[], BOTH).unwrap();
    site.relay.stop();
    // An end without close_notify would be an error.
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0);
    site.relay.wait().unwrap();
}

#[test]
fn the_documented_tls_is_valid_and_bad_pieces_are_told() {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path(), "turn");
    write_certificate(directory.path(), "second");
    let documented = include_str!("../../../deploy/relay.toml");
    let table: Vec<_> = documented
        .lines()
        .filter(|line| {
            ["# [tls]", "# certificates =", "# pass_through ="]
                .iter()
                .any(|it| line.starts_with(it))
        })
        .map(|line| line.trim_start_matches("# "))
        .collect();
    assert_eq!(table.len(), 3, "{table:?}");
    let table = table.join("\n");
    let listen = "[[listen]]\naddress = \"127.0.0.1:21443\"\ntransport = \"tls\"\n";
    let good = format!("{}\n{listen}{table}", configuration(43, 1, ""));
    let file = directory.path().join("relay.toml");
    let judge = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        std::fs::write(&file, good.replace(from, to)).unwrap();
        Config::from_file(&file).map_err(|error| error.to_string())
    };
    judge("realm", "realm").unwrap();
    let open = directory.path().join("open.key");
    std::fs::copy(directory.path().join("turn.key"), &open).unwrap();
    let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    std::fs::set_permissions(&open, readable).unwrap();
    for (from, to, key, words) in [
        ("turn.key", "second.key", "tls.certificates[0].key", "does not go with"),
        ("turn.key", "open.key", "tls.certificates[0].key", "chmod o="),
        ("turn.key", "turn.pem", "tls.certificates[0].key", "others may read"),
        ("turn.pem", "relay.toml", "tls.certificates[0].certificate", "holds no certificate"),
        ("127.0.0.1:8443", "127.0.0.1:21443", "tls.pass_through.to", "in circles"),
        ("127.0.0.1:8443", "localhost", "tls.pass_through.to", "an address"),
        ("www.example", "*.example", "tls.pass_through.names[0]", "wildcard"),
        ("proxy_header", "proxy_headers", "tls.pass_through.proxy_headers", "Did you mean"),
        ("idle_s = 600", "idle_s = 30", "tls.pass_through.idle_s", "60"),
        ("connections = 4096", "connections = 0", "tls.pass_through.connections", "1"),
    ] {
        let message = judge(from, to).unwrap_err();
        assert!(message.contains(&format!(": {key}")), "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn each_frame_toward_a_client_is_a_record_of_its_own() {
    let site = Secure::open(42, "");
    let pem = site.pem("turn.example.org");
    let versions = &[&version::TLS13];
    let mut stream = handshake(site.server, &pem, "turn.example.org", &[], versions).unwrap();
    expect_binding(&mut stream);
    let written = || site.metric("av_edge_relay_stream_bytes_total", &["direction=\"out\""]);
    let before = written();
    stream.write_all(&BINDING.repeat(3)).unwrap();
    stream.read_exact(&mut [0; 3 * 32]).unwrap();
    // A record adds its header, the type of its content and a tag.
    assert_eq!(written() - before, 3 * (5 + 32 + 1 + 16));
    site.close();
}
