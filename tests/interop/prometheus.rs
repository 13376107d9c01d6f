//! A real Prometheus reads what the services count.

use std::net::UdpSocket;
use std::time::Duration;

use client::{AllocateOptions, Credentials, Event, TurnClient};
use serde_json::Value;

use crate::edge::{
    AUTH_METRICS, Home, METRICS, RelayFile, connect, http_get, start_auth, start_relay,
};
use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::site::{INTERNAL, PEER, Site};
use rig::clock;

/// Where Prometheus answers, on the DMZ host.
const ADDRESS: &str = "127.0.0.1:9090";
/// How long Prometheus may take to see a change; it looks every second.
const SEEN: Duration = Duration::from_secs(15);
/// Payload lengths of the datagrams each client sends in turn.
const LENGTHS: [usize; 4] = [0, 1, 160, 1_200];

#[test]
fn prometheus_sees_exactly_what_each_client_sent_until_its_allocation_ends() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &RelayFile::default());
    let auth = start_auth(&site, &home);
    let prometheus = Prometheus::start(&site.relay, &home, &[METRICS, AUTH_METRICS]);
    let users = ["alice", "bob", "carol"];
    let calls: Vec<Call> = users
        .iter()
        .zip([100, 200, 300])
        .map(|(user, datagrams)| {
            let mut call = Call::start(&site, &auth.credential(&site.client, user));
            call.exchange(datagrams);
            call
        })
        .collect();

    let datagrams: usize = calls.iter().map(|call| call.datagrams).sum();
    let bytes: usize = calls.iter().map(|call| call.bytes).sum();
    for direction in ["to_peer", "to_client"] {
        for (unit, all) in [("bytes", bytes), ("packets", datagrams)] {
            let name = format!("av_edge_relay_allocation_{unit}_total");
            prometheus.demand(&format!(r#"sum({name}{{direction="{direction}"}})"#), Some(all));
            // What exceeds the cap of series has one of its own, here empty.
            let each = format!(r#"{name}{{direction="{direction}",allocation!="other"}}"#);
            prometheus.demand(&format!("sum({each})"), Some(all));
            prometheus.demand(&format!("count({each})"), Some(users.len()));
        }
    }
    prometheus.demand("sum(av_edge_relay_allocations)", Some(users.len()));
    prometheus.demand("sum(av_edge_relay_allocations_opened_total)", Some(users.len()));
    prometheus.demand("sum(av_edge_auth_minted_total)", Some(users.len()));
    prometheus.demand("count(up == 1)", Some(2));

    for mut call in calls {
        call.client.release().expect("the allocation ends");
    }
    prometheus.demand(r#"count(av_edge_relay_allocation_bytes_total{allocation!="other"})"#, None);
    prometheus.demand("sum(av_edge_relay_allocations)", Some(0));
    prometheus.demand("sum(av_edge_relay_allocations_opened_total)", Some(users.len()));
}

#[test]
fn promtool_finds_no_fault_in_either_services_metrics() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &RelayFile::default());
    let auth = start_auth(&site, &home);
    let mut call = Call::start(&site, &auth.credential(&site.client, "alice"));
    call.exchange(10);
    for address in [METRICS, AUTH_METRICS] {
        let page = site.relay.enter(|| http_get(&format!("http://{address}/metrics")));
        let page = page.unwrap_or_else(|e| panic!("{address}: {e}"));
        let file = home.write("metrics.txt", &page);
        must(
            std::process::Command::new("sh")
                .args(["-c", "promtool check metrics < \"$1\"", "sh"])
                .arg(file),
        );
    }
}

/// A client with a channel to a peer that sends everything back.
struct Call {
    client: TurnClient,
    peer: UdpSocket,
    channel: u16,
    datagrams: usize,
    bytes: usize,
}

impl Call {
    fn start(site: &Site, credential: &Credentials) -> Self {
        let mut client = site.client.enter(|| connect(INTERNAL, credential));
        client.allocate(&AllocateOptions::default()).expect("an allocation");
        let peer = site.peer.enter(|| UdpSocket::bind((PEER, 0))).expect("a port of the peer");
        peer.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        let channel = client.bind_channel(peer.local_addr().expect("it is bound"));
        Self { client, peer, channel: channel.expect("a channel"), datagrams: 0, bytes: 0 }
    }

    /// Sends datagrams there and gets each back before the next.
    fn exchange(&mut self, datagrams: usize) {
        let mut bytes = [0; 2048];
        for length in LENGTHS.into_iter().cycle().take(datagrams) {
            self.client.send_channel(self.channel, &vec![7; length]).expect("it is sent");
            let (got, relayed) = self.peer.recv_from(&mut bytes).expect("it reaches the peer");
            assert_eq!(got, length);
            self.peer.send_to(&bytes[..got], relayed).expect("it is sent");
            let back = self.client.recv(Duration::from_secs(2)).expect("the socket works");
            assert!(matches!(back, Some(Event::Data { payload, .. }) if payload.len() == length));
            self.datagrams += 1;
            self.bytes += length;
        }
    }
}

/// A running Prometheus.
pub(crate) struct Prometheus<'a> {
    machine: &'a Namespace,
    _process: Process,
}

impl<'a> Prometheus<'a> {
    /// Starts one that scrapes these addresses of its machine every second.
    fn start(machine: &'a Namespace, home: &Home, targets: &[&str]) -> Self {
        let configuration = format!(
            "global: {{ scrape_interval: 1s }}\n\
             scrape_configs:\n  - job_name: av-edge\n    static_configs: [{{ targets: {targets:?} }}]\n"
        );
        Self::of(machine, home, &configuration)
    }

    /// Starts one with this configuration; relative paths in it start at the home.
    pub(crate) fn of(machine: &'a Namespace, home: &Home, configuration: &str) -> Self {
        let file = home.write("prometheus.yml", configuration);
        let mut process = Process::start(
            machine
                .command("prometheus")
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", home.path("prometheus").display()))
                .arg(format!("--web.listen-address={ADDRESS}")),
        );
        process.until(Duration::from_secs(30), "Prometheus to be ready", |_| {
            machine.enter(|| http_get(&format!("http://{ADDRESS}/-/ready"))).ok()
        });
        Self { machine, _process: process }
    }

    /// Waits until a query has this one value, or with `None` no result at all.
    pub(crate) fn demand(&self, query: &str, wanted: Option<usize>) {
        let mut last = Value::Null;
        let wanted = wanted.map(|number| number.to_string());
        let found = clock::look_until(SEEN, || {
            last = self.query(query);
            let result = last["data"]["result"].as_array()?;
            let value = result.first().and_then(|row| row["value"][1].as_str());
            (value == wanted.as_deref()).then_some(())
        });
        assert!(found.is_some(), "{query} is not {wanted:?} within {SEEN:?}, but: {last:#}");
    }

    /// Whether a query has a result that is a number.
    pub(crate) fn has_data(&self, query: &str) -> bool {
        let answer = self.query(query);
        let rows = answer["data"]["result"].as_array().into_iter().flatten();
        let values = rows.filter_map(|row| row["value"][1].as_str()?.parse::<f64>().ok());
        values.into_iter().any(f64::is_finite)
    }

    /// A label of the first series of a query, when there is one.
    pub(crate) fn label(&self, query: &str, label: &str) -> String {
        clock::await_some(SEEN, query, || {
            let answer = self.query(query);
            let series = answer["data"]["result"].as_array()?.first()?.clone();
            series["metric"][label].as_str().map(str::to_owned)
        })
    }

    fn query(&self, query: &str) -> Value {
        self.machine.enter(|| {
            ureq::get(format!("http://{ADDRESS}/api/v1/query"))
                .query("query", query)
                .call()
                .and_then(|mut answer| answer.body_mut().read_json())
                .unwrap_or_else(|e| panic!("{query}: {e}"))
        })
    }
}
