//! One client of ours with a channel to one peer: the smallest call there is.

use std::net::UdpSocket;
use std::time::Duration;

use client::{AllocateOptions, Event, TurnClient};

use rig::clock;

use crate::edge::{Home, connect, mint};
use crate::site::{INTERNAL, PEER, Site};

/// How long a word may take one way.
const WAIT: Duration = Duration::from_secs(5);

/// Both ends of the call.
pub(crate) struct Line {
    pub(crate) client: TurnClient,
    pub(crate) peer: UdpSocket,
    pub(crate) channel: u16,
}

impl Line {
    /// A call through the relay that listens on the site's internal side.
    pub(crate) fn open(site: &Site, home: &Home) -> Self {
        let credential = mint(&home.path("pool.pem"), "alice");
        let mut client = site.client.enter(|| connect(INTERNAL, &credential));
        client.allocate(&AllocateOptions::default()).expect("an allocation");
        let peer = site.peer.enter(|| UdpSocket::bind((PEER, 0))).expect("a port of the peer");
        peer.set_read_timeout(Some(WAIT)).expect("a timeout");
        let address = peer.local_addr().expect("it is bound");
        let channel = client.bind_channel(address).expect("a channel");
        Self { client, peer, channel }
    }

    /// A word there and back, said until it is.
    pub(crate) fn await_echo(&mut self, word: &str) {
        let short = Some(Duration::from_millis(200));
        self.peer.set_read_timeout(short).expect("a timeout");
        clock::await_some(WAIT, word, || {
            self.client.send_channel(self.channel, word.as_bytes()).ok()?;
            let mut bytes = [0; 64];
            let (length, relayed) = self.peer.recv_from(&mut bytes).ok()?;
            self.peer.send_to(&bytes[..length], relayed).ok()?;
            let back = self.client.recv(Duration::from_millis(200)).ok()??;
            matches!(back, Event::Data { payload, .. } if payload == word.as_bytes()).then_some(())
        });
        self.peer.set_read_timeout(Some(WAIT)).expect("a timeout");
    }

    /// A word there and back.
    pub(crate) fn demand_echo(&mut self, word: &str) {
        self.client.send_channel(self.channel, word.as_bytes()).expect("it is sent");
        let mut bytes = [0; 64];
        let (length, relayed) = self.peer.recv_from(&mut bytes).expect("the word reaches the peer");
        assert_eq!(&bytes[..length], word.as_bytes());
        self.peer.send_to(word.as_bytes(), relayed).expect("it is sent");
        let back = self.client.recv(WAIT).expect("the socket works").expect("the word comes back");
        assert!(matches!(back, Event::Data { payload, .. } if payload == word.as_bytes()));
    }
}
