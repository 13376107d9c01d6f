//! A peer of the server under test: a socket of this host.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::message::Draft;
use super::seat::Seat;
use super::stage::Stage;
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

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
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

/// A peer that speaks TCP: it listens, and connects from the same address.
pub(super) struct TcpPeer {
    listener: TcpListener,
    address: SocketAddr,
    timeout: Duration,
}

impl TcpPeer {
    /// On a free port of the first peer's address.
    pub(super) fn open(stage: &Stage<'_>) -> Finding<Self> {
        let ip = stage.peer()?.address().ip();
        let listener = TcpListener::bind((ip, 0))?;
        // What bounds reading bounds accepting too.
        SockRef::from(&listener).set_read_timeout(Some(stage.plan.timeout))?;
        Ok(Self { address: listener.local_addr()?, listener, timeout: stage.plan.timeout })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection to this peer.
    pub(super) fn accept(&self) -> Finding<TcpStream> {
        let accepted = self.listener.accept();
        let (stream, _) = accepted.map_err(|error| fail("a connection to the peer", error))?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }

    /// A connection of this peer, from another port of its address.
    pub(super) fn connect(&self, to: SocketAddr) -> Finding<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(self.address.ip(), 0).into())?;
        let connected = socket.connect_timeout(&to.into(), self.timeout);
        connected.map_err(|error| fail(format!("a connection to {to}"), error))?;
        socket.set_read_timeout(Some(self.timeout))?;
        socket.set_write_timeout(Some(self.timeout))?;
        Ok(socket.into())
    }
}
