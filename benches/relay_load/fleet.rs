//! Many clients of one server, each with its allocation, its way to a peer, and that peer.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::time::Duration;

use client::load::Lane;
use client::tcp_relay::Pipe;
use client::transport::Link;
use client::{ClientError, Event, Options, Transport};

use crate::clock;
use crate::server::{Kind, Relay, credentials};
use crate::site::{CLIENT, PEER, Room, Site};

/// How long an allocation is to last.
const LIFETIME: Duration = Duration::from_secs(600);

/// Channels more of each client, as far as servers and kernel have room for them, and the first of
/// the peer's ports for them: nobody is there.
const MORE: u16 = 8;
const MOST_WITH_MORE: usize = 100;
const FIRST_SILENT: u16 = 64_000;

/// How long a proof may take to arrive.
const PATIENCE: Duration = Duration::from_secs(2);

/// Clients with their peers.
#[derive(Debug)]
pub(crate) enum Fleet {
    /// Each client's channel leads to its peer, a UDP socket connected to the relayed address.
    Datagrams(Vec<(Lane, UdpSocket)>),
    /// Each client's second connection leads to its peer, who accepted a connection from the
    /// relayed address (RFC 6062).
    Pipes(Vec<(Pipe, Link)>),
}

impl Fleet {
    /// Opens an allocation for each port, which client and peer then have in common, and proves
    /// that it carries payload both ways. A port must not come twice: a server may remember the
    /// client that had it for a while.
    pub(crate) fn open(
        site: &Site,
        (kind, relay): (Kind, Relay),
        transport: &Transport,
        ports: Range<u16>,
    ) -> io::Result<Self> {
        let count = ports.len();
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {what} {count} allocations: {error}", kind.name()))
        };
        let mut fleet = match relay {
            Relay::Udp => Self::datagrams(site, kind, transport, ports),
            Relay::Tcp => Self::pipes(site, kind, transport, ports),
        }
        .map_err(|error| failed("opening", &error))?;
        fleet.prove().map_err(|error| failed("proving", &error))?;
        Ok(fleet)
    }

    fn datagrams(
        site: &Site,
        kind: Kind,
        transport: &Transport,
        ports: Range<u16>,
    ) -> Result<Self, ClientError> {
        let lanes: Vec<Lane> = site.enter(Room::Clients, || {
            ports
                .map(|port| {
                    let peer = SocketAddr::new(PEER.into(), port);
                    Lane::open(kind.addr(), credentials(port), peer, options(transport, port))
                })
                .collect::<Result<_, _>>()
        })??;
        let peers: Vec<UdpSocket> = site.enter(Room::Peers, || {
            lanes
                .iter()
                .map(|lane| {
                    let socket = UdpSocket::bind(lane.peer)?;
                    socket.connect(lane.relayed)?;
                    socket.set_read_timeout(Some(PATIENCE))?;
                    Ok(socket)
                })
                .collect::<io::Result<_>>()
        })??;
        Ok(Self::Datagrams(lanes.into_iter().zip(peers).collect()))
    }

    fn pipes(
        site: &Site,
        kind: Kind,
        transport: &Transport,
        ports: Range<u16>,
    ) -> Result<Self, ClientError> {
        let listeners: Vec<TcpListener> = site.enter(Room::Peers, || {
            ports.clone().map(|port| TcpListener::bind((PEER, port))).collect::<io::Result<_>>()
        })??;
        let pipes: Vec<Pipe> = site.enter(Room::Clients, || {
            ports
                .map(|port| {
                    let peer = SocketAddr::new(PEER.into(), port);
                    Pipe::open(kind.addr(), credentials(port), peer, &options(transport, port))
                })
                .collect::<Result<_, _>>()
        })??;
        let accept = |listener: TcpListener| {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Link::over(stream))
        };
        let far: Vec<Link> = listeners.into_iter().map(accept).collect::<io::Result<_>>()?;
        Ok(Self::Pipes(pipes.into_iter().zip(far).collect()))
    }

    /// Sends one payload each way through every allocation and compares what arrives.
    fn prove(&mut self) -> io::Result<()> {
        let payload = |number: usize| number.to_be_bytes().repeat(20);
        match self {
            Self::Datagrams(lanes) => {
                for (number, (lane, peer)) in lanes.iter_mut().enumerate() {
                    prove_lane(lane, peer, payload(number))?;
                }
            }
            Self::Pipes(pipes) => {
                for (number, (pipe, far)) in pipes.iter_mut().enumerate() {
                    let payload = payload(number);
                    pipe.data.send_raw(&payload)?;
                    prove_link(far, &payload)?;
                    far.send_raw(&payload)?;
                    prove_link(&mut pipe.data, &payload)?;
                }
            }
        }
        Ok(())
    }

    /// Binds more channels, to other ports of each client's peer; how many.
    pub(crate) fn bind_more(&mut self) -> io::Result<u32> {
        let Self::Datagrams(lanes) = self else { return Ok(0) };
        let mut bound = 0;
        for (lane, _) in lanes.iter_mut().take(MOST_WITH_MORE) {
            for port in FIRST_SILENT..FIRST_SILENT + MORE {
                let peer = SocketAddr::new(lane.peer.ip(), port);
                lane.client.bind_channel(peer).map_err(|error| {
                    io::Error::other(format!("binding one more channel: {error}"))
                })?;
                bound += 1;
            }
        }
        Ok(bound)
    }

    /// Renews everything, so that it outlives the next measurement.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        match self {
            Self::Datagrams(lanes) => {
                lanes.iter_mut().try_for_each(|(lane, _)| lane.renew(LIFETIME))
            }
            #[expect(clippy::cast_possible_truncation, reason = "ten minutes")]
            Self::Pipes(pipes) => {
                pipes.iter_mut().try_for_each(|(pipe, _)| pipe.renew(LIFETIME.as_secs() as u32))
            }
        }
        .map_err(|error| io::Error::other(format!("renewing: {error}")))
    }

    /// Ends the allocations, so that the server is empty for the next ones.
    pub(crate) fn close(self) {
        match self {
            Self::Datagrams(mut lanes) => {
                for (lane, _) in &mut lanes {
                    lane.client.release().ok();
                }
            }
            Self::Pipes(mut pipes) => {
                for (pipe, _) in &mut pipes {
                    pipe.renew(0).ok();
                }
            }
        }
    }
}

fn options(transport: &Transport, port: u16) -> Options {
    Options {
        transport: transport.clone(),
        bind: Some(SocketAddr::new(CLIENT.into(), port)),
        buffer_bytes: Some(1 << 20),
        ..Options::default()
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

fn prove_lane(lane: &mut Lane, peer: &UdpSocket, payload: Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 2048];
    lane.client.send_channel(lane.channel, &payload)?;
    let len = peer.recv(&mut buffer)?;
    if buffer.get(..len) != Some(&payload[..]) {
        return Err(wrong("the peer got other bytes"));
    }
    peer.send(&payload)?;
    let expected = Event::Data { peer: lane.peer, channel: Some(lane.channel), payload };
    if lane.client.recv(PATIENCE)? != Some(expected) {
        return Err(wrong("the client got other bytes, or none"));
    }
    Ok(())
}

/// Demands these bytes of a stream.
fn prove_link(link: &mut Link, payload: &[u8]) -> io::Result<()> {
    let until = clock::now() + PATIENCE;
    let (mut found, mut buffer) = (Vec::new(), [0; 2048]);
    while found.len() < payload.len() {
        match link.receive_raw(until, &mut buffer)? {
            Some(len @ 1..) => found.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Some(0) | None => break,
        }
    }
    if found == payload { Ok(()) } else { Err(wrong("an end of a pipe got other bytes, or none")) }
}
