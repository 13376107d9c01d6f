//! Binds the listeners: every one of every worker, before anything else starts.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use proto::addr::{Family, ListenerId, Transport};
use socket2::{Domain, Socket, Type};

use crate::config::{Config, ConfigError};
use crate::service::StartError;
use crate::stream::DoorPlan;
use crate::sys;

/// Bytes of a listener's queues: a tenth of a second of a busy core.
const BUFFER: u32 = 8 * 1024 * 1024;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1_024;

/// The listening sockets of one worker.
#[derive(Default)]
pub(crate) struct Sockets {
    /// For datagrams.
    pub(crate) datagrams: Vec<(ListenerId, UdpSocket)>,
    /// For streams.
    pub(crate) doors: Vec<(DoorPlan, TcpListener)>,
}

/// Sockets of all listeners, by worker.
///
/// A listener has one socket for each worker on the same port. Of datagrams the kernel chooses
/// among them by our own filter, of connections by its own. Before they share the port, it is
/// bound once without sharing: otherwise a second relay of the same user would silently take a
/// part of the first one's clients.
pub(crate) fn bind(config: &Config) -> Result<Vec<Sockets>, StartError> {
    let mut workers: Vec<Sockets> = Vec::new();
    workers.resize_with(usize::from(config.workers), Sockets::default);
    for (id, listener) in (0..).map(ListenerId).zip(&config.listeners) {
        let address = listener.local;
        let blame = |error| refusal(config, id.index(), address, error);
        match listener.transport {
            // It shares the socket of the UDP listener at the same address.
            Transport::Dtls if config.has_udp(address) => {}
            Transport::Udp | Transport::Dtls => {
                drop(open(address, false).map_err(blame)?);
                for worker in &mut workers {
                    worker.datagrams.push((id, open(address, true).map_err(blame)?));
                }
                steer(&workers, address, config.workers)?;
            }
            Transport::Tcp | Transport::Tls => {
                let plan = config.door(id);
                if plan.listener() != id {
                    // Its door is that of the other transport at this address.
                    continue;
                }
                drop(open_door(address, false).map_err(blame)?);
                for worker in &mut workers {
                    let socket = open_door(address, true).map_err(blame)?;
                    socket.listen(BACKLOG).map_err(blame)?;
                    worker.doors.push((plan.clone(), socket.into()));
                }
            }
        }
    }
    Ok(workers)
}

/// All of them.
pub(crate) fn descriptors(workers: &[Sockets]) -> Vec<BorrowedFd<'_>> {
    let datagrams = workers.iter().flat_map(|it| &it.datagrams).map(|(_, socket)| socket.as_fd());
    let doors = workers.iter().flat_map(|it| &it.doors).map(|(_, socket)| socket.as_fd());
    datagrams.chain(doors).collect()
}

/// Lets our own filter choose among the newest sockets of the workers.
fn steer(workers: &[Sockets], address: SocketAddr, count: u16) -> Result<(), StartError> {
    if let [first, _, ..] = workers
        && let Some((_, socket)) = first.datagrams.last()
    {
        sys::attach_steering(socket.as_fd(), Family::of(address.ip()), count)
            .map_err(|source| StartError::system("steering of a shared port", source))?;
    }
    Ok(())
}

/// A socket on a listener's address; `shared` with others of this relay.
pub(crate) fn open(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
    let family = Family::of(address.ip());
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    sys::take_runs(socket.as_fd())?;
    sys::take_marks(socket.as_fd(), family)?;
    sys::relax_path_mtu(socket.as_fd(), family)?;
    sys::set_buffers(socket.as_fd(), BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket for connections, bound but not listening.
fn open_door(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a relay that ended lately still name the port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Says what is wrong in the words of the configuration, if that can mend it.
fn refusal(config: &Config, index: usize, at: SocketAddr, error: io::Error) -> StartError {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{at} is in use by another process. Stop that process, or choose another port.")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{at} cannot be bound: no interface has this address now.")
        }
        io::ErrorKind::PermissionDenied => format!(
            "{at} may not be bound by this user. Choose a port above 1023, or grant \
             CAP_NET_BIND_SERVICE."
        ),
        _ => return StartError::system(&format!("cannot listen on {at}"), error),
    };
    ConfigError::about_listener(config, index, &why).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proto::addr::{ClientAddr, steer};

    use super::*;

    /// Sends from many sockets to a shared port: each datagram must arrive where `steer` says.
    fn kernel_agrees(ip: &str, workers: u16) {
        let anywhere: SocketAddr = format!("{ip}:0").parse().unwrap();
        let first = open(anywhere, true).unwrap();
        let port = first.local_addr().unwrap();
        let mut sockets = vec![first];
        sockets.extend((1..workers).map(|_| open(port, true).unwrap()));
        sys::attach_steering(sockets[0].as_fd(), Family::of(port.ip()), workers).unwrap();
        for socket in &sockets {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        }
        let mut used = HashSet::new();
        for _ in 0..64 {
            let client = UdpSocket::bind(anywhere).unwrap();
            let from = client.local_addr().unwrap();
            let worker = steer(ClientAddr::new(from), workers);
            client.send_to(&[7; 100], port).unwrap();
            let mut buffer = [0; 200];
            let (len, source) = sockets[usize::from(worker)].recv_from(&mut buffer).unwrap();
            assert_eq!((len, source), (100, from), "worker {worker} of {workers}");
            used.insert(worker);
        }
        assert_eq!(used.len(), usize::from(workers), "64 clients meet every worker");
    }

    #[test]
    fn the_kernel_steers_as_the_code_does() {
        for ip in ["127.0.0.1", "127.8.7.6", "[::1]"] {
            for workers in [2, 3, 7] {
                kernel_agrees(ip, workers);
            }
        }
    }

    #[test]
    fn a_door_of_another_relay_is_noticed_and_one_that_closed_lately_is_not() {
        let held = open_door("127.0.0.1:0".parse().unwrap(), true).unwrap();
        held.listen(BACKLOG).unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        let error = open_door(address, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // The side that closes first keeps the port in TIME_WAIT.
        let client = std::net::TcpStream::connect(address).unwrap();
        held.set_nonblocking(false).unwrap();
        drop(held.accept().unwrap());
        drop((client, held));
        drop(open_door(address, false).unwrap());
    }

    #[test]
    fn a_port_of_another_relay_is_noticed_although_both_would_share_it() {
        let held = open("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let error = open(held.local_addr().unwrap(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
