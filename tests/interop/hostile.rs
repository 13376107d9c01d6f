//! A flood of rubbish at a relay that carries a call.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use client::Event;
use ring::rand::{SecureRandom, SystemRandom};

use crate::clock;
use crate::edge::{Home, METRICS, RelayFile, http_get, start_relay};
use crate::line::Line;
use crate::site::{INTERNAL, Site};

/// Datagrams of the flood, and how many go out together every [`PAUSE`].
const FLOOD: usize = 200_000;
const BURST: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// Time between packets of the call.
const VOICE: Duration = Duration::from_millis(5);
/// What the relay's memory may grow by in the second half of the flood: noise of the allocator, no trend.
const GROWTH_BYTES: u64 = 1 << 20;

#[test]
fn hostile_packets_cost_a_call_nothing_and_no_memory() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let relay = start_relay(&site, &home, &RelayFile::default());
    let Line { mut client, peer, channel } = Line::open(&site, &home);

    let over = AtomicBool::new(false);
    let (sent, half, end) = thread::scope(|scope| {
        scope.spawn(|| echo(&peer, &over));
        let flood = scope.spawn(|| {
            let halves = [(); 2].map(|()| {
                site.client.enter(|| flood(FLOOD / 2));
                relay.resident_bytes()
            });
            over.store(true, Ordering::Relaxed);
            halves
        });
        let mut sent = 0_u32;
        let mut next = clock::now();
        while !over.load(Ordering::Relaxed) {
            let word = sent.to_be_bytes();
            client.send_channel(channel, &word).expect("it is sent");
            let back = client.recv(Duration::from_secs(1)).expect("the socket works");
            let lost = || panic!("packet {sent} of the call is lost");
            let back = back.unwrap_or_else(lost);
            assert!(matches!(back, Event::Data { payload, .. } if payload == word));
            sent += 1;
            next += VOICE;
            clock::rest_until(next);
        }
        let [half, end] = flood.join().expect("the flood ends");
        (sent, half, end)
    });
    assert!(sent > 100, "a call of only {sent} packets proves nothing");
    assert!(end <= half + GROWTH_BYTES, "resident memory grew from {half} to {end} bytes");
    let metrics = site.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
    let metrics = metrics.expect("the relay still answers");
    let dropped: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("av_edge_relay_dropped_total"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert!(dropped > 0.0, "nothing was counted as dropped:\n{metrics}");
}

/// Sends back what comes.
fn echo(peer: &UdpSocket, over: &AtomicBool) {
    let mut bytes = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = peer.recv_from(&mut bytes) {
            peer.send_to(&bytes[..length], from).expect("it is sent");
        }
    }
}

/// Rubbish of every kind from eight sockets, paced so that the listener's queue never overflows.
fn flood(count: usize) {
    let sockets = [(); 8].map(|()| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((INTERNAL, 3478)).expect("an address");
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
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
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
            bytes[4..8].copy_from_slice(&COOKIE);
        }
        // A STUN header that fits, attributes that are noise.
        3 => {
            let body = u16::try_from(length.saturating_sub(20) & !3).expect("it is short");
            bytes[..2].copy_from_slice(&[0, method]);
            bytes[2..4].copy_from_slice(&body.to_be_bytes());
            bytes[4..8].copy_from_slice(&COOKIE);
            return &bytes[..20 + usize::from(body)];
        }
        // One attribute of a known type whose length runs past the end.
        _ => {
            bytes[..2].copy_from_slice(&[0, method]);
            bytes[2..4].copy_from_slice(&[0, 8]);
            bytes[4..8].copy_from_slice(&COOKIE);
            bytes[20..24].copy_from_slice(&[0, 6, 2, 0]);
            return &bytes[..28];
        }
    }
    &bytes[..length]
}
