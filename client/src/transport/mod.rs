//! How messages travel between a client and its server: UDP, TCP, TLS over TCP, or DTLS
//! over UDP.
//!
//! A [`Link`] carries whole messages whatever is underneath: on a stream it pads ChannelData and
//! cuts what comes in at the lengths the messages themselves carry (RFC 8656 §12.5, RFC 8489
//! §6.2.2). It knows nothing of what the messages mean, and retransmits nothing.

mod dtls;
mod frames;
mod tls;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::clock;
pub use dtls::Dtls;
use frames::Frames;
pub use tls::{Tls, Trust};

/// Room for the longest message: a STUN header and the longest body its length can count.
pub const MESSAGE_ROOM: usize = 20 + 65_536;

/// What is read from a stream at once.
const READ_CHUNK: usize = 16 * 1024;

/// How to speak to a server.
#[derive(Clone, Debug, Default)]
pub enum Transport {
    /// One datagram a message.
    #[default]
    Udp,
    /// Messages one behind the other on a connection.
    Tcp,
    /// The same, inside TLS.
    Tls(Tls),
    /// One record of DTLS a message.
    Dtls(Dtls),
}

impl Transport {
    /// Whether messages follow one another on a connection.
    pub fn is_stream(&self) -> bool {
        match self {
            Self::Udp | Self::Dtls(_) => false,
            Self::Tcp | Self::Tls(_) => true,
        }
    }
}

/// Where a link starts, and how long it may take to come up.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Local address to bind; a free port on any address if `None`.
    pub bind: Option<SocketAddr>,
    /// Size of the socket's buffers, if the default is not enough.
    pub buffer_bytes: Option<usize>,
    /// How long connecting and the handshake of TLS or DTLS may take, each.
    pub timeout: Duration,
}

/// A way to the server that is up.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    frames: Frames,
}

#[derive(Debug)]
enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Dtls(Box<dtls::Session>),
}

impl Link {
    /// Opens a link: over UDP without a packet, over TCP by connecting, over TLS and DTLS with a
    /// handshake.
    pub fn open(transport: &Transport, server: SocketAddr, start: Start) -> io::Result<Self> {
        let wire = match transport {
            Transport::Udp => Wire::Udp(datagrams(server, start)?),
            Transport::Dtls(dtls) => {
                let socket = datagrams(server, start)?;
                Wire::Dtls(Box::new(dtls::Session::open(dtls, socket, start.timeout)?))
            }
            Transport::Tcp => Wire::Tcp(connect(server, start)?),
            Transport::Tls(tls) => {
                let mut stream = connect(server, start)?;
                stream.set_read_timeout(Some(start.timeout))?;
                let mut connection = tls.connection()?;
                while connection.is_handshaking() {
                    connection
                        .complete_io(&mut stream)
                        .map_err(|error| explain_handshake(&error))?;
                }
                Wire::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
        };
        Ok(Self { wire, frames: Frames::default() })
    }

    /// A connection that is up already, such as one that a peer accepted.
    pub fn over(stream: TcpStream) -> Self {
        Self { wire: Wire::Tcp(stream), frames: Frames::default() }
    }

    /// Whether messages follow one another on a connection.
    pub fn is_stream(&self) -> bool {
        self.tcp().is_some()
    }

    /// The socket of a link over UDP.
    pub fn udp(&self) -> Option<&UdpSocket> {
        match &self.wire {
            Wire::Udp(socket) => Some(socket),
            Wire::Tcp(_) | Wire::Tls(_) | Wire::Dtls(_) => None,
        }
    }

    /// The connection underneath a link over TCP or TLS.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.wire {
            Wire::Udp(_) | Wire::Dtls(_) => None,
            Wire::Tcp(stream) => Some(stream),
            Wire::Tls(tls) => Some(&tls.sock),
        }
    }

    /// The local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.wire {
            Wire::Udp(socket) => socket.local_addr(),
            Wire::Tcp(stream) => stream.local_addr(),
            Wire::Tls(tls) => tls.sock.local_addr(),
            Wire::Dtls(session) => session.socket().local_addr(),
        }
    }

    /// The server's address.
    pub fn server_addr(&self) -> io::Result<SocketAddr> {
        match &self.wire {
            Wire::Udp(socket) => socket.peer_addr(),
            Wire::Tcp(stream) => stream.peer_addr(),
            Wire::Tls(tls) => tls.sock.peer_addr(),
            Wire::Dtls(session) => session.socket().peer_addr(),
        }
    }

    /// Sends one message; a stream gets the padding that must follow ChannelData.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let pad = [0; 3];
        let missing = message.len().next_multiple_of(4) - message.len();
        let pad = pad.get(..missing).unwrap_or_default();
        match &mut self.wire {
            Wire::Udp(socket) => socket.send(message).map(drop),
            Wire::Dtls(session) => session.send(message),
            Wire::Tcp(stream) if pad.is_empty() => stream.write_all(message),
            Wire::Tcp(stream) => stream.write_all(&[message, pad].concat()),
            Wire::Tls(tls) => {
                tls.write_all(message)?;
                tls.write_all(pad)?;
                tls.flush()
            }
        }
    }

    /// Sends bytes as they are: a datagram, or a piece of a stream that need not be a message.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Udp(socket) => socket.send(bytes).map(drop),
            Wire::Dtls(session) => session.send(bytes),
            Wire::Tcp(stream) => stream.write_all(bytes),
            Wire::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// The next message, written to the front of `buffer`; `None` when `until` has passed. A
    /// connection the server has closed is an `UnexpectedEof`; bytes that start no message are
    /// `InvalidData`.
    pub fn receive(&mut self, until: Instant, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if self.is_stream()
                && let Some(len) = self.frames.next(buffer)?
            {
                return Ok(Some(len));
            }
            let left = until.saturating_duration_since(clock::now());
            match self.read(left, buffer) {
                Ok(Arrived::Message(len)) => return Ok(Some(len)),
                Ok(Arrived::Piece) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    if left.is_zero() || clock::now() >= until {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Raw bytes of a stream, for what follows the messages (RFC 6062 §4.4); what was read
    /// beyond the last message comes first. `None` when `until` has passed, zero at the end.
    pub fn receive_raw(&mut self, until: Instant, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let early = self.frames.take(buffer);
        if early > 0 {
            return Ok(Some(early));
        }
        loop {
            let left = until.saturating_duration_since(clock::now());
            self.set_read_timeout(left)?;
            let read = match &mut self.wire {
                Wire::Udp(socket) => socket.recv(buffer),
                Wire::Tcp(stream) => stream.read(buffer),
                Wire::Tls(tls) => tls.read(buffer),
                Wire::Dtls(session) => return session.receive(until, buffer),
            };
            match read {
                Ok(len) => return Ok(Some(len)),
                Err(error) if is_timeout(&error) && clock::now() >= until => return Ok(None),
                Err(error) if is_timeout(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what has come on a stream, without waiting: how many bytes there were (inside TLS).
    /// For callers that count; what they say is lost.
    pub fn drain(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut drained = 0;
        loop {
            let read = match &mut self.wire {
                Wire::Udp(_) | Wire::Dtls(_) => return Ok(0),
                Wire::Tcp(stream) => AtOnce(stream).read(buffer),
                Wire::Tls(tls) => match tls.conn.reader().read(buffer) {
                    Err(error) if is_timeout(&error) => {
                        let StreamOwned { conn, sock } = &mut **tls;
                        let fresh = conn.read_tls(&mut AtOnce(sock));
                        conn.process_new_packets().map_err(io::Error::other)?;
                        match fresh {
                            Ok(0) => Ok(0),
                            Ok(_) => continue,
                            Err(error) => Err(error),
                        }
                    }
                    other => other,
                },
            };
            match read {
                Ok(0) => return Err(closed()),
                Ok(len) => drained += len,
                Err(error) if is_timeout(&error) => return Ok(drained),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing more will be sent; reading goes on.
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Udp(_) => Ok(()),
            Wire::Dtls(session) => session.close(),
            Wire::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Wire::Tls(tls) => {
                tls.conn.send_close_notify();
                tls.flush()
            }
        }
    }

    fn read(&mut self, left: Duration, buffer: &mut [u8]) -> io::Result<Arrived> {
        self.set_read_timeout(left)?;
        let mut chunk = [0; READ_CHUNK];
        let len = match &mut self.wire {
            Wire::Udp(socket) => return socket.recv(buffer).map(Arrived::Message),
            Wire::Dtls(session) => {
                let came = session.receive(clock::now() + left, buffer)?;
                return came.map(Arrived::Message).ok_or(io::ErrorKind::TimedOut.into());
            }
            Wire::Tcp(stream) => stream.read(&mut chunk)?,
            Wire::Tls(tls) => tls.read(&mut chunk)?,
        };
        if len == 0 {
            return Err(closed());
        }
        self.frames.add(chunk.get(..len).unwrap_or_default());
        Ok(Arrived::Piece)
    }

    fn set_read_timeout(&self, left: Duration) -> io::Result<()> {
        // A zero timeout would mean "for ever" to the socket.
        let left = Some(left.max(Duration::from_micros(1)));
        match &self.wire {
            Wire::Udp(socket) => socket.set_read_timeout(left),
            Wire::Tcp(stream) => stream.set_read_timeout(left),
            Wire::Tls(tls) => tls.sock.set_read_timeout(left),
            // A session waits by itself.
            Wire::Dtls(_) => Ok(()),
        }
    }
}

/// A connection that is read without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Read for AtOnce<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

/// What a read brought.
enum Arrived {
    /// A whole message of this length, in the caller's buffer.
    Message(usize),
    /// A piece of a stream, among the frames.
    Piece,
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A bound socket with the wished buffers.
fn socket(server: SocketAddr, start: Start, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), kind, Some(protocol))?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    if let Some(bytes) = start.buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&start.bind.unwrap_or_else(|| SocketAddr::new(any, 0)).into())?;
    Ok(socket)
}

/// A socket that speaks to the server alone.
fn datagrams(server: SocketAddr, start: Start) -> io::Result<UdpSocket> {
    let socket = socket(server, start, Type::DGRAM, Protocol::UDP)?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

fn connect(server: SocketAddr, start: Start) -> io::Result<TcpStream> {
    let socket = socket(server, start, Type::STREAM, Protocol::TCP)?;
    socket.connect_timeout(&server.into(), start.timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(start.timeout))?;
    Ok(stream)
}

/// Resets the connection when it is dropped, instead of closing it in order.
pub fn reset_on_drop(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn explain_handshake(error: &io::Error) -> io::Error {
    let why = if is_timeout(error) { "no answer in time".to_owned() } else { error.to_string() };
    io::Error::new(error.kind(), format!("TLS handshake: {why}"))
}
