//! Clients on TCP, against a whole relay.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use client::transport::{Transport, reset_on_drop};
use client::{AllocateOptions, Event, Options, TurnClient};

use crate::payload::every_size_passes;
use crate::site::{PEER, SOON, Site, client_of, credentials, pattern, peer};

/// A client of some listener, on TCP.
pub(crate) fn tcp_client(server: SocketAddr, user: &str) -> TurnClient {
    let options = Options { transport: Transport::Tcp, ..Options::default() };
    TurnClient::connect_with(server, credentials(user), options).unwrap()
}

/// Waits until the relay has so many allocations.
fn expect_allocations(site: &Site, count: usize) {
    for _ in 0..200 {
        if site.relay.observer().sessions().len() == count {
            return;
        }
        // Each question takes a turn of every worker.
    }
    assert_eq!(site.relay.observer().sessions().len(), count);
}

#[test]
fn stun_029_alloc_over_tcp_of_both_families_relays_every_size() {
    let site = Site::open(20, 2);
    for server in [site.server, site.server_v6] {
        every_size_passes(&mut tcp_client(server, "alice"));
    }
    site.close();
}

#[test]
fn clients_on_tcp_and_udp_reach_each_other() {
    let site = Site::open(21, 2);
    let (mut alice, mut bob) = (tcp_client(site.server, "alice"), client_of(site.server, "bob"));
    let at_alice = alice.allocate(&AllocateOptions::default()).unwrap().relayed;
    let at_bob = bob.allocate(&AllocateOptions::default()).unwrap().relayed;
    let (to_bob, to_alice) =
        (alice.bind_channel(at_bob).unwrap(), bob.bind_channel(at_alice).unwrap());
    for n in 0..100 {
        alice.send_channel(to_bob, &pattern(n, n * 13)).unwrap();
        expect_data(&mut bob, at_alice, to_alice, &pattern(n, n * 13));
        bob.send_channel(to_alice, &pattern(n, n * 7)).unwrap();
        expect_data(&mut alice, at_bob, to_bob, &pattern(n, n * 7));
    }
    site.close();
}

fn expect_data(client: &mut TurnClient, from: SocketAddr, channel: u16, bytes: &[u8]) {
    let expected = Event::Data { peer: from, channel: Some(channel), payload: bytes.to_vec() };
    assert!(client.recv(SOON).unwrap() == Some(expected), "{} bytes", bytes.len());
}

#[test]
fn chan_010_channel_data_is_padded_both_ways_and_cut_wherever_it_was_split() {
    let site = Site::open(22, 1);
    let mut client = tcp_client(site.server, "alice");
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peer = peer();
    let number = client.bind_channel(peer.local_addr().unwrap()).unwrap();
    let mut frames = Vec::new();
    for len in 0..8_usize {
        frames.extend(number.to_be_bytes());
        frames.extend([0, u8::try_from(len).unwrap()]);
        frames.extend(pattern(len, len));
        frames.resize(frames.len().next_multiple_of(4), 0xEE);
    }
    client.link().send_raw(&frames).unwrap();
    for byte in &frames {
        client.link().send_raw(&[*byte]).unwrap();
    }
    let mut buffer = [0; 16];
    for len in (0..8).chain(0..8) {
        let (got, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..got], from), (&pattern(len, len)[..], relayed));
    }

    let mut stream = client.link().tcp().unwrap().try_clone().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    for len in 0..8_usize {
        peer.send_to(&pattern(len, len), relayed).unwrap();
        let mut frame = vec![0; 4 + len.next_multiple_of(4)];
        stream.read_exact(&mut frame).unwrap();
        let mut expected = number.to_be_bytes().to_vec();
        expected.extend([0, u8::try_from(len).unwrap()]);
        expected.extend(pattern(len, len));
        expected.resize(frame.len(), 0);
        assert_eq!(frame, expected, "{len}");
    }
    site.close();
}

#[test]
fn alloc_026_an_allocation_ends_with_its_connection_and_nobody_calls_back() {
    let site = Site::open(23, 2);
    for (case, rudely) in [("closed", false), ("reset", true)] {
        let mut client = tcp_client(site.server, "alice");
        let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
        client.permit(&[PEER]).unwrap();
        expect_allocations(&site, 1);
        let at = client.local_addr().unwrap();
        if rudely {
            reset_on_drop(client.link().tcp().unwrap()).unwrap();
        }
        drop(client);
        expect_allocations(&site, 0);
        std::net::UdpSocket::bind(relayed).expect("the relayed port is free");
        if rudely {
            // STUN-007: had the server something left to say, it would not come to say it.
            let ear = TcpListener::bind(at).unwrap();
            ear.set_nonblocking(true).unwrap();
            peer().send_to(b"too late", relayed).unwrap();
            assert_eq!(site.page("/healthz").1, "ok\n");
            assert!(ear.accept().is_err(), "{case}");
        }
    }
    let closed = "av_edge_relay_connections_closed_total";
    assert_eq!(site.metric(closed, &["by_client"]), 1);
    assert_eq!(site.metric(closed, &["reset"]), 1);
    assert_eq!(site.metric("av_edge_relay_allocations_closed_total", &["client_gone"]), 2);
    assert_eq!(site.metric("av_edge_relay_connections", &[]), 0);
    site.close();
}

#[test]
fn stun_007_answers_go_back_on_the_connection_or_nowhere() {
    let site = Site::open(24, 1);
    let mut stream = TcpStream::connect(site.server).unwrap();
    let at = stream.local_addr().unwrap();
    let binding = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    stream.write_all(&binding).unwrap();
    reset_on_drop(&stream).unwrap();
    drop(stream);
    let ear = TcpListener::bind(at).unwrap();
    ear.set_nonblocking(true).unwrap();
    for _ in 0..20 {
        assert_eq!(site.page("/healthz").1, "ok\n");
        assert!(ear.accept().is_err());
    }
    site.close();
}

#[test]
fn media_010_a_slow_reader_loses_whole_frames_the_oldest_first() {
    let site = Site::open(25, 1);
    let peer = peer();
    let at = peer.local_addr().unwrap();
    let mut slow = tcp_client(site.server, "slow");
    let mut quick = tcp_client(site.server, "quick");
    let mut relayed = Vec::new();
    for client in [&mut slow, &mut quick] {
        relayed.push(client.allocate(&AllocateOptions::default()).unwrap().relayed);
        client.bind_channel(at).unwrap();
    }
    // Far more than all buffers between the relay and a client that does not read.
    let dropped = "av_edge_relay_stream_dropped_packets_total";
    let mut sent = 0_u64;
    while site.metric(dropped, &[]) < 1_000 {
        for _ in 0..200 {
            sent += 1;
            peer.send_to(&numbered(sent), relayed[0]).unwrap();
            if sent.is_multiple_of(50) {
                peer.send_to(&numbered(sent), relayed[1]).unwrap();
                assert_eq!(next_number(&mut quick), sent);
            }
        }
        assert!(sent < 100_000, "nothing was dropped");
    }
    // Its control still gets through, and what it reads are whole datagrams in their order, the
    // newest among them.
    slow.refresh(std::time::Duration::from_secs(600)).unwrap();
    peer.send_to(&numbered(sent + 1), relayed[0]).unwrap();
    let mut last = 0;
    while last <= sent {
        let next = next_number(&mut slow);
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    assert!(site.metric("av_edge_relay_stream_dropped_bytes_total", &[]) > 1_000 * 1_004);
    site.close();
}

/// A datagram of a kilobyte that says which one it is.
fn numbered(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0x5A; 992]].concat()
}

fn next_number(client: &mut TurnClient) -> u64 {
    match client.recv(SOON).unwrap() {
        Some(Event::Data { payload, .. }) => {
            let number = u64::from_be_bytes(payload[..8].try_into().unwrap());
            assert!(payload == numbered(number), "{number}");
            number
        }
        other => panic!("a datagram, not {other:?}"),
    }
}

#[test]
fn draining_and_stopping_close_connections_in_order() {
    let site = Site::open(26, 2);
    let mut client = tcp_client(site.server, "alice");
    client.allocate(&AllocateOptions::default()).unwrap();
    site.relay.drain();
    let refused = tcp_client(site.server, "bob").allocate(&AllocateOptions::default());
    assert_eq!(refused.unwrap_err().code(), Some(403));
    let mut idle = TcpStream::connect(site.server).unwrap();
    client.release().unwrap();
    site.relay.wait().unwrap();
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).unwrap(), 0);
    assert_eq!(client.link().tcp().unwrap().read_to_end(&mut rest).unwrap(), 0);
}
