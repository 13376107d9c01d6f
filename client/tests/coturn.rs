//! The client against coturn, a server that shares nothing with this project.

mod support;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use client::{AllocateOptions, ClientError, Credentials, Event, Family, Options, TurnClient};
use support::Coturn;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(3);

fn client(server: &Coturn) -> TurnClient {
    TurnClient::connect(server.addr, Credentials::new("user", "pass"))
        .expect("a socket on loopback")
}

fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((LOCALHOST, 0)).expect("a socket on loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    let addr = socket.local_addr().expect("a bound socket");
    (socket, addr)
}

#[test]
fn binding_tells_the_mapped_address() {
    let server = Coturn::start();
    let mut client = client(&server);
    let mapped = client.binding().unwrap();
    assert_eq!(mapped.port(), client.local_addr().unwrap().port());
}

#[test]
fn allocation_lives_from_challenge_to_release() {
    let server = Coturn::start();
    let mut client = client(&server);
    let wish = AllocateOptions { lifetime: Some(Duration::from_secs(700)), ..Default::default() };
    let allocation = client.allocate(&wish).unwrap();
    assert_eq!(allocation.lifetime, Duration::from_secs(700));
    assert_eq!(allocation.mapped.port(), client.local_addr().unwrap().port());
    assert_eq!(allocation.additional, None);
    assert_eq!(client.realm(), Some("realm"));
    assert_eq!(client.refresh(Duration::from_secs(800)).unwrap(), Duration::from_secs(800));
    assert_eq!(client.refresh(Duration::ZERO).unwrap(), Duration::ZERO);
}

#[test]
fn payload_passes_both_ways_by_channel_and_by_indication() {
    let server = Coturn::start();
    let mut client = client(&server);
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let (by_channel, channel_peer) = peer();
    let (by_indication, indication_peer) = peer();
    client.permit(&[LOCALHOST]).unwrap();
    let number = client.bind_channel(channel_peer).unwrap();
    assert_eq!(client.bind_channel(channel_peer).unwrap(), number, "renews the same channel");
    assert_ne!(client.bind_channel(peer().1).unwrap(), number);

    let mut buffer = [0; 2048];
    for payload in [&b"x"[..], &[7; 160], &[9; 1200], b"odd"] {
        client.send_channel(number, payload).unwrap();
        let (len, from) = by_channel.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (payload, relayed));
        by_channel.send_to(payload, relayed).unwrap();
        let expected =
            Event::Data { peer: channel_peer, channel: Some(number), payload: payload.to_vec() };
        assert_eq!(client.recv(PATIENCE).unwrap(), Some(expected));

        client.send_indication(indication_peer, payload).unwrap();
        let (len, from) = by_indication.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (payload, relayed));
        by_indication.send_to(payload, relayed).unwrap();
        let expected =
            Event::Data { peer: indication_peer, channel: None, payload: payload.to_vec() };
        assert_eq!(client.recv(PATIENCE).unwrap(), Some(expected));
    }
}

#[test]
fn data_that_arrives_during_a_transaction_is_kept() {
    let server = Coturn::start();
    let mut client = client(&server);
    let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
    let (socket, addr) = peer();
    let number = client.bind_channel(addr).unwrap();
    for i in 0..20_u8 {
        socket.send_to(&[i], relayed).unwrap();
    }
    client.refresh(Duration::from_secs(600)).unwrap();
    for i in 0..20_u8 {
        let expected = Event::Data { peer: addr, channel: Some(number), payload: vec![i] };
        assert_eq!(client.recv(PATIENCE).unwrap(), Some(expected));
    }
    assert_eq!(client.recv(Duration::ZERO).unwrap(), None);
}

#[test]
fn refusals_carry_code_and_reason() {
    let server = Coturn::start();
    let mut stranger = TurnClient::connect(server.addr, Credentials::new("user", "wrong")).unwrap();
    match stranger.allocate(&AllocateOptions::default()).unwrap_err() {
        ClientError::Refused { code: 401, reason, .. } => assert!(!reason.is_empty()),
        other => panic!("{other}"),
    }
    let mut client = client(&server);
    client.allocate(&AllocateOptions::default()).unwrap();
    let second = client.allocate(&AllocateOptions::default()).unwrap_err();
    assert!(matches!(second, ClientError::Refused { code: 437, .. }), "{second}");
}

#[test]
fn an_even_port_reserves_its_successor() {
    let server = Coturn::start();
    let mut first = client(&server);
    let wish = AllocateOptions { even_port: Some(true), ..Default::default() };
    let allocation = first.allocate(&wish).unwrap();
    assert_eq!(allocation.relayed.port() % 2, 0);
    let token = allocation.reservation.expect("a token");
    let wish = AllocateOptions { reservation: Some(token), ..Default::default() };
    let successor = client(&server).allocate(&wish).unwrap();
    assert_eq!(successor.relayed.port(), allocation.relayed.port() + 1);
}

#[test]
fn ipv6_allocations_have_ipv6_addresses() {
    let server = Coturn::start();
    let wish = AllocateOptions { family: Some(Family::V6), ..Default::default() };
    let allocation = client(&server).allocate(&wish).unwrap();
    assert!(allocation.relayed.is_ipv6());
}

#[test]
fn two_allocations_of_one_server_reach_each_other() {
    let server = Coturn::start();
    let (mut alice, mut bob) = (client(&server), client(&server));
    let at_alice = alice.allocate(&AllocateOptions::default()).unwrap().relayed;
    let at_bob = bob.allocate(&AllocateOptions::default()).unwrap().relayed;
    let to_bob = alice.bind_channel(at_bob).unwrap();
    let to_alice = bob.bind_channel(at_alice).unwrap();
    alice.send_channel(to_bob, b"hello").unwrap();
    let expected =
        Event::Data { peer: at_alice, channel: Some(to_alice), payload: b"hello".to_vec() };
    assert_eq!(bob.recv(PATIENCE).unwrap(), Some(expected));
}

#[test]
fn silence_and_a_closed_port_are_told_apart() {
    let options = Options {
        retransmit_after: Duration::from_millis(10),
        timeout: Duration::from_millis(200),
        ..Default::default()
    };
    let (_mute, mute_addr) = peer();
    let (closed, closed_addr) = peer();
    drop(closed);
    let credentials = Credentials::new("user", "pass");
    let mut client =
        TurnClient::connect_with(mute_addr, credentials.clone(), options.clone()).unwrap();
    assert!(matches!(client.binding().unwrap_err(), ClientError::Silence(_)));
    let mut client = TurnClient::connect_with(closed_addr, credentials, options).unwrap();
    match client.binding().unwrap_err() {
        ClientError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        other => panic!("{other}"),
    }
}
