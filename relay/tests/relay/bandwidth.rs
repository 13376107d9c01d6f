//! Limits of bandwidth over real sockets: one user on two workers.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use client::{AllocateOptions, TurnClient};

use crate::site::{Site, client_of, peer};

/// What the user may carry each way, bytes a second.
const RATE: f64 = 1_000_000.0;

/// How long is measured at a time.
const WINDOW: Duration = Duration::from_secs(2);

/// A client with an allocation and a channel to the peer.
struct Caller(TurnClient, u16);

impl Caller {
    fn new(site: &Site, user: &str, peer: &UdpSocket) -> Self {
        let mut client = client_of(site.server, user);
        client.allocate(&AllocateOptions::default()).unwrap();
        let channel = client.bind_channel(peer.local_addr().unwrap()).unwrap();
        Self(client, channel)
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            self.0.send_channel(self.1, &[7; 1_000]).unwrap();
        }
    }
}

/// Bytes that wait at the peer, and those that come within two milliseconds.
fn drain(peer: &UdpSocket) -> usize {
    let mut buffer = [0; 2_000];
    let mut bytes = 0;
    while let Ok(len) = peer.recv(&mut buffer) {
        bytes += len;
    }
    bytes
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a rate needs the time")]
fn ed_051_a_user_on_two_workers_has_one_rate_and_another_user_his_own() {
    let site = Site::open_with(61, 2, "limits.kbit_per_s_per_user = 8000");
    let (alices, bobs) = (peer(), peer());
    for socket in [&alices, &bobs] {
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    }
    let mut callers = Vec::new();
    let observer = site.relay.observer();
    // Which worker serves a client depends on its port.
    let on_both = |observer: &relay::Observer| {
        let sessions = observer.sessions();
        (0..2).all(|worker| sessions.iter().any(|session| session.worker == worker))
    };
    while !on_both(&observer) {
        assert!(callers.len() < 12, "twelve clients, and all on one worker");
        callers.push(Caller::new(&site, "alice", &alices));
    }
    let mut bob = Caller::new(&site, "bob", &bobs);
    let each = 24_usize.div_ceil(callers.len());
    let mut measure = |window: Duration| {
        let (begin, mut bytes, mut sent, mut heard) = (Instant::now(), 0, 0, 0);
        while begin.elapsed() < window {
            for caller in &mut callers {
                caller.send(each);
            }
            bob.send(1);
            sent += 1_000;
            bytes += drain(&alices);
            heard += drain(&bobs);
        }
        let expected = RATE * begin.elapsed().as_secs_f64();
        heard += drain(&bobs);
        assert_eq!(heard, sent, "the other user lost something");
        f64::from(u32::try_from(bytes).unwrap()) / expected
    };
    measure(Duration::from_millis(300));
    let mut shares = Vec::new();
    // A machine so busy that a worker sleeps longer than a burst lasts loses part of the rate.
    while shares.len() < 3 && !shares.iter().any(|share: &f64| (share - 1.0).abs() < 0.02) {
        shares.push(measure(WINDOW));
    }
    assert!(shares.iter().all(|share| *share < 1.08), "above the limit: {shares:?}");
    assert!(shares.iter().any(|share| *share > 0.75), "{shares:?} of the limit");
    assert!(site.metric("av_edge_relay_dropped_total", &["\"user_bandwidth\""]) > 0);
    site.close();
}
