//! Where streams come in: one listening socket for each address, in every worker.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use guard::descriptors::for_clients;
use ipnet::IpNet;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use proto::addr::ListenerId;
use socket2::SockRef;

/// How long nobody is taken after descriptors or memory ran out.
const CLOSED: Duration = Duration::from_millis(200);

/// Bytes the kernel takes for a client beyond what the path carries now: what is queued here can
/// still be dropped for what is newer, what is queued there cannot.
const UNSENT: u32 = 64 * 1024;

/// What is served behind a door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DoorPlan {
    /// The listener of clients that speak plainly.
    pub(crate) plain: Option<ListenerId>,
    /// The listener of clients that speak TLS.
    pub(crate) tls: Option<ListenerId>,
    /// Balancers, which begin with a PROXY header.
    pub(crate) proxies: Vec<IpNet>,
}

/// The doors of one worker.
pub(super) struct Doors {
    doors: Vec<Door>,
    /// Descriptors ran out: until then nobody is taken.
    closed_until: Option<Instant>,
}

struct Door {
    plan: DoorPlan,
    listener: TcpListener,
    /// Whether somebody may wait.
    ready: bool,
}

impl DoorPlan {
    /// The listener of whoever comes in, until it is known better.
    pub(crate) fn listener(&self) -> ListenerId {
        self.tls.or(self.plain).unwrap_or(ListenerId(u16::MAX))
    }

    /// Whether this host is a balancer.
    pub(super) fn is_balancer(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        self.proxies.iter().any(|range| range.contains(&host))
    }
}

/// Who was at a door.
pub(super) enum Call {
    /// Nobody at any.
    Nobody,
    /// Somebody, but there is no descriptor for it.
    Exhausted,
    /// A client, at the door of this number.
    Client(TcpStream, SocketAddr, usize),
}

impl Doors {
    /// Opens doors.
    pub(super) fn open(
        plans: Vec<(DoorPlan, std::net::TcpListener)>,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<Self> {
        let mut doors = Vec::with_capacity(plans.len());
        for (index, (plan, listener)) in plans.into_iter().enumerate() {
            let mut listener = TcpListener::from_std(listener);
            registry.register(&mut listener, token(index), Interest::READABLE)?;
            doors.push(Door { plan, listener, ready: false });
        }
        Ok(Self { doors, closed_until: None })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.doors.len()
    }

    /// What is served behind a door.
    pub(super) fn plan(&self, number: usize) -> &DoorPlan {
        &self.doors[number].plan
    }

    /// Somebody is at a door.
    pub(super) fn knock(&mut self, index: usize) {
        if let Some(door) = self.doors.get_mut(index) {
            door.ready = true;
        }
    }

    /// Whether somebody may be taken now.
    pub(super) fn are_ready(&self) -> bool {
        self.closed_until.is_none() && self.doors.iter().any(|door| door.ready)
    }

    /// When somebody may be taken again.
    pub(super) fn reopen_at(&self) -> Option<Instant> {
        self.closed_until
    }

    /// Takes the next client.
    pub(super) fn call(&mut self, now: Instant) -> Call {
        if self.closed_until.is_some_and(|until| now < until) {
            return Call::Nobody;
        }
        self.closed_until = None;
        for (number, door) in self.doors.iter_mut().enumerate().filter(|(_, door)| door.ready) {
            let accepted = door.listener.accept();
            match accepted.and_then(|(socket, from)| Ok((for_clients(socket)?, from))) {
                Ok((socket, from)) => {
                    prepare(&socket);
                    return Call::Client(socket, from, number);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => door.ready = false,
                Err(error) if is_exhaustion(&error) => {
                    self.closed_until = Some(now + CLOSED);
                    return Call::Exhausted;
                }
                // It was about that one client, who is gone already.
                Err(_) => {}
            }
        }
        Call::Nobody
    }
}

/// Small messages leave at once. A socket that refuses this is slower, and no worse.
fn prepare(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    drop(socket.set_tcp_nodelay(true));
    drop(socket.set_tcp_notsent_lowat(UNSENT));
}

/// Whether an error is about this process or host rather than about a client.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
