//! The addresses of this host, as they come and go: peers never reach a new one.
//!
//! The kernel says at once when one comes (rtnetlink(7)); where it does not, they are looked at every
//! few seconds.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{NetlinkAddr, bind};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Groups of changes: addresses of both families.
const CHANGES: u32 = 0x10 | 0x100;

/// How often addresses are looked at where nobody says that they change.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The most the kernel says at once.
const LARGEST: usize = 32 * 1024;

/// Who hears of changes. Opened before privileges are given up.
#[derive(Debug)]
pub(super) struct Surroundings(Option<Socket>);

impl Surroundings {
    pub(super) fn open() -> Self {
        Self(hears().inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not say when addresses come: they are looked at \
                                    every {} s", LOOK_EVERY.as_secs());
        }).ok())
    }

    /// Attends to what is heard, from within the runtime.
    pub(super) fn attend(self) -> Ear {
        Ear {
            socket: self.0.and_then(|socket| sys::awaited(socket).ok()),
            buffer: vec![0; LARGEST].into(),
        }
    }
}

/// What hears.
#[derive(Debug)]
pub(super) struct Ear {
    socket: Option<AsyncFd<Socket>>,
    buffer: Box<[u8]>,
}

impl Ear {
    /// Returns when it is time to look at the addresses of this host.
    pub(super) async fn news(&mut self) {
        let Some(socket) = &self.socket else { return tokio::time::sleep(LOOK_EVERY).await };
        let Ok(mut ready) = socket.readable().await else {
            self.socket = None;
            return;
        };
        // What is said does not matter: whatever it was, it is looked at anew. Too much said is news too.
        let ends = match ready.try_io(|socket| socket.get_ref().read(&mut self.buffer)) {
            Ok(Ok(heard)) => heard == 0,
            Ok(Err(error)) => error.raw_os_error() != Some(libc::ENOBUFS),
            Err(_nothing_said) => false,
        };
        if ends {
            self.socket = None;
        }
    }
}

fn hears() -> io::Result<Socket> {
    let protocol = Protocol::from(libc::NETLINK_ROUTE);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, CHANGES))?;
    Ok(socket)
}
