//! Draining, stopping, and what operators see meanwhile.

use client::AllocateOptions;
use relay::Config;

use crate::site::{SOON, Site, client_of, configuration, pattern, peer, sum};

#[test]
fn sec_018_draining_refuses_newcomers_keeps_calls_and_ends_with_the_last() {
    let site = Site::open(6, 2);
    assert!(site.page("/readyz").0.contains("200"));
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peer = peer();
    let number = client.bind_channel(peer.local_addr().unwrap()).unwrap();

    site.relay.drain();
    assert!(site.page("/readyz").0.contains("503"));
    assert!(site.page("/healthz").0.contains("200"), "draining is not a failure");
    assert_eq!(site.metric("av_edge_relay_draining", &[]), 1);
    // Newcomers of every worker hear why, those of one that has nothing left to do as well.
    for _ in 0..8 {
        let refused = client_of(site.server, "bob").allocate(&AllocateOptions::default());
        assert_eq!(refused.unwrap_err().code(), Some(403));
    }

    client.send_channel(number, b"still here").unwrap();
    let mut buffer = [0; 32];
    let (len, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"still here"[..], relayed));
    client.release().unwrap();
    site.relay.wait().unwrap();
}

#[test]
fn stopping_ends_calls_and_frees_every_port() {
    let site = Site::open(7, 2);
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let (server, metrics) = (site.server, site.metrics);
    site.close();
    std::net::UdpSocket::bind(server).unwrap();
    std::net::UdpSocket::bind(relayed).unwrap();
    std::net::TcpListener::bind(metrics).unwrap();
}

#[test]
fn metrics_agree_with_what_was_sent_and_end_with_the_allocation() {
    let site = Site::open_with(8, 2, "");
    let peer = peer();
    let at = peer.local_addr().unwrap();
    let mut clients: Vec<_> = (0..3).map(|n| client_of(site.server, &format!("u{n}"))).collect();
    let mut buffer = [0; 2_000];
    for (n, client) in clients.iter_mut().enumerate() {
        let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
        let number = client.bind_channel(at).unwrap();
        for message in 0..10 {
            client.send_channel(number, &pattern(message, 100 * (n + 1))).unwrap();
            peer.recv_from(&mut buffer).unwrap();
            peer.send_to(&pattern(message, 40), relayed).unwrap();
            client.recv(SOON).unwrap().expect("data");
        }
    }
    let (_, text) = site.page("/metrics");
    let bytes = "av_edge_relay_allocation_bytes_total";
    assert_eq!(sum(&text, bytes, &["direction=\"to_peer\""]), 6_000);
    assert_eq!(sum(&text, bytes, &["direction=\"to_client\""]), 1_200);
    assert_eq!(sum(&text, "av_edge_relay_allocation_packets_total", &[]), 60);
    let relayed = "av_edge_relay_relayed_bytes_total";
    let external = ["listener=\"127.0.0.1:21008\"", "transport=\"udp\"", "side=\"external\""];
    assert_eq!(sum(&text, relayed, &external), 7_200);
    assert_eq!(sum(&text, relayed, &["side=\"internal\""]), 0);
    assert_eq!(sum(&text, "av_edge_relay_allocations", &[]), 3);
    assert_eq!(sum(&text, "av_edge_relay_ports_used", &[]), 3);
    assert_eq!(sum(&text, "av_edge_relay_rejected_total", &["reason=\"no_integrity\""]), 3);
    for (reason, name) in [("out_of_ports", "rejected"), ("no_permission", "dropped")] {
        let name = format!("av_edge_relay_{name}_total{{");
        let silent = text.lines().filter(|line| line.starts_with(&name) && line.contains(reason));
        assert_eq!(silent.count(), 2, "{reason} has a series for each worker before it happens");
    }
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let explains = |name: &str| text.contains(&format!("# HELP {name} "));
        assert!(explains(name) || histogram.is_some_and(explains), "{name} is not explained");
    }

    clients[0].release().unwrap();
    let (_, text) = site.page("/metrics");
    assert_eq!(sum(&text, bytes, &["direction=\"to_peer\""]), 5_000);
    assert_eq!(sum(&text, relayed, &external), 7_200, "totals keep what ended");
    assert_eq!(sum(&text, "av_edge_relay_allocations_closed_total", &["released"]), 1);
    site.close();
}

#[test]
fn an_occupied_port_is_one_message_and_nothing_starts() {
    let site = Site::open(9, 2);
    let text = configuration(9, 2, "");
    let config = Config::from_toml(&text, "second.toml", None).unwrap();
    let error = relay::start(config).expect_err("the port is taken");
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(
        message.starts_with("second.toml: listen[0].address = \"127.0.0.1:21009\":"),
        "{message}"
    );
    assert!(message.contains("in use"), "{message}");
    // The first one kept all of its clients.
    for _ in 0..8 {
        site.client().allocate(&AllocateOptions::default()).unwrap();
    }
    site.close();
}

#[test]
fn an_occupied_metrics_port_is_one_message_too() {
    let text = configuration(10, 1, "");
    let holder = std::net::TcpListener::bind("127.0.0.1:21110").unwrap();
    let config = Config::from_toml(&text, "test.toml", None).unwrap();
    let error = relay::start(config).expect_err("the port is taken");
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().starts_with("test.toml: metrics.address = \"127.0.0.1:21110\":"),
        "{error}"
    );
    drop(holder);
    std::net::UdpSocket::bind("127.0.0.1:21010").expect("nothing was left half started");
}
