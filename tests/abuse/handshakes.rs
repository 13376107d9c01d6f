//! T4 and T3: handshakes of TLS and DTLS, which cost a server more than who begins them.
//!
//! The attacker computes nothing: it replays the first flight of a real client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use client::transport::{Dtls, Tls, Trust};
use client::{AllocateOptions, Credentials, Options, Transport, TurnClient};

use super::exhaustion::{NOISE_BYTES, is_closed};
use super::raw::{self, Forger};
use super::reflection::{HEADERS, anybody};
use super::target::{ATTACKER, Kind, Reach, SOON, Setup, Target, VICTIM, secure};
use super::{Attack, Outcome, judge_as, judge_at_once, outcome};
use rig::clock;

/// The name in the server's certificate.
const NAME: &str = "turn.example.org";

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "begin handshakes of TLS as fast as can be", run: flood },
    Attack { name: "begin handshakes of DTLS from 50,000 forged addresses", run: crowd },
    Attack { name: "have a hello of DTLS answered with much", run: amplify },
];

pub(super) const SLOW: &[Attack] =
    &[Attack { name: "begin a hundred handshakes of TLS, and end none", run: slow }];

#[test]
fn sec_009_abuse_t4_handshakes_use_nobody_up() {
    judge_as("T4 handshakes", ATTACKS, &setup());
}

#[test]
fn sec_011_abuse_t4_a_handshake_that_drips_is_cut_off() {
    judge_at_once("T4 handshakes, slowly", SLOW, &setup());
}

fn setup() -> Setup {
    Setup { reach: Reach::Secure, ..Setup::default() }
}

fn tls() -> Transport {
    Transport::Tls(Tls::new(NAME, &Trust::Anything, &[]).expect("a name"))
}

/// The first that a client sends which speaks TLS to somebody who says nothing.
fn first_flight() -> Vec<u8> {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = deaf.local_addr().expect("it is bound");
    thread::scope(|scope| {
        scope.spawn(move || connect(at, tls(), SOON / 4));
        let mut line = deaf.accept().expect("it connects").0;
        let mut bytes = [0; 4096];
        let len = line.read(&mut bytes).expect("it begins");
        bytes[..len].to_vec()
    })
}

/// The same of DTLS.
fn first_datagram() -> Vec<u8> {
    let deaf = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let at = deaf.local_addr().expect("it is bound");
    let dtls = Transport::Dtls(Dtls::new(NAME, &Trust::Anything).expect("a name"));
    thread::scope(|scope| {
        scope.spawn(move || connect(at, dtls, SOON / 4));
        let mut bytes = [0; 4096];
        let len = deaf.recv(&mut bytes).expect("it begins");
        bytes[..len].to_vec()
    })
}

fn connect(at: SocketAddr, transport: Transport, timeout: Duration) {
    let options = Options { transport, timeout, ..Options::default() };
    drop(TurnClient::connect_with(at, Credentials::new("", ""), options));
}

/// Whether somebody else gets a relayed address over this.
fn is_welcome(target: &Target, user: &str, transport: Transport) -> bool {
    let options = Options {
        transport,
        bind: Some(SocketAddr::new(VICTIM.parse().expect("an address"), 0)),
        ..Options::default()
    };
    let who = target.credentials(user);
    let client = target.site.client.enter(|| TurnClient::connect_with(secure(), who, options));
    client.is_ok_and(|mut client| {
        client.allocate(&AllocateOptions::default()).is_ok() && client.release().is_ok()
    })
}

/// Counts those that the server has answered with a key exchange and a signature of its own.
fn flood(target: &mut Target) -> Outcome {
    const LENGTH: Duration = Duration::from_secs(3);
    let hello = first_flight();
    let begin = clock::now();
    let (mut tried, mut answered) = (0, 0_u32);
    let mut welcome = None;
    while clock::now() < begin + LENGTH {
        // A dozen at once keep a core busy that signs for each of them.
        let lines = (0..12).filter_map(|_| target.connection_to(ATTACKER, secure()).ok());
        let mut lines: Vec<TcpStream> = lines.collect();
        for line in &mut lines {
            tried += 1;
            drop(line.write_all(&hello));
        }
        for line in &mut lines {
            let mut record = [0; 1];
            answered += u32::from(line.read_exact(&mut record).is_ok() && record == [0x16]);
            drop(client::transport::reset_on_drop(line));
        }
        // When what may come at once has come.
        if tried > 200 && welcome.is_none() {
            welcome = Some(is_welcome(target, "neighbour", tls()));
        }
    }
    let took = (clock::now() - begin).as_secs_f64();
    let limited = f64::from(answered) <= 200.0 + 100.0 * took + 20.0;
    outcome(
        limited && welcome == Some(true),
        format!("{answered} of {tried} answered in {took:.1} s; others get in: {welcome:?}"),
    )
}

fn crowd(target: &mut Target) -> Outcome {
    const FORGED: u32 = 50_000;
    let hello = first_datagram();
    let forger = Forger::of(&target.site.client);
    let flood = |from: u32| {
        let begin = clock::now();
        for number in 0..FORGED / 2 {
            forger.send(anybody(from + number), secure(), &hello);
            if number % 50 == 0 {
                clock::rest_until(begin + Duration::from_micros(u64::from(number) * 50));
            }
        }
        target.resident_bytes()
    };
    let (half, end) = (flood(0), flood(FORGED / 2));
    let growth = end.saturating_sub(half);
    let sessions = match target.kind {
        Kind::Ours => target.metric(&["av_edge_relay_connections{", "transport=\"dtls\""]),
        Kind::Coturn => 0,
    };
    let dtls = Transport::Dtls(Dtls::new(NAME, &Trust::Anything).expect("a name"));
    let welcome = is_welcome(target, "neighbour", dtls);
    outcome(
        growth <= NOISE_BYTES && sessions == 0 && welcome,
        format!(
            "the second half takes {} KiB, {sessions} sessions; others get in: {welcome}",
            growth >> 10
        ),
    )
}

fn amplify(target: &mut Target) -> Outcome {
    let socket = target.bound(ATTACKER);
    socket.connect(secure()).expect("an address");
    let (mut fits, mut factors) = (true, Vec::new());
    for (name, hello) in [("a real one", first_datagram()), ("the shortest", shortest_hello())] {
        socket.send(&hello).expect("it is sent");
        let (count, bytes) = raw::drain(&socket);
        let (asked, told) = (hello.len() + HEADERS, bytes + count * HEADERS);
        #[expect(clippy::cast_precision_loss, reason = "lengths of datagrams")]
        let factor = told as f64 / asked as f64;
        fits &= count <= 1 && factor <= 1.35;
        factors.push(format!("{name}, of {asked} bytes ×{factor:.2}"));
    }
    outcome(fits, factors.join(", "))
}

/// A hello of DTLS 1.2 with one suite and no extension.
fn shortest_hello() -> Vec<u8> {
    let hello = [&[0xFE, 0xFD][..], &[7; 32], &[0, 0, 0, 2, 0xC0, 0x2B, 1, 0]].concat();
    let len = u16::try_from(hello.len()).expect("it is short");
    let [high, low] = len.to_be_bytes();
    let handshake = [&[1, 0, high, low, 0, 0, 0, 0, 0, 0, high, low][..], &hello].concat();
    let whole = (len + 12).to_be_bytes();
    [&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0][..], &whole, &handshake].concat()
}

/// Each byte comes so late that a deadline which starts anew with it never ends.
fn slow(target: &mut Target) -> Outcome {
    const WANTED: usize = 100;
    const LIMIT: Duration = Duration::from_secs(12);
    let hello = first_flight();
    let before = target.descriptors();
    let mut lines: Vec<TcpStream> =
        (0..WANTED).filter_map(|_| target.connection_to(ATTACKER, secure()).ok()).collect();
    let begin = clock::now();
    let held = |lines: &[TcpStream]| lines.iter().filter(|line| !is_closed(line)).count();
    let (mut most, mut bytes) = (0, hello.iter());
    let (mut welcome, mut left) = (false, WANTED);
    while clock::now() < begin + LIMIT && left > 0 {
        let byte = bytes.next().copied().unwrap_or_default();
        for line in &mut lines {
            drop(line.write(&[byte]));
        }
        clock::rest_until(clock::now() + SOON);
        left = held(&lines);
        most = most.max(left);
        welcome = welcome || is_welcome(target, "neighbour", tls());
    }
    let took = clock::now() - begin;
    drop(lines);
    let gone = || (target.descriptors() <= before + 1).then_some(());
    let healed = clock::look_until(Duration::from_secs(5), gone).is_some();
    outcome(
        left == 0 && most <= 64 && welcome && healed,
        format!(
            "{most} of {WANTED} stay at first, {left} after {took:.0?}; others get in: {welcome}; \
             all given back: {healed}"
        ),
    )
}
