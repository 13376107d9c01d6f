//! Media and requests wait in queues of their own at every listener for datagrams.

use std::net::{SocketAddr, UdpSocket};

use client::AllocateOptions;

use crate::site::{Site, client_of, peer};

/// Datagrams received in a lane at an address.
fn received(site: &Site, at: SocketAddr, lane: &str) -> u64 {
    let labels = [format!("listener=\"{at}\""), format!("lane=\"{lane}\"")];
    let labels = labels.each_ref().map(String::as_str);
    site.metric("av_edge_relay_listener_datagrams_total", &labels)
}

#[test]
fn sec_007_requests_and_media_wait_apart_on_both_families() {
    for (number, workers) in [(94, 1), (95, 3)] {
        let site = Site::open(number, workers);
        for at in [site.server, site.server_v6] {
            let mut alice = client_of(at, "alice");
            alice.allocate(&AllocateOptions::default()).unwrap();
            let bob = peer();
            let bobs = bob.local_addr().unwrap();
            let channel = alice.bind_channel(bobs).unwrap();
            let before = ["requests", "media"].map(|lane| received(&site, at, lane));
            assert_eq!(before[1], 0, "nothing was sent at {at} yet");
            assert!(before[0] >= 3, "two for an allocation, one for a channel at {at}");
            for _ in 0..10 {
                alice.send_channel(channel, b"by channel").unwrap();
                alice.send_indication(bobs, b"by indication").unwrap();
            }
            let mut buffer = [0; 100];
            for _ in 0..20 {
                bob.recv(&mut buffer).unwrap();
            }
            alice.binding().unwrap();
            let stranger = UdpSocket::bind((at.ip(), 0)).unwrap();
            for noise in [&[0xFF; 20][..], &[16; 3], &[]] {
                stranger.send_to(noise, at).unwrap();
            }
            let counted = || {
                let [requests, media] = ["requests", "media"].map(|it| received(&site, at, it));
                (requests - before[0], media - before[1])
            };
            let seen = (0..1_000).map(|_| counted()).find(|seen| *seen == (4, 20));
            assert!(seen.is_some(), "requests and noise, media at {at}: {:?}", counted());
        }
        let lanes = site.metric("av_edge_relay_listener_lanes", &["transport=\"udp\""]);
        assert_eq!(lanes, 2 * 2 * u64::from(workers), "two at both addresses for each worker");
        assert_eq!(site.metric("av_edge_relay_listener_lost_total", &[]), 0);
        site.close();
    }
}
