//! SIGTERM: what runs goes on, what is new is refused, the end is clean.

use std::net::UdpSocket;
use std::time::Duration;

use client::{AllocateOptions, Event, TurnClient};

use crate::clock;
use crate::edge::{Home, METRICS, RelayFile, connect, http_get, mint, start_relay};
use crate::process::Process;
use crate::site::{INTERNAL, PEER, Site};

/// How long an end may take that nobody has to wait for.
const SOON: Duration = Duration::from_secs(5);

/// A relay with a call on it.
struct Call {
    client: TurnClient,
    peer: UdpSocket,
    channel: u16,
    relay: Process,
    site: Site,
    home: Home,
}

#[test]
fn drain_keeps_the_call_refuses_new_ones_and_ends_with_the_last() {
    let mut call = Call::start();
    call.drain();
    call.client.release().expect("a drained relay still obeys its allocations");
    let status = call.relay.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", call.relay.output());
}

#[test]
fn drain_is_cut_short_by_a_second_sigterm() {
    let mut call = Call::start();
    call.drain();
    assert!(call.relay.ended().is_none(), "it drains for 60 s, unless told twice");
    call.relay.terminate();
    let status = call.relay.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", call.relay.output());
}

#[test]
fn drain_without_a_call_ends_at_once() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let mut relay = start_relay(&site, &home, &RelayFile::default());
    relay.terminate();
    let status = relay.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", relay.output());
}

impl Call {
    fn start() -> Self {
        let site = Site::new();
        let home = Home::with_pool_key();
        let relay = start_relay(&site, &home, &RelayFile::default());
        let credential = mint(&home.path("pool.pem"), "alice");
        let mut client = site.client.enter(|| connect(INTERNAL, &credential));
        client.allocate(&AllocateOptions::default()).expect("an allocation");
        let peer = site.peer.enter(|| UdpSocket::bind((PEER, 0))).expect("a port of the peer");
        peer.set_read_timeout(Some(SOON)).expect("a timeout");
        let address = peer.local_addr().expect("it is bound");
        let channel = client.bind_channel(address).expect("a channel");
        let mut call = Self { client, peer, channel, relay, site, home };
        call.demand_echo("before SIGTERM");
        call
    }

    /// Sends SIGTERM and sees the relay drain.
    fn drain(&mut self) {
        self.relay.terminate();
        clock::await_some(SOON, "/readyz to say no", || {
            let page = self.site.relay.enter(|| http_get(&format!("http://{METRICS}/readyz")));
            page.is_err().then_some(())
        });
        let credential = mint(&self.home.path("pool.pem"), "bob");
        let mut late = self.site.client.enter(|| connect(INTERNAL, &credential));
        let refused = late.allocate(&AllocateOptions::default()).expect_err("it drains");
        assert_eq!(refused.code(), Some(403), "{refused}");
        self.demand_echo("while it drains");
        let lifetime = self.client.refresh(Duration::from_secs(600)).expect("the call may go on");
        assert!(!lifetime.is_zero());
        self.demand_echo("after a refresh");
    }

    /// A word there and back.
    fn demand_echo(&mut self, word: &str) {
        self.client.send_channel(self.channel, word.as_bytes()).expect("it is sent");
        let mut bytes = [0; 64];
        let (length, relayed) = self.peer.recv_from(&mut bytes).expect("the word reaches the peer");
        assert_eq!(&bytes[..length], word.as_bytes());
        self.peer.send_to(word.as_bytes(), relayed).expect("it is sent");
        let back = self.client.recv(SOON).expect("the socket works").expect("the word comes back");
        assert!(matches!(back, Event::Data { payload, .. } if payload == word.as_bytes()));
    }
}
