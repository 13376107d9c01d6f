//! What those get who never log in.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use client::AllocateOptions;

use crate::site::Site;

/// A Binding request that every server would answer.
const BINDING: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Requests of the flood, far more than are answered.
const FLOOD: usize = 800;

#[test]
#[expect(clippy::disallowed_methods, reason = "a rate needs the time")]
fn sec_007_a_flood_over_all_workers_is_answered_by_rate_and_keeps_nobody_from_logging_in() {
    let site = Site::open(60, 2);
    let sockets = [(); 8].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let begin = Instant::now();
    for socket in sockets.iter().cycle().take(FLOOD) {
        socket.send_to(&BINDING, site.server).unwrap();
    }
    let mut answers = 0.0;
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while socket.recv(&mut [0; 100]).is_ok() {
            answers += 1.0;
        }
    }
    let allowed = 100.0 + 50.0 * begin.elapsed().as_secs_f64();
    assert!((60.0..allowed).contains(&answers), "{answers} answers, {allowed} are allowed");
    let before = site.metric("av_edge_relay_dropped_total", &["\"throttled\""]);
    assert!(before >= 600, "only {before} of {FLOOD} were dropped");

    for socket in sockets.iter().cycle().take(FLOOD) {
        socket.send_to(&BINDING, site.server).unwrap();
    }
    let mut good = site.client();
    good.allocate(&AllocateOptions::default()).unwrap();
    for _ in 0..80 {
        good.binding().unwrap();
    }
    site.close();
}
