//! T1: the relay as a way into networks.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use client::{ClientError, Event, TurnClient};

use super::target::{ATTACKER, SOON, Target};
use super::{Attack, Outcome, judge, outcome};
use crate::site::{EXTERNAL, INTERNAL, PEER};
use rig::clock;

/// Where no peer may be, in every dress.
const INSIDE: &[&str] = &[
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.25.1.1",
    "10.25.1.2",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "10.25.1.255",
    "10.25.2.255",
];

/// The same in IPv6.
const INSIDE_6: &[&str] = &[
    "::1",
    "::",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.25.1.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::10.25.1.1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd25:1::1",
    "ff02::1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "2001:2::1",
    "2001:10::1",
];

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "ask for peers inside, in every dress", run: peers_inside },
    Attack { name: "send to a service on the relay's loopback", run: loopback },
    Attack { name: "reach the relay's own listener from outside", run: own_listener },
    Attack { name: "hide a forbidden peer in a list", run: list },
    Attack { name: "connect to services inside over TCP", run: tcp },
    Attack { name: "reach a service on an address that the relay's host gets later", run: later },
];

#[test]
fn sec_001_abuse_t1_the_relay_is_no_way_into_networks() {
    judge("T1 the relay as a way into networks", ATTACKS);
}

/// Whether a request was refused, by an answer of the server.
fn refused<T>(answer: &Result<T, ClientError>) -> bool {
    matches!(answer, Err(ClientError::Refused { .. }))
}

fn peers_inside(target: &mut Target) -> Outcome {
    let mut reached = Vec::new();
    for (hosts, family) in [(INSIDE, client::Family::V4), (INSIDE_6, client::Family::V6)] {
        let wish = client::AllocateOptions { family: Some(family), ..Default::default() };
        let (mut client, _) = target.tenant_with(ATTACKER, "networks", &wish);
        for host in hosts {
            let ip: IpAddr = host.parse().expect("an address");
            if !refused(&client.permit(&[ip])) {
                reached.push(format!("{host} by permission"));
            }
            if !refused(&client.bind_channel(SocketAddr::new(ip, 80))) {
                reached.push(format!("{host} by channel"));
            }
        }
    }
    let tried = 2 * (INSIDE.len() + INSIDE_6.len());
    let words = format!("{} of {tried} requests granted: {}", reached.len(), reached.join(", "));
    outcome(reached.is_empty(), words)
}

/// Sends to an address by each way there is without asking whether it is permitted.
fn knock(client: &mut TurnClient, at: SocketAddr) {
    drop(client.permit(&[at.ip()]));
    for _ in 0..3 {
        client.send_indication(at, b"knock").expect("it is sent");
    }
    if let Ok(channel) = client.bind_channel(at) {
        client.send_channel(channel, b"knock").expect("it is sent");
    }
}

fn loopback(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "networks");
    let mut heard = Vec::new();
    for host in ["127.0.0.1", INTERNAL, EXTERNAL] {
        let service = target.site.relay.enter(|| UdpSocket::bind((host, 7_777)));
        let service = service.expect("a port of the relay's host");
        service.set_read_timeout(Some(SOON)).expect("a timeout");
        knock(&mut client, service.local_addr().expect("it is bound"));
        if super::raw::drain(&service).0 > 0 {
            heard.push(host);
        }
    }
    outcome(heard.is_empty(), format!("services that heard something: {heard:?}"))
}

fn own_listener(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "networks");
    let mut answered = Vec::new();
    for host in [INTERNAL, EXTERNAL] {
        let at = SocketAddr::new(host.parse().expect("an address"), 3478);
        drop(client.permit(&[at.ip()]));
        let binding = super::raw::message(super::raw::BINDING, &[]);
        client.send_indication(at, &binding).expect("it is sent");
        let bound = client.bind_channel(at).is_ok();
        let answer = client.recv(SOON).expect("the socket works");
        if bound || matches!(answer, Some(Event::Data { .. })) {
            answered.push(host);
        }
    }
    outcome(answered.is_empty(), format!("listeners that were reached: {answered:?}"))
}

fn list(target: &mut Target) -> Outcome {
    let (mut client, allocation) = target.tenant(ATTACKER, "networks");
    let (peer, _) = target.peer();
    let [good, bad] = [PEER, "127.0.0.1"].map(|host| host.parse().expect("an address"));
    let whole = refused(&client.permit(&[good, bad]));
    peer.send_to(b"is it open?", allocation.relayed).expect("it is sent");
    let open = matches!(client.recv(SOON).expect("the socket works"), Some(Event::Data { .. }));
    outcome(whole && !open, format!("refused: {whole}; the other peer was let in: {open}"))
}

fn tcp(target: &mut Target) -> Outcome {
    let mut connected = Vec::new();
    for (number, host) in ["127.0.0.1", INTERNAL, EXTERNAL].into_iter().enumerate() {
        let listener = target.site.relay.enter(|| std::net::TcpListener::bind((host, 7_778)));
        let listener = listener.expect("a port of the relay's host");
        let at = listener.local_addr().expect("it is bound");
        let opened = target.pipe(ATTACKER, &format!("networks-{number}"), at);
        listener.set_nonblocking(true).expect("a socket");
        if opened.is_ok() || listener.accept().is_ok() {
            connected.push(host);
        }
    }
    outcome(connected.is_empty(), format!("services that were called: {connected:?}"))
}

fn later(target: &mut Target) -> Outcome {
    // As an address of DHCP, of a container or of a failover is: nobody's yet, so it may be permitted.
    const LATER: [&str; 2] = ["9.25.3.1", "2a00:25::1"];
    let ends = LATER.map(|host| SocketAddr::new(host.parse().expect("an address"), 7_779));
    let mut heard = Vec::new();
    for (at, family) in ends.into_iter().zip([client::Family::V4, client::Family::V6]) {
        let wish = client::AllocateOptions { family: Some(family), ..Default::default() };
        let (mut client, _) = target.tenant_with(ATTACKER, "networks", &wish);
        client.permit(&[at.ip()]).expect("it is nobody's");
        target.site.relay.address("lo", &[&at.ip().to_string()]);
        let service = target.site.relay.enter(|| UdpSocket::bind(at)).expect("a port there");
        service.set_read_timeout(Some(SOON)).expect("a timeout");
        clock::rest_until(clock::now() + SOON);
        knock(&mut client, at);
        if super::raw::drain(&service).0 > 0 {
            heard.push(at);
        }
        drop(service);
        target.site.relay.ip(&format!("address del {} dev lo", at.ip()));
    }
    outcome(heard.is_empty(), format!("services that heard something: {heard:?}"))
}
