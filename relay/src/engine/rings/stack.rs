//! What relayed ports get and send through the host's network stack, although none has a socket.
//!
//! That is whatever rings cannot carry: fragments and IP options, packets too large for the link,
//! next hops that are not known yet, other interfaces, this very host. It costs a system call each.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use proto::addr::Family;
use proto::marks::Marks;
use socket2::Socket;

use super::frame::{self, UDP};
use crate::sys::{self, Stray};

/// Bytes of the queue for what the stack brings.
const BUFFER: u32 = 8 * 1024 * 1024;

/// The largest datagram.
const LARGEST: usize = 65_535;

/// The sockets of one worker.
#[derive(Debug)]
pub(crate) struct Stack {
    /// By family, of those that relays have.
    families: [Option<Sockets>; 2],
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Sockets {
    receiver: Socket,
    /// Whether it may hold something.
    ready: bool,
    sender: Socket,
    whole_sender: Socket,
    icmp: Socket,
    /// Whether that may hold something.
    told: bool,
}

impl Stack {
    /// Opens sockets for these families, which wants `CAP_NET_RAW`.
    pub(crate) fn open(families: impl Iterator<Item = Family>) -> io::Result<Self> {
        let mut stack = Self { families: [None, None], buffer: vec![0; LARGEST].into() };
        for family in families {
            stack.families[family.index()] = Some(Sockets {
                receiver: sys::open_receiver(family, BUFFER)?,
                ready: false,
                sender: sys::open_sender(family, false)?,
                whole_sender: sys::open_sender(family, true)?,
                icmp: sys::open_icmp(family)?,
                told: false,
            });
        }
        Ok(stack)
    }

    /// The sockets that the kernel is to bring datagrams to.
    pub(crate) fn receivers(&self) -> impl Iterator<Item = (Family, &Socket)> {
        let receiver = |family: &Family| {
            let sockets = self.families[family.index()].as_ref()?;
            Some((*family, &sockets.receiver))
        };
        Family::ALL.into_iter().filter_map(move |family| receiver(&family))
    }

    /// Has a poll wake for all, by the token and three more.
    pub(super) fn register(&self, registry: &Registry, first: Token) -> io::Result<()> {
        for (index, sockets) in self.families.iter().enumerate() {
            let Some(Sockets { receiver, icmp, .. }) = sockets else { continue };
            for (kind, socket) in [receiver, icmp].into_iter().enumerate() {
                let token = Token(first.0 + 2 * index + kind);
                let descriptor = socket.as_raw_fd();
                registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
            }
        }
        Ok(())
    }

    /// Something came, by the token counted from the first.
    pub(super) fn wake(&mut self, index: usize) {
        if let Some(Some(sockets)) = self.families.get_mut(index / 2) {
            sockets.ready |= index.is_multiple_of(2);
            sockets.told |= !index.is_multiple_of(2);
        }
    }

    /// Whether something may have come.
    pub(super) fn is_ready(&self) -> bool {
        self.families.iter().flatten().any(|it| it.ready || it.told)
    }

    /// Shows what came, at most so many datagrams of each family.
    pub(super) fn receive(&mut self, most: usize, take: &mut dyn FnMut(Stray, &[u8])) {
        let Self { families, buffer } = self;
        for sockets in families.iter_mut().flatten().filter(|it| it.ready) {
            for _ in 0..most {
                match sys::receive_stray(sockets.receiver.as_fd(), buffer) {
                    Ok(Some(stray)) => take(stray, &buffer[..stray.len]),
                    Ok(None) => {}
                    Err(error) => {
                        sockets.ready = error.kind() == io::ErrorKind::Interrupted;
                        break;
                    }
                }
            }
        }
    }

    /// Shows messages of ICMP that came, at most so many of each family.
    pub(super) fn hear(&mut self, most: usize, take: &mut dyn FnMut(Family, &[u8])) {
        let Self { families, buffer } = self;
        for (family, sockets) in Family::ALL.into_iter().zip(families) {
            let Some(sockets) = sockets.as_mut().filter(|it| it.told) else { continue };
            for _ in 0..most {
                match (&sockets.icmp).read(buffer) {
                    Ok(len) => take(family, &buffer[..len]),
                    Err(error) => {
                        sockets.told = error.kind() == io::ErrorKind::Interrupted;
                        break;
                    }
                }
            }
        }
    }

    /// Sends a datagram made of these pieces from a relayed address.
    pub(super) fn send<'p>(
        &mut self,
        (from, to): (SocketAddr, SocketAddr),
        marks: Marks,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> io::Result<()> {
        let sockets = self.families[Family::of(from.ip()).index()].as_ref();
        let sockets = sockets.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut len = UDP;
        for piece in pieces {
            let room = self.buffer.get_mut(len..len + piece.len());
            room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(piece);
            len += piece.len();
        }
        let datagram = &mut self.buffer[..len];
        frame::write_udp(from, to, datagram);
        let socket = if marks.dont_fragment { &sockets.whole_sender } else { &sockets.sender };
        sys::send_stray(socket.as_fd(), (from.ip(), to.ip()), marks, datagram)
    }
}
