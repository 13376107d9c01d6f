//! A kernel that takes no steering program: the relay does without, and says so.

use client::AllocateOptions;

use crate::edge::{Home, METRICS, RelayFile, connect, http_get, mint, start_relay};
use crate::site::{INTERNAL, PEER, Site};

#[test]
fn sec_007_without_steering_a_listener_serves_from_one_queue_and_says_so() {
    let site = Site::new();
    let home = Home::with_pool_key();
    // Programs are charged to the memory of options: no program fits into so little.
    site.relay.sysctl("net.core.optmem_max", "64");
    let relay = start_relay(&site, &home, &RelayFile { workers: 1, ..RelayFile::default() });
    let log = relay.output();
    assert!(log.contains("requests and media share a queue"), "{log}");

    let credentials = mint(&home.path("pool.pem"), "alice");
    let mut alice = site.client.enter(|| connect(INTERNAL, &credentials));
    alice.allocate(&AllocateOptions::default()).expect("an allocation");
    let peer = site.peer.enter(|| std::net::UdpSocket::bind((PEER, 0))).expect("a port");
    let channel = alice.bind_channel(peer.local_addr().expect("it is bound")).expect("a channel");
    alice.send_channel(channel, b"hello").expect("it is sent");
    let mut buffer = [0; 64];
    let length = peer.recv(&mut buffer).expect("the peer hears it");
    assert_eq!(&buffer[..length], b"hello");

    let page = site.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
    let page = page.expect("the relay answers for its metrics");
    let series = |name: &str| page.lines().filter(|it| it.starts_with(name)).collect::<Vec<_>>();
    let lanes = series("av_edge_relay_listener_lanes{");
    assert_eq!(lanes.len(), 4, "one at each address: {lanes:?}");
    assert!(lanes.iter().all(|line| line.ends_with(" 1")), "{lanes:?}");
    let received = series("av_edge_relay_listener_datagrams_total{");
    assert!(received.iter().all(|line| line.contains("lane=\"media\"")), "{received:?}");
}
