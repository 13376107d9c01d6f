//! Below the payload: sizes, and what the network says of datagrams it did not deliver.

use std::net::{SocketAddr, UdpSocket};

use client::{AllocateOptions, Event, TurnClient};
use proto::stun::attribute::{Icmp, XorPeerAddress};
use proto::stun::{AttributeType, Class, Message, Method};

use crate::site::{PEER, SOON, Site, pattern, peer};

/// A port of the peer's host where nobody listens.
fn closed() -> SocketAddr {
    UdpSocket::bind((PEER, 0)).unwrap().local_addr().unwrap()
}

/// The ICMP report in an event that carries one.
fn report(event: Option<Event>) -> (SocketAddr, Icmp) {
    let Some(Event::Other(bytes)) = event else { panic!("a report, not {event:?}") };
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    assert!(!message.has(AttributeType::DATA));
    let XorPeerAddress(peer) = message.require().unwrap();
    (peer, message.require().unwrap())
}

#[test]
fn icmp_003_a_closed_port_is_told_to_the_client() {
    let site = Site::open(40, 1);
    let mut client = site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    let to = closed();
    client.permit(&[PEER]).unwrap();
    for bound in [false, true] {
        if bound {
            let number = client.bind_channel(to).unwrap();
            client.send_channel(number, b"knock").unwrap();
        } else {
            client.send_indication(to, b"knock").unwrap();
        }
        let told = report(client.recv(SOON).unwrap());
        assert_eq!(told, (to, Icmp { kind: 3, code: 3, data: 0 }), "bound: {bound}");
    }
    site.close();
}

/// Sends to a closed and to an open port in turn; whatever was for the open one must arrive.
fn alternate(client: &mut TurnClient, open: &UdpSocket, size: usize, rounds: usize) {
    let at_open = client.bind_channel(open.local_addr().unwrap()).unwrap();
    let at_closed = client.bind_channel(closed()).unwrap();
    let mut buffer = vec![0; 2_000];
    for burst in 0..rounds {
        for message in 0..8 {
            client.send_channel(at_closed, b"lost").unwrap();
            client.send_channel(at_open, &pattern(burst * 8 + message, size)).unwrap();
        }
        for message in 0..8 {
            let len = open.recv(&mut buffer).expect("nothing is lost");
            assert!(buffer[..len] == pattern(burst * 8 + message, size), "burst {burst}");
        }
    }
}

#[test]
fn icmp_006_errors_of_one_peer_cost_another_no_datagram() {
    let site = Site::open(41, 1);
    let mut client = site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    // One report a round at least: a busy machine brings a whole round together.
    alternate(&mut client, &peer(), 160, 201);
    let told = site.metric("av_edge_relay_icmp_reported_total", &[]);
    let kept = site.metric("av_edge_relay_dropped_total", &["throttled_icmp"]);
    assert!(told >= 20, "{told} of 1,608 were told");
    assert!(told + kept > 200, "{told} told, {kept} kept from the client");
    assert_eq!(site.metric("av_edge_relay_send_lost_total", &[]), 0);
    client.refresh(SOON * 300).expect("the allocation lives");
    site.close();
}

#[test]
fn iphdr_013_the_largest_datagrams_are_whole_or_not_there() {
    let site = Site::open(42, 1);
    let mut client = site.client();
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let peer = peer();
    let at = peer.local_addr().unwrap();
    client.permit(&[PEER]).unwrap();
    // The most that fits behind the headers of an indication, which is padded to words.
    let bytes = pattern(0, 65_507 - 36 - 3);
    peer.send_to(&bytes, relayed).unwrap();
    let received = client.recv(SOON).unwrap();
    assert!(received == Some(Event::Data { peer: at, channel: None, payload: bytes }));
    let number = client.bind_channel(at).unwrap();
    let bytes = pattern(1, 65_503);
    client.send_channel(number, &bytes).unwrap();
    let mut buffer = vec![0; 65_536];
    let len = peer.recv(&mut buffer).unwrap();
    assert!(buffer[..len] == bytes);
    // With the header of ChannelData the first one no longer fits: it is dropped, not cut.
    for (message, size) in [(2, 65_507), (3, 65_503)] {
        peer.send_to(&pattern(message, size), relayed).unwrap();
    }
    let received = client.recv(SOON).unwrap();
    let payload = pattern(3, 65_503);
    assert!(received == Some(Event::Data { peer: at, channel: Some(number), payload }));
    assert_eq!(site.metric("av_edge_relay_dropped_total", &["oversize"]), 1);
    assert_eq!(site.metric("av_edge_relay_receive_lost_total", &["truncated"]), 0);
    site.close();
}
