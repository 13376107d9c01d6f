//! More comes than a worker reads, for longer than a burst lasts.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::AllocateOptions;

use crate::site::{SOON, Site, peer};

/// Threads that send each way, more than a worker can read for.
const SENDERS: usize = 3;

/// Takes out what waits at a socket.
fn empty(socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = [0; 2_000];
    while socket
        .recv(&mut buffer)
        .map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true)
    {}
}

#[test]
fn a_worker_that_is_flooded_cuts_its_queues_and_serves_everybody_afterwards() {
    let site = Site::open(45, 1);
    let mut alice = site.client();
    let granted = alice.allocate(&AllocateOptions::default()).unwrap();
    let bob = peer();
    let channel = alice.bind_channel(bob.local_addr().unwrap()).unwrap();
    let overloads = || site.metric("av_edge_relay_overloads_total", &[]);
    assert_eq!(overloads(), 0);

    let socket = alice.socket().unwrap().try_clone().unwrap();
    let up = [&channel.to_be_bytes()[..], &160_u16.to_be_bytes(), &[0; 160]].concat();
    let done = AtomicBool::new(false);
    let flood = |send: &dyn Fn()| {
        while !done.load(Ordering::Relaxed) {
            send();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            // What the kernel refuses is lost as it would be on a network.
            scope.spawn(|| flood(&|| drop(socket.send(&up))));
            scope.spawn(|| flood(&|| drop(bob.send_to(&[0; 160], granted.relayed))));
        }
        let found = (0..200).any(|_| overloads() > 0);
        done.store(true, Ordering::Relaxed);
        assert!(found, "{}", site.page("/metrics").1);
    });

    let lost = |name, label| site.metric(name, &[label]);
    let at_relay = lost("av_edge_relay_receive_lost_total", "reason=\"relayed_queue_full\"");
    let at_listener = lost("av_edge_relay_listener_lost_total", "lane=\"media\"");
    assert!(at_relay > 0 && at_listener > 0, "counted at once: {at_relay}, {at_listener}");

    for socket in [&socket, &bob] {
        empty(socket);
        socket.set_read_timeout(Some(SOON)).unwrap();
    }
    let mut buffer = [0; 2_000];
    for message in 0..500_u16 {
        let payload = [message.to_be_bytes(); 80].concat();
        alice.send_channel(channel, &payload).unwrap();
        let (len, relayed) = bob.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], payload, "to the peer");
        bob.send_to(&payload, relayed).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[4..len], payload, "to the client");
    }
    site.close();
}
