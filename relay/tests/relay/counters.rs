//! The performance counters of the original product (ED §8) in our metrics.

use std::net::UdpSocket;

use client::{AllocateOptions, Credentials, TurnClient};

use crate::site::{Site, client_of, peer, sum};

/// What an operator of the product looks for.
const TABLE: &str = include_str!("../../../deploy/prometheus/lync-counters.md");

/// The counters of the product, without "/sec".
const COUNTERS: &[&str] = &[
    "Total Relay Sessions",
    "Active Relay Sessions - Authenticated",
    "Active Relay Sessions - Allocated Port",
    "Active Relay Sessions - Data",
    "Allocated Port Pool Count",
    "Allocated Port Pool Miss Count",
    "Allocate Requests",
    "Authentication Failures",
    "Allocate Requests Exceeding Port Limit",
    "Alternate Server Redirects",
    "Client Request Errors (4xx Responses)",
    "Client SetActiveDestination Request Errors",
    "Session Idle Timeouts",
    "Packets Received",
    "Packets Sent",
    "Average TURN Packet Latency",
    "Average Data Packet Latency",
    "Average TURN BW Packet Latency",
    "Maximum Packet Latency",
    "Packets Dropped",
    "Packets Not Forwarded",
    "Average Depth of Connection Receive Queue",
    "Maximum Depth of Connection Receive Queue",
    "Active Sessions Exceeding Avg Bandwidth Limit",
    "Active Sessions Exceeding Peak Bandwidth Limit",
    "Active Federated UDP Sessions",
    "Credentials Issued",
    "Bad Requests Received",
    "Current requests serviced",
];

/// Our metrics that a text names, each with the labels it asks for: `name{key="value"}`.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let starts = text.match_indices("av_edge_relay_").map(|(at, _)| &text[at..]);
    let found = starts.map(|text| {
        let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = labels.map_or("", |(labels, _)| labels);
        let alternatives = labels.split_once("=~\"");
        let labels = match alternatives {
            Some((key, values)) => {
                let values = values.trim_end_matches('"').split("\\|");
                values.map(|value| format!("{key}=\"{value}\"")).collect()
            }
            None => labels.split(',').map(str::to_owned).collect(),
        };
        (name.to_owned(), labels)
    });
    found.collect()
}

#[test]
fn ed_055_every_counter_of_the_product_has_its_row_and_every_metric_there_is_exported() {
    for counter in COUNTERS {
        let row = TABLE.lines().find(|line| {
            let first = line.split(" | ").next().unwrap_or_default();
            let first = first.trim_start_matches("| ");
            first.split(", ").any(|name| name.trim_end_matches("/sec") == *counter)
        });
        let row = row.unwrap_or_else(|| panic!("no row for {counter}"));
        assert!(row.contains("av_edge_") || row.contains("| none: "), "{row}");
    }
    let site = Site::open(62, 2);
    let page = site.page("/metrics").1;
    let named = named(TABLE);
    assert!(named.len() > 20, "{named:?}");
    for (name, labels) in named {
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} is not exported");
        for label in labels {
            let shown = page.lines().any(|line| {
                line.strip_prefix(&name).is_some_and(|rest| rest.starts_with('{'))
                    && line.contains(&label)
            });
            assert!(shown, "{name} has no label {label}");
        }
    }
    site.close();
}

/// What a counter adds up to for clients of one kind.
fn of(page: &str, name: &str, labels: &[&str]) -> u64 {
    sum(page, &format!("av_edge_relay_{name}"), labels)
}

#[test]
fn ed_054_counters_have_the_meanings_of_the_product_by_transport_side_and_family() {
    let site = Site::open_with(63, 1, "limits.allocations_per_user = 1");
    let outside = ["transport=\"udp\"", "side=\"external\"", "family=\"4\""];
    let inside = ["transport=\"udp\"", "side=\"internal\"", "family=\"6\""];
    let mut alice = client_of(site.server, "alice");
    alice.allocate(&AllocateOptions::default()).unwrap();
    let mut bob = client_of(site.server_v6, "bob");
    bob.allocate(&AllocateOptions::default()).unwrap();
    let refused = client_of(site.server, "alice").allocate(&AllocateOptions::default());
    assert_eq!(refused.unwrap_err().code(), Some(486));
    let wrong = Credentials::new("9999999999:eve".to_owned(), "guess".to_owned());
    let refused = TurnClient::connect(site.server, wrong).unwrap();
    assert!({ refused }.allocate(&AllocateOptions::default()).is_err());

    let peer = peer();
    let channel = bob.bind_channel(peer.local_addr().unwrap()).unwrap();
    bob.send_channel(channel, b"data").unwrap();
    peer.recv(&mut [0; 10]).unwrap();
    alice.send_indication(peer.local_addr().unwrap(), b"no permission").unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0xFF; 9], site.server).unwrap();
    alice.refresh(std::time::Duration::from_secs(600)).unwrap();

    let page = site.page("/metrics").1;
    let allocate = "procedure=\"allocate\"";
    for (case, name, more, (expected_outside, expected_inside)) in [
        ("sessions", "allocations_opened_total", "", (1, 1)),
        ("ports", "sessions", "state=\"allocated\"", (1, 1)),
        ("data", "sessions", "state=\"data\"", (0, 1)),
        ("port limit", "over_user_quota_total", "", (1, 0)),
        ("failed logins", "failed_logins_total", "", (1, 0)),
        ("a challenge and a request for each", "requests_total", allocate, (6, 2)),
        ("the challenges count as errors", "client_errors_total", allocate, (5, 1)),
        ("refreshes are no errors", "client_errors_total", "procedure=\"refresh\"", (0, 0)),
        ("broken", "packets_dropped_total", "", (1, 0)),
        ("no permission", "packets_not_forwarded_total", "", (1, 0)),
        ("no limit, no excess", "sessions", "state=\"above_peak\"", (0, 0)),
    ] {
        for (side, labels, expected) in
            [("outside", outside, expected_outside), ("inside", inside, expected_inside)]
        {
            let labels: Vec<_> = labels.into_iter().chain([more]).collect();
            assert_eq!(of(&page, name, &labels), expected, "{case}, {side}");
        }
    }
    assert!(of(&page, "latency_packets_total", &[]) >= 12);
    alice.release().unwrap();
    let page = site.page("/metrics").1;
    assert_eq!(of(&page, "allocations_closed_total", &["released", outside[1]]), 1);
    site.close();
}
