//! Clients that reach the relay by TCP and TLS only: coturn's tool, Chromium, OpenSSL, crowds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use client::transport::{Link, Start, Tls, Transport, Trust};
use serde_json::json;

use crate::browser::Browser;
use crate::call::{assert_is_good, serve_page};
use crate::coturn::{Run, start_peers_at};
use crate::edge::{Home, METRICS, REST_SECRET, RelayFile, http_get, mint, start_relay};
use crate::netns::{Namespace, must};
use crate::site::{INTERNAL, INTERNAL6, PEER, PEER6, Site};
use rig::clock;

/// The relay's name in its certificate.
const NAME: &str = "turn.example.org";
/// Length of a call, seconds.
const SECONDS: u64 = 10;
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Plain TURN and TLS on port 3478 of all addresses; UDP is not served.
fn on_streams(home: &Home) -> RelayFile {
    home.certificate("turn", NAME);
    home.certificate("other", "other.example.org");
    RelayFile {
        transports: &["tcp", "tls"],
        old_channels: true,
        tables: "[tls]\ncertificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }, \
                 { certificate = \"other.pem\", key = \"other.key\" }]"
            .to_owned(),
        ..RelayFile::default()
    }
}

#[test]
fn stun_029_turnutils_uclient_relays_without_loss_over_tcp_and_tls() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &on_streams(&home));
    let _peers = start_peers_at(&site.peer, &[PEER, PEER6]);
    let run = |case, server, peer, options| Run { case, server, peer, clients: 4, options };
    for (number, run) in [
        run("TCP, channels", INTERNAL, PEER, &["-t", "-c"][..]),
        run("TCP, indications", INTERNAL, PEER, &["-t", "-c", "-s"]),
        run("TCP over IPv6", INTERNAL6, PEER6, &["-t", "-c", "-x"]),
        run("TCP, client to client", INTERNAL, PEER, &["-t", "-c", "-y"]),
        run("TLS, channels", INTERNAL, PEER, &["-t", "-S", "-c", "-p", "3478"]),
        run("TLS, indications", INTERNAL, PEER, &["-t", "-S", "-c", "-s", "-p", "3478"]),
        run("TLS over IPv6", INTERNAL6, PEER6, &["-t", "-S", "-c", "-x", "-p", "3478"]),
        run("TLS, client to client", INTERNAL, PEER, &["-t", "-S", "-c", "-y", "-p", "3478"]),
    ]
    .iter()
    .enumerate()
    {
        let user = format!("user-{number}");
        run.demand_all_back(&site.client, &["-u", &user, "-W", REST_SECRET]);
    }
}

#[test]
fn media_006_chromium_calls_itself_over_tcp_and_over_tls() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &on_streams(&home));
    let page = serve_page(&site.client);
    for (scheme, protocol) in [("turn", "tcp"), ("turns", "tls")] {
        let credential = mint(&home.path("pool.pem"), "alice");
        let servers = json!([{
            "urls": [format!("{scheme}:{INTERNAL}:3478?transport=tcp")],
            "username": credential.username,
            "credential": *credential.password,
        }]);
        // Nobody vouches for the certificate of the test.
        let flags = ["--ignore-certificate-errors"];
        let url = format!("http://{page}/");
        let mut browser = Browser::open_with(&site.client, &url, &flags);
        let limit = Duration::from_secs(SECONDS + 90);
        let ends = browser.value(&format!("call({servers}, {SECONDS})"), limit);
        for end in ends.as_array().expect("two ends") {
            assert_is_good(end);
            assert_eq!(end["relayProtocol"], protocol, "{end:#}");
        }
    }
}

/// What `openssl s_client` says of the relay.
fn s_client(machine: &Namespace, arguments: &[&str]) -> String {
    let mut command = machine.command("openssl");
    command.args(["s_client", "-connect", &format!("{INTERNAL}:3478")]).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("openssl runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn disc_004_openssl_negotiates_protocols_names_and_a_new_certificate() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &on_streams(&home));
    for (arguments, expected) in [
        (&["-alpn", "stun.turn"][..], "ALPN protocol: stun.turn"),
        (&["-alpn", "stun.nat-discovery"], "ALPN protocol: stun.nat-discovery"),
        (&["-alpn", "h2"], "no application protocol"),
        (&[], "No ALPN negotiated"),
        (&["-servername", NAME], "subject=CN = turn.example.org"),
        (&["-servername", "other.example.org"], "subject=CN = other.example.org"),
        (&["-servername", "unknown.example.org"], "subject=CN = turn.example.org"),
        (&["-noservername"], "subject=CN = turn.example.org"),
        (&["-tls1_2"], "Protocol  : TLSv1.2"),
    ] {
        let said = s_client(&site.client, arguments);
        assert!(said.contains(expected), "{arguments:?}: no {expected:?} in {said}");
    }

    // A connection stands while the certificate is replaced.
    let mut standing = site.client.command("openssl");
    standing.args(["s_client", "-quiet", "-connect", &format!("{INTERNAL}:3478")]);
    let mut standing = standing
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    home.certificate("turn", "renewed.example.org");
    clock::await_some(LIMIT, "the new certificate", || {
        s_client(&site.client, &["-noservername"]).contains("renewed.example.org").then_some(())
    });
    let binding = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    standing.stdin.as_mut().expect("a pipe").write_all(&binding).expect("it is written");
    let mut answer = [0; 32];
    standing.stdout.as_mut().expect("a pipe").read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer[8..20], &binding[8..]);
    drop(standing.stdin.take());
    standing.wait().expect("it ends");
}

/// Clients of the crowd: as many as shake hands in the time that strangers have.
const CROWD: usize = 1_000;
/// What each of them may cost, in bytes: 10,000 in 200 MB, without what the relay itself needs.
const COST: u64 = 15 * 1024;

#[test]
fn an_idle_tls_client_is_small() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let mut file = on_streams(&home);
    file.tables.push_str(
        "\n[limits]\nconnections = 20000\nconnections_per_client = 20000\n\
         handshakes_per_s = 100000\nhandshakes_burst = 100000",
    );
    let relay = start_relay(&site, &home, &file);
    let before = relay.resident_bytes();
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .expect("a limit");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)
        .expect("the soft limit may be raised");
    let tls = Tls::new(NAME, &Trust::Anything, &[]).expect("a client of TLS");
    let server = SocketAddr::new(INTERNAL.parse().expect("an address"), 3478);
    let crowd = site.client.enter(|| {
        let start = Start { bind: None, buffer_bytes: None, timeout: LIMIT };
        let open = |_| Link::open(&Transport::Tls(tls.clone()), server, start).expect("a link");
        (0..CROWD).map(open).collect::<Vec<_>>()
    });
    let open = site.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
    let open = open.expect("metrics");
    let after = relay.resident_bytes();
    let count = |name: &str| -> u64 {
        let rows = open.lines().filter(|row| row.starts_with(name));
        rows.map(|row| row.rsplit(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0)).sum()
    };
    println!("{} idle TLS clients: {before} bytes before, {after} after", crowd.len());
    assert_eq!(count("av_edge_relay_tls_handshakes_total{"), CROWD as u64);
    let there = count("av_edge_relay_connections{");
    assert!(there > CROWD as u64 / 2, "only {there} were there at once");
    assert!((after - before) / there < COST, "{before} to {after} bytes for {there} clients");
}

#[test]
fn a_relay_out_of_descriptors_keeps_what_it_has_does_not_spin_and_heals() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let mut file = on_streams(&home);
    // Limits are set from outside, which only its own user may do.
    file.tables.push_str("\n[limits]\nconnections_per_client = 1000\n[hardening]\nuser = \"root\"");
    let relay = start_relay(&site, &home, &file);
    let pid = relay.id().to_string();
    must(site.relay.command("prlimit").args(["--pid", &pid, "--nofile=80:80"]));
    let server = SocketAddr::new(INTERNAL.parse().expect("an address"), 3478);
    let binding = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.write_all(&binding).and_then(|()| stream.read_exact(&mut [0; 32]))
    };
    site.client.enter(|| {
        let connect = |_| TcpStream::connect(server).expect("the kernel takes it");
        let mut first = connect(0);
        ask(&mut first).expect("the first one is served");
        let mut crowd: Vec<_> = (1..200).map(connect).collect();
        let before = relay.cpu_time();
        let second = clock::now() + Duration::from_secs(1);
        while clock::now() < second {
            ask(&mut first).expect("the first one is still served");
        }
        let spent = relay.cpu_time().saturating_sub(before);
        assert!(spent < Duration::from_millis(900), "{spent:?} of two cores in a second");
        let mut last = crowd.pop().expect("the last one");
        drop((first, crowd));
        ask(&mut last).expect("whoever waited is served when there is room");
    });
}
