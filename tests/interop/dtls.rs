//! coturn's client over DTLS, at a port of its own and beside UDP.

use std::process::Command;

use crate::coturn::{Run, start_peers_at};
use crate::edge::{Home, METRICS, REST_SECRET, RelayFile, await_ready, command, http_get};
use crate::netns::must;
use crate::process::Process;
use crate::site::{INTERNAL, INTERNAL6, PEER, PEER6, Site};

const RUNS: &[Run] = &[
    Run { case: "channels", server: INTERNAL, peer: PEER, clients: 4, options: &["-S", "-c"] },
    Run {
        case: "indications, beside UDP",
        server: INTERNAL,
        peer: PEER,
        clients: 2,
        options: &["-S", "-c", "-s", "-p", "3478"],
    },
    Run {
        case: "IPv6 channels",
        server: INTERNAL6,
        peer: PEER6,
        clients: 2,
        options: &["-S", "-c", "-x"],
    },
    Run { case: "plain UDP beside it", server: INTERNAL, peer: PEER, clients: 2, options: &["-c"] },
];

#[test]
fn stun_029_turnutils_uclient_relays_over_dtls_without_loss() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let relay = start(&site, &home);
    let _peers = start_peers_at(&site.peer, &[PEER, PEER6]);
    for (number, run) in RUNS.iter().enumerate() {
        let user = format!("user-{number}");
        run.demand_all_back(&site.client, &["-u", &user, "-W", REST_SECRET]);
    }
    let page = site.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
    let page = page.expect("metrics");
    let handshakes: f64 = page
        .lines()
        .filter(|line| line.starts_with("av_edge_relay_dtls_handshakes_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(handshakes >= 8.0, "{handshakes} handshakes:\n{}", relay.output());
}

/// A relay that speaks DTLS at port 5349, and at 3478 beside UDP.
fn start(site: &Site, home: &Home) -> Process {
    home.openssl_key("tls.key", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-days", "2", "-subj", "/CN=turn.example.org", "-key"]);
    must(make.arg(home.path("tls.key")).arg("-out").arg(home.path("tls.pem")));
    let file = RelayFile { old_channels: true, ..RelayFile::default() };
    let mut toml =
        file.toml() + "[tls]\ncertificates = [{ certificate = \"tls.pem\", key = \"tls.key\" }]\n";
    for (host, port) in [(INTERNAL, 5349), (INTERNAL, 3478)] {
        toml += &listener(host, port);
    }
    toml += &listener(&format!("[{INTERNAL6}]"), 5349);
    let path = home.write("relay.toml", &toml);
    let path = path.to_str().expect("a path in UTF-8");
    let mut relay = Process::start(&mut command(&site.relay, &["relay", "--config", path]));
    await_ready(&site.relay, &mut relay, METRICS);
    relay
}

fn listener(host: &str, port: u16) -> String {
    format!("[[listen]]\naddress = \"{host}:{port}\"\ntransport = \"dtls\"\nside = \"internal\"\n")
}
