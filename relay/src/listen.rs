//! Binds the listeners: every one of every worker, before anything else starts.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use proto::addr::{Family, ListenerId, Transport};
use socket2::{Domain, Socket, Type};

use crate::config::{Config, ConfigError};
use crate::service::StartError;
use crate::stream::DoorPlan;
use crate::sys::{self, Steering};

/// Bytes of the queues for media: a tenth of a second of a busy core.
pub(crate) const BUFFER: u32 = 8 * 1024 * 1024;

/// Bytes of the queue for requests, which take longer each and are repeated when lost: what waits
/// behind more than that is repeated before it is answered.
const REQUESTS_BUFFER: u32 = 2 * 1024 * 1024;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1_024;

/// The listening sockets of one worker.
#[derive(Default)]
pub(crate) struct Sockets {
    /// For datagrams.
    pub(crate) datagrams: Vec<Inlets>,
    /// For streams.
    pub(crate) doors: Vec<(DoorPlan, TcpListener)>,
}

/// The sockets of one listener for datagrams.
#[derive(Debug)]
pub(crate) struct Inlets {
    /// The listener.
    pub(crate) listener: ListenerId,
    /// For media, and for what is sent; for everything if there is no other.
    pub(crate) media: UdpSocket,
    /// For requests.
    pub(crate) requests: Option<UdpSocket>,
}

/// Sockets of all listeners, by worker.
///
/// A listener has a socket for each worker on the same port, and of those for datagrams one for
/// each lane. Of datagrams the kernel chooses among them by our own filter, of connections by its
/// own. Before they share the port, it is
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
                drop(open(address, false, BUFFER).map_err(blame)?);
                let steering = Steering {
                    family: Family::of(address.ip()),
                    workers: config.workers,
                    lanes: Some(config.spoken(id)),
                };
                let inlets = share((id, address), steering, &blame)?;
                for (worker, inlets) in workers.iter_mut().zip(inlets) {
                    worker.datagrams.push(inlets);
                }
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
    let inlets = || workers.iter().flat_map(|it| &it.datagrams);
    let media = inlets().map(|it| it.media.as_fd());
    let requests = inlets().filter_map(|it| it.requests.as_ref()).map(AsFd::as_fd);
    let doors = workers.iter().flat_map(|it| &it.doors).map(|(_, socket)| socket.as_fd());
    media.chain(requests).chain(doors).collect()
}

/// The sockets of all workers at a listener's address, which the kernel chooses among by our own
/// filter. Where it takes none that knows lanes, a worker has one socket.
fn share(
    (listener, address): (ListenerId, SocketAddr),
    mut steering: Steering,
    blame: &dyn Fn(io::Error) -> StartError,
) -> Result<Vec<Inlets>, StartError> {
    let mut first = Some(open(address, true, BUFFER).map_err(blame)?);
    if let Some(first) = &first
        && let Err(error) = sys::attach_steering(first.as_fd(), steering)
    {
        tracing::warn!(%address, %error, "requests and media share a queue: a flood costs both");
        steering.lanes = None;
        if steering.workers > 1 {
            sys::attach_steering(first.as_fd(), steering)
                .map_err(|source| StartError::system("steering of a shared port", source))?;
        }
    }
    // The kernel counts them in the order in which they are bound.
    let inlets = (0..steering.workers).map(|_| {
        let media = first.take().map_or_else(|| open(address, true, BUFFER), Ok)?;
        let requests = steering.lanes.map(|_| open(address, true, REQUESTS_BUFFER)).transpose()?;
        Ok(Inlets { listener, media, requests })
    });
    inlets.collect::<io::Result<_>>().map_err(blame)
}

/// Another socket on a listener's address, for whatever one client sends.
pub(crate) fn open_beside(address: SocketAddr) -> io::Result<UdpSocket> {
    open(address, true, BUFFER)
}

/// A socket on a listener's address with queues of so many bytes; `shared` with others of this relay.
fn open(address: SocketAddr, shared: bool, buffer: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
    let family = Family::of(address.ip());
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    sys::take_runs(socket.as_fd())?;
    sys::take_marks(socket.as_fd(), family)?;
    sys::relax_path_mtu(socket.as_fd(), family)?;
    sys::set_buffers(socket.as_fd(), buffer);
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

/// The first lines of a relay's log: where it serves, and how much.
pub(crate) fn announce(config: &Config, descriptors: u64) {
    for listener in &config.listeners {
        tracing::info!(
            address = %listener.local,
            transport = listener.transport.name(),
            side = listener.side.name(),
            advertised = listener.advertised.map(tracing::field::display),
            "listening"
        );
    }
    for relay in &config.relays {
        tracing::info!(
            local = %relay.local,
            advertised = %relay.advertised,
            ports = %format_args!("{}-{}", config.ports.start(), config.ports.end()),
            "relaying"
        );
    }
    tracing::info!(
        workers = config.workers,
        allocations = config.limits.allocations,
        descriptors,
        metrics = config.metrics_addr().map(tracing::field::display),
        administration = config.admin_addr().map(tracing::field::display),
        "ready"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proto::addr::{ClientAddr, steer};

    use super::*;
    use crate::sys::{Lane, Spoken};

    /// What datagrams begin with, and the lanes they take where only TURN of the RFCs is spoken,
    /// and where everything is.
    fn cases() -> Vec<(&'static str, Vec<u8>, [Lane; 2])> {
        use Lane::{Media, Requests};
        let stun = |kind: u16, cookie: &[u8], rest: &[u8]| {
            [&kind.to_be_bytes()[..], &[0, 8], cookie, &[9; 12], rest].concat()
        };
        let rfc = [0x21, 0x12, 0xA4, 0x42];
        let ms = &proto::demux::MS_COOKIE;
        vec![
            ("nothing", vec![], [Requests; 2]),
            ("one byte", vec![0], [Requests; 2]),
            ("first channel", vec![0x40, 0, 0, 1, 7], [Media; 2]),
            ("channel header", vec![0x4F], [Media; 2]),
            ("old channel", vec![0x50, 0, 0, 1, 7], [Requests, Media]),
            ("last old channel", vec![0x7F; 100], [Requests, Media]),
            ("RTP", vec![0x80; 172], [Requests, Media]),
            ("of a session in MS-TURN", vec![0xFF, 0x10, 0, 0], [Requests, Media]),
            ("ZRTP", vec![0x10; 40], [Requests, Media]),
            ("Binding", stun(0x0001, &rfc, &[]), [Requests; 2]),
            ("Allocate", stun(0x0003, &rfc, &[7; 8]), [Requests; 2]),
            ("Refresh", stun(0x0004, &rfc, &[7; 8]), [Requests; 2]),
            ("Send", stun(0x0016, &rfc, &[7; 200]), [Media; 2]),
            ("short Send", stun(0x0016, &rfc, &[])[..19].to_vec(), [Requests; 2]),
            ("Data", stun(0x0017, &rfc, &[7; 8]), [Requests; 2]),
            ("a response", stun(0x0101, &rfc, &[7; 8]), [Requests; 2]),
            ("Send of MS-TURN", stun(0x0004, &[9; 4], &ms[..]), [Requests, Media]),
            ("its cookie cut short", stun(0x0004, &[9; 4], &ms[..7]), [Requests; 2]),
            ("another cookie", stun(0x0004, &[9; 4], &[0, 15, 0, 4, 7, 7, 7, 7]), [Requests; 2]),
            ("Allocate of MS-TURN", stun(0x0003, &[9; 4], &ms[..]), [Requests; 2]),
            ("hello of DTLS", [&[22, 254, 253, 0, 0][..], &[7; 90]].concat(), [Requests; 2]),
            ("alert of DTLS", vec![21, 254, 253, 0, 1, 7], [Requests; 2]),
            ("data of DTLS 1.2", vec![23, 254, 253, 0, 1, 7], [Requests, Media]),
            ("data of DTLS 1.3", vec![0x2F, 7, 7, 7], [Requests, Media]),
            ("cookie of QUIC", vec![0x3F, 7], [Requests, Media]),
        ]
    }

    /// Sends from many sockets to a shared port: each datagram must arrive at the worker that
    /// `steer` says, and in its lane.
    fn kernel_agrees(ip: &str, workers: u16, everything: bool) {
        let anywhere: SocketAddr = format!("{ip}:0").parse().unwrap();
        let held = open(anywhere, true, BUFFER).unwrap();
        let port = held.local_addr().unwrap();
        let lanes =
            Spoken { microsoft: everything, dtls: everything, rfc5766_channels: everything };
        let steering = Steering { family: Family::of(port.ip()), workers, lanes: Some(lanes) };
        // The port is ours, and the group begins anew.
        drop(held);
        let blame = |error| StartError::system("a port", error);
        let inlets = share((ListenerId(0), port), steering, &blame).unwrap();
        let sockets = inlets.iter().map(|it| [Some(&it.media), it.requests.as_ref()]);
        let sockets: Vec<_> = sockets.map(|pair| pair.map(|it| it.expect("both lanes"))).collect();
        for socket in sockets.iter().flatten() {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        }
        let mut used = HashSet::new();
        for _ in 0..128 {
            let client = UdpSocket::bind(anywhere).unwrap();
            let from = client.local_addr().unwrap();
            let worker = steer(ClientAddr::new(from), workers);
            used.insert(worker);
            for (case, bytes, lanes) in cases() {
                client.send_to(&bytes, port).unwrap();
                let lane = lanes[usize::from(everything)];
                let mut buffer = [0; 400];
                let socket = sockets[usize::from(worker)][lane as usize];
                let (len, source) = socket.recv_from(&mut buffer).unwrap_or_else(|error| {
                    panic!("{case}: not at worker {worker} of {workers}, {lane:?}: {error}")
                });
                assert_eq!((&buffer[..len], source), (&bytes[..], from), "{case}");
            }
        }
        assert_eq!(used.len(), usize::from(workers), "128 clients meet every worker");
    }

    #[test]
    fn the_kernel_steers_as_the_code_does() {
        for ip in ["127.0.0.1", "127.8.7.6", "[::1]"] {
            for workers in [1, 2, 3, 5] {
                kernel_agrees(ip, workers, false);
                kernel_agrees(ip, workers, true);
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
        let held = open("127.0.0.1:0".parse().unwrap(), true, BUFFER).unwrap();
        let error = open(held.local_addr().unwrap(), false, BUFFER).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
