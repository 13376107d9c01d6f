//! T6: between clients.

use std::collections::HashSet;
use std::net::UdpSocket;

use client::{Event, TurnClient};

use super::target::{ATTACKER, SOON, Target};
use super::{Attack, Outcome, judge, outcome};
use crate::site::PEER;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "send to a relayed address without a permission", run: uninvited },
    Attack { name: "inherit the port of a call that has ended", run: heir },
    Attack { name: "use a channel of somebody else", run: channel },
    Attack { name: "guess the number of a peer's connection", run: connection },
];

#[test]
fn perm_008_abuse_t6_nobody_reaches_into_the_call_of_another() {
    judge("T6 between clients", ATTACKS);
}

fn hears(client: &mut TurnClient) -> bool {
    matches!(client.recv(SOON).expect("the socket works"), Some(Event::Data { .. }))
}

/// A socket of the peer's machine that has another address than the peer.
fn stranger(target: &Target) -> UdpSocket {
    target.site.peer.address("relay", &["10.25.2.66/24"]);
    target.site.peer.enter(|| UdpSocket::bind("10.25.2.66:0")).expect("a port")
}

fn uninvited(target: &mut Target) -> Outcome {
    let (mut client, allocation) = target.tenant(ATTACKER, "tenant");
    client.permit(&[PEER.parse().expect("an address")]).expect("a permission");
    let stranger = stranger(target);
    for _ in 0..20 {
        stranger.send_to(b"let me in", allocation.relayed).expect("it is sent");
    }
    let heard = hears(&mut client);
    outcome(!heard, format!("the client heard it: {heard}"))
}

fn heir(target: &mut Target) -> Outcome {
    let (mut first, allocation) = target.tenant(ATTACKER, "first");
    let (peer, at) = target.peer();
    first.bind_channel(at).expect("a channel");
    first.release().expect("it ends");
    let mut heirs = Vec::new();
    let mut ports = HashSet::new();
    for number in 0..15 {
        let (client, own) = target.tenant(ATTACKER, &format!("heir-{}", number % 2));
        ports.insert(own.relayed.port());
        heirs.push(client);
    }
    for _ in 0..3 {
        peer.send_to(b"are you still there?", allocation.relayed).expect("it is sent");
    }
    let heard = heirs.iter_mut().any(hears_quickly) || hears(&mut first);
    let same = ports.contains(&allocation.relayed.port());
    for mut heir in heirs {
        drop(heir.release());
    }
    outcome(!heard && !same, format!("its port was given out again: {same}; heard: {heard}"))
}

fn hears_quickly(client: &mut TurnClient) -> bool {
    matches!(client.recv(SOON / 20).expect("the socket works"), Some(Event::Data { .. }))
}

fn channel(target: &mut Target) -> Outcome {
    let (mut owner, _) = target.tenant(ATTACKER, "owner-of-channel");
    let (peer, at) = target.peer();
    let channel = owner.bind_channel(at).expect("a channel");
    let (mut thief, _) = target.tenant(ATTACKER, "thief-of-channel");
    thief.send_channel(channel, b"as if I were you").expect("it is sent");
    let (count, _) = super::raw::drain(&peer);
    outcome(count == 0, format!("{count} packets of the thief reached the peer"))
}

fn connection(target: &mut Target) -> Outcome {
    use super::raw;
    let mut thief = target.caller(ATTACKER, "thief-of-connection");
    drop(thief.binding());
    let socket = target.connection(ATTACKER).expect("it is taken");
    let mut granted = 0;
    for number in 0..200_u32 {
        let bind = raw::message(0x000B, &[(0x002A, &number.to_be_bytes())]);
        let mut line = &socket;
        if std::io::Write::write_all(&mut line, &bind).is_err() {
            break;
        }
        let mut answer = [0; 512];
        match std::io::Read::read(&mut line, &mut answer) {
            Ok(len @ 1..) if raw::kind(&answer[..len]) == Some(0x010B) => granted += 1,
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    outcome(granted == 0, format!("{granted} numbers were good"))
}
