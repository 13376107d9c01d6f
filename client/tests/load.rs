//! Batches: what was sent in runs or singly arrives datagram by datagram.

mod support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use client::load::{Burst, Collector, Lane};
use client::{Credentials, Options};
use support::Coturn;

/// More than one run takes, less than a default socket buffer holds.
const COUNT: u32 = 60;

fn numbered(mut burst: Burst) -> Burst {
    for (number, payload) in (0_u32..).zip(burst.payloads_mut()) {
        payload[..4].copy_from_slice(&number.to_be_bytes());
    }
    burst
}

fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket on loopback");
    let addr = socket.local_addr().expect("a bound socket");
    (socket, addr)
}

/// Reads until every number has come.
fn collect(socket: &UdpSocket, len: usize) -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    let mut collector = Collector::default();
    within(Duration::from_secs(5), || {
        collector
            .drain(socket, |_, datagram| {
                assert_eq!(datagram.len(), len);
                let head = datagram.first_chunk::<4>().expect("a number");
                assert!(seen.insert(u32::from_be_bytes(*head)), "arrived twice");
            })
            .expect("a readable socket");
        seen.len() == COUNT as usize
    });
    seen
}

#[test]
fn runs_and_singles_arrive_as_the_same_datagrams() {
    let (sender, _) = bound();
    let (receiver, to) = bound();
    Collector::prepare(&receiver).unwrap();
    let burst = numbered(Burst::plain(1200, COUNT as usize));
    for as_run in [true, false] {
        let sent = if as_run {
            burst.send_as_run(&sender, Some(to))
        } else {
            burst.send_singly(&sender, Some(to))
        };
        assert_eq!(sent.unwrap(), COUNT as usize, "as run: {as_run}");
        assert_eq!(collect(&receiver, 1200), (0..COUNT).collect(), "as run: {as_run}");
    }
}

#[test]
fn lanes_carry_bursts_both_ways() {
    let server = Coturn::start();
    let (peer, peer_addr) = bound();
    let options = Options { buffer_bytes: Some(1 << 20), ..Options::default() };
    let credentials = Credentials::new("user", "pass");
    let mut lane = Lane::open(server.addr, credentials, peer_addr, options).unwrap();
    lane.renew(Duration::from_secs(600)).unwrap();
    let up = numbered(Burst::channel(lane.channel, 160, COUNT as usize));
    let down = numbered(Burst::plain(160, COUNT as usize));
    for as_run in [true, false] {
        if as_run {
            up.send_as_run(lane.client.socket().unwrap(), None).unwrap();
        } else {
            up.send_singly(lane.client.socket().unwrap(), None).unwrap();
        }
        assert_eq!(collect(&peer, 160), (0..COUNT).collect(), "as run: {as_run}");
        down.send_singly(&peer, Some(lane.relayed)).unwrap();
        let mut arrived = 0;
        let mut collector = Collector::default();
        within(Duration::from_secs(5), || {
            collector
                .drain(lane.client.socket().unwrap(), |_, bytes| {
                    let (channel, payload) = client::wire::channel_data(bytes).unwrap();
                    assert_eq!((channel, payload.len()), (lane.channel, 160));
                    arrived += 1;
                })
                .unwrap();
            arrived == COUNT
        });
    }
}

/// Repeats `done` until it says so; a test that waits longer than `limit` fails.
#[expect(clippy::disallowed_methods, reason = "a test that waits must end")]
fn within(limit: Duration, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "nothing more arrived within {limit:?}");
        std::thread::yield_now();
    }
}
