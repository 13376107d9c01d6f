//! Bytes in are bytes out.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use client::load::{Burst, Collector};
use client::{AllocateOptions, Event, Family, TurnClient};

use crate::site::{PEER, SOON, Site, client_of, move_to_own_network, pattern, peer};

/// Sizes of datagrams: empty, every padding, voice, video, beyond an Ethernet frame, huge.
const SIZES: [usize; 11] = [0, 1, 2, 3, 4, 160, 1_200, 1_472, 1_473, 9_000, 65_000];

fn expect_data(client: &mut TurnClient, from: SocketAddr, channel: Option<u16>, bytes: &[u8]) {
    match client.recv(SOON).unwrap() {
        Some(Event::Data { peer, channel: through, payload }) => {
            assert_eq!((peer, through), (from, channel), "{} bytes", bytes.len());
            assert!(payload == bytes, "{} bytes came out as {}", bytes.len(), payload.len());
        }
        other => panic!("{} bytes: {other:?}", bytes.len()),
    }
}

fn expect_at(socket: &UdpSocket, from: SocketAddr, bytes: &[u8]) {
    let mut buffer = vec![0; 65_536];
    let (len, source) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(source, from);
    assert!(&buffer[..len] == bytes, "{} bytes came out as {len}", bytes.len());
}

#[test]
fn media_001_every_size_passes_both_ways_by_channel_and_by_indication() {
    let site = Site::open(0, 2);
    every_size_passes(&mut site.client());
    site.close();
}

/// Both ways, by channel and by indication.
pub(crate) fn every_size_passes(client: &mut TurnClient) {
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let (by_channel, by_indication) = (peer(), peer());
    let channel_peer = by_channel.local_addr().unwrap();
    let indication_peer = by_indication.local_addr().unwrap();
    let number = client.bind_channel(channel_peer).unwrap();
    client.permit(&[PEER]).unwrap();
    for (index, size) in SIZES.into_iter().enumerate() {
        let bytes = pattern(index, size);
        client.send_channel(number, &bytes).unwrap();
        expect_at(&by_channel, relayed, &bytes);
        by_channel.send_to(&bytes, relayed).unwrap();
        expect_data(client, channel_peer, Some(number), &bytes);
        client.send_indication(indication_peer, &bytes).unwrap();
        expect_at(&by_indication, relayed, &bytes);
        by_indication.send_to(&bytes, relayed).unwrap();
        expect_data(client, indication_peer, None, &bytes);
    }
}

#[test]
fn media_001_two_clients_of_one_relay_reach_each_other_over_ipv6() {
    let site = Site::open(1, 2);
    let wish = AllocateOptions { family: Some(Family::V6), ..AllocateOptions::default() };
    let mut alice = client_of(site.server_v6, "alice");
    let mut bob = client_of(site.server_v6, "bob");
    let at_alice = alice.allocate(&wish).unwrap().relayed;
    let at_bob = bob.allocate(&wish).unwrap().relayed;
    assert!(at_alice.is_ipv6() && at_bob.is_ipv6());
    let to_bob = alice.bind_channel(at_bob).unwrap();
    bob.permit(&[at_alice.ip()]).unwrap();
    for (index, size) in SIZES.into_iter().enumerate() {
        let bytes = pattern(index, size);
        alice.send_channel(to_bob, &bytes).unwrap();
        expect_data(&mut bob, at_alice, None, &bytes);
        bob.send_indication(at_alice, &bytes).unwrap();
        expect_data(&mut alice, at_bob, Some(to_bob), &bytes);
    }
    site.close();
}

/// Receives `count` datagrams and checks each against the pattern of its place.
fn collect(socket: &UdpSocket, header: usize, size: usize, count: usize) {
    let mut collector = Collector::default();
    let mut seen = 0;
    socket.set_read_timeout(Some(SOON)).unwrap();
    while seen < count {
        let mut first = [0; 1];
        socket.peek(&mut first).expect("another datagram");
        collector
            .drain(socket, |_, bytes| {
                assert_eq!(bytes.len(), header + size, "datagram {seen}");
                assert!(bytes[header..] == pattern(seen, size), "datagram {seen}");
                seen += 1;
            })
            .unwrap();
    }
    assert_eq!(seen, count);
}

#[test]
fn a_run_stays_a_run_in_both_directions() {
    let site = Site::open(2, 1);
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peer = peer();
    Collector::prepare(&peer).unwrap();
    let number = client.bind_channel(peer.local_addr().unwrap()).unwrap();
    Collector::prepare(client.socket().expect("it speaks UDP")).unwrap();
    for (size, count) in [(160_u16, 64), (1_200, 50), (1_000, 3), (7, 64)] {
        let bytes = usize::from(size);
        let before = site.metric("av_edge_relay_runs_sent_total", &[]);

        let mut burst = Burst::channel(number, size, count);
        burst
            .payloads_mut()
            .enumerate()
            .for_each(|(n, out)| out.copy_from_slice(&pattern(n, bytes)));
        assert_eq!(
            burst.send_as_run(client.socket().expect("it speaks UDP"), None).unwrap(),
            count
        );
        collect(&peer, 0, bytes, count);

        let mut burst = Burst::plain(size, count);
        burst
            .payloads_mut()
            .enumerate()
            .for_each(|(n, out)| out.copy_from_slice(&pattern(n, bytes)));
        assert_eq!(burst.send_as_run(&peer, Some(relayed)).unwrap(), count);
        collect(client.socket().expect("it speaks UDP"), 4, bytes, count);

        let sent = site.metric("av_edge_relay_runs_sent_total", &[]) - before;
        assert!((2..=6).contains(&sent), "{count} of {size} bytes left as {sent} runs");
    }
    site.close();
}

#[test]
fn a_run_dressed_as_indications_keeps_its_datagrams_apart() {
    let site = Site::open(3, 1);
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peer = peer();
    client.permit(&[PEER]).unwrap();
    for size in [5_u16, 160, 1_199] {
        let mut burst = Burst::plain(size, 20);
        let bytes = usize::from(size);
        burst
            .payloads_mut()
            .enumerate()
            .for_each(|(n, out)| out.copy_from_slice(&pattern(n, bytes)));
        burst.send_as_run(&peer, Some(relayed)).unwrap();
        for message in 0..20 {
            let expected = pattern(message, bytes);
            expect_data(&mut client, peer.local_addr().unwrap(), None, &expected);
        }
    }
    site.close();
}

#[test]
fn interleaved_flows_and_sizes_arrive_in_order() {
    let site = Site::open(4, 1);
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peers = [peer(), peer(), peer()];
    let numbers: Vec<_> =
        peers.iter().map(|p| client.bind_channel(p.local_addr().unwrap()).unwrap()).collect();
    // Longer, shorter and empty ones in turn, so that runs begin, end and are refused.
    let length = |message: usize| [300, 300, 301, 12, 300, 0, 300, 299, 300][message % 9];
    for message in 0..270 {
        client.send_channel(numbers[message % 3], &pattern(message, length(message))).unwrap();
    }
    for (index, peer) in peers.iter().enumerate() {
        for message in (index..270).step_by(3) {
            expect_at(peer, relayed, &pattern(message, length(message)));
        }
    }
    for message in 0..270 {
        peers[0].send_to(&pattern(message, length(message)), relayed).unwrap();
    }
    for message in 0..270 {
        let from = peers[0].local_addr().unwrap();
        let bytes = pattern(message, length(message));
        expect_data(&mut client, from, Some(numbers[0]), &bytes);
    }
    site.close();
}

#[test]
fn clients_of_every_worker_are_served() {
    let site = Site::open(5, 4);
    let peer = peer();
    let at = peer.local_addr().unwrap();
    let mut clients: Vec<_> =
        (0..16).map(|n| client_of(site.server, &format!("user{n}"))).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
        let number = client.bind_channel(at).unwrap();
        client.send_channel(number, &pattern(n, 100)).unwrap();
        expect_at(&peer, relayed, &pattern(n, 100));
        peer.send_to(&pattern(n, 50), relayed).unwrap();
        expect_data(client, at, Some(number), &pattern(n, 50));
    }
    let sessions = site.relay.observer().sessions();
    assert_eq!(sessions.len(), 16);
    for session in &sessions {
        assert_eq!(session.worker, proto::addr::steer(session.view.client.client, 4));
        assert_eq!(session.view.usage.to_peer.bytes, 100);
        assert_eq!(session.view.usage.to_client.bytes, 50);
        let port = session.view.relayed[0].unwrap().port();
        assert_eq!(port / 2 % 4, session.worker, "port {port} is of another worker's share");
    }
    let tally = site.relay.observer().tally();
    assert_eq!((tally.opened, tally.allocations), (16, 16));
    assert_eq!(tally.via_channel.to_peer.bytes, 1_600);
    site.close();
}

#[test]
fn iphdr_012_runs_that_a_narrow_link_refuses_leave_as_datagrams() {
    move_to_own_network();
    let narrow = Command::new("ip").args(["link", "set", "lo", "mtu", "1500"]).status().unwrap();
    assert!(narrow.success(), "only root makes a loopback narrow: {narrow}");
    let site = Site::open(11, 1);
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peer = peer();
    client.bind_channel(peer.local_addr().unwrap()).unwrap();
    Collector::prepare(client.socket().expect("it speaks UDP")).unwrap();
    // The peer's datagrams just fit; with four bytes more they do not, and are fragmented.
    for (size, whole_runs) in [(1_470, false), (1_400, true)] {
        let mut burst = Burst::plain(size, 40);
        let bytes = usize::from(size);
        burst.payloads_mut().enumerate().for_each(|(n, to)| to.copy_from_slice(&pattern(n, bytes)));
        let before = site.metric("av_edge_relay_runs_sent_total", &[]);
        burst.send_as_run(&peer, Some(relayed)).unwrap();
        collect(client.socket().expect("it speaks UDP"), 4, bytes, 40);
        let runs = site.metric("av_edge_relay_runs_sent_total", &[]) - before;
        assert_eq!(runs > 0, whole_runs, "{size}: {runs} runs");
    }
    assert_eq!(site.metric("av_edge_relay_send_lost_total", &[]), 0);
    site.close();
}
