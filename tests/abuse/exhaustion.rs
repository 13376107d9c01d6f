//! T4: the server used up.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use client::AllocateOptions;

use super::raw::{self, Forger};
use super::reflection::anybody;
use super::target::{ATTACKER, SOON, Setup, Target, VICTIM, server};
use super::{Attack, Outcome, judge, judge_at_once, outcome};
use crate::site::PEER;
use rig::clock;

/// What memory may grow by that is no trend: buffers and tables of an allocator at work.
pub(super) const NOISE_BYTES: u64 = 2 << 20;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "ask from 100,000 forged addresses", run: crowd },
    Attack { name: "hold connections without a word", run: hoard_connections },
    Attack { name: "hold connections from a whole network", run: hoard_network },
    Attack { name: "hold allocations with one account", run: hoard_allocations },
    Attack { name: "hold permissions and channels of one allocation", run: hoard_permissions },
    Attack { name: "hold connections to peers with one account", run: hoard_peers },
    Attack { name: "never read what peers send", run: slow_reader },
    Attack { name: "come and go, many times", run: churn },
];

pub(super) const PORTS: &[Attack] =
    &[Attack { name: "keep ports of allocations released", run: hoard_ports }];

pub(super) const SLOW: &[Attack] = &[Attack { name: "drip a byte now and then", run: drip }];

#[test]
fn sec_008_abuse_t4_the_server_is_not_used_up() {
    judge("T4 the server used up", ATTACKS);
}

#[test]
fn alloc_018_abuse_t4_ports_that_are_kept_count_like_allocations() {
    judge("T4 ports kept", PORTS);
}

#[test]
fn sec_011_abuse_t4_who_drips_is_cut_off() {
    judge_at_once("T4 the server used up, slowly", SLOW, &Setup::default());
}

fn crowd(target: &mut Target) -> Outcome {
    const FORGED: u32 = 100_000;
    let forger = Forger::of(&target.site.client);
    let question = raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]);
    let (flood, begin) = (
        |from: u32| {
            let begin = clock::now();
            for number in 0..FORGED / 2 {
                forger.send(anybody(from + number), server(), &question);
                if number % 50 == 0 {
                    clock::rest_until(begin + Duration::from_micros(u64::from(number) * 25));
                }
            }
            target.resident_bytes()
        },
        target.resident_bytes(),
    );
    let (half, end) = (flood(0), flood(FORGED / 2));
    let growth = end.saturating_sub(half);
    outcome(
        growth <= NOISE_BYTES,
        format!(
            "resident KiB before, after half, after all: {}, {}, {}",
            begin >> 10,
            half >> 10,
            end >> 10
        ),
    )
}

/// Whether the server has closed a connection.
pub(super) fn is_closed(line: &TcpStream) -> bool {
    line.set_nonblocking(true).expect("a socket");
    let mut line = line;
    match line.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn hoard_connections(target: &mut Target) -> Outcome {
    const WANTED: usize = 600;
    let before = target.descriptors();
    let lines: Vec<TcpStream> =
        (0..WANTED).filter_map(|_| target.connection(ATTACKER).ok()).collect();
    let held = || lines.iter().filter(|line| !is_closed(line)).count();
    clock::look_until(SOON, || (held() <= 64).then_some(()));
    let (held, files) = (held(), target.descriptors().saturating_sub(before));
    let welcome = target.caller(VICTIM, "somebody").binding().is_ok();
    drop(lines);
    let gone = || (target.descriptors() <= before + 2).then_some(());
    let healed = clock::look_until(Duration::from_secs(5), gone).is_some();
    outcome(
        held <= 64 && welcome && healed,
        format!(
            "{held} of {WANTED} connections stay, with {files} descriptors; others are served: \
             {welcome}; all given back: {healed}"
        ),
    )
}

/// Every host of a network holds as many connections as one may, so that the world finds no room.
fn hoard_network(target: &mut Target) -> Outcome {
    const MOST: usize = 4_096 / 4;
    const OF_EACH: usize = 64;
    const ELSEWHERE: &str = "10.25.3.2";
    let before = target.descriptors();
    target.site.relay.ip("route replace 10.25.3.0/24 dev internal");
    target.site.client.address("relay", &[&format!("{ELSEWHERE}/24")]);
    let mut lines: Vec<TcpStream> = Vec::new();
    for host in 101..=180 {
        let host = format!("10.25.1.{host}");
        target.site.client.address("relay", &[&format!("{host}/24")]);
        lines.extend((0..OF_EACH).filter_map(|_| target.connection(&host).ok()));
    }
    let held = || lines.iter().filter(|line| !is_closed(line)).count();
    clock::look_until(SOON, || (held() <= MOST).then_some(()));
    let (held, wanted) = (held(), lines.len());
    let welcome = target.caller(ELSEWHERE, "somebody").binding().is_ok();
    drop(lines);
    let gone = || (target.descriptors() <= before + 2).then_some(());
    let healed = clock::look_until(Duration::from_secs(5), gone).is_some();
    outcome(
        held <= MOST && welcome && healed,
        format!(
            "{held} of {wanted} connections stay; other networks are served: {welcome}; all given \
             back: {healed}"
        ),
    )
}

fn hoard_allocations(target: &mut Target) -> Outcome {
    const WANTED: usize = 40;
    let mut codes = Vec::new();
    let clients: Vec<_> = (0..WANTED)
        .map(|_| {
            let (client, answer) =
                target.applicant(ATTACKER, "hoarder", &AllocateOptions::default());
            codes.push(answer.err().and_then(|error| error.code()));
            client
        })
        .collect();
    let held = codes.iter().filter(|code| code.is_none()).count();
    let refusals = codes.iter().flatten().all(|code| *code == 486);
    let (mut other, answer) = target.applicant(ATTACKER, "neighbour", &AllocateOptions::default());
    let welcome = answer.is_ok();
    for mut client in clients {
        drop(client.release());
    }
    drop(other.release());
    outcome(
        held <= 16 && refusals && welcome,
        format!(
            "one account holds {held}, refused with 486: {refusals}; others get one: {welcome}"
        ),
    )
}

fn hoard_ports(target: &mut Target) -> Outcome {
    const ACCOUNTS: u32 = 8;
    let pair = AllocateOptions { even_port: Some(true), ..AllocateOptions::default() };
    let (mut kept, mut codes) = (0, Vec::new());
    for number in 0..ACCOUNTS * 20 {
        let user = format!("keeper-{}", number % ACCOUNTS);
        let (mut client, answer) = target.applicant(ATTACKER, &user, &pair);
        match answer {
            Ok(_) => {
                kept += 1;
                drop(client.release());
            }
            Err(error) => codes.push(error.code()),
        }
    }
    let refusals = codes.iter().all(|code| *code == Some(486));
    let (mut other, answer) = target.applicant(VICTIM, "neighbour", &pair);
    let welcome = answer.is_ok();
    drop(other.release());
    outcome(
        kept < 64 && refusals && welcome,
        format!(
            "one address keeps {kept} ports, refused with 486: {refusals}; others get a \
             pair: {welcome}"
        ),
    )
}

fn hoard_permissions(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "collector");
    let before = target.resident_bytes();
    let mut peers = 0;
    let mut codes = Vec::new();
    for number in 1..=1_200_u32 {
        let [.., c, d] = number.to_be_bytes();
        // Globally reachable, but nothing is ever sent there.
        let peer = std::net::IpAddr::from([45, 90, c, d]);
        match client.permit(&[peer]) {
            Ok(()) => peers += 1,
            Err(error) => {
                codes.push(error.code());
                break;
            }
        }
    }
    let growth = target.resident_bytes().saturating_sub(before);
    drop(client.release());
    outcome(
        peers <= 256 && codes == [Some(508)] && growth <= NOISE_BYTES,
        format!("{peers} permissions, then {codes:?}; {} KiB more", growth >> 10),
    )
}

fn hoard_peers(target: &mut Target) -> Outcome {
    const ALLOCATIONS: usize = 12;
    // One that carries, and as many as may wait for their client.
    const EACH: usize = 17;
    let listen = |_| target.site.peer.enter(|| TcpListener::bind((PEER, 0))).expect("a port");
    let listeners: Vec<TcpListener> = (0..EACH).map(listen).collect();
    let peers = listeners.iter().map(|peer| peer.local_addr().expect("it is bound"));
    let peers: Vec<SocketAddr> = peers.collect();
    let (mut held, mut codes, mut pipes) = (0, Vec::new(), Vec::new());
    for _ in 0..ALLOCATIONS {
        match target.pipe(ATTACKER, "hoarder-of-peers", peers[0]) {
            Ok(mut pipe) => {
                held += 1;
                for peer in &peers[1..] {
                    match pipe.connect(*peer) {
                        Ok(()) => held += 1,
                        Err(error) => codes.push(error.code()),
                    }
                }
                pipes.push(pipe);
            }
            Err(error) => codes.push(error.code()),
        }
    }
    let refusals = codes.iter().all(|code| *code == Some(486));
    let welcome = target.pipe(VICTIM, "neighbour", peers[0]).is_ok();
    drop(pipes);
    outcome(
        held <= 128 && refusals && welcome,
        format!(
            "one account holds {held} of {}, refused with 486: {refusals}; others connect: \
             {welcome}",
            ALLOCATIONS * EACH
        ),
    )
}

fn slow_reader(target: &mut Target) -> Outcome {
    const DATAGRAMS: u32 = 40_000;
    let mut sloth = target.caller(ATTACKER, "sloth");
    let allocation = sloth.allocate(&AllocateOptions::default()).expect("an allocation");
    let (peer, at) = target.peer();
    sloth.bind_channel(at).expect("a channel");
    let before = target.resident_bytes();
    let begin = clock::now();
    let mut most = before;
    for number in 0..DATAGRAMS {
        peer.send_to(&[7; 1200], allocation.relayed).expect("it is sent");
        if number % 20 == 0 {
            clock::rest_until(begin + Duration::from_micros(u64::from(number) * 50));
            most = most.max(target.resident_bytes());
        }
    }
    let growth = most.saturating_sub(before);
    outcome(
        // A relay that has just begun takes some for its first connections, too.
        growth <= 2 * NOISE_BYTES,
        format!(
            "{} MB for a client that does not read: {} KiB more",
            (DATAGRAMS * 1200) >> 20,
            growth >> 10
        ),
    )
}

fn churn(target: &mut Target) -> Outcome {
    const ROUNDS: u32 = 600;
    let files = target.descriptors();
    let round = |target: &Target, number: u32| {
        let (mut client, _) = target.tenant(ATTACKER, &format!("churn-{}", number % 40));
        client.release().expect("it ends");
    };
    (0..ROUNDS / 2).for_each(|number| round(target, number));
    let half = target.resident_bytes();
    (0..ROUNDS / 2).for_each(|number| round(target, number));
    let end = target.resident_bytes();
    let growth = end.saturating_sub(half);
    let left = target.descriptors().saturating_sub(files);
    outcome(
        left == 0 && growth <= NOISE_BYTES / 2,
        format!("{ROUNDS} rounds leave {left} descriptors, the second half {} KiB", growth >> 10),
    )
}

fn drip(target: &mut Target) -> Outcome {
    const LIMIT: Duration = Duration::from_secs(33);
    let mut line = target.connection(ATTACKER).expect("it is taken");
    let request = raw::message(raw::ALLOCATE, &[(raw::USERNAME, &[b'x'; 400])]);
    let begin = clock::now();
    let mut bytes = request.iter();
    while clock::now() - begin < LIMIT && !is_closed(&line) {
        if let Some(byte) = bytes.next() {
            drop(line.write_all(&[*byte]));
        }
        clock::rest_until(clock::now() + Duration::from_millis(500));
    }
    let closed = is_closed(&line);
    outcome(closed, format!("closed after {:.0?}: {closed}", clock::now() - begin))
}
