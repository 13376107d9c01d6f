//! A peer of the server under test: a UDP socket of this host.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::message::Draft;
use super::seat::Seat;
use super::verdict::{Finding, demand, fail};

/// A peer.
pub(super) struct Peer {
    socket: UdpSocket,
    address: SocketAddr,
    timeout: Duration,
}

impl Peer {
    /// On a free port of this address; waits this long for datagrams.
    pub(super) fn open(ip: IpAddr, timeout: Duration) -> Finding<Self> {
        let socket = UdpSocket::bind((ip, 0))?;
        Ok(Self { address: socket.local_addr()?, socket, timeout })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn send(&self, to: SocketAddr, payload: &[u8]) -> Finding {
        self.socket.send_to(payload, to)?;
        Ok(())
    }

    /// The next datagram and its source, if one comes within `wait`.
    pub(super) fn receive(&self, wait: Duration) -> Finding<Option<(SocketAddr, Vec<u8>)>> {
        let mut buffer = vec![0; 65_536];
        self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        match self.socket.recv_from(&mut buffer) {
            Ok((len, from)) => Ok(Some((from, buffer.get(..len).unwrap_or_default().to_vec()))),
            Err(error) if crate::transport::is_timeout(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Demands that exactly this comes next, from there.
    pub(super) fn expect(&self, from: SocketAddr, payload: &[u8]) -> Finding {
        let wanted = format!("{} bytes at the peer, from {from}", payload.len());
        match self.receive(self.timeout)? {
            None => Err(fail(wanted, "nothing arrived")),
            Some((source, found)) => {
                let same = if found == payload { "the" } else { "other" };
                let seen = format!("{} bytes from {source}, {same} bytes", found.len());
                demand(source == from && found == payload, wanted, seen)
            }
        }
    }

    /// Demands that nothing the client sent before reaches this peer, which must be permitted:
    /// what it sends now comes first.
    pub(super) fn demand_silence(&self, seat: &mut Seat<'_>) -> Finding {
        let marker: [u8; 16] = super::message::random();
        seat.send(Draft::send(self.address, &marker).bytes())?;
        match self.receive(self.timeout)? {
            Some((_, found)) if found == marker => Ok(()),
            Some((_, found)) => {
                Err(fail("nothing at the peer", format!("{} bytes arrived", found.len())))
            }
            None => Err(fail("a Send indication to reach its peer", "nothing arrived")),
        }
    }
}
