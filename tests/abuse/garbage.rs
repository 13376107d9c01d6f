//! T5: broken input.

use std::io::Write;
use std::net::UdpSocket;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::exhaustion::is_closed;
use super::raw;
use super::target::{ATTACKER, SOON, Target, server};
use super::{Attack, Outcome, judge, outcome};
use rig::clock;

/// Datagrams of the flood, and how many go out together every [`PAUSE`].
const FLOOD: usize = 200_000;
const BURST: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// What the server's memory may grow by in the second half of the flood: noise, no trend.
const GROWTH_BYTES: u64 = 1 << 20;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "flood with rubbish that looks like messages", run: flood },
    Attack { name: "open connections with what no frame begins with", run: nonsense },
    Attack { name: "announce lengths that never come", run: absurd },
    Attack { name: "nest, repeat and cut attributes", run: attributes },
];

#[test]
fn sec_011_abuse_t5_broken_input_breaks_nothing() {
    judge("T5 broken input", ATTACKS);
}

fn flood(target: &mut Target) -> Outcome {
    let halves = [(); 2].map(|()| {
        target.site.client.enter(|| rubbish(FLOOD / 2));
        target.resident_bytes()
    });
    let growth = halves[1].saturating_sub(halves[0]);
    outcome(
        growth <= GROWTH_BYTES && target.serves(),
        format!("{FLOOD} datagrams; {} KiB more in their second half", growth >> 10),
    )
}

/// What is a frame, or may become one: it has until the deadline of every stranger.
const FRAMES: [&str; 4] =
    ["zeros", "TLS on the plain port", "channel data without an allocation", "a response"];

fn nonsense(target: &mut Target) -> Outcome {
    let mut kept = Vec::new();
    for (name, bytes) in [
        ("HTTP", &b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[..]),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("zeros", &[0; 64]),
        ("ones", &[0xFF; 64]),
        ("TLS on the plain port", &[0x16, 3, 1, 0xFF, 0xFF, 1, 0, 0, 4, 3, 3]),
        ("channel data without an allocation", b"\x40\x00\x00\x04data"),
        ("a response", &raw::message(raw::BINDING | raw::SUCCESS, &[])),
    ] {
        let mut line = target.connection(ATTACKER).expect("it is taken");
        line.write_all(bytes).expect("it is sent");
        let closed = clock::look_until(2 * SOON, || is_closed(&line).then_some(()));
        if closed.is_none() && !FRAMES.contains(&name) {
            kept.push(name);
        }
    }
    outcome(kept.is_empty() && target.serves(), format!("connections that stay open: {kept:?}"))
}

/// What is held back in all is ten times what a server may take that waits with what has come.
fn absurd(target: &mut Target) -> Outcome {
    const HOSTS: u8 = 12;
    const OF_EACH: usize = 50;
    const PROMISED: usize = 60_000;
    // What a connection may cost before anybody has logged in: a few kilobytes.
    const EACH: u64 = 6 << 10;
    // 65,532 bytes are promised and almost all are sent, but never the last.
    let mut frame = raw::message(raw::ALLOCATE, &[]);
    frame[2..4].copy_from_slice(&0xFFFC_u16.to_be_bytes());
    frame.resize(PROMISED, 0);
    let before = target.resident_bytes();
    let mut lines = Vec::new();
    for host in 0..HOSTS {
        let host = format!("10.25.1.{}", 200 + host);
        target.site.client.address("relay", &[&format!("{host}/24")]);
        for _ in 0..OF_EACH {
            let mut line = target.connection(&host).expect("it is taken");
            line.set_write_timeout(Some(SOON)).expect("a timeout");
            // Who is cut off has sent what it could.
            drop(line.write_all(&frame));
            lines.push(line);
        }
    }
    clock::rest_until(clock::now() + SOON);
    let growth = target.resident_bytes().saturating_sub(before);
    let count = u64::try_from(lines.len()).expect("a number of connections");
    drop(lines);
    outcome(
        growth <= count * EACH && target.serves(),
        format!(
            "{count} connections, each with {} KiB of an endless message, take {} KiB",
            PROMISED >> 10,
            growth >> 10
        ),
    )
}

fn attributes(target: &mut Target) -> Outcome {
    let socket = target.socket(ATTACKER);
    let many: Vec<(u16, &[u8])> = (0..300).map(|number| (0x7000 + number, &b""[..])).collect();
    let long = vec![b'u'; 1_400];
    let messages = [
        raw::message(raw::ALLOCATE, &many),
        raw::message(raw::ALLOCATE, &vec![(raw::USERNAME, &b"x"[..]); 150]),
        raw::message(raw::ALLOCATE, &[(raw::USERNAME, &long)]),
        raw::message(
            raw::ALLOCATE,
            &[(raw::INTEGRITY, &[0; 19]), (raw::USERNAME, b"%n%s../../\0")],
        ),
    ];
    for message in &messages {
        // Whole, and cut at every place.
        for end in 0..=message.len() {
            socket.send(&message[..end]).expect("it is sent");
        }
        raw::drain(&socket);
    }
    let count: usize = messages.iter().map(Vec::len).sum();
    outcome(target.serves(), format!("{count} datagrams; the server serves"))
}

/// Rubbish of every kind from eight sockets, paced so that the listener's queue never overflows.
fn rubbish(count: usize) {
    let sockets = [(); 8].map(|()| {
        let socket = UdpSocket::bind((ATTACKER, 0)).expect("a socket");
        socket.connect(server()).expect("an address");
        socket
    });
    let random = SystemRandom::new();
    let mut bytes = [0; 1024];
    let mut next = clock::now();
    for (number, socket) in sockets.iter().cycle().take(count).enumerate() {
        random.fill(&mut bytes).expect("random bytes");
        let datagram = disguise(number, &mut bytes);
        // An ICMP error of an earlier datagram may surface here; the flood does not care.
        let _ = socket.send(datagram);
        if number % BURST == 0 {
            next += PAUSE;
            clock::rest_until(next);
        }
    }
}
/// Makes random bytes look a little like what a relay expects.
fn disguise(number: usize, bytes: &mut [u8; 1024]) -> &[u8] {
    let length = usize::from(u16::from_be_bytes([bytes[1020], bytes[1021]])) % 1020;
    let method = [0x01, 0x03, 0x04, 0x06, 0x08, 0x09][number % 6];
    match number % 5 {
        // Noise.
        0 => {}
        // Channel data, of a length that is not that of the datagram.
        1 => bytes[0] = 0x40 | bytes[0] & 0x0F,
        // A STUN header that lies about the length.
        2 => {
            bytes[..2].copy_from_slice(&[0, method]);
            bytes[4..8].copy_from_slice(&raw::COOKIE);
        }
        // A STUN header that fits, attributes that are noise.
        3 => {
            let body = u16::try_from(length.saturating_sub(20) & !3).expect("it is short");
            bytes[..2].copy_from_slice(&[0, method]);
            bytes[2..4].copy_from_slice(&body.to_be_bytes());
            bytes[4..8].copy_from_slice(&raw::COOKIE);
            return &bytes[..20 + usize::from(body)];
        }
        // One attribute of a known type whose length runs past the end.
        _ => {
            bytes[..2].copy_from_slice(&[0, method]);
            bytes[2..4].copy_from_slice(&[0, 8]);
            bytes[4..8].copy_from_slice(&raw::COOKIE);
            bytes[20..24].copy_from_slice(&[0, 6, 2, 0]);
            return &bytes[..28];
        }
    }
    &bytes[..length]
}
