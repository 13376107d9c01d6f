//! What `deploy/` gives to those who monitor a pool: rules, alerts and dashboards, by real tools.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::{AllocateOptions, Credentials, TurnClient};
use serde_json::Value;

use crate::edge::{Home, RelayFile, connect_to, mint, start_relay};
use crate::netns::must;
use crate::prometheus::Prometheus;
use crate::site::{INTERNAL, PEER, Site};
use rig::clock;

/// Where the relays of this pool are: the port of their listeners, their relayed ports, and their
/// metrics.
const POOL: [(u16, &str, &str); 3] = [
    (3478, "50000-50999", "127.0.0.1:9641"),
    (3479, "51000-51999", "127.0.0.1:9643"),
    (3480, "52000-52999", "127.0.0.1:9644"),
];

/// How long the pool has calls for. Rates want several looks of Prometheus, one a second.
const CALLS: Duration = Duration::from_secs(12);

/// How long every query may take to find something.
const SEEN: Duration = Duration::from_secs(20);

/// What lies there for operators.
pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in it")
        .join("deploy")
        .join(path)
}

#[test]
fn every_alert_sounds_when_it_must_and_not_beside() {
    must(
        Command::new("promtool").args(["test", "rules"]).arg(deploy("prometheus/alerts_test.yml")),
    );
    let read = |name: &str| std::fs::read_to_string(deploy(name)).expect("it is in deploy/");
    let (alerts, tests) = (read("prometheus/alerts.yml"), read("prometheus/alerts_test.yml"));
    let named = |text: &str, key: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::to_owned).collect()
    };
    assert_eq!(
        named(&alerts, "- alert: "),
        named(&tests, "- alertname: "),
        "alerts and their tests"
    );
}

#[test]
fn every_query_of_every_dashboard_finds_data_in_a_pool_with_calls() {
    let site = Site::new();
    let home = Home::with_pool_key();
    home.certificate("turn", "turn.example.org");
    let tables = "[tls]\ncertificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }]\n";
    let relays = POOL.map(|(port, ports, metrics)| {
        let tables = tables.to_owned();
        let file = RelayFile { ports, metrics, tables, workers: 1, ..RelayFile::on_port(port) };
        start_relay(&site, &home, &file)
    });
    let targets = POOL.map(|(.., metrics)| metrics);
    let rules = deploy("prometheus/rules.yml");
    let prometheus = Prometheus::of(
        &site.relay,
        &home,
        &format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: av-edge\n    static_configs: [{{ targets: {targets:?} }}]\n",
            rules.display().to_string()
        ),
    );

    let credential = mint(&home.path("pool.pem"), "alice");
    let mut calls: Vec<_> =
        POOL.iter().map(|(port, ..)| Call::start(&site, *port, &credential)).collect();
    let end = clock::now() + CALLS;
    let mut brief = Vec::new();
    while clock::now() < end {
        calls.iter_mut().for_each(Call::exchange);
        // Short calls come and go beside them, so that there are some that have ended.
        if brief.len() < 20 {
            brief.push(Call::start(&site, POOL[brief.len() % 3].0, &credential));
        } else {
            brief.drain(..).for_each(|mut call: Call| {
                (0..5).for_each(|_| call.exchange());
                call.client.release().expect("it ends");
            });
        }
    }

    let mut asked = 0;
    for board in ["pool", "node", "allocation"] {
        let text = std::fs::read_to_string(deploy(&format!("grafana/{board}.json")));
        let board: Value = serde_json::from_str(&text.expect("it is there")).expect("JSON");
        let instance = POOL[0].2;
        let relay = format!("av_edge_relay_allocation_age_seconds{{instance=\"{instance}\"}}");
        let allocation = prometheus.label(&relay, "allocation");
        for (title, query) in queries(&board) {
            let query = query
                .replace("=~\"$instance\"", "=~\".*\"")
                .replace("$instance", instance)
                .replace("$allocation", &allocation)
                .replace("$__rate_interval", "30s");
            assert!(!query.contains('$'), "{title}: a variable that nothing sets: {query}");
            let found = clock::look_until(SEEN, || {
                calls.iter_mut().for_each(Call::exchange);
                prometheus.has_data(&query).then_some(())
            });
            assert!(found.is_some(), "{title}: no data for {query}");
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked} queries in all dashboards");
    drop(relays);
}

/// The title of each panel with each of its queries.
fn queries(board: &Value) -> Vec<(String, String)> {
    let panels = board["panels"].as_array().expect("panels");
    let of = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets
            .map(|target| (title.clone(), target["expr"].as_str().expect("a query").to_owned()))
            .collect()
    };
    panels.iter().flat_map(of).collect()
}

/// A channel that no client binds: what it carries is dropped.
const NOBODYS: u16 = 0x4FFF;

/// A client with a channel to a peer, both sending RTP.
struct Call {
    client: TurnClient,
    peer: UdpSocket,
    relayed: SocketAddr,
    channel: u16,
    sequence: u16,
}

impl Call {
    fn start(site: &Site, port: u16, credential: &Credentials) -> Self {
        let server = format!("{INTERNAL}:{port}").parse().expect("an address");
        let mut client = site.client.enter(|| connect_to(server, credential));
        let allocation = client.allocate(&AllocateOptions::default()).expect("an allocation");
        let peer = site.peer.enter(|| UdpSocket::bind((PEER, 0))).expect("a port of the peer");
        let channel = client.bind_channel(peer.local_addr().expect("it is bound"));
        let (relayed, channel) = (allocation.relayed, channel.expect("a channel"));
        Self { client, peer, relayed, channel, sequence: 0 }
    }

    /// A packet of RTP there and one back, of twenty milliseconds each.
    fn exchange(&mut self) {
        let [high, low] = self.sequence.to_be_bytes();
        let time = (u32::from(self.sequence) * 160).to_be_bytes();
        let head = [&[0x80, 0, high, low], &time[..], &[1, 2, 3, 4]].concat();
        let packet = [&head[..], &[7; 160]].concat();
        self.client.send_channel(self.channel, &packet).expect("it is sent");
        self.peer.send_to(&packet, self.relayed).expect("it is sent");
        self.client.send_channel(NOBODYS, &packet).expect("it is sent");
        self.sequence = self.sequence.wrapping_add(1);
        while self.client.recv(Duration::from_millis(5)).is_ok_and(|event| event.is_some()) {}
    }
}
