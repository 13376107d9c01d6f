//! Port 443 for everyone: Debian's nginx behind the relay.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use client::AllocateOptions;
use client::transport::{Tls, Transport, Trust};
use client::{Options, TurnClient};

use crate::edge::{Home, RelayFile, mint, start_relay};
use crate::netns::must;
use crate::process::Process;
use crate::site::{INTERNAL, Site};
use rig::clock;

/// How long nginx may take to start.
const START: Duration = Duration::from_secs(10);

/// A page that says whom nginx believes to serve.
const NGINX: &str = r#"
daemon off;
master_process off;
pid HOME/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path HOME; proxy_temp_path HOME; fastcgi_temp_path HOME;
    uwsgi_temp_path HOME; scgi_temp_path HOME;
    server {
        listen 127.0.0.1:8443 ssl http2 proxy_protocol;
        ssl_certificate HOME/www.pem;
        ssl_certificate_key HOME/www.key;
        location / { return 200 "web for $proxy_protocol_addr by $server_protocol\n"; }
        location /large { root HOME; }
    }
}
"#;

#[test]
fn a_web_server_and_turn_share_port_443() {
    let site = Site::new();
    let home = Home::with_pool_key();
    home.certificate("turn", "turn.example.org");
    home.certificate("www", "www.example.org");
    let directory = home.path("");
    let directory = directory.to_str().expect("a path in UTF-8").trim_end_matches('/');
    let configuration = home.write("nginx.conf", &NGINX.replace("HOME", directory));
    let large: String =
        (0..200_000).flat_map(|n| format!("{n:07}\n").into_bytes()).map(char::from).collect();
    home.write("large", &large);
    // The master reads what only root may; its workers need the directory.
    must(std::process::Command::new("chmod").args(["-R", "a+rX", directory]));
    must(std::process::Command::new("chmod").args(["o=", &format!("{directory}/turn.key")]));
    must(std::process::Command::new("chmod").args(["o=", &format!("{directory}/pool.pem")]));
    let mut nginx = Process::start(site.relay.command("nginx").arg("-c").arg(&configuration));
    nginx.until(START, "nginx to listen", |_| {
        site.relay.enter(|| TcpStream::connect("127.0.0.1:8443")).ok()
    });
    let file = RelayFile {
        transports: &["tcp", "tls"],
        tables: "[tls]\ncertificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }]\n\
                 [tls.pass_through]\nto = \"127.0.0.1:8443\"\nnames = [\"www.example.org\"]\n\
                 proxy_header = true"
            .to_owned(),
        ..RelayFile::on_port(443)
    };
    let _relay = start_relay(&site, &home, &file);

    // A browser's protocols, and none at all but the name: it is the web server's certificate.
    for (alpn, protocol) in [("--http2", "HTTP/2.0"), ("--no-alpn", "HTTP/1.1")] {
        let said = curl(&site, &[alpn, "https://www.example.org/"]);
        assert_eq!(said, format!("web for 10.25.1.2 by {protocol}\n"), "{alpn}");
    }
    assert!(curl(&site, &["https://www.example.org/large"]) == large, "a long answer");

    // TURN over TLS and without it, at the same address.
    let server = SocketAddr::new(INTERNAL.parse().expect("an address"), 443);
    allocate_on_streams(&site, &home, server);

    // HTTP without TLS is for nobody, and ends at once.
    let mut plain = site.client.enter(|| TcpStream::connect(server)).expect("a connection");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is written");
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
}

/// Takes an allocation over TLS and one without it.
fn allocate_on_streams(site: &Site, home: &Home, server: SocketAddr) {
    let tls = Tls::new("turn.example.org", &Trust::Anything, &["stun.turn"]);
    let tls = tls.expect("a client of TLS");
    for transport in [Transport::Tls(tls), Transport::Tcp] {
        let options = Options { transport, ..Options::default() };
        let credential = mint(&home.path("pool.pem"), "alice");
        site.client.enter(|| {
            let mut client =
                TurnClient::connect_with(server, credential, options).expect("a connection");
            client.allocate(&AllocateOptions::default()).expect("an allocation");
        });
    }
}

#[test]
fn sec_009_who_holds_connections_to_the_web_keeps_nobody_from_turn() {
    const WANTED: usize = 400;
    const MOST: usize = 256;
    let site = Site::new();
    let home = Home::with_pool_key();
    home.certificate("turn", "turn.example.org");
    // It takes everybody, says nothing, and ends nothing.
    let web = site.relay.enter(|| TcpListener::bind("127.0.0.1:8443")).expect("a port");
    std::thread::spawn(move || web.incoming().collect::<Vec<_>>());
    let file = RelayFile {
        transports: &["tcp", "tls"],
        tables: "[tls]\ncertificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }]\n\
                 [tls.pass_through]\nto = \"127.0.0.1:8443\"\n\
                 connections = 1024\nconnections_per_client = 256"
            .to_owned(),
        ..RelayFile::on_port(443)
    };
    let _relay = start_relay(&site, &home, &file);
    let server = SocketAddr::new(INTERNAL.parse().expect("an address"), 443);
    let lines: Vec<_> = (0..WANTED)
        .map(|_| {
            let line = site.client.enter(|| TcpStream::connect(server));
            let mut line = line.expect("a connection");
            // Refused before it is sent, or after.
            let _ = line.write_all(&browser_hello());
            line.set_nonblocking(true).expect("a socket");
            line
        })
        .collect();
    let stays = |mut line: &TcpStream| {
        line.read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let held = || lines.iter().filter(|line| stays(line)).count();
    let bounded = clock::look_until(START, || (held() == MOST).then_some(()));
    assert!(bounded.is_some(), "{} of {WANTED} connections stay", held());

    allocate_on_streams(&site, &home, server);
    assert_eq!(held(), MOST, "they are idle, not over");
}

/// What a browser says first (RFC 8446 §4.1.2), and no more than it must: one cipher suite, and ALPN.
fn browser_hello() -> Vec<u8> {
    let alpn = [0, 16, 0, 5, 0, 3, 2, b'h', b'2'];
    let extensions = [&[0, 9][..], &alpn].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 0x01, 1, 0], &extensions].concat();
    let len = |bytes: usize| u8::try_from(bytes).expect("a short hello");
    let handshake = [&[1, 0, 0, len(body.len())][..], &body].concat();
    [&[22, 3, 1, 0, len(handshake.len())][..], &handshake].concat()
}

/// What curl brings home from the web server behind the relay.
fn curl(site: &Site, arguments: &[&str]) -> String {
    let mut command = site.client.command("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "20"]);
    command.args(["--resolve", &format!("www.example.org:443:{INTERNAL}")]).args(arguments);
    String::from_utf8(must(&mut command).stdout).expect("text")
}
