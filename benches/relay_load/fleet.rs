//! Many clients of one server, each with its allocation, its channel and its own peer.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::Duration;

use client::load::Lane;
use client::{Event, Options, Transport};

use crate::server::{Kind, credentials};
use crate::site::{CLIENT, PEER, Room, Site};

/// Clients and peers, pairwise; each client's channel leads to its peer.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The clients.
    pub(crate) lanes: Vec<Lane>,
    /// Their peers, connected to the relayed addresses.
    pub(crate) peers: Vec<UdpSocket>,
}

impl Fleet {
    /// Opens an allocation for each port, which client and peer then have in common, and proves
    /// that it carries payload both ways. A port must not come twice: a server may remember the
    /// client that had it for a while.
    pub(crate) fn open(
        site: &Site,
        kind: Kind,
        transport: &Transport,
        ports: Range<u16>,
    ) -> io::Result<Self> {
        let count = ports.len();
        let lanes = site.enter(Room::Clients, || {
            ports
                .map(|port| {
                    let options = Options {
                        transport: transport.clone(),
                        bind: Some(SocketAddr::new(CLIENT.into(), port)),
                        buffer_bytes: Some(1 << 20),
                        ..Options::default()
                    };
                    Lane::open(kind.addr(), credentials(port), (PEER, port).into(), options)
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

    /// Renews everything, so that it outlives the next measurement.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        for lane in &mut self.lanes {
            let renewed = lane.renew(Duration::from_secs(600));
            renewed.map_err(|error| io::Error::other(format!("renewing: {error}")))?;
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
