//! Acting as a client or as a peer, so that a test reads like a call.

use std::net::SocketAddr;

use proto::marks::Marks;

use crate::client::Client;
use crate::draft::Draft;
use crate::heard::{Arrival, Heard};
use crate::kind;
use crate::login::Scheme;
use crate::world::World;

/// A client at work.
pub struct AsClient<'w> {
    pub(crate) world: &'w mut World,
    pub(crate) index: usize,
}

impl<'w> AsClient<'w> {
    /// Its state.
    pub fn state(&mut self) -> &mut Client {
        &mut self.world.clients[self.index]
    }

    /// Its state, for as long as the world is lent.
    pub(crate) fn into_state(self) -> &'w mut Client {
        &mut self.world.clients[self.index]
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let (listener, address) = (self.state().listener, self.state().address);
        self.world.inject(listener, address, bytes);
    }

    /// Writes bytes into its stream as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        let (listener, address) = (self.state().listener, self.state().address);
        self.world.write(listener, address, bytes);
    }

    /// Closes its stream behind what it has sent, and lets the network settle.
    pub fn hang_up(&mut self) {
        let (listener, address) = (self.state().listener, self.state().address);
        self.world.hang_up(listener, address);
        self.world.settle();
    }

    /// Whether it has a stream.
    pub fn is_connected(&mut self) -> bool {
        let (listener, address) = (self.state().listener, self.state().address);
        self.world.is_connected(listener, address)
    }

    /// Sends a draft unsigned, lets the network settle, and takes the response with its
    /// transaction id out of the inbox; `None` is the server's silence.
    pub fn exchange(&mut self, draft: Draft) -> Option<Heard> {
        let id = draft.transaction_id().unwrap_or_else(|| self.world.dice.transaction());
        self.send_bytes(&draft.transaction(id).encode());
        self.world.settle();
        let inbox = &mut self.state().inbox;
        let at = inbox.iter().position(|bytes| {
            bytes.first().is_some_and(|first| *first < 4) && bytes.get(8..20) == Some(&id[..])
        })?;
        Some(Heard::read(&inbox.remove(at).expect("just found")))
    }

    /// The same for a request that must be answered.
    #[track_caller]
    pub fn bare(&mut self, draft: Draft) -> Heard {
        self.exchange(draft).expect("the server answers this request")
    }

    /// Gets itself challenged, unless it was before.
    pub fn know_the_realm(&mut self) {
        if self.state().challenge.is_none() {
            let heard = self.bare(Draft::allocate());
            heard.expect_code(401);
            self.state().learn(&heard);
        }
    }

    /// Sends an authenticated request and returns the final answer: a stale nonce is renewed.
    ///
    /// Answers to authenticated requests must be signed (AUTH-009, AUTH-010); checked here, so
    /// that every scenario proves it.
    #[track_caller]
    pub fn ask(&mut self, draft: Draft) -> Heard {
        self.know_the_realm();
        let id = draft.transaction_id().unwrap_or_else(|| self.world.dice.transaction());
        let signed = self.state().sign(draft.clone().transaction(id));
        let mut heard = self.bare(signed);
        if heard.code() == Some(438) {
            self.state().learn(&heard);
            let id = self.world.dice.transaction();
            let signed = self.state().sign(draft.transaction(id));
            heard = self.bare(signed);
        }
        if !matches!(heard.code(), Some(401 | 438)) {
            self.assert_signed(&heard);
        }
        heard
    }

    /// Fails unless the answer carries the integrity attribute of the client's scheme, alone
    /// and right.
    #[track_caller]
    pub fn assert_signed(&mut self, heard: &Heard) {
        let expected = match self.state().scheme {
            Scheme::Legacy => kind::INTEGRITY,
            Scheme::Sha256 | Scheme::ExplicitMd5 => kind::INTEGRITY_SHA256,
        };
        assert!(heard.has(expected), "integrity of its scheme: {:x?}", heard.kinds());
        assert!(heard.is_signed_with(&self.state().key()), "integrity is right and alone");
    }

    /// Asks for an IPv4 relay for UDP.
    #[track_caller]
    pub fn allocate(&mut self) -> Heard {
        self.allocate_with(Draft::allocate())
    }

    /// Asks for a relay with this Allocate request.
    #[track_caller]
    pub fn allocate_with(&mut self, draft: Draft) -> Heard {
        let heard = self.ask(draft);
        if heard.relayed().is_some() {
            self.state().relayed = heard.relayed();
        }
        heard
    }

    /// Allocates, and returns the relayed address as clients and peers know it.
    #[track_caller]
    pub fn relay(&mut self) -> SocketAddr {
        self.allocate().expect_success().relayed().expect("a success names the relayed address")
    }

    /// Refreshes for this many seconds.
    #[track_caller]
    pub fn refresh(&mut self, seconds: u32) -> Heard {
        self.ask(Draft::refresh(seconds))
    }

    /// Installs permissions for peers by name.
    #[track_caller]
    pub fn permit(&mut self, peers: &[&str]) -> Heard {
        let peers: Vec<_> = peers.iter().map(|name| self.world.peer_address(name)).collect();
        self.permit_addresses(&peers)
    }

    /// Installs permissions for peers by address.
    #[track_caller]
    pub fn permit_addresses(&mut self, peers: &[SocketAddr]) -> Heard {
        self.ask(Draft::permit(peers))
    }

    /// Binds a channel to a peer by name.
    #[track_caller]
    pub fn bind(&mut self, number: u16, peer: &str) -> Heard {
        let peer = self.world.peer_address(peer);
        self.bind_address(number, peer)
    }

    /// Binds a channel to a peer by address.
    #[track_caller]
    pub fn bind_address(&mut self, number: u16, peer: SocketAddr) -> Heard {
        self.ask(Draft::bind(number, peer))
    }

    /// Sends payload in a Send indication.
    pub fn send(&mut self, peer: &str, payload: &[u8]) {
        let peer = self.world.peer_address(peer);
        self.send_to(peer, payload);
    }

    /// The same to any address.
    pub fn send_to(&mut self, peer: SocketAddr, payload: &[u8]) {
        let id = self.world.dice.transaction();
        self.send_bytes(&Draft::send(peer, payload).transaction(id).encode());
        self.world.settle();
    }

    /// Sends payload in ChannelData, without padding.
    pub fn send_channel(&mut self, number: u16, payload: &[u8]) {
        self.send_bytes(&channel_data(number, payload));
        self.world.settle();
    }

    /// Lets the network settle, then the oldest datagram in its inbox, read.
    pub fn hear(&mut self) -> Option<Arrival> {
        self.world.settle();
        self.take()
    }

    /// The oldest datagram in its inbox, read.
    pub fn take(&mut self) -> Option<Arrival> {
        self.state().inbox.pop_front().map(|bytes| Arrival::read(&bytes))
    }

    /// Fails unless the oldest arrival is a Data indication from this peer with this payload.
    #[track_caller]
    pub fn expect_data(&mut self, from: &str, expected: &[u8]) {
        let address = self.world.peer_address(from);
        self.expect_data_from(address, expected);
    }

    /// The same from any address.
    #[track_caller]
    pub fn expect_data_from(&mut self, from: SocketAddr, expected: &[u8]) {
        match self.take() {
            Some(Arrival::Data { peer, payload }) => {
                assert_eq!(peer, from);
                assert_eq!(payload, expected);
            }
            other => panic!("a Data indication, not {other:?}"),
        }
    }

    /// Fails unless the oldest arrival is ChannelData on this channel with this payload.
    #[track_caller]
    pub fn expect_channel(&mut self, channel: u16, expected: &[u8]) {
        match self.take() {
            Some(Arrival::Channel { number, payload }) => {
                assert_eq!(number, channel);
                assert_eq!(payload, expected);
            }
            other => panic!("ChannelData, not {other:?}"),
        }
    }

    /// Fails if anything arrived.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.world.settle();
        if let Some(arrival) = self.take() {
            panic!("{} hears {arrival:?}", self.state().name);
        }
    }
}

/// A peer at work.
pub struct AsPeer<'w> {
    pub(crate) world: &'w mut World,
    pub(crate) index: usize,
}

impl AsPeer<'_> {
    /// Its transport address.
    pub fn address(&self) -> SocketAddr {
        self.world.peers[self.index].address
    }

    /// Sends a datagram to a relayed address.
    pub fn send(&mut self, to: SocketAddr, payload: &[u8]) {
        let from = self.address();
        self.world.inject_at_relay(to, from, payload);
        self.world.settle();
    }

    /// Sends a datagram from another port of its host.
    pub fn send_from_port(&mut self, port: u16, to: SocketAddr, payload: &[u8]) {
        let from = SocketAddr::new(self.address().ip(), port);
        self.world.inject_at_relay(to, from, payload);
        self.world.settle();
    }

    /// What the header of the newest arrival said.
    pub fn marks(&self) -> Marks {
        self.world.peers[self.index].marks
    }

    /// The oldest datagram in its inbox, with its source.
    pub fn take(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.world.peers[self.index].inbox.pop_front()
    }

    /// Fails unless the oldest arrival has this payload; returns its source.
    #[track_caller]
    pub fn expect(&mut self, expected: &[u8]) -> SocketAddr {
        let (from, payload) = self.take().expect("a datagram arrived");
        assert_eq!(payload, expected);
        from
    }

    /// Fails if anything arrived.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.world.settle();
        if let Some((from, payload)) = self.take() {
            panic!("{} hears {payload:02x?} from {from}", self.world.peers[self.index].name);
        }
    }
}

/// A ChannelData message without padding.
pub fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend(u16::try_from(payload.len()).expect("payload of 16-bit length").to_be_bytes());
    message.extend(payload);
    message
}
