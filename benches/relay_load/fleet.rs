//! Many clients of one server, each with its allocation, its channel and its own peer.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use client::load::Lane;
use client::{Event, Options};

use crate::server::{Kind, credentials};
use crate::site::{CLIENT, PEER, Room, Site};

/// First port of the peers of each server's clients.
fn peer_port(kind: Kind) -> u16 {
    match kind {
        Kind::Ours => 20_000,
        Kind::Coturn => 30_000,
    }
}

/// Clients and peers, pairwise; each client's channel leads to its peer.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The clients.
    pub(crate) lanes: Vec<Lane>,
    /// Their peers, connected to the relayed addresses.
    pub(crate) peers: Vec<UdpSocket>,
}

impl Fleet {
    /// Opens `count` allocations and proves that each carries payload both ways.
    pub(crate) fn open(site: &Site, kind: Kind, count: usize) -> io::Result<Self> {
        let ports = (0..count).zip(peer_port(kind)..);
        let lanes = site.enter(Room::Clients, || {
            ports
                .clone()
                .map(|(user, port)| {
                    let options = Options {
                        bind: Some(SocketAddr::new(CLIENT.into(), 0)),
                        buffer_bytes: Some(1 << 20),
                        ..Options::default()
                    };
                    Lane::open(kind.addr(), credentials(user), (PEER, port).into(), options)
                })
                .collect::<Result<Vec<_>, _>>()
        })?;
        let lanes = lanes.map_err(|error| {
            io::Error::other(format!("{}: opening {count} allocations: {error}", kind.name()))
        })?;
        let peers = site.enter(Room::Peers, || {
            lanes
                .iter()
                .map(|lane| {
                    let socket = UdpSocket::bind(lane.peer)?;
                    socket.connect(lane.relayed)?;
                    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                    Ok(socket)
                })
                .collect::<io::Result<Vec<_>>>()
        })??;
        let mut fleet = Self { lanes, peers };
        fleet.prove().map_err(|error| {
            io::Error::other(format!("{}: an allocation does not relay: {error}", kind.name()))
        })?;
        Ok(fleet)
    }

    /// Sends one payload each way through every allocation and compares what arrives.
    fn prove(&mut self) -> io::Result<()> {
        let wrong = |what: &str| io::Error::other(what.to_owned());
        for (number, (lane, peer)) in self.lanes.iter_mut().zip(&self.peers).enumerate() {
            let payload: Vec<u8> = number.to_be_bytes().repeat(20);
            let mut buffer = [0; 2048];
            lane.client.send_channel(lane.channel, &payload)?;
            let len = peer.recv(&mut buffer)?;
            if buffer.get(..len) != Some(&payload[..]) {
                return Err(wrong("the peer got other bytes"));
            }
            peer.send(&payload)?;
            let expected = Event::Data { peer: lane.peer, channel: Some(lane.channel), payload };
            if lane.client.recv(Duration::from_secs(2))? != Some(expected) {
                return Err(wrong("the client got other bytes, or none"));
            }
        }
        Ok(())
    }

    /// Ends the allocations, so that the server is empty for the next ones.
    pub(crate) fn close(mut self) {
        for lane in &mut self.lanes {
            lane.client.release().ok();
        }
    }
}
