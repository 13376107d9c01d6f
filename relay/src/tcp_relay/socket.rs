//! Sockets of relayed TCP addresses.
//!
//! The socket that listens and those that call peers have one port, which takes `SO_REUSEPORT`
//! on each: with `SO_REUSEADDR` alone the kernel gives nobody the port of a listener.

use std::io;
use std::net::SocketAddr;

use guard::descriptors::for_clients;
use mio::net::{TcpListener, TcpStream};
use proto::addr::{Family, PeerAddr, RelayedAddr};
use proto::turn::{ConnectFailure, OpenFailure};
use socket2::{Domain, Socket, Type};

/// Peers that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Listens at a relayed address.
pub(super) fn listen(at: RelayedAddr) -> io::Result<TcpListener> {
    // Bound alone first: another process must not have the port, nor share it later.
    drop(bind(at, false)?);
    let socket = bind(at, true)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Begins to connect to a peer from a relayed address.
pub(super) fn call(from: RelayedAddr, to: PeerAddr) -> io::Result<TcpStream> {
    let socket = bind(from, true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.socket().into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Whether a call that the kernel has news of came through; `None`: not yet.
pub(super) fn outcome(socket: &TcpStream) -> Option<io::Result<()>> {
    match (socket.take_error(), socket.peer_addr()) {
        (Ok(Some(error)) | Err(error), _) => Some(Err(error)),
        (Ok(None), Ok(_)) => Some(Ok(())),
        (Ok(None), Err(_)) => None,
    }
}

/// What the server makes of a call that failed.
pub(super) fn connect_failure(error: &io::Error) -> ConnectFailure {
    if is_exhaustion(error) { ConnectFailure::Exhausted } else { ConnectFailure::Unreachable }
}

/// What the server makes of an address that cannot be listened at.
pub(super) fn open_failure(error: &io::Error) -> OpenFailure {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => OpenFailure::PortTaken,
        _ if is_exhaustion(error) => OpenFailure::Exhausted,
        _ => OpenFailure::Other,
    }
}

/// Whether an error is about this process or host rather than about a peer.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC)
    )
}

fn bind(at: RelayedAddr, shared: bool) -> io::Result<Socket> {
    let at: SocketAddr = at.socket();
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), None)?;
    let socket = for_clients(socket)?;
    if Family::of(at.ip()) == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&at.into())?;
    Ok(socket)
}
