//! T7: what breaks on its own.

use std::time::Duration;

use client::{AllocateOptions, Event};

use super::target::{ATTACKER, SOON, Target};
use super::{Attack, Outcome, judge, outcome};
use crate::site::PEER;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "have every packet answered with an ICMP error", run: unreachable },
    Attack { name: "vanish with a connection full of data", run: vanish },
    Attack { name: "the process is killed", run: crash },
];

#[test]
fn icmp_005_abuse_t7_faults_hurt_only_what_they_touch() {
    judge("T7 faults", ATTACKS);
}

fn unreachable(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "unreachable");
    let (peer, at) = target.peer();
    let nobody = std::net::SocketAddr::new(PEER.parse().expect("an address"), 9);
    let closed = client.bind_channel(nobody).expect("a channel");
    let open = client.bind_channel(at).expect("a channel");
    let mut lost = 0;
    for number in 0..200_u32 {
        for _ in 0..10 {
            client.send_channel(closed, b"anybody there?").expect("it is sent");
        }
        client.send_channel(open, &number.to_be_bytes()).expect("it is sent");
        let mut word = [0; 64];
        lost += u32::from(peer.recv(&mut word).is_err());
    }
    while client.recv(Duration::ZERO).expect("the socket works").is_some() {}
    outcome(lost == 0, format!("{lost} of 200 packets to another peer of the allocation lost"))
}

fn vanish(target: &mut Target) -> Outcome {
    let before = target.descriptors();
    for number in 0..20 {
        let mut client = target.caller(ATTACKER, &format!("vanish-{number}"));
        let allocation = client.allocate(&AllocateOptions::default()).expect("an allocation");
        let (peer, at) = target.peer();
        client.bind_channel(at).expect("a channel");
        for _ in 0..50 {
            peer.send_to(&[1; 1000], allocation.relayed).expect("it is sent");
        }
        let line = client.link().tcp().expect("over TCP");
        client::transport::reset_on_drop(line).expect("a socket");
    }
    let freed = || (target.descriptors() <= before).then_some(());
    let freed = rig::clock::look_until(Duration::from_secs(5), freed).is_some();
    outcome(freed && target.serves(), format!("allocations end with their connections: {freed}"))
}

/// Another server than the one with calls, as this one dies.
fn crash(target: &mut Target) -> Outcome {
    let mut other = Target::start(target.kind);
    let (mut client, _) = other.tenant(ATTACKER, "survivor");
    let away = other.crash();
    let code = client.refresh(Duration::from_secs(600)).err().and_then(|error| error.code());
    let again = client.allocate(&AllocateOptions::default()).is_ok();
    let (peer, at) = other.peer();
    let channel = client.bind_channel(at);
    let carried = channel.is_ok_and(|channel| {
        client.send_channel(channel, b"as before").is_ok()
            && peer.recv(&mut [0; 64]).is_ok_and(|len| len == 9)
    });
    let stray = matches!(client.recv(SOON), Ok(Some(Event::Data { .. })));
    outcome(
        away < Duration::from_secs(1) && code == Some(437) && again && carried && !stray,
        format!("back after {away:.1?}; refresh refused with {code:?}; goes on anew: {carried}"),
    )
}
