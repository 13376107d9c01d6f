//! A client that moves, over real sockets and between workers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use client::transport::{Dtls, Link, MESSAGE_ROOM, Start, Transport, Trust};
use proto::addr::{ClientAddr, steer};
use proto::stun::attribute::{
    Channel, Lifetime, MobilityTicket, PROTOCOL_UDP, RequestedTransport, XorPeerAddress,
    XorRelayedAddress,
};
use proto::stun::{AttributeType, Message, Method};

use crate::dtls::keys;
use crate::raw::{Speaker, code, next, over_udp, value};
use crate::site::{SOON, Site, pattern, peer};

/// A socket whose datagrams to the relay are steered to this worker, of two.
fn steered(worker: u16, server: SocketAddr) -> UdpSocket {
    loop {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if steer(ClientAddr::new(socket.local_addr().unwrap()), 2) == worker {
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            return socket;
        }
    }
}

/// ChannelData.
fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    [&number.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

#[test]
fn mob_006_an_allocation_follows_its_client_between_workers() {
    let site = Site::open_with(70, 2, "features.mobility = true");
    let peer = peer();
    let at = peer.local_addr().unwrap();
    let mut alice = Speaker::new("alice");
    let mut place = steered(0, site.server);
    let wish = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&RequestedTransport(PROTOCOL_UDP)).add(&MobilityTicket(&[]));
    };
    let answer = alice.ask(Method::ALLOCATE, wish, over_udp(&place));
    let mut ticket = value(&answer, AttributeType::MOBILITY_TICKET);
    let relayed = Message::parse(&answer).unwrap().require::<XorRelayedAddress>().unwrap().0;
    let bind = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&Channel(0x4000)).add(&XorPeerAddress(at));
    };
    assert_eq!(code(&alice.ask(Method::CHANNEL_BIND, bind, over_udp(&place))), 0);

    let mut buffer = [0; 2_000];
    // To the other worker, back, and to the other one again.
    for worker in [1, 0, 1] {
        let elsewhere = steered(worker, site.server);
        let bring = |writer: &mut proto::stun::Writer<'_>| {
            writer.add(&Lifetime(600)).add(&MobilityTicket(&ticket));
        };
        let answer = alice.ask(Method::REFRESH, bring, over_udp(&elsewhere));
        ticket = value(&answer, AttributeType::MOBILITY_TICKET);
        // The old place serves until payload comes from the new one.
        peer.send_to(b"old place", relayed).unwrap();
        assert_eq!(next(&place), channel_data(0x4000, b"old place"));
        for message in 0..50 {
            let payload = pattern(message, 100 + message);
            elsewhere.send(&channel_data(0x4000, &payload)).unwrap();
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&payload[..], relayed));
            peer.send_to(&payload, relayed).unwrap();
            assert_eq!(next(&elsewhere), channel_data(0x4000, &payload));
        }
        place = elsewhere;
    }
    // Others are served as before, by both workers.
    for worker in [0, 1, 0, 1] {
        let socket = steered(worker, site.server);
        let mut bob = Speaker::new("bob");
        assert_eq!(code(&bob.ask(Method::ALLOCATE, wish, over_udp(&socket))), 0);
    }
    // Released, and the address is steered as any other.
    let release = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&Lifetime(0));
    };
    assert_eq!(code(&alice.ask(Method::REFRESH, release, over_udp(&place))), 0);
    assert_eq!(code(&alice.ask(Method::ALLOCATE, wish, over_udp(&place))), 0);
    let sessions = site.relay.observer().sessions();
    let moved =
        sessions.iter().find(|it| it.view.client.client.socket() == place.local_addr().unwrap());
    assert_eq!(moved.unwrap().worker, 1);
    assert_eq!(site.metric("av_edge_relay_diversions_failed_total", &[]), 0);
    site.close();
}

/// A way to the relay over a transport, from an address that is steered to this worker, of two.
fn link(transport: &Transport, worker: u16, server: SocketAddr) -> Link {
    let bind = steered(worker, server).local_addr().unwrap();
    let start = Start { bind: Some(bind), buffer_bytes: None, timeout: SOON };
    Link::open(transport, server, start).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "sockets wait on the real clock")]
fn soon(wait: Duration) -> Instant {
    Instant::now() + wait
}

/// The next message on a link; waits only so long.
fn heard(link: &mut Link, wait: Duration) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MESSAGE_ROOM];
    let len = link.receive(soon(wait), &mut buffer).unwrap()?;
    buffer.truncate(len);
    Some(buffer)
}

/// Sends a request over a link, again while there is no answer; returns the answer.
fn over(link: &mut Link) -> impl FnMut(&[u8]) -> Vec<u8> + '_ {
    move |request| {
        for _ in 0..20 {
            link.send(request).unwrap();
            if let Some(answer) = heard(link, SOON / 10) {
                return answer;
            }
        }
        panic!("no answer")
    }
}

#[test]
fn mob_006_an_allocation_follows_its_client_over_dtls_and_across_transports() {
    let home = tempfile::tempdir().unwrap();
    let site =
        Site::open_with(72, 2, &format!("features.mobility = true\n{}", keys(&home, 21_072)));
    let dtls = Transport::Dtls(Dtls::new("turn.example.org", &Trust::Anything).unwrap());
    let (peer, mut alice) = (peer(), Speaker::new("alice"));
    let at = peer.local_addr().unwrap();
    let wish = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&RequestedTransport(PROTOCOL_UDP)).add(&MobilityTicket(&[]));
    };
    let mut place = link(&dtls, 0, site.server);
    let answer = alice.ask(Method::ALLOCATE, wish, over(&mut place));
    let mut ticket = value(&answer, AttributeType::MOBILITY_TICKET);
    let relayed = Message::parse(&answer).unwrap().require::<XorRelayedAddress>().unwrap().0;
    let bind = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&Channel(0x4000)).add(&XorPeerAddress(at));
    };
    assert_eq!(code(&alice.ask(Method::CHANNEL_BIND, bind, over(&mut place))), 0);

    let mut buffer = [0; 2_000];
    let (udp, tcp) = (Transport::Udp, Transport::Tcp);
    // To the other worker and back, over this transport and that.
    for (transport, worker) in
        [(&dtls, 1), (&dtls, 0), (&dtls, 1), (&udp, 1), (&dtls, 1), (&tcp, 0), (&dtls, 1)]
    {
        let mut elsewhere = link(transport, worker, site.server);
        // Somebody with a ticket not his own is refused, and his session goes on.
        let mallory = |writer: &mut proto::stun::Writer<'_>| {
            writer.add(&Lifetime(600)).add(&MobilityTicket(&ticket));
        };
        if !elsewhere.is_stream() {
            let mut thief = Speaker::new("mallory");
            let answer = thief.ask(Method::REFRESH, mallory, over(&mut elsewhere));
            assert_eq!(code(&answer), 441, "{transport:?}");
        }
        let answer = alice.ask(Method::REFRESH, mallory, over(&mut elsewhere));
        ticket = value(&answer, AttributeType::MOBILITY_TICKET);
        for message in 0..50 {
            let payload = pattern(message, 100 + message);
            elsewhere.send(&channel_data(0x4000, &payload)).unwrap();
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&payload[..], relayed));
            peer.send_to(&payload, relayed).unwrap();
            let frame = channel_data(0x4000, &payload);
            assert_eq!(heard(&mut elsewhere, SOON), Some(frame), "{transport:?}, {message}");
        }
        // The next one may have the same port.
        place = elsewhere;
    }
    // Released: the session goes back to where its datagrams are steered, and may allocate there.
    let release = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&Lifetime(0));
    };
    assert_eq!(code(&alice.ask(Method::REFRESH, release, over(&mut place))), 0);
    assert_eq!(code(&alice.ask(Method::ALLOCATE, wish, over(&mut place))), 0);
    let sessions = site.relay.observer().sessions();
    let moved =
        sessions.iter().find(|it| it.view.client.client.socket() == place.local_addr().unwrap());
    assert_eq!(moved.unwrap().worker, 1);
    assert_eq!(site.metric("av_edge_relay_diversions_failed_total", &[]), 0);
    site.close();
}

/// Sends a request over a stream and returns the answer.
fn over_tcp(mut line: &TcpStream) -> impl FnMut(&[u8]) -> Vec<u8> + '_ {
    move |request| {
        line.write_all(request).unwrap();
        let mut answer = vec![0; 20];
        line.read_exact(&mut answer).unwrap();
        let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
        answer.resize(20 + length, 0);
        line.read_exact(&mut answer[20..]).unwrap();
        answer
    }
}

#[test]
fn mob_006_an_allocation_follows_its_client_from_connection_to_connection() {
    let site = Site::open_with(71, 2, "features.mobility = true");
    let peer = peer();
    let at = peer.local_addr().unwrap();
    let mut alice = Speaker::new("alice");
    let line = || {
        let line = TcpStream::connect(site.server).unwrap();
        line.set_nodelay(true).unwrap();
        line.set_read_timeout(Some(SOON)).unwrap();
        line
    };
    let mut place = line();
    let wish = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&RequestedTransport(PROTOCOL_UDP)).add(&MobilityTicket(&[]));
    };
    let answer = alice.ask(Method::ALLOCATE, wish, over_tcp(&place));
    let mut ticket = value(&answer, AttributeType::MOBILITY_TICKET);
    let relayed = Message::parse(&answer).unwrap().require::<XorRelayedAddress>().unwrap().0;
    let bind = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&Channel(0x4000)).add(&XorPeerAddress(at));
    };
    assert_eq!(code(&alice.ask(Method::CHANNEL_BIND, bind, over_tcp(&place))), 0);
    let mut buffer = [0; 2_000];
    // Any worker may take the next connection; the one with the allocation gets it.
    for round in 0..12 {
        let mut next = line();
        let bring = |writer: &mut proto::stun::Writer<'_>| {
            writer.add(&Lifetime(600)).add(&MobilityTicket(&ticket));
        };
        let answer = alice.ask(Method::REFRESH, bring, over_tcp(&next));
        ticket = value(&answer, AttributeType::MOBILITY_TICKET);
        // Every other time the old connection is gone before the new one has said a word.
        let silent = round % 2 == 1;
        drop(place);
        let payload = pattern(round, 64);
        if !silent {
            next.write_all(&channel_data(0x4000, &payload)).unwrap();
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&payload[..], relayed));
        }
        // The end of the old connection may be noticed a little later.
        let heard = (0..20).any(|_| {
            peer.send_to(&payload, relayed).unwrap();
            next.set_read_timeout(Some(SOON / 20)).unwrap();
            let mut frame = [0; 68];
            next.read_exact(&mut frame).is_ok_and(|()| frame[..] == channel_data(0x4000, &payload))
        });
        assert!(heard, "round {round}");
        next.set_read_timeout(Some(SOON)).unwrap();
        // What was sent too often arrives too often.
        place = next;
        let mut rest = [0; 68];
        place.set_read_timeout(Some(SOON / 20)).unwrap();
        while place.read_exact(&mut rest).is_ok() {}
        place.set_read_timeout(Some(SOON)).unwrap();
    }
    site.close();
}
